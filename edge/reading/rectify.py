"""A plate in a frame, seen at an angle, made straight."""

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_SHRINK = 1.6
"""Beyond this, frame px per output px, bilinear sampling would skip pixels: the frame is averaged down first."""


def rectify(
    frame: NDArray[np.uint8], quad: NDArray[np.float32], size: tuple[int, int], margin: float
) -> NDArray[np.uint8]:
    """The plate filling an image of `size` (width, height), with `margin` of its width and height around it.

    frame: (H, W) or (H, W, 3) uint8; quad: (4, 2) px, clockwise from the plate's top left. The result has the frame's
    channels. What lies beyond the frame repeats its edge.
    """
    width, height = size
    shrink = np.array([plate_width(quad) / width, plate_height(quad) / height]) * (1 + 2 * margin)
    if shrink.max() > MOST_SHRINK:
        frame, quad = _averaged(frame, quad, np.maximum(shrink, 1), margin)
    share = margin / (1 + 2 * margin)
    left, top, right, bottom = share * width, share * height, (1 - share) * width, (1 - share) * height
    inner = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    perspective = cv2.getPerspectiveTransform(quad, inner)
    flat = cv2.warpPerspective(frame, perspective, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(flat, np.uint8)


def plate_width(quad: NDArray[np.float32]) -> float:
    """Mean length of the plate's top and bottom edges, px."""
    return float(np.hypot(*(quad[1] - quad[0])) + np.hypot(*(quad[2] - quad[3]))) / 2


def plate_height(quad: NDArray[np.float32]) -> float:
    """Mean length of the plate's left and right edges, px."""
    return float(np.hypot(*(quad[3] - quad[0])) + np.hypot(*(quad[2] - quad[1]))) / 2


def _averaged(
    frame: NDArray[np.uint8], quad: NDArray[np.float32], shrink: NDArray[np.float64], margin: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The part of the frame around the plate, area-averaged down by `shrink` (x, y), and the quad in it."""
    limit = np.array([frame.shape[1], frame.shape[0]])
    reach = np.ptp(quad, 0) * (2 * margin) + 2
    low = np.clip(np.floor(quad.min(0) - reach), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(quad.max(0) + reach), low + 1, limit).astype(int)
    part = frame[low[1] : high[1], low[0] : high[0]]
    target = np.maximum(np.rint((high - low) / shrink), 1).astype(int)
    small = cv2.resize(part, (int(target[0]), int(target[1])), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), ((quad - low) * (target / (high - low))).astype(np.float32)


def to_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) of (H, W) or (H, W, 3) BGR uint8."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
