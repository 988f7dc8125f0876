"""Plates of the 56 United States issuers: today's designs, the last century's, vanity and special plates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.train.render import faces
from models.train.render.canvas import Canvas, RenderedPlate, Rgb, drawn

W_MM, H_MM = 305, 152

_DIES = ("highway-b", "highway-c", "saira", "barlow", "share", "saira-bold", "oswald", "din", "overpass")
_LABELS = ("highway-d", "highway-c", "highway-em", "overpass", "barlow-bold", "saira-bold", "oswald")
_SCRIPTS = ("yellowtail", "oleo")
_SERIFS = ("zilla", "merriweather")

_C: dict[str, Rgb] = {
    "W": (244, 244, 242), "C": (240, 230, 200), "Y": (242, 196, 40), "G": (20, 110, 60), "D": (10, 62, 42),
    "B": (30, 80, 165), "N": (22, 34, 92), "R": (196, 28, 38), "K": (24, 24, 26), "O": (226, 116, 30),
    "M": (120, 24, 44), "S": (196, 200, 200), "L": (170, 208, 238), "T": (206, 168, 96), "P": (104, 60, 138),
    "E": (92, 60, 36), "A": (120, 196, 120), "U": (246, 210, 180), "V": (206, 222, 206), "F": (250, 235, 130),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Issuer:
    """name: as it stands on plates, "|" between variants; slogans likewise; formats: serial patterns; palettes:
    "background.name.serial" with one letter a colour (several background letters make a gradient); hand: how
    the name is set today (k block, s script, e serif); places: what stands below in some states (counties)."""

    name: str
    slogans: str
    formats: str
    palettes: str
    hand: str = "k"
    places: str = ""
    short: str = ""


ISSUERS: dict[str, _Issuer] = {
    "AL": _Issuer("ALABAMA|Alabama", "HEART OF DIXIE|Stars Fell On|Sweet Home|God Bless America", "##@###@|#@##@#|##@@###|####@@#|@####@", "LW.N.K W.R.N LWA.B.K LU.N.K", "k", short="ALA."),
    "AK": _Issuer("ALASKA", "THE LAST FRONTIER|NORTH TO THE FUTURE|CELEBRATING STATEHOOD", "@@@ ###|@@@.###|#### @@|#####", "Y.N.N OY.B.N W.B.N V.K.K", "k", short="ALASKA"),
    "AZ": _Issuer("ARIZONA", "GRAND CANYON STATE", "@@@####|###~@@@|@@@-###|@#@ #@@", "PWU.W.N M.W.W V.G.G W.B.N K.C.C", "k", short="ARIZ."),
    "AR": _Issuer("ARKANSAS|Arkansas", "The Natural State|LAND OF OPPORTUNITY", "### @@@|@@@ ##@|###~@@@|#-#####", "W.B.R WC.R.B LWA.N.K LWW.B.N", "s", short="ARK."),
    "CA": _Issuer("California|CALIFORNIA", "dmv.ca.gov|THE GOLDEN STATE|SESQUICENTENNIAL", "#@@@###|#@#####|@@@ ###|###@@@", "W.R.N W.N.N K.Y.Y N.Y.Y W.B.B UW.R.N", "s", short="CAL"),
    "CO": _Issuer("COLORADO|colorful Colorado", "", "@@@.###|###.@@@|@@@-@##|@@-####|###-@@@", "GW.G.G DW.W.W DVV.D.D W.G.G", "k", short="COLO"),
    "CT": _Issuer("CONNECTICUT|Connecticut", "Constitution State", "###.@@@|@@.#####|### @@@|#@@.@@#", "BLW.N.N LW.N.N B.W.W W.B.B", "k", short="CONN"),
    "DE": _Issuer("DELAWARE", "THE FIRST STATE", "######|@@ #####|@ #####|#####", "N.Y.Y W.N.N K.W.W B.Y.Y", "k", short="DEL"),
    "FL": _Issuer("FLORIDA|MyFlorida.com", "SUNSHINE STATE|IN GOD WE TRUST", "@@@ @##|###~@@@|@##~#@@|@@@~##@|#-#####", "W.G.G WVO.D.D W.R.R W.B.G VO.G.G", "k", "COUNTY|BREVARD|ORANGE|DADE|DUVAL|POLK", "FLA."),
    "GA": _Issuer("GEORGIA|www.GEORGIA.gov", "Peach State|PEACH STATE|GEORGIA ON MY MIND", "@@@####|#### @@@|@@@ ####|###.@@@", "W.K.K WUO.K.K LWU.N.K W.G.N", "k", "COBB|BARROW|FULTON|DEKALB|GWINNETT|HALL", "GA."),
    "HI": _Issuer("HAWAII", "ALOHA STATE", "@@@ ###|@@@###|@##-###", "W.K.K CW.K.K UW.K.K LW.K.K", "k"),
    "ID": _Issuer("IDAHO|Idaho", "FAMOUS POTATOES|SCENIC IDAHO", "@ ######|#@ #####|@######|#@ @####|@@@ ###", "RWLG.R.N RWW.R.N LWG.B.N W.G.G", "s", short="IDAHO"),
    "IL": _Issuer("ILLINOIS|Illinois", "LAND OF LINCOLN|Land of Lincoln", "@@ #####|@## ####|### ####|@@@ ###|@######", "LWL.B.R W.N.N WL.B.K W.B.B LW.N.R", "s", short="ILL."),
    "IN": _Issuer("INDIANA|Indiana", "HOOSIER STATE|IN GOD WE TRUST|AMBER WAVES OF GRAIN|WANDER", "###@@@|###@|##@####|@@@ ###|#@#####", "BLW.W.N W.B.N YOW.B.N LWA.N.B N.W.W", "k", "MARION|LAKE|ALLEN", "IND."),
    "IA": _Issuer("IOWA|Iowa", "", "@@@ ###|### @@@|@@ #### ", "LWV.N.K W.B.B LWW.N.N GW.K.K", "e", "POLK|LINN|SCOTT|FAYETTE|JOHNSON|STORY|DALLAS", "IOWA"),
    "KS": _Issuer("KANSAS", "THE WHEAT STATE|MIDWAY USA", "### @@@|@@@ ###|####@@@|###.@@@", "L.N.N LW.B.N W.R.N WY.B.B YC.K.K", "k", short="KANS."),
    "KY": _Issuer("KENTUCKY|Kentucky", "BLUEGRASS STATE|UNBRIDLED SPIRIT|IN GOD WE TRUST", "### @@@|@@@ ###|###-@@@|@#@ ###", "LWG.N.N LWL.B.N W.B.B BW.W.N LV.N.N", "k", "JEFFERSON|FAYETTE|BOONE|KENTON|HARDIN|PIKE", "KY."),
    "LA": _Issuer("Louisiana|LOUISIANA", "Sportsman's Paradise|BAYOU STATE", "### @@@|@@@ ###|###@###|@######", "W.R.N WU.R.N LW.R.N C.N.N WAL.B.N", "s", short="LA."),
    "ME": _Issuer("MAINE|Maine", "Vacationland|VACATIONLAND", "#### @@|####@@|### @@@|###-###|#####@", "W.R.N LWV.D.K VW.D.D W.N.N VWW.K.K", "k"),
    "MD": _Issuer("MARYLAND|Maryland", "MARYLANDPROUD.ORG|TREASURE THE CHESAPEAKE|WAR OF 1812|www.maryland.gov", "#@@ ####|#@@####|@@@ ###|###@##|@@@.###|#@@##@#", "W.B.N W.K.K LWY.K.K LWA.G.N WY.K.K", "s", short="MD."),
    "MA": _Issuer("Massachusetts|MASSACHUSETTS", "The Spirit of America", "#@@ @##|#### @@|###-@@@|### @@#|#@@@##|@#####", "W.B.R WL.B.R W.G.G W.R.R", "s", short="MASS"),
    "MI": _Issuer("MICHIGAN|Michigan", "Great Lakes|Pure Michigan|Great Lake State|www.Michigan.gov|WATER-WINTER WONDERLAND", "@@@ ####|@@@####|#@@ #@#|###-@@@|@@-####", "BW.W.N N.W.W LWW.B.N WL.N.N BWW.W.B", "k", short="MICH."),
    "MN": _Issuer("MINNESOTA|Minnesota", "10,000 lakes|EXPLORE|10,000 LAKES", "@@@-###|###-@@@|###~@@@|@@@~###", "LWLD.B.N LWLB.N.N LW.N.N BWL.N.N", "s", short="MINN."),
    "MS": _Issuer("MISSISSIPPI|Mississippi", "The Hospitality State|Birthplace of America's Music|IN GOD WE TRUST", "@@@ ###|### @@@|@@@ ####|@@#.###", "CW.N.N WU.B.N LWU.N.K CTC.E.E WAW.G.K", "s", "HINDS|RANKIN|DESOTO|HARRISON|LEE|MADISON|LAUDERDALE", "MISS."),
    "MO": _Issuer("MISSOURI", "SHOW-ME STATE|BICENTENNIAL", "@@# @#@|### @@#|@@@ ###|###-@@@|#@@ @##", "LWV.G.N WL.G.N M.W.W RWB.N.N LWA.B.B", "k", short="MO."),
    "MT": _Issuer("MONTANA|Montana", "BIG SKY COUNTRY|TREASURE STATE|Big Sky Country", "##-####@|#-#####@|@@@###|##.####|######@", "B.W.W LWB.N.N N.W.W LW.B.N K.W.W RWB.W.N", "k", short="MONT."),
    "NE": _Issuer("NEBRASKA|Nebraska", "CORNHUSKER STATE|THE GOOD LIFE|nebraska.gov|150 YEARS", "@@@ ###|##-@###|#-@####|##.####|#-#####", "W.B.K LWY.B.K YW.R.N LU.B.N C.R.R", "k", short="NEBR."),
    "NV": _Issuer("NEVADA", "THE SILVER STATE|HOME MEANS NEVADA|BATTLE BORN", "###.@##|###-@@@|###@@@|##@.###|@@@ ###", "LWS.N.N B.W.W S.B.B LUT.N.N WS.N.N", "k", short="NEV."),
    "NH": _Issuer("NEW HAMPSHIRE|New Hampshire", "LIVE FREE OR DIE|SCENIC|Live Free or Die", "### ####|###-###|@@@.###|######|##-####", "WVA.G.D W.G.G G.W.W LWA.K.D V.D.D", "k", short="N.H."),
    "NJ": _Issuer("NEW JERSEY|New Jersey", "Garden State|GARDEN STATE", "@## @@@|@@@ ##@|###~@@@|@##~@@@|@@@-##@|@@-###@", "FC.K.K YW.K.K B.C.C C.K.K FW.N.K", "k", short="N.J."),
    "NM": _Issuer("NEW MEXICO|New Mexico USA", "LAND OF ENCHANTMENT|Land of Enchantment|CENTENNIAL", "###.@@@|@@@ ###|@@@.###|###@@@|@@@@##", "Y.R.R L.Y.Y N.Y.Y K.R.W LG.R.Y", "k", short="N.MEX"),
    "NY": _Issuer("NEW YORK", "EMPIRE STATE|EXCELSIOR", "@@@ ####|@@@-####|@## #@@|####-@@@|#@# @@|@@@ ###", "YO.N.N W.N.N BWW.W.N W.R.N NWY.W.N O.N.N", "k", short="N.Y."),
    "NC": _Issuer("NORTH CAROLINA|North Carolina", "First in Flight|FIRST IN FLIGHT|FIRST IN FREEDOM|DRIVE SAFELY", "@@@-####|@@@####|@@-####|@@#-###", "LWV.R.N LW.R.B WL.R.N W.R.R W.G.G", "k", short="N.C."),
    "ND": _Issuer("NORTH DAKOTA|North Dakota", "PEACE GARDEN STATE|Discover the Spirit|Legendary", "### @@@|@@@ ###|###@@@|###-###", "LWTE.K.K OYE.N.N LUA.N.K W.N.N N.W.W", "k", short="N.DAK"),
    "OH": _Issuer("OHIO", "Birthplace of Aviation|BEAUTIFUL OHIO|BICENTENNIAL|THE HEART OF IT ALL", "@@@ ####|@@@-####|@@# #@@|###-@@@|@@ ## @@|####.@", "WLR.R.N W.B.N LWA.R.N W.R.R LUG.B.N", "k", short="OHIO"),
    "OK": _Issuer("OKLAHOMA|Oklahoma", "NATIVE AMERICA|IS OK|EXPLORE|CHEROKEE NATION|IMAGINE THAT", "###~@@@|@@@ ###|@@@-###|### @@@|@@-####", "W.G.G LWA.B.N W.R.K BLW.B.N C.G.G WT.R.N", "k", short="OKLA."),
    "OR": _Issuer("Oregon|OREGON", "PACIFIC WONDERLAND", "###~@@@|### @@@|@@@ ###|@@@-###", "LVU.N.N Y.N.N N.Y.Y PLV.N.N LWA.N.N", "e", short="ORE."),
    "PA": _Issuer("PENNSYLVANIA|Pennsylvania", "KEYSTONE STATE|visitPA.com|www.state.pa.us|You've Got a Friend in|BICENTENNIAL STATE OF", "@@@-####|@@@~####|@@@-###|@@-#####|@@@####", "BWY.W.N N.Y.Y Y.N.N BWY.Y.N W.N.N", "k", short="PENNA"),
    "RI": _Issuer("RHODE ISLAND|Rhode Island", "Ocean State|OCEAN STATE|DISCOVER", "###-###|@@-###|######|@@ ###|1@@ ###", "W.N.N WLB.B.N LWB.N.N W.K.K V.N.N", "e", short="R.I."),
    "SC": _Issuer("SOUTH CAROLINA|South Carolina", "While I Breathe, I Hope|Smiling Faces. Beautiful Places.|IN GOD WE TRUST|TRAVEL2SC.COM", "@@@ ###|###@@@|#### @@|@@-####|@@@-###", "LWL.N.N W.B.N WUO.M.N LUW.N.K CWA.R.D", "k", short="S.C."),
    "SD": _Issuer("SOUTH DAKOTA|South Dakota", "GREAT FACES. GREAT PLACES.|Great Faces. Great Places.|MT. RUSHMORE STATE", "#@@ ###|##@ ###|#@# ###|##.####|@@@ ###", "LWR.R.N LWS.R.B RWB.B.N C.R.R W.G.G", "e", short="S.DAK."),
    "TN": _Issuer("TENNESSEE|Tennessee", "The Volunteer State|VOLUNTEER STATE|Sounds Good To Me|tnvacation.com|IN GOD WE TRUST", "@##-##@|@@@ ####|###-@@@|@@@~###|#@##@#|@@@-###", "VWA.G.N B.W.W W.R.R VA.D.N WA.D.K", "e", "SHELBY|DAVIDSON|KNOX|SULLIVAN|HAMILTON", "TENN."),
    "TX": _Issuer("TEXAS", "The Lone Star State|THE LONE STAR STATE|TRUCK|ONE STATE UNDER GOD", "@@@~####|@@# @###|###~@@@|@@@ ###|##@-@@#|@@@-####", "W.K.K W.B.B LWU.B.N W.N.N K.W.W BWW.W.N", "k", short="TEX"),
    "UT": _Issuer("UTAH|Utah", "GREATEST SNOW ON EARTH|LIFE ELEVATED|CENTENNIAL 1896-1996|SKI UTAH!", "### @@@|@## #@@|@@@ ###|###@@@|#@# @@|@@-####", "LWO.B.N OUT.E.K W.N.N LWL.B.N K.W.W LUO.N.N", "k", short="UTAH"),
    "VT": _Issuer("VERMONT|Vermont", "Green Mountain State|GREEN MOUNTAINS|SEE", "@@@ ###|@@@.###|###@#|@#####|#@###", "G.W.W D.W.W W.G.G GD.W.W", "k", short="VT."),
    "VA": _Issuer("VIRGINIA|Virginia", "400TH ANNIVERSARY|FIGHT TERRORISM|VIRGINIA IS FOR LOVERS|KEEP THE LIGHTS SHINING", "@@@-####|@@@####|@@@ ###|@@@-###|@@-####", "W.N.N LWV.N.N W.B.N WV.B.N WL.R.N", "k", short="VA."),
    "WA": _Issuer("Washington|WASHINGTON", "EVERGREEN STATE|Evergreen State|CENTENNIAL CELEBRATION", "@@@####|###-@@@|### @@@|@@@ ###|@##### @", "WLW.R.N WL.R.N W.G.G LWL.R.N", "e", short="WASH"),
    "WV": _Issuer("West Virginia|WEST VIRGINIA", "Wild, Wonderful|MOUNTAIN STATE|Wild Wonderful", "#@@ ###|##@ ###|@@@ ###|#@-####|#@####|@##-###", "YWW.N.N BWW.Y.N NWY.N.N W.B.N Y.N.N", "s", short="W.VA."),
    "WI": _Issuer("WISCONSIN|Wisconsin", "America's Dairyland|AMERICA'S DAIRYLAND", "###-@@@|@@@-####|@@@-###|@## ###", "W.R.K W.R.R VW.K.K LWG.R.K WY.R.R", "k", short="WIS."),
    "WY": _Issuer("WYOMING", "", "##~####|#~#####|##~###@|##~#####|#~####", "LWD.W.K LWT.K.K E.W.W W.R.K LVT.E.E R.W.W BW.E.E", "e", short="WYO."),
    "DC": _Issuer("WASHINGTON, D.C.|Washington, D.C.|DISTRICT OF COLUMBIA", "TAXATION WITHOUT REPRESENTATION|Celebrate & Discover|A Capital City|END TAXATION WITHOUT REPRESENTATION|NATION'S CAPITAL", "@@~####|###~###|@@-####", "W.B.N RWR.B.B CW.N.N W.R.N", "s", short="D.C."),
    "PR": _Issuer("PUERTO RICO|Puerto Rico", "ISLA DEL ENCANTO|Isla del Encanto", "@@@ ###|@@@-###|##@###|###-###", "W.K.K LWO.B.K LWW.N.K W.B.B LUA.B.N", "k", short="P.R."),
    "GU": _Issuer("GUAM, U.S.A.|GUAM USA|GUAM", "HAFA ADAI|TANO Y CHAMORRO|AMERICA'S DAY BEGINS|Tano Y Chamorro", "@@ ####|##-####|@@@ ###|@-####", "LWB.R.N WL.B.B W.R.K LUG.N.N D.Y.Y", "k", short="GUAM"),
    "VI": _Issuer("U.S. VIRGIN ISLANDS|U.S. Virgin Islands", "America's Caribbean|AMERICAN PARADISE|OUR ISLANDS, OUR HOME|America's Paradise", "@@@ ###|@@@~###|@@ ###|@-####", "LWL.B.N WL.R.K W.N.K LW.R.N W.G.G", "s", short="V.I."),
    "AS": _Issuer("AMERICAN SAMOA", "MOTU O FIAFIAGA|Motu O Fiafiaga|PAGO PAGO", "####|#####|#### @|@@####", "BL.W.K LAW.K.K W.R.K RW.N.N LU.N.K YB.R.N", "k", short="A.SAMOA"),
    "MP": _Issuer("C.N.M.I. - U.S.A.|CNMI USA|NORTHERN MARIANAS", "HAFA ADAI|Hafa Adai|SAIPAN", "@@@ ###|@@@~###|AA~####", "LWU.B.K LW.N.N W.R.N LUW.N.K BLW.N.N", "k", short="CNMI"),
}  # fmt: skip

_WORDS = (
    "GO BEACH FISH DOG CAT LUV MY HOT ROD VET TOY FUN RUN SKI SURF JAZZ ROCK MOM DAD PAPA NANA BIG RED BLU FLY SKY "
    "ZOOM FAST SLO EZ RIDER DRIVE CAR TRUK JEEP ICE FIRE STAR SUN MOON KING QUEEN LADY BOSS DOC NURSE TEACH COACH "
    "GOLF BALL WIN LIVE LOVE LIFE HAPPY SMILE JOY HOPE FREE BIRD EAGLE WOLF BEAR TIGER LION DUKE ACE MAX SAM JON "
    "AMY KIM LEE TOM BOB JIM 4U 2U 4ME 2GO 1ST 2ND GR8 L8 B4 IM ITS UR THE OF ON IN AT ALL WAY OUT NO ONE BLACK WHITE"
).split()
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_STACKED = ("SG", "JO", "PK", "CL", "MC", "SN", "TR", "COM", "NG", "PT", "EV", "AA", "TK", "DV", "18", "10", "TRK", "FD")


def render_us(rng: np.random.Generator, code: str) -> RenderedPlate:
    """One plate of a United States issuer; `code` is the two letters after "US-"."""
    issuer = ISSUERS[code]
    kind = rng.random()
    if kind < 0.30:
        return _historic(rng, code, issuer)
    return _modern(rng, code, issuer, vanity=kind > 0.84)


def _modern(rng: np.random.Generator, code: str, issuer: _Issuer, *, vanity: bool) -> RenderedPlate:
    canvas = Canvas(W_MM, H_MM)
    ground, name_key, ink_key = str(rng.choice(issuer.palettes.split())).split(".")
    if rng.random() < 0.12:
        ground = "".join(rng.choice(list("WCLYVUAS"), size=int(rng.integers(1, 4))))
    light = all(c in "WCYLSTAUVF" for c in ground)
    if rng.random() < 0.12:
        name_key = ink_key = str(rng.choice(list("KNRBGDME" if light else "WYC")))
    shades = [_near(rng, _C[c]) for c in ground]
    canvas.gradient(shades)
    _scenery(rng, canvas, shades, busy=rng.random() < 0.75)
    ink, name_ink = _near(rng, _C[ink_key], 14), _near(rng, _C[name_key], 14)

    top_h = rng.uniform(20, 32)
    name_box = (rng.uniform(58, 84), rng.uniform(4, 9), rng.uniform(140, 180), top_h)
    hand = issuer.hand if rng.random() < 0.75 else str(rng.choice(list("kse")))
    names = issuer.name.split("|")
    name = str(rng.choice(names))
    style_faces = {"k": _LABELS, "s": _SCRIPTS, "e": _SERIFS}[hand]
    if hand == "s":
        name = name if any(c.islower() for c in name) else name.title()
    face = _one(rng, style_faces)
    swap = rng.random() < 0.2
    bottom_box = (rng.uniform(60, 90), 152 - rng.uniform(23, 28), rng.uniform(125, 170), rng.uniform(14, 20))
    if rng.random() < 0.12:
        band = 30 if not swap else 0
        canvas.rect(0, 0 if not swap else 120, W_MM, 32, _near(rng, _C[str(rng.choice(list("NBGRKM")))]))
        name_ink = (244, 244, 242) if band or swap else name_ink
    if rng.random() < 0.96:
        canvas.words(face, name, bottom_box if swap else name_box, name_ink)
    foot = issuer.slogans.split("|") + (issuer.places.split("|") * 2 if issuer.places else [])
    slogan = str(rng.choice(foot))
    if slogan and rng.random() < 0.85:
        slogan_ink = name_ink if rng.random() < 0.6 else ink
        slogan_face = _one(rng, _LABELS if rng.random() < 0.6 else _SERIFS + _SCRIPTS)
        canvas.words(slogan_face, slogan, name_box if swap else bottom_box, slogan_ink)

    text = _vanity(rng) if vanity else _serial(rng, issuer)
    relief = 0.0 if rng.random() < 0.3 else rng.uniform(0.5, 1.2)
    second = _near(rng, _C[str(rng.choice(list("KNRG")))], 14) if light and rng.random() < 0.03 else None
    _stamp(rng, canvas, text, ink, relief, second)
    _stickers(rng, canvas)
    if rng.random() < 0.35:
        canvas.border(rng.uniform(2, 4), rng.uniform(1.5, 4), ink if rng.random() < 0.7 else name_ink, 12)
    _bolts(rng, canvas)
    canvas.lit(rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.0))
    return canvas.done(f"us-{code.lower()}", f"US-{code}", radius=rng.uniform(6, 14))


def _historic(rng: np.random.Generator, code: str, issuer: _Issuer) -> RenderedPlate:
    """Two plain colours, the name in block capitals with the year, deep stamping."""
    canvas = Canvas(W_MM, H_MM if rng.random() < 0.8 else int(rng.integers(125, 150)))
    dark, light = str(rng.choice(list("NKGDMBREKN"))), str(rng.choice(list("WCYSOTWFCL")))
    ground, ink_key = (dark, light) if rng.random() < 0.55 else (light, dark)
    canvas.fill(_near(rng, _C[ground], 26))
    ink = _near(rng, _C[ink_key], 22)
    year = int(rng.integers(20, 99))
    name = issuer.short if issuer.short and rng.random() < 0.4 else issuer.name.split("|")[0].upper()
    slogan = str(rng.choice(issuer.slogans.split("|"))).upper()
    face = _one(rng, ("highway-d", "highway-c", "overpass", "highway-em", "saira"))
    dress = rng.integers(4)
    lines = [
        (f"{name} {year}", slogan), (f"19 {name} {year}", slogan), (f"{name} - 19{year}", ""),
        (slogan if slogan else name, f"19 {name} {year}" if slogan else ""),
    ][int(dress)]  # fmt: skip
    head, foot = lines if rng.random() < 0.6 else lines[::-1]
    for words, y in ((head, 6.0), (foot, canvas.h - 26.0)):
        if words:
            room = rng.uniform(150, 235)
            canvas.words(face, words, ((W_MM - room) / 2, y, room, 20), ink)
    text = _serial(rng, issuer) if rng.random() < 0.4 else _old_serial(rng)
    if not head:
        centre = canvas.h * 0.42
    elif not foot:
        centre = canvas.h * 0.58
    else:
        centre = canvas.h * 0.5
    _stamp(rng, canvas, text, ink, rng.uniform(0.9, 1.6), None, centre=centre)
    if rng.random() < 0.3:
        _stickers(rng, canvas, small=True)
    if rng.random() < 0.7:
        canvas.border(rng.uniform(2, 4), rng.uniform(2, 4), ink if rng.random() < 0.7 else _near(rng, _C[ground]), 12)
    _bolts(rng, canvas)
    canvas.lit(rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.2))
    return canvas.done(f"us-{code.lower()}", f"US-{code}", radius=rng.uniform(5, 14))


def _stamp(
    rng: np.random.Generator, canvas: Canvas, text: str, ink: Rgb, relief: float, second: Rgb | None,
    centre: float | None = None,
) -> None:  # fmt: skip
    """The serial, with a stacked code beside it or an emblem in its gap now and then."""
    face = _one(rng, _DIES)
    height = rng.uniform(58, 74)
    x, w = rng.uniform(10, 24), 0.0
    w = W_MM - 2 * x
    y = (centre if centre is not None else canvas.h / 2 + rng.uniform(-3, 5)) - height / 2
    marked = "~" in text
    groups = text.replace("~", " ")
    count = sum(c.isalnum() for c in text)
    width = min(rng.uniform(27, 36), 250 / max(count, 5))
    if rng.random() < 0.09 and count <= 6:
        code = str(rng.choice(_STACKED))
        small = _one(rng, _DIES)
        side = 22.0
        step = height / len(code)
        for i, char in enumerate(code):
            mask_box = (x, y + i * step, side, step * 0.9)
            canvas.words(small, char, mask_box, ink)
        x, w = x + side + 4, w - side - 4
    space = rng.uniform(26, 54) if marked else rng.uniform(8, 30)
    middles = canvas.serial(
        face, groups, (x, y, w, height), ink, height=height, width=width, gap=rng.uniform(3, 9), space=space,
        relief=relief, spread=float(rng.choice([0, 0, 0.3, 0.8])), stroke=int(rng.choice([-1, 0, 0, 0, 1, 1, 2])),
        second=second,
    )  # fmt: skip
    if middles and (marked or rng.random() < 0.12):
        _emblem(rng, canvas, middles[0], y + height / 2, rng.uniform(14, 22) if marked else rng.uniform(8, 14))


def _serial(rng: np.random.Generator, issuer: _Issuer) -> str:
    pattern = str(rng.choice(issuer.formats.split("|")))
    if rng.random() < 0.25:
        pattern = "".join(c for c in pattern if c.isalnum() or c in "@#")
    elif rng.random() < 0.15:
        pattern = pattern.replace(" ", str(rng.choice(list("-.~"))))
    return drawn(rng, pattern.strip())


def _old_serial(rng: np.random.Generator) -> str:
    pattern = str(rng.choice([
        "##-###", "###-###", "#-#####", "##.####", "@#####", "@-#####", "@@-####", "######", "#####", "####", "##@###",
        "#-@####", "@@ ####", "@@@-###", "@##.###", "###.###", "##-####", "###", "#@-####", "@@@ ###", "###@@@", "#### @",
    ]))  # fmt: skip
    return drawn(rng, pattern)


def _vanity(rng: np.random.Generator) -> str:
    if rng.random() < 0.4:
        size = int(rng.choice([2, 3, 4, 5, 6, 7, 7, 7, 8]))
        text = "".join(str(rng.choice(list("AEIOURSTLNABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))) for _ in range(size))
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
            wave = rng.uniform(0.2, 0.9) * canvas.h + rng.uniform(3, 12) * np.sin(xs / rng.uniform(15, 60) + rng.uniform(0, 6))
            points = np.column_stack([np.r_[xs, xs[::-1]], np.r_[wave, (wave + rng.uniform(3, 20))[::-1]]])
            canvas.polygon(points, colour, opacity)
        else:
            _emblem(rng, canvas, rng.uniform(20, W_MM - 20), canvas.h * rng.uniform(0.35, 0.7), rng.uniform(15, 40), opacity)


def _emblem(
    rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float, opacity: float = 1.0
) -> None:
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
            words = str(rng.choice([str(rng.choice(_MONTHS)), f"{rng.integers(0, 99):02d}", f"'{rng.integers(50, 99)}"]))
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
    return str(rng.choice(faces.first_installed(names)))
