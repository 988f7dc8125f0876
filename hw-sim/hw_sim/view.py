"""The camera as geometry: a pinhole that looks at flat faces in a lane.

Metres: x to the right as the camera sees it, y along the lane away from the camera, z up. Pixels: integer coordinates
are pixel centres, (0, 0) is the top left one.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Vector = NDArray[np.float64]
Roi = tuple[int, int, int, int]
"""x0, y0, x1, y1 px; the right and lower edges are outside."""

NEAR_M = 0.4
"""What is closer to the camera than this is not drawn."""


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera stands, what it looks at, and its lens (focal length in pixels)."""

    position: tuple[float, float, float] = (2.0, 0.0, 1.9)
    target: tuple[float, float, float] = (0.2, 6.2, 0.75)
    focal_px: float = 2000.0
    width: int = 1280
    height: int = 720
    rotation: Vector = field(init=False, repr=False, compare=False)
    """(3, 3): rows are the image's right, its down, and the way the camera looks."""
    projection: Vector = field(init=False, repr=False, compare=False)
    """(3, 4): metres to homogeneous pixels; the third row yields the depth in metres."""

    def __post_init__(self) -> None:
        position = np.array(self.position)
        ahead = np.array(self.target) - position
        ahead /= np.linalg.norm(ahead)
        right = np.cross(ahead, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        lens = np.array(
            [[self.focal_px, 0, (self.width - 1) / 2], [0, self.focal_px, (self.height - 1) / 2], [0, 0, 1.0]]
        )
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "projection", lens @ np.column_stack([rotation, -rotation @ position]))

    def project(self, points: Vector) -> Vector:
        """(n, 3) metres -> (n, 2) px. Points must lie before the camera."""
        seen = np.column_stack([points, np.ones(len(points))]) @ self.projection.T
        return np.asarray(seen[:, :2] / seen[:, 2:])

    def depth(self, points: Vector) -> Vector:
        """(n, 3) metres -> (n,) metres along the way the camera looks."""
        return np.asarray((points - np.array(self.position)) @ self.rotation[2])

    def ground(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel's ray meets the ground: x and y (height, width) in metres; y is inf above the horizon."""
        columns, rows = np.meshgrid(np.arange(self.width), np.arange(self.height))
        rays = (
            np.stack(
                [
                    (columns - (self.width - 1) / 2) / self.focal_px,
                    (rows - (self.height - 1) / 2) / self.focal_px,
                    np.ones_like(columns, np.float64),
                ],
                axis=-1,
            )
            @ self.rotation
        )
        down = -rays[..., 2]
        reach = np.where(down > 1e-6, self.position[2] / np.maximum(down, 1e-6), np.inf)
        with np.errstate(invalid="ignore"):
            x = self.position[0] + np.where(np.isfinite(reach), reach * rays[..., 0], 0.0)
            y = self.position[1] + np.where(np.isfinite(reach), reach * rays[..., 1], np.inf)
        return x.astype(np.float32), y.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """A picture of a flat face and its outline, at several resolutions, finest first.

    levels: (image (h, w, 3) or (h, w) uint8, mask (h, w) uint8 0 or 255, or None where all of it is there, pixels per
    metre). `glow`: a retroreflective sheet, which shines back at a lamp beside the camera.
    """

    levels: tuple[tuple[Image, Image | None, float], ...]
    glow: bool = False

    @classmethod
    def of(
        cls, image: Image, mask: Image | None, px_per_m: float, *, step: float = 2.0, glow: bool = False
    ) -> "Texture":
        """Levels `step` apart, down to about 30 pixels per metre, so that no warp shrinks by more than `step`."""
        levels = []
        scale = px_per_m
        while scale > 30 and min(image.shape[:2]) * scale / px_per_m >= 4:
            size = (round(image.shape[1] * scale / px_per_m), round(image.shape[0] * scale / px_per_m))
            outline = None if mask is None else _shrunk(mask, size)
            levels.append((_shrunk(image, size), outline, size[0] / image.shape[1] * px_per_m))
            scale /= step
        return cls(tuple(levels), glow)

    def grey(self) -> "Texture":
        """The same face as an infrared camera sees it: without colour, red inks pale."""
        weights = np.array([[0.1, 0.35, 0.55]], np.float32)
        return Texture(
            tuple(
                (np.asarray(cv2.transform(image, weights), np.uint8), mask, scale) for image, mask, scale in self.levels
            ),
            self.glow,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A texture hung in space: its top left corner, and unit vectors across (the texture's x) and down (its y)."""

    texture: Texture
    origin: tuple[float, float, float]
    across: tuple[float, float, float]
    down: tuple[float, float, float]

    def size_m(self) -> tuple[float, float]:
        image, _, scale = self.texture.levels[0]
        return image.shape[1] / scale, image.shape[0] / scale

    def seen(self, view: View, shift_y: float) -> "SeenFace | None":
        """How `view` sees this face moved by `shift_y` along the lane; None from behind, too near or out of frame."""
        origin = np.array((self.origin[0], self.origin[1] + shift_y, self.origin[2]))
        across, down = np.array(self.across), np.array(self.down)
        if np.dot(np.cross(across, down), origin - np.array(view.position)) <= 0:
            return None
        left, top, right, bottom = 0.0, 0.0, *self.size_m()
        depth = float(view.depth(origin[None])[0])
        deeper_across, deeper_down = float(view.rotation[2] @ across) * right, float(view.rotation[2] @ down) * bottom
        if abs(deeper_across) > abs(deeper_down):
            a, b = _before(depth + min(0.0, deeper_down), deeper_across)
            left, right = a * right, b * right
        else:
            a, b = _before(depth + min(0.0, deeper_across), deeper_down)
            top, bottom = a * bottom, b * bottom
        if b <= a:
            return None
        plane = view.projection @ np.vstack([np.column_stack([across, down, origin]), (0.0, 0.0, 1.0)])
        corners = np.array([[left, top, 1.0], [right, top, 1.0], [right, bottom, 1.0], [left, bottom, 1.0]]) @ plane.T
        quad = corners[:, :2] / corners[:, 2:]
        x0, y0 = np.floor(quad.min(0)).astype(int)
        x1, y1 = np.ceil(quad.max(0)).astype(int) + 1
        roi = (max(x0, 0), max(y0, 0), min(x1, view.width), min(y1, view.height))
        if roi[2] - roi[0] < 2 or roi[3] - roi[1] < 2:
            return None
        scale = float(np.linalg.norm(quad[1] - quad[0])) / (right - left)
        middle = origin + across * (left + right) / 2 + down * (top + bottom) / 2
        away_m = float(np.linalg.norm(middle - np.array(view.position)))
        return SeenFace(self, plane, (left, top, right, bottom), quad, roi, scale, away_m)


@dataclass(frozen=True, slots=True, eq=False)
class SeenFace:
    """A face in one frame: `plane` (3, 3) takes metres on the face to pixels, `part` (left, top, right, bottom m) is
    what lies before the camera, `quad` (4, 2) that part's corners in px clockwise from top left, `scale` px per m,
    `away_m` how far that part's middle is from the camera."""

    face: Face
    plane: Vector
    part: tuple[float, float, float, float]
    quad: Vector
    roi: Roi
    scale: float
    away_m: float

    def warp(self) -> tuple[Image, Image]:
        """The face as it fills its roi: picture (roi h, w, 3 or none) and mask (roi h, w), uint8."""
        levels = self.face.texture.levels
        image, mask, px_per_m = next((lv for lv in reversed(levels) if lv[2] >= self.scale), levels[0])
        left, top, right, bottom = (round(edge * px_per_m) for edge in self.part)
        image = image[top:bottom, left:right]
        texel = np.array([[1, 0, left + 0.5], [0, 1, top + 0.5], [0, 0, px_per_m]]) / px_per_m
        to_roi = np.array([[1.0, 0, -self.roi[0]], [0, 1, -self.roi[1]], [0, 0, 1]])
        matrix = to_roi @ self.plane @ texel
        size = (self.roi[2] - self.roi[0], self.roi[3] - self.roi[1])
        warped = cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if mask is None:
            outline = np.zeros((size[1], size[0]), np.uint8)
            cv2.fillConvexPoly(outline, np.rint((self.quad - self.roi[:2]) * 16).astype(np.int32), 255, shift=4)
        else:
            mask = mask[top:bottom, left:right]
            outline = np.asarray(cv2.warpPerspective(mask, matrix, size, flags=cv2.INTER_NEAREST), np.uint8)
        return np.asarray(warped, np.uint8), outline


def _shrunk(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _before(depth: float, deeper: float) -> tuple[float, float]:
    """The part of 0..1 along which depth + t * deeper is beyond NEAR_M."""
    if abs(deeper) < 1e-9:
        return (0.0, 1.0) if depth >= NEAR_M else (0.0, 0.0)
    at = (NEAR_M - depth) / deeper
    return (float(np.clip(at, 0, 1)), 1.0) if deeper > 0 else (0.0, float(np.clip(at, 0, 1)))
