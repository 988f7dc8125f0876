"""Labelled plates seen as the reader will see them: cut by imperfect corners, through bad optics, as a tensor.

The contract with the reader: a plate's four corners (clockwise from its top left) are grown by MARGIN of the
plate's width and height on each side and mapped to the full INPUT_W x INPUT_H picture, whatever the plate's shape.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.pool import Labelled
from models.train.render import Optics, degrade
from models.train.render.canvas import Letter

Image = NDArray[np.uint8]
Quad = NDArray[np.float32]

INPUT_W, INPUT_H = 192, 64
MARGIN = 0.06
PLAIN = 0.15
"""Share of views whose optics are left as they are."""

_TARGET = np.array([[0, 0], [INPUT_W, 0], [INPUT_W, INPUT_H], [0, INPUT_H]], np.float32)


def straight(plate: Labelled) -> Image:
    """The plate cut by its labelled box with MARGIN, (INPUT_H, INPUT_W, 3) uint8 BGR; for evaluation."""
    x, y, w, h = plate.box
    corners = _corners(x - MARGIN * w, y - MARGIN * h, w * (1 + 2 * MARGIN), h * (1 + 2 * MARGIN))
    return _cut(plate.picture, corners, cv2.BORDER_REPLICATE)


def loose(rng: np.random.Generator, plate: Labelled) -> Image:
    """The plate cut as a detector's corners or box would cut it, otherwise untouched."""
    return _cut(plate.picture, _jittered(rng, plate.box, corner=0.02, loose=0.25), cv2.BORDER_REPLICATE)


def rendered_view(rng: np.random.Generator, plate: Labelled) -> Image:
    """A rendered plate through wrong corners and bad optics; INPUT-sized uint8 BGR."""
    return spelt_view(rng, plate)[0]


def spelt_view(rng: np.random.Generator, plate: Labelled, *, plain: float = PLAIN) -> tuple[Image, tuple[Letter, ...]]:
    """A rendered view, and the letters of the issuer's name with the x, y of their middles in it."""
    corners = _jittered(rng, plate.box, corner=0.03, loose=0.5, slant=0.12)
    view = _cut(plate.picture, corners, cv2.BORDER_REPLICATE)
    if rng.random() >= plain:
        view = degrade(rng, _recoloured(rng, view))
    if not plate.spelt:
        return view, ()
    middles = np.array([[(x, y) for _, x, y in plate.spelt]], np.float32)
    moved = cv2.perspectiveTransform(middles, cv2.getPerspectiveTransform(corners, _TARGET))[0]
    return view, tuple((letter, float(x), float(y)) for (letter, _, _), (x, y) in zip(plate.spelt, moved, strict=True))


def photo_view(rng: np.random.Generator, plate: Labelled, *, cropped: bool, plain: float = PLAIN) -> Image:
    """A real plate, cut and degraded further; a sharp one more than one that is small already."""
    corners = _jittered(rng, plate.box, corner=0.03, loose=0.35 if cropped else 0.25, slant=0.1 if cropped else 0.0)
    border = int(rng.choice([cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101]))
    view = _cut(plate.picture, corners, border, shade=float(rng.uniform(0, 255)))
    if rng.random() < plain:
        return view
    view = _recoloured(rng, view)
    height = plate.box[3]
    ease = float(np.clip(height / 64, 0.3, 1))
    lowres = float(np.clip(0.2 * 64 / height, 0.2, 0.9))
    return degrade(
        rng, view, Optics(focus_px=1.3 * ease, motion_px=5 * ease, noise=14 * ease, lowres=lowres, light=0.9)
    )


def _recoloured(rng: np.random.Generator, view: Image) -> Image:
    """Now and then the plate in other colours, so that what is written counts and not the shade it comes in."""
    if rng.random() < 0.1:
        view = np.asarray(255 - view, np.uint8)
    if rng.random() < 0.15:
        view = np.ascontiguousarray(view[..., rng.permutation(3)])
    return view


def _jittered(
    rng: np.random.Generator, box: tuple[float, float, float, float], *, corner: float, loose: float, slant: float = 0.0
) -> Quad:
    """The grown corners of a box, moved as a detector's would be; now and then as loose as an upright box is."""
    x, y, w, h = box
    grow = rng.normal(MARGIN, 0.025, 4)
    if rng.random() < loose:
        grow += rng.uniform(-0.05, 0.14, 4) * rng.uniform(0, 1)
    left, top, right, bottom = grow
    corners = _corners(x - left * w, y - top * h, w * (1 + left + right), h * (1 + top + bottom)).astype(np.float64)
    corners += rng.normal(0, corner, (4, 2)) * rng.uniform(0, 1) * (w * 0.6, h)
    centre = np.array([x + w / 2, y + h / 2])
    if rng.random() < 0.5:
        angle = rng.normal(0, 0.05)
        shear = rng.normal(0, 0.10)
        turn = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
        corners = (corners - centre) @ (turn if h > 0.2 * w else _flat(turn)).T + centre
    if rng.random() < slant:
        corners += _upright_box(rng) * np.array([0, h])
    if rng.random() < 0.35:
        squeeze = rng.normal(0, 0.06, 2)
        corners[[0, 3], 1] += np.array([1, -1]) * squeeze[0] * h / 2
        corners[[1, 2], 1] += np.array([1, -1]) * squeeze[1] * h / 2
    return corners.astype(np.float32)


def _upright_box(rng: np.random.Generator) -> NDArray[np.float64]:
    """How far the corners of a plate move, in its heights, when a turned plate is cut by an upright box."""
    slope = rng.uniform(0.1, 0.7)
    down = np.array([[0, 0], [0, -slope], [0, 0], [0, slope]])
    return down if rng.random() < 0.5 else np.array([[0, -slope], [0, 0], [0, slope], [0, 0]])


def _flat(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Halve a turn for long plates, whose ends would otherwise leave the picture."""
    return np.eye(2) + (turn - np.eye(2)) * 0.5


def _corners(x: float, y: float, w: float, h: float) -> Quad:
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


def _cut(picture: Image, corners: Quad, border: int, shade: float = 0.0) -> Image:
    """Map the corners to the full input; large pictures are halved first so that nothing aliases."""
    picture = np.ascontiguousarray(picture)
    scale = np.linalg.norm(corners[1] - corners[0]) / INPUT_W
    if scale > 1.6:
        shrink = 1 / float(scale)
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.uint8)
        corners = corners * np.float32(shrink)
    matrix = cv2.getPerspectiveTransform(corners - np.float32(0.5), _TARGET - np.float32(0.5))
    size = (INPUT_W, INPUT_H)
    return cv2.warpPerspective(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(shade, shade, shade)
    ).astype(np.uint8)
