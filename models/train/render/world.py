"""Plates outside the United States: one row an issuer, drawn by one engine with a band, a serial and few ornaments."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.train.render import faces
from models.train.render.canvas import LETTERS, Canvas, RenderedPlate, Rgb, drawn

_C: dict[str, Rgb] = {
    "W": (246, 246, 244), "Y": (248, 196, 20), "K": (22, 22, 24), "B": (0, 60, 150), "R": (178, 24, 36),
    "G": (0, 96, 60), "S": (188, 192, 192), "N": (28, 40, 100), "M": (120, 24, 40), "E": (214, 226, 214),
    "O": (236, 130, 30), "L": (190, 214, 236),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Design:
    """How one issuer's plates look; a row of world.toml.

    formats     serial patterns; "@" letter, "#" digit, " -." separators, "~" a seal or emblem; none: the German way
    weight      how often it is drawn, beside the others
    band        letters in the blue band on the left ("" none); `star` puts the European ring above them
    colours     "ground.ink"; repeated ones are more frequent
    sizes       "w x h" in mm of one-line plates; `two_line` of two-line ones, `two_share` their share
    top, foot   words above and below the serial, "" none; `top_band` puts those above into a blue band
    right       codes in a second band on the right
    letters     letters that serials use; prefixes: the first two of them
    plain_share share of plates without their band
    height      of the characters, mm
    """

    region: str
    formats: list[str]
    weight: float = 0.8
    faces: list[str] = field(default_factory=lambda: ["fe"])
    band: str = ""
    star: bool = True
    colours: list[str] = field(default_factory=lambda: ["W.K"])
    sizes: list[str] = field(default_factory=lambda: ["520x110"])
    two_line: list[str] = field(default_factory=lambda: ["340x200"])
    two_share: float = 0.12
    top: list[str] = field(default_factory=list)
    foot: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    letters: str = LETTERS
    top_band: bool = False
    plain_share: float = 0.25
    height: float = 75.0
    prefixes: list[str] = field(default_factory=list)


DESIGNS: dict[str, Design] = {
    name: Design(**row) for name, row in tomllib.loads(Path(__file__).with_name("world.toml").read_text()).items()
}

_LABELS = ("overpass", "barlow-bold", "highway-d", "zilla", "oleo")
_DE_TOWNS = [
    "B",
    "M",
    "HH",
    "K",
    "F",
    "S",
    "D",
    "DO",
    "E",
    "L",
    "DD",
    "H",
    "N",
    "BN",
    "KA",
    "MA",
    "WI",
    "MS",
    "AC",
    "KI",
    "HB",
    "ERL",
    "HD",
    "FR",
    "UL",
    "RO",
    "WES",
    "DN",
    "NE",
    "OL",
    "REG",
    "TR",
    "BOR",
    "MTK",
    "LWL",
]


def render_world(rng: np.random.Generator, name: str) -> RenderedPlate:
    """One plate of a design of DESIGNS."""
    design = DESIGNS[name]
    serial = _serial(rng, design) if design.formats else _german(rng)
    two = rng.random() < design.two_share
    size = str(rng.choice(design.two_line if two else design.sizes))
    w, h = (int(v) for v in size.split("x"))
    canvas = Canvas(w, h)
    ground_key, ink_key = str(rng.choice(design.colours)).split(".")
    ground, ink = _near(rng, _C[ground_key]), _near(rng, _C[ink_key], 14)
    canvas.fill(ground)
    banded = bool(design.band) and rng.random() >= design.plain_share
    left, right, top = 8.0, w - 8.0, 5.0
    if banded:
        left = _band(rng, canvas, design, two)
    bottom = h - 5.0
    if design.right and not two and rng.random() < 0.7:
        right = _right_band(rng, canvas, str(rng.choice(design.right)))
    if design.top_band:
        bar = h * rng.uniform(0.2, 0.26)
        canvas.rect(0, 0, w, bar, _near(rng, _C["B"]))
        words_face = _one(rng, ("overpass", "barlow-bold", "saira-bold"))
        canvas.words(words_face, design.top[0], (w * 0.22, 4, w * 0.56, bar - 9), _C["W"])
        _flags(rng, canvas, bar)
        top = bar + 2
    elif design.top and (words := str(rng.choice(design.top))) and rng.random() < 0.93:
        bar = h * rng.uniform(0.13, 0.19)
        inked = ink if rng.random() < 0.8 else _C[str(rng.choice(list("BRGN")))]
        canvas.words(_one(rng, _LABELS), words, (w * 0.2, h * 0.04, w * 0.6, bar), inked)
        top = h * 0.06 + bar
    if design.foot and (words := str(rng.choice(design.foot))) and rng.random() < 0.9:
        bar = h * rng.uniform(0.1, 0.16)
        canvas.words(_one(rng, _LABELS), words, (w * 0.15, h * 0.96 - bar, w * 0.7, bar), ink)
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
        ring = np.column_stack([np.cos(angles), np.sin(angles)])
        canvas.polygon(ring * rng.uniform(3, 6) + [at * w, h * rng.uniform(0.3, 0.7)], (shade, shade, shade))
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
        space=height * rng.uniform(0.2, 0.5), relief=rng.choice([0.0, 0.6, 1.0]),
        spread=float(rng.choice([0, 0, 0.4, 0.9])), stroke=int(rng.choice([-1, 0, 0, 0, 1, 2])),
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
            space=height * rng.uniform(0.2, 0.5), relief=rng.choice([0.0, 0.6, 1.0]),
            spread=float(rng.choice([0, 0.8])), stroke=int(rng.choice([0, 0, 1])),
        )  # fmt: skip


def _serial(rng: np.random.Generator, design: Design) -> str:
    serial = drawn(rng, str(rng.choice(design.formats)), letters=design.letters)
    if design.prefixes and serial[:2].isalpha():
        serial = str(rng.choice(design.prefixes)) + serial[2:]
    if rng.random() < 0.12:
        serial = serial.replace(" ", "").replace("-", "")
    return serial


def _german(rng: np.random.Generator) -> str:
    town = str(rng.choice(_DE_TOWNS))
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
    band_face = _one(rng, ("overpass", "barlow-bold", "din"))
    canvas.words(band_face, design.band, (w * 0.18, h * 0.6, w * 0.64, h * 0.27), ink)
    return w + 2


def _right_band(rng: np.random.Generator, canvas: Canvas, code: str) -> float:
    w = rng.uniform(34, 44)
    canvas.rect(canvas.w - w, 0, w, canvas.h, _near(rng, (0, 60, 160), 40))
    box = (canvas.w - w * 0.85, canvas.h * 0.6, w * 0.7, canvas.h * 0.26)
    canvas.words(_one(rng, ("overpass", "barlow-bold")), code, box, _C["W"])
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


def _hanzi(rng: np.random.Generator, canvas: Canvas, x: float, y: float, w: float, h: float, ink: Rgb) -> float:
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


def _one(rng: np.random.Generator, names: Sequence[str]) -> str:
    return str(rng.choice(faces.installed(names)))
