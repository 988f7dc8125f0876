"""Plates of the 56 United States issuers: today's designs, the last century's, vanity and special plates."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.train.render import faces
from models.train.render.canvas import DIGITS, LETTERS, Canvas, RenderedPlate, Rgb, drawn

W_MM, H_MM = 305, 152

_DIES = ("highway-b", "highway-c", "saira", "barlow", "share", "saira-bold", "oswald", "din", "overpass")
_LABELS = ("highway-d", "highway-c", "highway-em", "overpass", "barlow-bold", "saira-bold", "oswald")
_SCRIPTS = ("yellowtail", "oleo", "lobster", "pacifico", "dancing")
_SERIFS = ("zilla", "merriweather")
_HANDS = {"block": _LABELS, "script": _SCRIPTS, "serif": _SERIFS}

_C: dict[str, Rgb] = {
    "W": (244, 244, 242), "C": (240, 230, 200), "Y": (242, 196, 40), "G": (20, 110, 60), "D": (10, 62, 42),
    "B": (30, 80, 165), "N": (22, 34, 92), "R": (196, 28, 38), "K": (24, 24, 26), "O": (226, 116, 30),
    "M": (120, 24, 44), "S": (196, 200, 200), "L": (170, 208, 238), "T": (206, 168, 96), "P": (104, 60, 138),
    "E": (92, 60, 36), "A": (120, 196, 120), "U": (246, 210, 180), "V": (206, 222, 206), "F": (250, 235, 130),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Issuer:
    """One issuer's row of us.toml, which says what the fields mean."""

    names: list[str]
    slogans: list[str]
    formats: list[str]
    palettes: list[str]
    hand: str
    places: list[str] = field(default_factory=list)
    short: str = ""


ISSUERS: dict[str, Issuer] = {
    code: Issuer(**row) for code, row in tomllib.loads(Path(__file__).with_name("us.toml").read_text()).items()
}

_VANITY = """
    GO BEACH FISH DOG CAT LUV MY HOT ROD VET TOY FUN RUN SKI SURF JAZZ ROCK MOM DAD PAPA NANA BIG RED BLU
    FLY SKY ZOOM FAST SLO EZ RIDER DRIVE CAR TRUK JEEP ICE FIRE STAR SUN MOON KING QUEEN LADY BOSS DOC NURSE
    TEACH COACH GOLF BALL WIN LIVE LOVE LIFE HAPPY SMILE JOY HOPE FREE BIRD EAGLE WOLF BEAR TIGER LION DUKE
    ACE MAX SAM JON AMY KIM LEE TOM BOB JIM 4U 2U 4ME 2GO 1ST 2ND GR8 L8 B4 IM ITS UR THE OF ON IN AT ALL
    WAY OUT NO ONE BLACK WHITE
"""
_WORDS = tuple(_VANITY.split())
_OLD_PATTERNS = (
    "##-###|###-###|#-#####|##.####|@#####|@-#####|@@-####|######|#####|####|##@###|#-@####|@@ ####|@@@-###|@##.###"
    "|###.###|##-####|###|#@-####|@@@ ###|###@@@|#### @|##|###|####|##@|@##|###@|#"
)
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_CODES = (
    *("SG", "JO", "PK", "CL", "MC", "SN", "TR", "COM", "NG", "PT", "EV", "AA", "TK", "DV", "18", "10", "TRK"),
    *("FD", "TRL", "FARM", "DLR", "TRUCK", "TRAILER", "COMM"),
)


def render_us(rng: np.random.Generator, code: str) -> RenderedPlate:
    """One plate of a United States issuer; `code` is the two letters after "US-"."""
    issuer = ISSUERS[code]
    kind = rng.random()
    if kind < 0.30:
        return _historic(rng, code, issuer)
    return _modern(rng, code, issuer, vanity=kind > 0.84)


def _modern(rng: np.random.Generator, code: str, issuer: Issuer, *, vanity: bool) -> RenderedPlate:
    canvas = Canvas(W_MM, H_MM)
    ground, name_key, ink_key = str(rng.choice(issuer.palettes)).split(".")
    if rng.random() < 0.12:
        ground = "".join(rng.choice(list("WCLYVUAS"), size=int(rng.integers(1, 4))))
    light = all(c in "WCYLSTAUVF" for c in ground)
    if rng.random() < 0.12:
        name_key = ink_key = str(rng.choice(list("KNRBGDME" if light else "WYC")))
    if light:  # what is written in white stands on a dark ground or band
        name_key, ink_key = (str(rng.choice(list("KNRBGDM"))) if key in "WCYF" else key for key in (name_key, ink_key))
    shades = [_near(rng, _C[c]) for c in ground]
    canvas.gradient(shades)
    _scenery(rng, canvas, shades, busy=rng.random() < 0.75)
    ink, name_ink = _near(rng, _C[ink_key], 14), _near(rng, _C[name_key], 14)

    top_h = rng.uniform(20, 32)
    name_box = (rng.uniform(58, 84), rng.uniform(4, 9), rng.uniform(140, 180), top_h)
    hand = issuer.hand if rng.random() < 0.75 else str(rng.choice(list(_HANDS)))
    name = str(rng.choice(issuer.names))
    if hand == "script":
        name = name if any(c.islower() for c in name) else name.title()
    face = _one(rng, _HANDS[hand])
    swap = rng.random() < 0.2
    bottom_box = (rng.uniform(60, 90), 152 - rng.uniform(23, 28), rng.uniform(125, 170), rng.uniform(14, 20))
    if rng.random() < 0.12:
        canvas.rect(0, 120 if swap else 0, W_MM, 32, _near(rng, _C[str(rng.choice(list("NBGRKM")))]))
        name_ink = _C["W"]
    canvas.name = name
    if rng.random() < 0.96:
        canvas.words(face, name, bottom_box if swap else name_box, name_ink, tracking=_tracking(rng, hand))
    below = issuer.slogans + issuer.places * 2
    if below and rng.random() < 0.85:
        slogan_ink = name_ink if rng.random() < 0.6 else ink
        slogan_face = _one(rng, _LABELS if rng.random() < 0.6 else _SERIFS + _SCRIPTS)
        canvas.words(slogan_face, str(rng.choice(below)), name_box if swap else bottom_box, slogan_ink)

    text = _vanity(rng) if vanity else _serial(rng, issuer)
    relief = 0.0 if rng.random() < 0.3 else rng.uniform(0.5, 1.2)
    second = _near(rng, _C[str(rng.choice(list("KNRG")))], 14) if light and rng.random() < 0.03 else None
    _stamp(rng, canvas, text, ink, relief, second, _code(rng) if rng.random() < 0.2 else [])
    _stickers(rng, canvas)
    if rng.random() < 0.35:
        canvas.border(rng.uniform(2, 4), rng.uniform(1.5, 4), ink if rng.random() < 0.7 else name_ink, 12)
    _bolts(rng, canvas)
    canvas.lit(rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0))
    return canvas.done(f"us-{code.lower()}", f"US-{code}", radius=rng.uniform(6, 14))


def _historic(rng: np.random.Generator, code: str, issuer: Issuer) -> RenderedPlate:
    """Two plain colours, the name in block capitals with the year, deep stamping."""
    canvas = Canvas(W_MM, H_MM if rng.random() < 0.8 else int(rng.integers(125, 150)))
    dark, light = str(rng.choice(list("NKGDMBREKN"))), str(rng.choice(list("WCYSOTWFCL")))
    ground, ink_key = (dark, light) if rng.random() < 0.55 else (light, dark)
    canvas.fill(_near(rng, _C[ground], 26))
    ink = _near(rng, _C[ink_key], 22)
    year = int(rng.integers(20, 99))
    name = issuer.short if issuer.short and rng.random() < 0.4 else issuer.names[0].upper()
    slogan = str(rng.choice(issuer.slogans)).upper() if issuer.slogans else ""
    face = _one(rng, ("highway-d", "highway-c", "overpass", "highway-em", "saira"))
    dress = rng.integers(4)
    lines = [
        (f"{name} {year}", slogan), (f"19 {name} {year}", slogan), (f"{name} - 19{year}", ""),
        (slogan if slogan else name, f"19 {name} {year}" if slogan else ""),
    ][int(dress)]  # fmt: skip
    head, foot = lines if rng.random() < 0.6 else lines[::-1]
    aside = rng.random() < 0.12
    if aside:  # the name is stacked beside the serial, above or below the year
        head, foot = ("", "") if rng.random() < 0.5 else (slogan, "")
    canvas.name = issuer.short or issuer.names[0] if aside else name
    for words, y in ((head, 6.0), (foot, canvas.h - 26.0)):
        if words:
            room, tall = rng.uniform(150, 245), rng.uniform(16, 26)
            place = ((W_MM - room) / 2, y if y < 50 else y + 20 - tall, room, tall)
            canvas.words(face, words, place, ink, tracking=_tracking(rng, "block"))
    text = _serial(rng, issuer) if rng.random() < 0.4 else _old_serial(rng)
    centre = canvas.h * (0.42 if not head else 0.58 if not foot else 0.5)
    beside = [canvas.name, f"{year}"] if aside else _code(rng) if rng.random() < 0.4 else []
    _stamp(rng, canvas, text, ink, rng.uniform(0.9, 1.6), None, beside, centre)
    if rng.random() < 0.3:
        _stickers(rng, canvas, small=True)
    if rng.random() < 0.7:
        canvas.border(rng.uniform(2, 4), rng.uniform(2, 4), ink if rng.random() < 0.7 else _near(rng, _C[ground]), 12)
    _bolts(rng, canvas)
    canvas.lit(rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2))
    return canvas.done(f"us-{code.lower()}", f"US-{code}", radius=rng.uniform(5, 14))


def _tracking(rng: np.random.Generator, hand: str) -> int:
    """Names in capitals are often spread over the plate; joined letters can't be."""
    return int(rng.integers(2, 22)) if hand != "script" and rng.random() < 0.35 else 0


def _code(rng: np.random.Generator) -> list[str]:
    """A county, class or trailer code as it is stacked beside a serial, a character a row; not part of the serial."""
    kind = rng.random()
    if kind < 0.4:
        return list(str(rng.choice(_CODES)))
    if kind < 0.5:
        year = str(rng.integers(1910, 2000))
        return list(year) if rng.random() < 0.6 else [year[:2], year[2:]]
    return list(drawn(rng, str(rng.choice(["@@", "@@", "@@", "##", "@@@"]))))


def _stamp(
    rng: np.random.Generator, canvas: Canvas, text: str, ink: Rgb, relief: float, second: Rgb | None,
    beside: list[str], centre: float | None = None,
) -> None:  # fmt: skip
    """The serial; rows of small type `beside` it, or an emblem or a club's initial, where there is room."""
    face = _one(rng, _DIES)
    height = rng.uniform(58, 74) if rng.random() < 0.8 else rng.uniform(44, 58)
    marked = "~" in text
    groups = text.replace("~", " ")
    count = sum(c.isalnum() for c in text)
    x = rng.uniform(10, 24)
    w = W_MM - 2 * x
    y = (centre if centre is not None else canvas.h / 2 + rng.uniform(-3, 5)) - height / 2
    on_left = rng.random() < 0.8
    small = face if rng.random() < 0.35 else _one(rng, _DIES + _LABELS)
    small_ink = ink if rng.random() < 0.8 else _near(rng, _C[str(rng.choice(list("KNRGB")))], 30)
    wide = rng.uniform(20, 36) * (1.5 if max(map(len, beside), default=0) > 2 else 1.0)
    between = 0.0
    if beside and count <= 7:
        where = rng.random()
        if where < 0.15 and groups.count(" ") == 1 and "-" not in groups:
            between = wide + rng.uniform(4, 12)
        else:
            for rows in (beside, _code(rng)) if where > 0.9 else (beside,):
                _pile(rng, canvas, small, rows, (x if on_left else x + w - wide, y, wide, height), small_ink, relief)
                taken = wide + rng.uniform(2, 12)
                x, w = (x + taken, w - taken) if on_left else (x, w - taken)
                on_left = not on_left
            if rng.random() < 0.1:
                groups = f"-{groups}"
    elif count <= 6 and rng.random() < 0.13:
        taken = rng.uniform(45, 85)
        if rng.random() < 0.3:
            # Smaller and in another hand than the serial: of one that isn't, nobody could say that it isn't part of it.
            tall = height * rng.uniform(0.4, 0.75)
            tint = _near(rng, _C[str(rng.choice(list("RBGNOYKM")))], 30)
            place = (x if on_left else x + w - taken + 6, y + (height - tall) / 2, taken - 6, tall)
            canvas.words(_one(rng, _SERIFS + _SCRIPTS), drawn(rng, "@"), place, tint)
        else:
            for _ in range(int(rng.integers(1, 5))):
                spot = rng.uniform([x, y], [x + taken - 14, y + height])
                _emblem(rng, canvas, float(spot[0]), float(spot[1]), rng.uniform(10, 26))
        x, w = (x + taken, w - taken) if on_left else (x, w - taken)
    width = min(rng.uniform(27, 36), 250 / max(count, 5), (w - between) / max(count * 1.1, 1))
    space = between or (rng.uniform(26, 54) if marked else rng.uniform(8, 30))
    middles = canvas.serial(
        face, groups, (x, y, w, height), ink, height=height, width=width, gap=rng.uniform(3, 9), space=space,
        relief=relief, spread=float(rng.choice([0, 0, 0.3, 0.8])), stroke=int(rng.choice([-1, 0, 0, 0, 1, 1, 2])),
        second=second,
    )  # fmt: skip
    if between:
        _pile(rng, canvas, small, beside, (middles[0] - wide / 2, y, wide, height), small_ink, relief)
    elif middles and (marked or rng.random() < 0.12):
        _emblem(rng, canvas, middles[0], y + height / 2, rng.uniform(14, 22) if marked else rng.uniform(8, 14))


def _pile(
    rng: np.random.Generator, canvas: Canvas, face: str, rows: list[str], box: tuple[float, float, float, float],
    ink: Rgb, relief: float,
) -> None:  # fmt: skip
    """Rows of smaller type, one above the other; now and then they step aside or leave some of the height."""
    x, y, w, h = box
    tall = h * (rng.uniform(0.9, 1.1) if rng.random() < 0.75 else rng.uniform(0.6, 0.9))
    top = y + (h - tall) * rng.choice([0.0, 0.5, 1.0])
    step, share = tall / len(rows), rng.uniform(0.78, 0.96)
    aside = w * rng.uniform(0.3, 0.5) if len(rows) > 1 and rng.random() < 0.15 else 0.0
    for i, row in enumerate(rows):
        place = (x + aside * i / max(len(rows) - 1, 1), top + i * step, w - aside, step * share)
        if len(row) == 1:
            canvas.character(face, row, place, ink, relief)
        else:
            canvas.words(face, row, place, ink)


def _serial(rng: np.random.Generator, issuer: Issuer) -> str:
    pattern = str(rng.choice(issuer.formats))
    if rng.random() < 0.25:
        pattern = "".join(c for c in pattern if c.isalnum() or c in "@#")
    elif rng.random() < 0.15:
        pattern = pattern.replace(" ", str(rng.choice(list("-.~"))))
    return drawn(rng, pattern)


def _old_serial(rng: np.random.Generator) -> str:
    return drawn(rng, str(rng.choice(_OLD_PATTERNS.split("|"))))


def _vanity(rng: np.random.Generator) -> str:
    if rng.random() < 0.4:
        size = int(rng.choice([2, 3, 4, 5, 6, 7, 7, 7, 8]))
        text = "".join(str(rng.choice(list("AEIOURSTLN" + LETTERS + DIGITS))) for _ in range(size))
        return text if size < 5 or rng.random() < 0.5 else f"{text[:3]} {text[3:]}"
    words = [str(rng.choice(_WORDS)) for _ in range(3)]
    text = words[0]
    for word in words[1:]:
        if len(text.replace(" ", "")) + len(word) <= 8 and rng.random() < 0.8:
            text += (" " if rng.random() < 0.35 else "") + word
    if rng.random() < 0.2 and len(text) < 7:
        text += str(rng.integers(1, 99))
    return text.upper()


def _scenery(rng: np.random.Generator, canvas: Canvas, shades: list[Rgb], *, busy: bool) -> None:
    """Hills, waves, shapes and washes behind the serial, as plates with graphics have."""
    if not busy:
        return
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.integers(5)
        colour = _near(rng, shades[int(rng.integers(len(shades)))], 60)
        opacity = rng.uniform(0.15, 0.7)
        if kind == 0:
            xs = np.linspace(0, W_MM, 14)
            ys = canvas.h * rng.uniform(0.3, 0.95) + rng.normal(0, rng.uniform(2, 14), 14)
            points = np.column_stack([np.r_[xs, W_MM, 0], np.r_[ys, canvas.h, canvas.h]])
            canvas.polygon(points, colour, opacity)
        elif kind == 1:
            centre, size = rng.uniform([0, 0], [W_MM, canvas.h]), rng.uniform(10, 60)
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(5, 12))))
            radii = size * rng.uniform(0.5, 1, angles.size)
            points = centre + np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None]
            canvas.polygon(points, colour, opacity)
        elif kind == 2:
            y, h = rng.uniform(0, canvas.h), rng.uniform(2, 16)
            canvas.polygon(np.array([[0, y], [W_MM, y], [W_MM, y + h], [0, y + h]]), colour, opacity)
        elif kind == 3:
            xs = np.linspace(0, W_MM, 40)
            wave = rng.uniform(0.2, 0.9) * canvas.h + rng.uniform(3, 12) * np.sin(
                xs / rng.uniform(15, 60) + rng.uniform(0, 6)
            )
            points = np.column_stack([np.r_[xs, xs[::-1]], np.r_[wave, (wave + rng.uniform(3, 20))[::-1]]])
            canvas.polygon(points, colour, opacity)
        else:
            _emblem(
                rng, canvas, rng.uniform(20, W_MM - 20), canvas.h * rng.uniform(0.35, 0.7), rng.uniform(15, 40), opacity
            )


def _emblem(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float, opacity: float = 1.0) -> None:
    """A star, disc, diamond, tree or state-like outline."""
    colour = _near(rng, _C[str(rng.choice(list("RBGNOYKMET")))], 30)
    kind = rng.integers(4)
    if kind == 0:
        angles = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = np.where(np.arange(10) % 2, size * 0.4, size)
    elif kind == 1:
        angles, radii = np.linspace(0, 2 * np.pi, 24, endpoint=False), np.full(24, size * 0.9)
    else:
        count = int(rng.integers(5, 14))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        radii = size * rng.uniform(0.4, 1.1, count)
    points = np.array([x, y]) + np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None]
    canvas.polygon(points, colour, opacity)


def _stickers(rng: np.random.Generator, canvas: Canvas, *, small: bool = False) -> None:
    corners = [(12.0, 6.0), (W_MM - 48.0, 6.0), (12.0, canvas.h - 26.0), (W_MM - 48.0, canvas.h - 26.0)]
    for x, y in corners:
        if rng.random() < (0.15 if small else 0.32):
            w, h = rng.uniform(22, 38), rng.uniform(15, 22)
            ground = str(rng.choice(list("RYGBWOPTKW")))
            canvas.rect(x + rng.uniform(-4, 4), y + rng.uniform(-3, 3), w, h, _near(rng, _C[ground]))
            ink = _C["K"] if ground in "YWOT" else _C["W"]
            words = str(
                rng.choice([str(rng.choice(_MONTHS)), f"{rng.integers(0, 99):02d}", f"'{rng.integers(50, 99)}"])
            )
            canvas.words(_one(rng, _LABELS), words, (x + 3, y + 3, w - 6, h - 6), ink)


def _bolts(rng: np.random.Generator, canvas: Canvas) -> None:
    for x in (W_MM * 0.21, W_MM * 0.79):
        for y in (9.0, canvas.h - 9.0):
            if rng.random() < 0.6:
                _bolt(rng, canvas, x + rng.uniform(-2, 2), y)


def _bolt(rng: np.random.Generator, canvas: Canvas, x: float, y: float) -> None:
    shade = int(rng.integers(20, 210))
    radius = rng.uniform(2.5, 5)
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    points = np.array([x, y]) + np.column_stack([np.cos(angles), np.sin(angles)]) * radius
    canvas.polygon(points, (shade, shade, shade))


def _near(rng: np.random.Generator, colour: Rgb, by: float = 18) -> Rgb:
    r, g, b = (int(np.clip(c + rng.normal(0, by / 2), 0, 255)) for c in colour)
    return r, g, b


def _one(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return str(rng.choice(faces.installed(names)))
