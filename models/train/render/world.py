"""Plates outside the United States: one row an issuer, drawn by one engine with a band, a serial and few ornaments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.train.render import faces
from models.train.render.canvas import DIGITS, LETTERS, Canvas, RenderedPlate, Rgb, drawn

_C: dict[str, Rgb] = {
    "W": (246, 246, 244), "Y": (248, 196, 20), "K": (22, 22, 24), "B": (0, 60, 150), "R": (178, 24, 36),
    "G": (0, 96, 60), "S": (188, 192, 192), "N": (28, 40, 100), "M": (120, 24, 40), "E": (214, 226, 214),
    "O": (236, 130, 30), "L": (190, 214, 236),
}  # fmt: skip
_EU = ("fe",)
_DIN = ("din", "barlow-bold", "saira-bold")
_UK = ("barlow-bold", "saira-bold", "highway-em", "overpass", "din")
_ANY = ("din", "barlow", "barlow-bold", "saira", "saira-bold", "share", "highway-c", "highway-b", "oswald", "overpass", "fe")


@dataclass(frozen=True, slots=True)
class Design:
    """How one issuer's plates look.

    formats   serial patterns, "|" between; "@" letter, "#" digit, " -." separators, "~" a seal or emblem
    band      letters in the blue band on the left ("" none); `star` says whether the EU ring is above them
    colours   "ground.ink" pairs, "|" between, repeated ones are more frequent
    sizes     "w x h" in mm of one-line plates; two_line: sizes of two-line ones, `two_share` their share
    top, foot words above and below the serial (a country, a city, a dealer's place), "|" between
    """

    region: str
    formats: str
    faces: tuple[str, ...] = _EU
    band: str = ""
    star: bool = True
    colours: str = "W.K"
    sizes: str = "520x110"
    two_line: str = "340x200"
    two_share: float = 0.06
    top: str = ""
    foot: str = ""
    right: str = ""
    letters: str = LETTERS
    top_band: Rgb | None = None
    plain_share: float = 0.25
    height: float = 75.0
    prefix: str = ""


_DE_TOWNS = "B M HH K F S D DO E L DD H N BN KA MA WI MS AC KI HB ERL HD FR UL TÜ RO WES DN NE OL REG TR BOR MTK LWL".replace("Ü", "U")
_BR_TOWNS = "SP-SAO PAULO|RJ-RIO DE JANEIRO|MG-BELO HORIZONTE|PR-CURITIBA|SC-FLORIANOPOLIS|BA-SALVADOR|RS-PORTO ALEGRE|CE-FORTALEZA|DF-BRASILIA|GO-GOIANIA|MG-BETIM|SP-CAMPINAS"
_NO_IOQ = "ABCDEFGHJKLMNPRSTUVWXYZ"
_NO_VOWEL = "BCDFGHJKLMNPRSTVWXYZ"

DESIGNS: dict[str, Design] = {
    "de": Design("DE", "", band="D", two_line="340x200|280x200|240x130", plain_share=0.0),
    "fr": Design("FR", "@@-###-@@", ("fe", "din", "barlow-bold", "saira-bold"), "F", right="75|69|13|33|59|31|44|67|2A|06|92|974", letters=_NO_IOQ, plain_share=0.0, two_line="275x200"),
    "fr-old": Design("FR", "#### @@ ##|### @@@ ##|### @@ ##", ("din", "barlow-bold", "saira", "share"), "F", colours="W.K|Y.K|K.S", two_line="275x200"),
    "nl": Design("NL", "@@-##-##|##-@@-@@|##-@@@-#|#-@@@-##|@@-###-@|@-###-@@|@@-@@-##|##-@@-##", ("share", "din", "saira", "barlow"), "NL", colours="Y.K", letters=_NO_VOWEL, plain_share=0.03),
    "be": Design("BE", "#-@@@-###|@@@-###|###-@@@", ("fe", "din", "saira", "barlow"), "B", colours="W.R", two_line="340x210|210x140"),
    "lu": Design("LU", "@@ ####|#####|####", ("din", "saira", "barlow"), "L", colours="Y.K"),
    "it": Design("IT", "@@ ###@@|@@ ### @@|@@-###-@@", ("fe", "din", "saira", "barlow"), "I", right="MI|RM|TO|NA|BO|FI", letters=_NO_IOQ, plain_share=0.0, two_line="297x214"),
    "es": Design("ES", "#### @@@", ("din", "barlow", "saira", "share", "barlow-bold"), "E", letters=_NO_VOWEL, plain_share=0.0),
    "es-old": Design("ES", "@-####-@@|@@-####-@|@@-####-@@", ("din", "barlow", "share"), "E", letters=LETTERS),
    "pt": Design("PT", "##-@@-##|@@-##-@@|##-##-@@|@@-##-##", ("din", "barlow", "saira"), "P", letters=_NO_IOQ),
    "at": Design("AT", "@@ ####@|@@ ##@@@|@~#####@|@@~###@@|@~####@", ("din", "barlow-bold", "saira"), "A"),
    "ch": Design("CH", "@@~######|@@~#####|@@.####|@@~## ###", ("din", "saira", "barlow"), "", two_line="300x160", two_share=0.35, plain_share=1.0, prefix="ZH BE LU GE VD AG SG TI BS BL VS FR NE TG SO"),
    "pl": Design("PL", "@@ #####|@@@ @###|@@@ ####|@@ ####@|@@@ ##@@|@@ ###@@", ("din", "fe", "barlow"), "PL"),
    "cz": Design("CZ", "#@# ####|#@@ ####|@@@ ##-##", ("din", "barlow", "saira"), "CZ"),
    "sk": Design("SK", "@@~###@@|@@-###@@", ("din", "barlow", "saira"), "SK"),
    "hu": Design("HU", "@@@-###|@@ @@-###|@@@~###", ("din", "barlow-bold", "fe"), "H"),
    "ro": Design("RO", "@@ ## @@@|B ## @@@|B ### @@@|B ### @@@|B ###### ", ("din", "barlow", "barlow-bold", "saira"), "RO", letters=_NO_IOQ + "O"),
    "bg": Design("BG", "@@ #### @@|@ #### @@|@@####@@", ("fe", "din", "saira"), "BG", letters="ABEKMHOPCTYX"),
    "gr": Design("GR", "@@@-####|@@@ ####", ("din", "fe", "barlow"), "GR", letters="ABEZHIKMNOPTYX"),
    "hr": Design("HR", "@@~###-@@|@@~####-@|@@~####-@@", ("din", "fe", "barlow"), "HR", plain_share=0.4),
    "si": Design("SI", "@@~@@-###|@@~##-@@@|@@~@#-###", ("din", "fe"), "SLO"),
    "rs": Design("RS", "@@~###-@@|@@~####-@@", ("din", "fe"), "SRB", star=False),
    "ba": Design("BA", "@##-@-###", ("din", "fe", "barlow"), "BIH", star=False),
    "me": Design("ME", "@@ @@###", ("din", "fe"), "MNE", star=False),
    "mk": Design("MK", "@@ ####-@@", ("din", "fe"), "NMK", star=False),
    "al": Design("AL", "@@ ###@@", ("din", "fe"), "AL", star=False),
    "lt": Design("LT", "@@@ ###|@@@~###", ("din", "saira", "barlow"), "LT"),
    "lv": Design("LV", "@@-####|@@-###|@@-##", ("din", "saira", "share"), "LV"),
    "ee": Design("EE", "### @@@", ("din", "saira", "barlow"), "EST"),
    "fi": Design("FI", "@@@-###|@@@-##", ("din", "barlow", "saira"), "FIN", sizes="442x118|520x110"),
    "se": Design("SE", "@@@ ###|@@@ ##@", ("din", "barlow", "saira", "highway-c"), "S"),
    "no": Design("NO", "@@ #####", ("din", "barlow", "saira"), "N", star=False),
    "dk": Design("DK", "@@ ## ###|@@ #####", ("din", "barlow", "saira"), "DK", sizes="504x120|520x110"),
    "is": Design("IS", "@@@ ##|@@ ###", ("din", "barlow"), "IS", star=False, colours="W.N"),
    "ie": Design("IE", "##-@-#####|##-@@-#####|###-@-#####|##-@-####|##-@-###", ("din", "barlow", "saira", "barlow-bold"), "IRL", plain_share=0.05, top="Baile Atha Cliath|Corcaigh|Gaillimh|Ciarrai"),
    "mt": Design("MT", "@@@ ###", ("din", "fe"), "M"),
    "cy": Design("CY", "@@@ ###", ("din", "fe", "barlow"), "CY"),
    "ua": Design("UA", "@@ #### @@", ("din", "saira", "barlow"), "UA", star=False, letters="ABCEHIKMOPTX"),
    "md": Design("MD", "@@@ ###|@ @@ ###", ("din", "fe"), "MD", star=False),
    "by": Design("BY", "#### @@-#", ("din", "barlow"), "BY", star=False),
    "tr": Design("TR", "## @@ ####|## @ ####|## @@@ ##|## @@ ###|## @@@ ###", ("din", "barlow-bold"), "TR", star=False),
    "ru": Design("RU", "@###@@ ##|@###@@ ###", ("din", "saira", "share"), "", letters="ABCEHKMOPTYX", foot=""),
    "gb-front": Design("GB", "@@## @@@|@@## @@@|@@## @@@|@### @@@|@@@ ###@|@@@ ##@|@@@ ###|# @@@|@@@ #|@# @@@", _UK, "GB", letters=LETTERS.replace("I", "").replace("Q", ""), two_line="285x203", plain_share=0.6, height=79),
    "gb-rear": Design("GB", "@@## @@@|@@## @@@|@@## @@@|@### @@@|@@@ ###@|@@@ ##@|@# @@@", _UK, "GB", colours="Y.K", letters=LETTERS.replace("I", "").replace("Q", ""), two_line="285x203", plain_share=0.6, height=79),
    "gb-classic": Design("GB", "@@@ ###@|@@@ ###|@@ ####|### @@@|@@@ ##@", ("highway-em", "overpass", "barlow-bold", "din"), colours="K.S|K.W", two_line="285x203", two_share=0.2, plain_share=1.0, height=79),
    "br": Design("BR", "@@@#@##", ("fe", "din"), top="BRASIL", top_band=_C["B"], sizes="400x130", two_line="200x170", two_share=0.08, plain_share=1.0, height=65),
    "br-old": Design("BR", "@@@-####|@@@.####", ("highway-d", "highway-c", "overpass", "din", "barlow-bold", "saira-bold"), colours="S.K|S.K|S.K|E.K|R.W|L.K", top=_BR_TOWNS, sizes="400x130", two_line="187x136", two_share=0.06, plain_share=1.0, height=63),
    "ar": Design("AR", "@@ ### @@", ("fe", "din"), top="REPUBLICA ARGENTINA", top_band=_C["B"], sizes="400x130", two_line="200x170", two_share=0.04, plain_share=1.0, height=65),
    "ar-old": Design("AR", "@@@ ###|@@@.###", ("highway-c", "din", "barlow", "saira", "highway-d", "barlow-bold"), colours="K.W|K.W|K.S", top="ARGENTINA", sizes="294x129|300x130|330x130", two_share=0.0, plain_share=1.0, height=72),
    "uy": Design("UY", "@@@ ####", ("fe", "din"), top="URUGUAY", top_band=_C["B"], sizes="400x130", two_share=0.0, plain_share=1.0, height=65),
    "py": Design("PY", "@@@@ ###", ("fe", "din"), top="REPUBLICA DEL PARAGUAY", top_band=_C["B"], sizes="400x130", two_share=0.0, plain_share=1.0, height=65),
    "cl": Design("CL", "@@.@@.##|@@@@.##|@@.####", ("highway-d", "fe", "saira-bold", "din"), foot="CHILE", sizes="360x130", two_share=0.0, plain_share=1.0, height=72),
    "co": Design("CO", "@@@ ###|@@@.###", ("highway-d", "highway-c", "overpass"), colours="Y.K", foot="BOGOTA D.C.|MEDELLIN|CALI|ENVIGADO", sizes="330x160", two_share=0.0, plain_share=1.0, height=80),
    "mx": Design("MX", "@@@-##-##|@@@-###-@|@##-@@@|@@-##-###|###-@@@|@@@-####|@-###-@@@|##-@@-##|@@-#####|###@@#", ("highway-c", "highway-b", "saira", "barlow", "share", "din"), colours="W.K|W.G|W.N|E.G|W.M|L.N|W.K", top="JALISCO|CDMX|DISTRITO FEDERAL|NUEVO LEON|PUEBLA|EDO. MEX.|SONORA|BAJA CALIFORNIA|CHIHUAHUA|TAMAULIPAS|OAXACA|GUANAJUATO|MEXICO", foot="MEXICO|DELANTERA|TRASERA|TRANSPORTE PRIVADO", sizes="300x150", two_share=0.0, plain_share=1.0, height=64),
    "ca-on": Design("CA", "@@@@ ###|@@@@~###|@@@ ###|###~@@@|@@ #####", ("highway-c", "highway-b", "saira", "barlow"), colours="W.N|W.B", top="ONTARIO", foot="YOURS TO DISCOVER|A PLACE TO GROW", sizes="305x152", two_share=0.0, plain_share=1.0, height=66),
    "ca-qc": Design("CA", "@## @@@|### @@@|@@@ ###|F@@ ####|#@@ ##", ("highway-c", "barlow", "saira", "highway-b"), colours="W.N|W.B", top="QUEBEC|Quebec", foot="Je me souviens", sizes="305x152", two_share=0.0, plain_share=1.0, height=66),
    "ca-bc": Design("CA", "@@# ##@|###~@@@|@@@ ###|#@ ####|@@#.##@", ("highway-c", "highway-b", "saira"), colours="W.N|W.B", top="BEAUTIFUL|Beautiful", foot="BRITISH COLUMBIA|British Columbia", sizes="305x152", two_share=0.0, plain_share=1.0, height=66),
    "ca-ab": Design("CA", "@@@-####|@@@ ###|###-@@@", ("highway-c", "highway-b", "saira"), colours="W.R", top="Alberta|ALBERTA", foot="Wild Rose Country|WILD ROSE COUNTRY", sizes="305x152", two_share=0.0, plain_share=1.0, height=66),
    "ca-other": Design("CA", "@@@ ###|### @@@|@@ ###|@@@.###", ("highway-c", "highway-b", "saira", "barlow"), colours="W.N|W.G|L.N|W.R|W.K|E.G", top="MANITOBA|Saskatchewan|NOVA SCOTIA|New Brunswick|Newfoundland|Prince Edward Island|YUKON", foot="Friendly Manitoba|Land of Living Skies|Canada's Ocean Playground|Conservation|THE KLONDIKE|CANADA", sizes="305x152", two_share=0.0, plain_share=1.0, height=66),
    "au": Design("AU", "@@-##-@@|@@@-###|#@@-#@@|###-@@@|@@@~###|@## @@@|#@@@-###|#@@-###|@@@-##@", ("highway-c", "saira", "barlow", "highway-b", "din", "share"), colours="Y.K|W.K|W.M|W.G|W.B|W.N|K.W", foot="NEW SOUTH WALES|VICTORIA - THE PLACE TO BE|QUEENSLAND - SUNSHINE STATE|SOUTH AUSTRALIA|WESTERN AUSTRALIA|TASMANIA|VICTORIA - STAY ALERT", sizes="372x134|372x107", two_share=0.0, plain_share=1.0, height=76),
    "nz": Design("NZ", "@@@###|@@####", ("din", "barlow", "saira"), sizes="360x125", two_share=0.02, plain_share=1.0),
    "in": Design("IN", "@@ ## @@ ####|@@ ## @ ####|@@##@@####|@@-##-@@-####|@@ # @@@ ####", ("din", "barlow-bold", "saira-bold", "highway-em", "share", "fe", "overpass"), "IND", star=False, colours="W.K|W.K|W.K|Y.K|K.Y", sizes="500x120|520x110", two_line="340x200|300x170|200x100", two_share=0.45, plain_share=0.45, prefix="MH DL KA TN KL HR UP GJ AP TS RJ WB PB MP BR CH JH GA AS"),
    "il": Design("IL", "##-###-##|###-##-###", ("din", "barlow", "saira", "highway-c"), "IL", star=False, colours="Y.K", plain_share=0.1),
    "my": Design("MY", "@@@ ####|@ #### @|@@ ####|@@@ ###|@@@####|@@@ ##|@@@ #", ("highway-em", "overpass", "barlow-bold", "saira-bold", "din"), colours="K.W", sizes="450x110|400x120", two_line="260x180", two_share=0.2, plain_share=1.0),
    "sg": Design("SG", "S@@ #### @|S@@####@|S@@ ### @", ("highway-em", "barlow-bold", "overpass"), colours="K.W|Y.K", sizes="450x110", two_share=0.15, plain_share=1.0),
    "za": Design("ZA", "@@ ## @@ ~@@|@@@ ### @@|@@ ###-###|@@@ ### GP", ("din", "barlow-bold", "saira"), colours="W.K|W.B|W.G|Y.K", sizes="520x113", plain_share=1.0),
    "ae": Design("AE", "@ #####|## #####|@ ####", ("din", "barlow-bold", "highway-em"), sizes="520x110", two_share=0.1, plain_share=1.0, top="DUBAI|U.A.E."),
    "cn": Design("CN", "@ @####@|@ #####|@.#@###|@.@@###|@.####@|@.#####|@.@##@#", ("barlow", "saira", "share", "din", "oswald"), colours="B.W|B.W|B.W|Y.K|E.K", sizes="440x140", two_share=0.0, plain_share=1.0, letters=_NO_IOQ, height=90),
    "other": Design("unknown", "@@@ ###|@@@####|@@ ####|#### @@|@ #####|######|@@@-###|##-####|@@@@##|@@-###-@|@###@@@|## @@@ ##|#####|####|@@#@@@|@@@-###-@", _ANY, "", colours="W.K|Y.K|K.W|W.N|W.R|B.W|G.W|R.W|E.G|O.K|S.K|W.G", sizes="520x110|305x152|400x130|330x165|360x125|460x120", two_line="340x200|240x170|200x160", two_share=0.25, plain_share=1.0, top="|||CAR|TAXI|GOBIERNO|SAN JOSE|NAIROBI|COSTA RICA", foot="|||2014|PRIVADO|CENTROAMERICA|PARTICULAR"),
}  # fmt: skip


def render_world(rng: np.random.Generator, name: str) -> RenderedPlate:
    """One plate of a design of DESIGNS."""
    design = DESIGNS[name]
    serial = _german(rng) if name == "de" else _serial(rng, design)
    two = rng.random() < design.two_share
    size = str(rng.choice((design.two_line if two else design.sizes).split("|")))
    w, h = (int(v) for v in size.split("x"))
    canvas = Canvas(w, h)
    ground_key, ink_key = str(rng.choice(design.colours.split("|"))).split(".")
    ground, ink = _near(rng, _C[ground_key]), _near(rng, _C[ink_key], 14)
    canvas.fill(ground)
    banded = bool(design.band) and rng.random() >= design.plain_share
    left, right, top = 8.0, w - 8.0, 5.0
    if banded:
        left = _band(rng, canvas, design, two)
    bottom = h - 5.0
    if design.right and not two and rng.random() < 0.7:
        right = _right_band(rng, canvas, str(rng.choice(design.right.split("|"))))
    if design.top_band is not None:
        bar = h * rng.uniform(0.2, 0.26)
        canvas.rect(0, 0, w, bar, _near(rng, design.top_band))
        canvas.words(_one(rng, ("overpass", "barlow-bold", "saira-bold")), design.top, (w * 0.22, 4, w * 0.56, bar - 9), _C["W"])
        _flags(rng, canvas, bar)
        top = bar + 2
    elif design.top:
        words = str(rng.choice(design.top.split("|")))
        if words and (bar := h * rng.uniform(0.13, 0.19)) and rng.random() < 0.93:
            inked = ink if rng.random() < 0.8 else _C[str(rng.choice(list("BRGN")))]
            canvas.words(_one(rng, ("overpass", "barlow-bold", "highway-d", "zilla", "oleo")), words, (w * 0.2, h * 0.04, w * 0.6, bar), inked)
            top = h * 0.06 + bar
    if design.foot and (words := str(rng.choice(design.foot.split("|")))) and rng.random() < 0.9:
        bar = h * rng.uniform(0.1, 0.16)
        canvas.words(_one(rng, ("overpass", "barlow-bold", "highway-d", "zilla", "oleo")), words, (w * 0.15, h * 0.96 - bar, w * 0.7, bar), ink)
        bottom = h * 0.95 - bar
    if rng.random() < 0.5:
        canvas.border(2, rng.uniform(2, 4), ink, 8)
    face = _one(rng, design.faces)
    room = (left, top, right - left, bottom - top)
    if two:
        _two_lines(rng, canvas, face, serial, room, ink)
    else:
        _one_line(rng, canvas, design, face, serial, room, ink)
    for at in rng.uniform(0.03, 0.97, int(rng.choice([0, 0, 0, 1, 2]))):
        shade = int(rng.integers(10, 235))
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        spot = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(3, 6) + [at * w, h * rng.uniform(0.3, 0.7)]
        canvas.polygon(spot, (shade, shade, shade))
    canvas.lit(rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.9))
    return canvas.done(name, design.region, radius=rng.uniform(3, 10), two_line=two)


def _one_line(
    rng: np.random.Generator, canvas: Canvas, design: Design, face: str, serial: str,
    room: tuple[float, float, float, float], ink: Rgb,
) -> None:  # fmt: skip
    x, y, w, h = room
    height = min(design.height * rng.uniform(0.93, 1.05), h * 0.96)
    count = sum(c.isalnum() for c in serial)
    groups = serial.replace("~", " ")
    if design.region == "CN":
        box = _hanzi(rng, canvas, x, y + (h - height) / 2, height * 0.52, height, ink)
        x, w = x + box + 6, w - box - 6
    width = min(height * rng.uniform(0.56, 0.68), w / max(count + 0.8, 5))
    middles = canvas.serial(
        face, groups, (x + 4, y, w - 8, h), ink, height=height, width=width, gap=rng.uniform(2.5, 9) * height / 75,
        space=height * rng.uniform(0.2, 0.5), relief=rng.choice([0.0, 0.6, 1.0]), spread=float(rng.choice([0, 0, 0.4, 0.9])),
        stroke=int(rng.choice([-1, 0, 0, 0, 1, 2])),
    )  # fmt: skip
    if middles and ("~" in serial or (design.region == "DE")):
        _seals(rng, canvas, middles[0], y + h / 2, height)


def _two_lines(
    rng: np.random.Generator, canvas: Canvas, face: str, serial: str, room: tuple[float, float, float, float], ink: Rgb
) -> None:
    x, y, w, h = room
    plain = serial.replace("~", " ").strip()
    cuts = [i for i, c in enumerate(plain) if c in " -."]
    middle = len(plain) / 2
    cut = min(cuts, key=lambda i: abs(i - middle)) if cuts else int(np.ceil(middle))
    lines = (plain[:cut], plain[cut:].lstrip(" -."))
    height = h * rng.uniform(0.40, 0.46)
    gap = rng.uniform(2, 7) * height / 75
    for i, part in enumerate(lines):
        count = max(sum(c.isalnum() for c in part), 1)
        width = min(height * rng.uniform(0.55, 0.75), w / (count + 0.3))
        canvas.serial(
            face, part, (x + 3, y + i * h * 0.5, w - 6, h * 0.5), ink, height=height, width=width, gap=gap,
            space=height * rng.uniform(0.2, 0.5), relief=rng.choice([0.0, 0.6, 1.0]), spread=float(rng.choice([0, 0.8])),
            stroke=int(rng.choice([0, 0, 1])),
        )  # fmt: skip


def _serial(rng: np.random.Generator, design: Design) -> str:
    pattern = str(rng.choice(design.formats.split("|"))).strip()
    serial = drawn(rng, pattern, letters=design.letters, digits=DIGITS)
    if design.prefix and serial[:2].isalpha():
        serial = str(rng.choice(design.prefix.split())) + serial[2:]
    if rng.random() < 0.12:
        serial = serial.replace(" ", "").replace("-", "")
    return serial


def _german(rng: np.random.Generator) -> str:
    town = str(rng.choice(_DE_TOWNS.split()))
    if rng.random() < 0.5:
        town = drawn(rng, "@" * int(rng.choice([1, 2, 2, 3, 3])))
    letters = drawn(rng, "@" * int(rng.integers(1, 3)))
    digits = str(rng.integers(1, 10 ** int(rng.integers(1, 5))))
    tail = "E" if rng.random() < 0.05 else "H" if rng.random() < 0.03 else ""
    return f"{town}~{letters} {digits}"[: 10 if not tail else 9] + tail


def _band(rng: np.random.Generator, canvas: Canvas, design: Design, two: bool) -> float:
    w = rng.uniform(36, 50) if not two else rng.uniform(30, 40)
    h = canvas.h * (0.5 if two and rng.random() < 0.5 else 1.0)
    if design.region == "IN":
        canvas.words(_one(rng, ("overpass", "barlow-bold")), "IND", (6, h * 0.55, 22, 14), _C["B"])
        canvas.rect(8, h * 0.3, 16, 14, _near(rng, (150, 160, 190), 50))
        return 32.0
    canvas.rect(0, 0, w, h, _near(rng, (0, 60, 160), 40))
    ink = _C["W"] if rng.random() < 0.8 else _C["Y"]
    centre = (w / 2 + 1, h * 0.3)
    if design.star:
        for k in range(12):
            angle = k * np.pi / 6
            r = w * 0.27
            canvas.rect(centre[0] + np.cos(angle) * r - 1.5, centre[1] + np.sin(angle) * r - 1.5, 3, 3, _C["Y"])
    elif rng.random() < 0.7:
        for i in range(3):
            canvas.rect(w * 0.22, h * 0.16 + i * 7, w * 0.56, 7, _C[str(rng.choice(list("WRBYNG")))])
    canvas.words(_one(rng, ("overpass", "barlow-bold", "din")), design.band, (w * 0.18, h * 0.6, w * 0.64, h * 0.27), ink)
    return w + 2


def _right_band(rng: np.random.Generator, canvas: Canvas, code: str) -> float:
    w = rng.uniform(34, 44)
    canvas.rect(canvas.w - w, 0, w, canvas.h, _near(rng, (0, 60, 160), 40))
    canvas.words(_one(rng, ("overpass", "barlow-bold")), code, (canvas.w - w * 0.85, canvas.h * 0.6, w * 0.7, canvas.h * 0.26), _C["W"])
    return canvas.w - w - 2


def _flags(rng: np.random.Generator, canvas: Canvas, bar: float) -> None:
    for i in range(3):
        colour = _C[str(rng.choice(list("GYBWL")))]
        canvas.rect(canvas.w - 38, bar * 0.2 + i * bar * 0.2, 24, bar * 0.2, colour)
    for spot in rng.uniform(0, 1, (5, 2)):
        canvas.rect(14 + spot[0] * 22, bar * (0.15 + 0.6 * spot[1]), 3, 3, _C["W"])


def _seals(rng: np.random.Generator, canvas: Canvas, x: float, y: float, height: float) -> None:
    """The round state and inspection seals of German plates, or a coat of arms."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.column_stack([np.cos(angles), np.sin(angles)])
    for dy in (-0.24, 0.24) if rng.random() < 0.7 else (rng.uniform(-0.2, 0.2),):
        r = height * rng.uniform(0.16, 0.22)
        outer = _C[str(rng.choice(list("YOGBSRWKL")))]
        canvas.polygon(ring * r + [x, y + dy * height], outer)
        canvas.polygon(ring * r * 0.6 + [x, y + dy * height], _near(rng, _C[str(rng.choice(list("SWKYBR")))], 40))


def _hanzi(
    rng: np.random.Generator, canvas: Canvas, x: float, y: float, w: float, h: float, ink: Rgb
) -> float:
    """Strokes that fill a square as a province character does; they are not to be read."""
    for _ in range(int(rng.integers(6, 11))):
        t = h * rng.uniform(0.06, 0.1)
        if rng.random() < 0.5:
            canvas.rect(x + rng.uniform(0, 0.3) * w, y + rng.uniform(0, 0.92) * h, w * rng.uniform(0.5, 0.7), t, ink)
        else:
            canvas.rect(x + rng.uniform(0, 0.9) * w, y + rng.uniform(0, 0.5) * h, t, h * rng.uniform(0.3, 0.5), ink)
    return w


def _near(rng: np.random.Generator, colour: Rgb, by: float = 18) -> Rgb:
    r, g, b = (int(np.clip(c + rng.normal(0, by / 2), 0, 255)) for c in colour)
    return r, g, b


def _one(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return str(rng.choice(faces.first_installed(names)))
