"""The lane as its camera sees it: scenery, vehicles, light, motion, weather and the sensor's noise, frame by frame.

The same seed, vehicles and positions yield the same frames. About 5 ms a frame with a vehicle on one 3 GHz core.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hw_sim.rain import Window, falling
from hw_sim.scenery import scenery
from hw_sim.vehicle import Vehicle, shadow
from hw_sim.view import Image, Roi, SeenFace, View

GRAINS = 6
LENS_SIGMA_PX = 0.55
LEAST_BLUR_PX = 0.3
MAX_BLUR_PX = 25
WET_ROAD_LOSS = 0.3
WET_GLOW_LOSS = 0.35
"""A film of water takes this share of the light in a cloudburst."""
LAMP_REACH_M = 7.0
"""At this distance the camera's infrared lamp lights a plate as the exposure was set for."""


@dataclass(frozen=True, slots=True)
class Light:
    """How the camera is set and what light there is. `noise`: standard deviation in grey levels; `ambient`: share of
    the day's light that is left; `rain`: 0-1."""

    night: bool = False
    exposure_us: float = 1000.0
    noise: float = 2.5
    ambient: float = 1.0
    rain: float = 0.0

    @classmethod
    def day(cls, exposure_us: float = 1000.0, rain: float = 0.0) -> "Light":
        return cls(exposure_us=exposure_us, rain=rain, ambient=1.0 - 0.2 * rain, noise=2.5 + 2.5 * rain)

    @classmethod
    def infrared(cls, exposure_us: float = 1000.0, rain: float = 0.0) -> "Light":
        return cls(night=True, exposure_us=exposure_us, noise=6.0, ambient=0.06, rain=rain)


@dataclass(frozen=True, slots=True)
class Placed:
    """A vehicle in one frame: its front bumper at `front_y` metres from the camera, coming nearer at `speed_mps`."""

    vehicle: Vehicle
    front_y: float
    speed_mps: float


class World:
    """Renders frames of one lane. Not for several threads at once."""

    def __init__(self, view: View, light: Light, loops: tuple[tuple[float, float], ...], seed: int) -> None:
        self._view = view
        self._light = light
        self._rng = np.random.default_rng((seed, 0))
        self._ground = self._lit_scenery(scenery(self._rng, view, loops))
        self._window = Window.wet(self._rng, (view.height, view.width), light.rain)
        self._grain = self._grains()
        self._shadow = shadow()
        self._flare = _flare()

    def frame(self, placed: Sequence[Placed]) -> Image:
        """What the camera sees now, (h, w, 3) uint8 BGR; a night camera's picture is grey in three equal channels."""
        picture = self._ground.copy()
        for one in sorted(placed, key=lambda p: -p.front_y):
            self._draw(picture, one)
        self._window.smear(picture)
        self._add_grain(picture)
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR), np.uint8) if self._light.night else picture

    def plate_quad(self, one: Placed) -> NDArray[np.float64] | None:
        """(4, 2) px: where the plate's corners are in the frame, clockwise from the top left; None if not all in it."""
        seen = one.vehicle.plate.seen(self._view, one.front_y)
        if seen is None:
            return None
        corners = np.column_stack([one.vehicle.plate_corners, np.ones(4)]) @ seen.plane.T
        quad = corners[:, :2] / corners[:, 2:]
        inside = quad.min() >= 0 and (quad.max(0) < (self._view.width, self._view.height)).all()
        return np.asarray(quad) if inside else None

    # --- one vehicle ----------------------------------------------------------------------------------------------

    def _draw(self, picture: Image, one: Placed) -> None:
        seen = [s for s in (face.seen(self._view, one.front_y) for face in one.vehicle.faces) if s is not None]
        self._darken(picture, one)
        for face in seen:
            image, mask = face.warp()
            x0, y0, x1, y1 = face.roi
            cv2.copyTo(self._lit(image, face), mask, picture[y0:y1, x0:x1])
        if seen:
            self._blur(picture, seen, one)
        if self._light.night:
            self._glare(picture, one)

    def _lit(self, image: Image, face: SeenFace) -> Image:
        """By day as painted; at night by the lamp beside the camera: paint dim, reflective sheet bright."""
        if not self._light.night:
            return image if self._light.ambient == 1.0 else _scaled(image, self._light.ambient)
        lamp = LAMP_REACH_M / max(face.away_m, 2.0)
        if face.face.texture.glow:
            return _scaled(image, 0.95 * lamp**1.3 * (1 - WET_GLOW_LOSS * self._light.rain))
        return _scaled(image, min(0.05 + 0.2 * lamp**2, 0.9))

    def _darken(self, picture: Image, one: Placed) -> None:
        """The shadow beneath."""
        body = one.vehicle.body
        half, far = body.width / 2 + 0.25, one.front_y + body.length + 0.3
        near = max(one.front_y - 0.3, 1.6)
        if far <= near + 0.5:
            return
        corners = np.array([[-half, far, 0], [half, far, 0], [half, near, 0], [-half, near, 0.0]])
        quad = self._view.project(corners)
        x0, y0 = np.maximum(np.floor(quad.min(0)).astype(int), 0)
        x1 = min(int(np.ceil(quad[:, 0].max())), self._view.width)
        y1 = min(int(np.ceil(quad[:, 1].max())), self._view.height)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        h, w = self._shadow.shape
        sheet = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
        matrix = cv2.getPerspectiveTransform(sheet, (quad - (x0, y0)).astype(np.float32))
        light = cv2.warpPerspective(self._shadow, matrix, (int(x1 - x0), int(y1 - y0)), borderValue=(255,))
        part = picture[y0:y1, x0:x1]
        cv2.multiply(part, light if part.ndim == 2 else cv2.merge([light] * 3), dst=part, scale=1 / 255)

    def _blur(self, picture: Image, seen: list[SeenFace], one: Placed) -> None:
        """The lens, and the way the vehicle's front moved across the sensor while it was exposed."""
        x0, y0, x1, y1 = _around(seen, self._view)
        picture[y0:y1, x0:x1] = cv2.GaussianBlur(picture[y0:y1, x0:x1], (3, 3), LENS_SIGMA_PX)
        front = [face for face in seen if face.face in one.vehicle.front]
        if not front:
            return
        moved_m = one.speed_mps * self._light.exposure_us * 1e-6
        ends = np.array([[0.0, one.front_y + moved_m, 0.6], [0.0, one.front_y, 0.6]])
        before, after = self._view.project(ends)
        if np.hypot(*(after - before)) < LEAST_BLUR_PX:
            return
        x0, y0, x1, y1 = _around(front, self._view)
        kernel = streak(after - before)
        picture[y0:y1, x0:x1] = cv2.filter2D(picture[y0:y1, x0:x1], -1, kernel, borderType=cv2.BORDER_REPLICATE)

    def _glare(self, picture: Image, one: Placed) -> None:
        """Headlamps that shine into the camera."""
        if one.front_y < 1.5:
            return
        for x, z in one.vehicle.lamps:
            centre = self._view.project(np.array([[x, one.front_y, z]]))[0]
            share = (0.3 + 0.7 * one.vehicle.glare) / one.front_y**0.8
            size = int(np.clip(2.0 * share * self._view.width, 24, self._view.width // 2))
            halo = cv2.resize(self._flare, (size, size), interpolation=cv2.INTER_LINEAR)
            left, top = int(centre[0]) - size // 2, int(centre[1]) - size // 2
            x0, y0, x1, y1 = (
                max(left, 0),
                max(top, 0),
                min(left + size, self._view.width),
                min(top + size, self._view.height),
            )
            if x1 > x0 and y1 > y0:
                part = picture[y0:y1, x0:x1]
                cv2.add(part, halo[y0 - top : y1 - top, x0 - left : x1 - left], dst=part)

    # --- the whole picture ----------------------------------------------------------------------------------------

    def _lit_scenery(self, ground: Image) -> Image:
        if not self._light.night:
            return _scaled(ground, self._light.ambient * (1 - WET_ROAD_LOSS * self._light.rain))
        grey = cv2.cvtColor(ground, cv2.COLOR_BGR2GRAY).astype(np.float32)
        _, y = self._view.ground()
        lamp = self._light.ambient + 0.22 * (LAMP_REACH_M / np.clip(y, 3, 400)) ** 2
        columns = np.linspace(-1, 1, self._view.width, dtype=np.float32)
        rows = np.linspace(-1, 1, self._view.height, dtype=np.float32)[:, None]
        cone = np.exp(-1.1 * (columns**2 + 0.7 * rows**2))
        return np.asarray(np.clip(grey * np.minimum(lamp, 0.7) * cone, 0, 255), np.uint8)

    def _grains(self) -> list[tuple[Image, Image]]:
        """Noise, and rain, as what it adds and what it takes, larger than the frame: each frame cuts its own piece."""
        light = self._light
        shape = (self._view.height + 64, self._view.width + 64)
        full = shape if light.night else (*shape, 3)
        grains = []
        for _ in range(GRAINS):
            noise = cv2.GaussianBlur(self._rng.normal(0, 1, full).astype(np.float32), (3, 3), 0.6)
            noise = noise * np.float32(light.noise / noise.std())
            takes = np.asarray(np.maximum(np.rint(-noise), 0), np.uint8)
            if light.rain:
                drops = falling(
                    self._rng,
                    shape,
                    light.rain,
                    focal_px=self._view.focal_px,
                    exposure_us=light.exposure_us,
                    night=light.night,
                )
                noise = noise + (drops if light.night else drops[..., None])
            grains.append((np.asarray(np.clip(np.rint(noise), 0, 255), np.uint8), takes))
        return grains

    def _add_grain(self, picture: Image) -> None:
        adds, takes = self._grain[self._rng.integers(GRAINS)]
        top, left = self._rng.integers(0, 64, 2)
        piece = np.s_[top : top + self._view.height, left : left + self._view.width]
        cv2.add(picture, adds[piece], dst=picture)
        cv2.subtract(picture, takes[piece], dst=picture)


def streak(moved_px: NDArray[np.float64]) -> NDArray[np.float32]:
    """The kernel of a picture that moves by `moved_px` (x, y; cut at MAX_BLUR_PX) while it is exposed; sums to 1."""
    length = float(np.hypot(*moved_px))
    if length > MAX_BLUR_PX:
        moved_px = moved_px * (MAX_BLUR_PX / length)
    reach = int(np.ceil(np.abs(moved_px).max() / 2))
    offsets = np.arange(-reach, reach + 1)
    along = np.linspace(-0.5, 0.5, 4 * reach + 3)
    near_x = np.clip(1 - np.abs(offsets[None, :, None] - along * moved_px[0]), 0, None)
    near_y = np.clip(1 - np.abs(offsets[:, None, None] - along * moved_px[1]), 0, None)
    kernel = (near_x * near_y).sum(-1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _scaled(image: Image, by: float) -> Image:
    return np.asarray(cv2.convertScaleAbs(image, alpha=by), np.uint8)


def _around(faces: list[SeenFace], view: View) -> Roi:
    """What holds all faces, with room for the blur."""
    edges = np.array([face.roi for face in faces])
    return (
        max(int(edges[:, 0].min()) - 3, 0),
        max(int(edges[:, 1].min()) - 3, 0),
        min(int(edges[:, 2].max()) + 3, view.width),
        min(int(edges[:, 3].max()) + 3, view.height),
    )


def _flare() -> Image:
    """A lamp that dazzles: a saturated core, a halo and two faint spikes, (256, 256)."""
    at = np.linspace(-1, 1, 256)
    radius = np.hypot(at[None], at[:, None])
    halo = 900 * np.exp(-((radius / 0.10) ** 2)) + 80 * np.exp(-radius / 0.16)
    spikes = 60 * np.exp(-np.abs(at[:, None]) / 0.01) * np.exp(-np.abs(at[None]) / 0.3)
    edge = np.clip((1 - radius) * 4, 0, 1)
    return np.asarray(np.clip((halo + spikes) * edge, 0, 255), np.uint8)
