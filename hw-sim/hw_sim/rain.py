"""Rain before a camera: drops that fall through the picture, and drops that sit on the housing's window."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hw_sim.view import Image, Roi

FALLING = 1400
"""Drops in the picture in a cloudburst."""
FALL_MPS = 7.0
DROP_M = 0.002
SITTING = 16
"""Drops on the window in a cloudburst."""


def falling(
    rng: np.random.Generator, size: tuple[int, int], rain: float, *, focal_px: float, exposure_us: float, night: bool
) -> Image:
    """Light that falling drops add, (h, w) uint8. By day near ones are faint and wide; a lamp beside the camera makes
    them shine, the nearer the more."""
    height, width = size
    sheet = np.zeros(size, np.float32)
    for _ in range(round(FALLING * rain)):
        away_m = 0.5 + 9 * float(rng.random()) ** 0.5
        long_px = max(focal_px * FALL_MPS * exposure_us * 1e-6 / away_m, 1.0)
        wide_px = max(round(focal_px * DROP_M / away_m), 1)
        light = min(170 / away_m**1.5, 120) if night else 26.0
        x, y, slant = float(rng.uniform(0, width)), float(rng.uniform(0, height)), float(rng.normal(0.06, 0.03))
        ends = np.rint(np.array([[x, y], [x + slant * long_px, y + long_px]]) * 8).astype(np.int32)
        cv2.line(sheet, ends[0].tolist(), ends[1].tolist(), (light,), wide_px, cv2.LINE_AA, 3)
    return np.asarray(np.clip(cv2.GaussianBlur(sheet, (0, 0), 0.8), 0, 255), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Drops on the camera's window: each smears what lies behind it. They stay where they are."""

    drops: tuple[tuple[Roi, NDArray[np.float32]], ...]

    @classmethod
    def wet(cls, rng: np.random.Generator, size: tuple[int, int], rain: float) -> "Window":
        height, width = size
        drops = []
        for _ in range(round(SITTING * rain)):
            radius = int(rng.integers(width // 90, width // 36))
            x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius))
            at = np.arange(-radius, radius)
            away = np.hypot(at[None] / radius, at[:, None] / radius * float(rng.uniform(0.9, 1.3)))
            shape = np.asarray(np.clip((1 - away) * 4, 0, 1) * float(rng.uniform(0.6, 0.95)), np.float32)
            drops.append(((x - radius, y - radius, x + radius, y + radius), shape))
        return cls(tuple(drops))

    def smear(self, picture: Image) -> None:
        """In place, on (h, w, 3) or (h, w)."""
        for (x0, y0, x1, y1), shape in self.drops:
            part = picture[y0:y1, x0:x1]
            width = (x1 - x0) // 3
            behind = cv2.blur(part, (width, width)).astype(np.float32)
            share = shape if part.ndim == 2 else shape[..., None]
            part[:] = np.asarray(part + (behind - part) * share, np.uint8)
