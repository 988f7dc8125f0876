"""What one frame tells somebody who aims the camera: measures, outlines, and a mosaic too coarse to read or to know by.

The mosaic is numbers, a grey of 16 levels for each of a few hundred cells, so no image is ever encoded.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

COLUMNS = 20
"""Cells across the finest mosaic: our own reader gets no character of a plate, found or not, that fills up to 86 % of
the frame's width (with 24 it got 3 of 8, with 36 all)."""
CELLS_PER_PLATE = 1.5
"""At most so many cells over the height of the highest plate in the frame; characters take three and more."""
LEVELS = 16

Outline = tuple[tuple[float, float], ...]
"""Corners as shares of the frame's width and height."""


@dataclass(frozen=True, slots=True)
class Mosaic:
    """`cells`: rows of hexadecimal digits, 0 black to f white, left to right, top row first."""

    cells: tuple[str, ...]
    aspect: float
    """Width of the frame by its height."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of the best plate in a frame, None where there is none; brightness of the whole frame, 0-255.

    skew_deg: how far the plate's text rises (+) or falls (-) to the right.
    """

    plates: int
    plate_height_px: float | None
    sharpness: float | None
    clipped_share: float | None
    skew_deg: float | None
    brightness: float
    exposure_us: float | None
    gain: float | None


@dataclass(frozen=True, slots=True)
class View:
    """One frame. `lane`: the part that lane.toml looks at (roi); `mosaic`: None in a session without picture."""

    measures: Measures
    plates: tuple[Outline, ...]
    lane: Outline
    mosaic: Mosaic | None


def mosaic(grey: NDArray[np.uint8], plate_heights_px: tuple[float, ...]) -> Mosaic:
    """grey (H, W) uint8 -> cells that are averages of it, coarser where a plate is high."""
    height, width = grey.shape
    cell_px = max(width / COLUMNS, height / COLUMNS, *(high / CELLS_PER_PLATE for high in plate_heights_px))
    size = (max(1, int(width / cell_px)), max(1, int(height / cell_px)))
    cells = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) // (256 // LEVELS)
    return Mosaic(tuple("".join(f"{cell:x}" for cell in row) for row in cells.tolist()), width / height)


def skew_deg(quad: NDArray[np.float32]) -> float:
    """quad (4, 2) clockwise from the plate's top left, px."""
    run, fall = quad[1] - quad[0] + quad[2] - quad[3]
    return -math.degrees(math.atan2(float(fall), float(run)))


def outline(quad: NDArray[np.float32], width: int, height: int) -> Outline:
    """Corners in px as shares of the frame, to a thousandth."""
    return tuple((round(float(x) / width, 3), round(float(y) / height, 3)) for x, y in quad)
