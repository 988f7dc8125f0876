"""Signs, stickers, badges and stamps: what carries writing around vehicles and is no plate.

Detector and reader know the signs of a few thousand photographs by heart; these are new ones without end.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.render import faces
from models.train.render.canvas import Canvas, RenderedPlate, Rgb

SIGN = "sign"
"""The style of what is no plate."""
LETTERING, OVAL = 0.25, 0.1
"""Shares of the signs that are letters without a ground, and that are oval."""

_SAID = """
    POLICE POLICIA POLIZEI POLIZIA SHERIFF TAXI SCHOOL BUS AMBULANCE FIRE RESCUE STOP EXIT PARKING PARK HERE SALE PIZZA
    CAFE HOTEL BAR OPEN CLOSED RENT RENTAL LEASE MOTORS AUTO SERVICE SUPER MARKET EXPRESS CARGO LOGISTICS TRANSPORT
    DELIVERY BANK WAY STREET ROAD AVENUE BRIDGE SPEED LIMIT YIELD ONE NO ENTRY TURN LEFT RIGHT WASH TOURS AIR SECURITY
    VOTE ARMY NAVY BABY ON BOARD TEAM SPORT CLUB RACE RUNNER CITY OF THE AND FOR NEW NOW WEST EAST NORTH SOUTH
    CENTRAL STATION CLINIC PHARMACY SCHOOL BAKERY GARAGE TYRES PARTS GLASS ROOF BUILD POWER LIGHT WATER FRESH FOOD
"""
_WORDS = tuple(_SAID.split())
_SOUNDS = ("AEIOUY", "BCDFGHKLMNPRSTVWZ")
_NUMBERS = (
    "#", "##", "###", "####", "##.##.20##", "'0# # ##", "## # 200#", "##:##", "1-800-###-####", "0## ### ## ##",
    "$#.##", "##%", "###m", "24h", "4x4", "1.#", "2.0", "www", "20##",
)  # fmt: skip


def render_sign(rng: np.random.Generator) -> RenderedPlate:
    """A sign, edge to edge; its text is empty, for there is nothing to read."""
    canvas = Canvas(int(np.exp(rng.uniform(np.log(110), np.log(520)))), int(rng.uniform(80, 160)))
    ground = _colour(rng)
    canvas.gradient([ground, _shifted(rng, ground, 25 if rng.random() < 0.7 else 90)], sideways=rng.random() < 0.4)
    ink = _ink(rng, ground)
    bare = canvas.image.copy()
    if rng.random() < 0.15:
        _pattern(rng, canvas, ink)
    else:
        _lines(rng, canvas, ink, ground)
    drawn = np.abs(canvas.image - bare).max(axis=2) > 20
    if rng.random() < 0.35:
        canvas.border(rng.uniform(1, 8), rng.uniform(1.5, 8), ink, rng.uniform(2, 30))
    canvas.lit(rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.0))
    sign = canvas.done(SIGN, "", radius=rng.uniform(0, 20))
    return replace(sign, alpha=_outline(rng, sign.alpha, drawn))


def _outline(rng: np.random.Generator, sheet: faces.Mask, drawn: NDArray[np.bool_]) -> faces.Mask:
    """Where the sign is: all of the sheet, an oval of it, or what is drawn on it alone."""
    kind = rng.random()
    mask = np.zeros_like(sheet)
    if kind < LETTERING and drawn.any():
        mask[drawn] = 255
        return np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=int(rng.integers(0, 3))), np.uint8)
    if kind < LETTERING + OVAL:
        middle = sheet.shape[1] // 2, sheet.shape[0] // 2
        return np.asarray(cv2.ellipse(mask, middle, middle, 0, 0, 360, 255, -1, cv2.LINE_AA), np.uint8)
    return sheet


def _lines(rng: np.random.Generator, canvas: Canvas, ink: Rgb, ground: Rgb) -> None:
    """One to three lines of words or numbers; here and there a shape, or a bar of ink behind a line."""
    left, right = 0.0, float(canvas.w)
    if rng.random() < 0.25:
        size = canvas.h * rng.uniform(0.25, 0.45)
        at = size if rng.random() < 0.5 else canvas.w - size
        _shape(rng, canvas, at, canvas.h / 2, size, _colour(rng))
        if canvas.w > 5 * size:
            left, right = (2 * size, right) if at == size else (left, right - 2 * size)
    rows = int(rng.choice([1, 1, 1, 2, 2, 3]))
    face = _face(rng)
    heights = rng.uniform(0.6, 1.4, rows)
    heights *= canvas.h * rng.uniform(0.6, 0.95) / heights.sum()
    top = (canvas.h - heights.sum()) / 2
    for height in heights:
        box = (left + 4, top + 0.1 * height, right - left - 8, 0.8 * height)
        if rng.random() < 0.1:
            canvas.rect(*box, ink)
            canvas.words(face, _writing(rng), box, ground)
        else:
            _write(rng, canvas, face, box, ink if rng.random() < 0.85 else _ink(rng, ground))
        top += height
        if rng.random() < 0.3:
            face = _face(rng)


def _write(
    rng: np.random.Generator, canvas: Canvas, face: str, box: tuple[float, float, float, float], ink: Rgb
) -> None:
    """A line as sign writers have it: slanted, in an arc, with a shadow, an outline, or plain."""
    mask = faces.line(face, _writing(rng), _tracking(rng))
    edge = int(rng.integers(2, 6))
    if rng.random() < 0.2:
        mask = _slanted(mask, rng.uniform(-0.15, 0.35))
    if rng.random() < 0.15:
        mask = _arched(mask, rng.uniform(-0.8, 0.8))
    mask = np.asarray(cv2.copyMakeBorder(mask, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0), np.uint8)
    if rng.random() < 0.2:
        canvas.lay(np.roll(mask, (int(rng.integers(1, edge + 1)), int(rng.integers(-edge, edge + 1))), (0, 1)), box,
                   _colour(rng))  # fmt: skip
    if rng.random() < 0.25:
        round_brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge - 1, 2 * edge - 1))
        canvas.lay(np.asarray(cv2.dilate(mask, round_brush), np.uint8), box, _colour(rng))
    canvas.lay(mask, box, ink)


def _slanted(mask: faces.Mask, slope: float) -> faces.Mask:
    height, width = mask.shape
    wide = int(width + abs(slope) * height) + 1
    matrix = np.array([[1, -slope, slope * height if slope > 0 else 0], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(mask, matrix, (wide, height)), np.uint8)


def _arched(mask: faces.Mask, by: float) -> faces.Mask:
    """Bent up or down by shares of its height."""
    height, width = mask.shape
    room = int(abs(by) * height) + 1
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height + room, dtype=np.float32))
    bow = by * height * (2 * x / width - 1) ** 2
    return np.asarray(cv2.remap(mask, x, np.asarray(y - (bow - bow.min()), np.float32), cv2.INTER_LINEAR), np.uint8)


def _writing(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.45:
        words = [str(rng.choice(_WORDS)) for _ in range(int(rng.choice([1, 1, 2, 2, 3])))]
    elif kind < 0.75:
        words = [_name(rng) for _ in range(int(rng.choice([1, 1, 2])))]
    else:
        words = ["".join(str(rng.integers(10)) if c == "#" else c for c in str(rng.choice(_NUMBERS)))]
        if rng.random() < 0.2:
            words.append(str(rng.choice(_WORDS)))
    text = " ".join(words)
    return text.title() if rng.random() < 0.3 else text.lower() if rng.random() < 0.1 else text


def _name(rng: np.random.Generator) -> str:
    """A word that nobody knows, as makers and shops are called."""
    start = int(rng.integers(2))
    return "".join(str(rng.choice(list(_SOUNDS[(start + i) % 2]))) for i in range(int(rng.integers(3, 9))))


def _pattern(rng: np.random.Generator, canvas: Canvas, ink: Rgb) -> None:
    """Nothing to read: bars of a grille, chevrons, squares, or shapes."""
    kind = rng.integers(4)
    step = rng.uniform(8, 40)
    if kind == 0:
        for y in np.arange(rng.uniform(0, step), canvas.h, step):
            canvas.rect(0, y, canvas.w, step * 0.5, ink)
    elif kind == 1:
        for x in np.arange(-step, canvas.w, 2 * step):
            arrow = np.array([[0, 0], [1, 0], [2, 1], [1, 2], [0, 2], [1, 1]]) * (step, canvas.h / 2)
            canvas.polygon(arrow + np.array([x, 0.0]), ink)
    elif kind == 2:
        for i, x in enumerate(np.arange(0, canvas.w, step)):
            for y in np.arange(step * (i % 2), canvas.h, 2 * step):
                canvas.rect(x, y, step, step, ink)
    else:
        for _ in range(int(rng.integers(1, 6))):
            x, y = rng.uniform([0, 0], [canvas.w, canvas.h])
            _shape(rng, canvas, float(x), float(y), canvas.h * rng.uniform(0.1, 0.5), ink)


def _shape(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float, colour: Rgb) -> None:
    count = int(rng.choice([3, 4, 5, 24]))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 2)
    radii = size * (rng.uniform(0.5, 1, count) if count < 24 else np.ones(count))
    canvas.polygon(np.array([x, y]) + np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, None], colour)


def _face(rng: np.random.Generator) -> str:
    return str(rng.choice(faces.installed(faces.FACES)))


def _tracking(rng: np.random.Generator) -> int:
    return int(rng.integers(2, 30)) if rng.random() < 0.2 else 0


def _colour(rng: np.random.Generator) -> Rgb:
    """Any colour; mostly black, white or a grey."""
    hue, saturation, value = rng.uniform(0, 180), rng.uniform(60, 255), rng.uniform(40, 255)
    if rng.random() < 0.6:
        saturation, value = rng.uniform(0, 30), float(rng.choice([rng.uniform(5, 60), rng.uniform(60, 255), 245, 245]))
    rgb = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return int(rgb[0]), int(rgb[1]), int(rgb[2])


def _ink(rng: np.random.Generator, ground: Rgb) -> Rgb:
    """A colour that stands out."""
    ink = _colour(rng)
    while abs(_grey(ink) - _grey(ground)) < 50:
        ink = _colour(rng)
    return ink


def _shifted(rng: np.random.Generator, colour: Rgb, by: float) -> Rgb:
    red, green, blue = (int(np.clip(c + rng.normal(0, by), 0, 255)) for c in colour)
    return red, green, blue


def _grey(colour: Rgb) -> float:
    return float(np.dot(colour, (0.3, 0.59, 0.11)))
