"""The lane without vehicles: asphalt, markings, the saw cut of the loop, verge; drawn once."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hw_sim.view import Image, View

LANE_HALF_M = 1.6
LOOP_HALF_M = 1.0
LINE_M = 0.12
LOOP_CUT_M = 0.02

Floats = NDArray[np.float32]


def scenery(rng: np.random.Generator, view: View, loops: tuple[tuple[float, float], ...]) -> Image:
    """The lane by day, (h, w, 3) uint8 BGR. `loops`: (nearest, farthest) y of each loop in metres."""
    x, y = view.ground()
    shade = _asphalt(rng, x, y)
    picture = shade[..., None] * np.array([1.0, 0.99, 0.97], np.float32)
    _lay(picture, shade, (x > LANE_HALF_M + 0.3) | (x < -LANE_HALF_M - 3.6), (58, 96, 84), 0.8)  # verge
    _lay(picture, shade, (x > LANE_HALF_M + 0.15) & (x < LANE_HALF_M + 0.3), (168, 172, 174), 0.35)  # kerb
    for line_x in (-LANE_HALF_M, LANE_HALF_M):
        _lay(picture, shade, np.abs(x - line_x) < LINE_M / 2, (205, 210, 212), 0.5)
    for near, far in loops:
        cut = (np.abs(np.abs(x) - LOOP_HALF_M) < LOOP_CUT_M) & (y > near) & (y < far)
        cut |= ((np.abs(y - near) < LOOP_CUT_M) | (np.abs(y - far) < LOOP_CUT_M)) & (np.abs(x) < LOOP_HALF_M)
        cut |= (np.abs(y - near) < LOOP_CUT_M) & (x > LOOP_HALF_M) & (x < LANE_HALF_M + 0.3)  # the feeder
        _lay(picture, shade, cut, (38, 38, 40), 0.2)
    haze = np.clip((y - 12) / 160, 0, 0.75)[..., None].astype(np.float32)
    picture += (np.array([176, 168, 158], np.float32) - picture) * haze
    _hedge(rng, picture, y)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _asphalt(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Grey levels: coarse patches, tyre tracks and grain that fades with distance."""
    shade = np.full(x.shape, 104, np.float32)
    for per_m, strength, until in ((120.0, 13.0, 11.0), (30.0, 9.0, 30.0), (2.5, 7.0, 200.0), (0.4, 9.0, 400.0)):
        noise = np.pad(rng.normal(0, 1, (512, 512)).astype(np.float32), 8, mode="wrap")
        tile = cv2.GaussianBlur(noise, (0, 0), 1.2)[8:-8, 8:-8]
        tile = tile * np.float32(strength / tile.std())
        at_x, at_y = (np.asarray(np.mod(axis * per_m, 512), np.float32) for axis in (x, np.minimum(y, 1e4)))
        grain = cv2.remap(tile, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        shade += grain * np.clip(1 - y / until, 0, 1).astype(np.float32)
    for track in (-0.75, 0.75):
        shade -= 9 * np.exp(-(((x - track) / 0.22) ** 2))
    return np.asarray(shade, np.float32)


def _lay(picture: Floats, shade: Floats, where: NDArray[np.bool_], colour: tuple[int, int, int], grain: float) -> None:
    """Colour the ground, keeping a share of the asphalt's grain."""
    soft = cv2.GaussianBlur(where.astype(np.float32), (3, 3), 0.7)[..., None]
    layer = np.array(colour, np.float32) + grain * (shade - 104)[..., None]
    picture += (layer - picture) * soft


def _hedge(rng: np.random.Generator, picture: Floats, y: Floats) -> None:
    """What closes the view beyond 45 m: a dark hedge under a pale sky."""
    beyond = y > 45
    leaves = cv2.GaussianBlur(rng.normal(0, 1, y.shape).astype(np.float32), (0, 0), 2.0)
    hedge = np.array([64, 92, 80], np.float32) + 16 * (leaves / leaves.std())[..., None]
    picture[beyond] = hedge[beyond]
