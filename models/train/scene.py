"""Scenes for the detector: photographs and pasted plates and signs, warped, lit and degraded, with their targets.

A sample is a canvas (H, W) uint8 and the plates on it. Boxes of real plates are known, their corners are not; pasted
plates have both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.material import Floats, Grey, Scene

PAD = 128
"""Grey level around a letterboxed frame; int8 zero at the network's input."""

UNTOUCHED = 0.45
MOST_SIGNS = 4
"""Signs pasted into one picture at most."""
SMALLEST_PLATE, SMALLEST_SIGN = 18.0, 36.0
"""Width of what is pasted, px: a smaller sign can't be told from a plate."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A canvas and its plates: quads (n, 4, 2) clockwise from top left, px; `cornered` (n,) bool says whose corners
    are real knowledge (else the quad is the labelled box); `ignored` (m, 4) boxes without a verdict."""

    image: Grey
    quads: Floats
    cornered: NDArray[np.bool_]
    ignored: Floats


class Composer:
    """Endless training samples of one size.

    scenes: photographs with plates, or none; negatives: pictures without; textures: flat plates (grey, tight); signs:
    what is pasted as plates are, and is none (2, h, w): grey, and where the sign is.
    untouched: the share of photographs that keep their own plates and get no others.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        negatives: Sequence[Scene],
        textures: Sequence[Grey],
        signs: Sequence[Grey],
        rng: np.random.Generator,
    ) -> None:
        self._scenes = scenes
        self._negatives = negatives
        self._textures = textures
        self._signs = signs
        self._rng = rng
        self._aspects = np.array([t.shape[1] / t.shape[0] for t in textures], np.float32)
        self.untouched = UNTOUCHED

    def samples(self, width: int, height: int) -> Iterator[Sample]:
        while True:
            yield self.sample(width, height)

    def sample(self, width: int, height: int) -> Sample:
        rng = self._rng
        untouched = bool(self._scenes) and rng.random() < self.untouched
        kind = rng.random() if self._scenes else rng.uniform(0.7, 0.9)
        negative = not untouched and kind > 0.85
        drawn_from = self._negatives if not untouched and kind > 0.7 else self._scenes
        scene = drawn_from[int(rng.integers(len(drawn_from)))]
        matrix = self._placement(scene, width, height)
        image = np.asarray(
            cv2.warpAffine(scene.image, matrix, (width, height), flags=_interpolation(matrix), borderValue=PAD),
            np.uint8,
        )
        boxes = _transform_boxes(scene.boxes, matrix)
        quads, ignored = _visible(boxes, width, height)
        cornered = np.zeros(len(quads), np.bool_)
        ignored = np.concatenate([ignored, _clip(_transform_boxes(scene.ignored, matrix), width, height)])
        infrared = False
        if not (untouched or negative) and self._textures:
            infrared = rng.random() < 0.2
            if infrared:
                image = np.asarray(image * rng.uniform(0.15, 0.6), np.uint8)
            for i in range(len(quads)):
                if rng.random() < 0.7:
                    quads[i] = self._replace(image, quads[i], infrared)
                    cornered[i] = True
            wanted = int(rng.integers(1, 4)) if kind > 0.36 else 0
            for _ in range(wanted):
                added = self._add(
                    image, self._texture(None), quads, ignored, infrared=infrared, smallest=SMALLEST_PLATE
                )
                if added is not None:
                    quads = np.concatenate([quads, added[None]])
                    cornered = np.append(cornered, True)
        if not untouched and self._signs:
            placed = quads
            for _ in range(int(rng.integers(0, MOST_SIGNS + 1))):
                sign, alpha = self._signs[int(rng.integers(len(self._signs)))]
                added = self._add(image, sign, placed, ignored, infrared=False, smallest=SMALLEST_SIGN, alpha=alpha)
                if added is not None:
                    placed = np.concatenate([placed, added[None]])
        return Sample(self._degrade(image), quads, cornered, ignored)

    def _placement(self, scene: Scene, width: int, height: int) -> NDArray[np.float64]:
        """An affine from the photograph to the canvas: half the time about the letterbox, else around one plate."""
        rng = self._rng
        h, w = scene.image.shape
        fit = min(width / w, height / h)
        if len(scene.boxes) and rng.random() < 0.45:
            x0, y0, x1, y1 = scene.boxes[rng.integers(len(scene.boxes))]
            wanted = np.exp(rng.uniform(np.log(16), np.log(0.85 * width)))
            scale = float(np.clip(wanted / (x1 - x0), 0.6 * fit, 4.0 * fit))
            place = rng.uniform(0.1, 0.9, 2) * (width, height)
            centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        else:
            scale = fit * float(np.exp(rng.normal(0.05, 0.2)))
            place = np.array([width, height]) * rng.normal(0.5, 0.08, 2)
            centre = np.array([w / 2, h / 2])
        angle = np.deg2rad(rng.normal(0, 2.0))
        stretch = np.exp(rng.normal(0, 0.08))
        mirror = -1.0 if rng.random() < 0.3 else 1.0
        linear = scale * np.array(
            [[np.cos(angle) * stretch * mirror, -np.sin(angle)], [np.sin(angle) * stretch * mirror, np.cos(angle)]]
        )
        matrix = np.hstack([linear, (place - linear @ centre)[:, None]])
        # Little of the canvas is wasted: a photograph that could cover it does, a smaller one lies inside.
        x0, y0, x1, y1 = _transform_boxes(np.array([[0, 0, w, h]], np.float32), matrix)[0]
        for axis, low, high, side in ((0, x0, x1, width), (1, y0, y1, height)):
            room = sorted((-low, side - high))
            matrix[axis, 2] += np.clip(0.0, *room)
        return matrix

    def _texture(self, aspect: float | None) -> Grey:
        rng = self._rng
        if aspect is None:
            return self._textures[int(rng.integers(len(self._textures)))]
        candidates = np.flatnonzero(np.abs(np.log(self._aspects / aspect)) < 0.25)
        if len(candidates) == 0:
            candidates = np.argsort(np.abs(np.log(self._aspects / aspect)))[:20]
        return self._textures[int(rng.choice(candidates))]

    def _replace(self, image: Grey, quad: Floats, infrared: bool) -> Floats:
        """Paints over a real plate and puts another in its place, about as large, turned a little."""
        x0, y0, x1, y1 = _bounds(quad)
        w, h = x1 - x0, y1 - y0
        texture = self._texture(w / h)
        turned = _turned(self._rng, texture.shape[1] / texture.shape[0], gentle=True)
        bx0, by0, bx1, by1 = _bounds(turned)
        grow = self._rng.uniform(1.0, 1.12)
        unit = (turned - [(bx0 + bx1) / 2, (by0 + by1) / 2]) / [bx1 - bx0, by1 - by0]
        new = np.asarray(unit * [w * grow, h * grow] + [(x0 + x1) / 2, (y0 + y1) / 2], np.float32)
        _cover(self._rng, image, (x0 - 0.06 * w, y0 - 0.06 * h, x1 + 0.06 * w, y1 + 0.06 * h))
        self._paste(image, texture, new, infrared)
        return new

    def _add(
        self,
        image: Grey,
        texture: Grey,
        quads: Floats,
        ignored: Floats,
        *,
        infrared: bool,
        smallest: float,
        alpha: Grey | None = None,
    ) -> Floats | None:
        """Pastes a plate or a sign somewhere free; None if the place drawn is taken."""
        rng = self._rng
        height, width = image.shape
        turned = _turned(rng, texture.shape[1] / texture.shape[0], gentle=rng.random() < 0.5)
        x0, y0, x1, y1 = _bounds(turned)
        size = np.exp(rng.uniform(np.log(smallest), np.log(min(320, 0.8 * width)))) / (x1 - x0)
        reach = np.array([(x1 - x0), (y1 - y0)]) * size / 2
        if 2 * reach[1] > 0.8 * height:
            return None
        centre = rng.uniform(reach, np.array([width, height]) - reach)
        quad = np.asarray(turned * size + centre, np.float32)
        taken = np.concatenate([np.array([_bounds(q) for q in quads], np.float32).reshape(-1, 4), ignored])
        bx0, by0, bx1, by1 = _bounds(quad)
        margin = 0.15 * (bx1 - bx0)
        for tx0, ty0, tx1, ty1 in taken:
            if bx0 - margin < tx1 and tx0 < bx1 + margin and by0 - margin < ty1 and ty0 < by1 + margin:
                return None
        if rng.random() < 0.6:
            self._surround(image, quad)
        self._paste(image, texture, quad, infrared, alpha)
        return quad

    def _surround(self, image: Grey, quad: Floats) -> None:
        """A bumper's recess, a holder or plain bodywork around a plate, so that its edge isn't the only contrast."""
        rng = self._rng
        centre = quad.mean(0)
        outer = (quad - centre) * rng.uniform(1.05, 2.2, 2) + centre + rng.normal(0, 0.03, 2) * np.ptp(quad, 0)
        colour = float(rng.choice([rng.uniform(5, 60), rng.uniform(0, 255)]))
        cv2.fillConvexPoly(image, np.asarray(outer, np.int32), colour, cv2.LINE_AA)

    def _paste(self, image: Grey, texture: Grey, quad: Floats, infrared: bool, alpha: Grey | None = None) -> None:
        rng = self._rng
        height, width = image.shape
        x0, y0, x1, y1 = _bounds(quad)
        left, top = max(int(x0) - 2, 0), max(int(y0) - 2, 0)
        right, bottom = min(int(x1) + 3, width), min(int(y1) + 3, height)
        if right - left < 4 or bottom - top < 4:
            return
        target = max(float(np.linalg.norm(quad[1] - quad[0])), 4.0)
        shrink = target / texture.shape[1]
        there = np.full_like(texture, 255) if alpha is None else alpha
        if shrink < 0.8 and min(texture.shape) * shrink >= 2:
            shrunk = cv2.resize(texture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            texture = np.asarray(shrunk, np.uint8)
            there = np.asarray(cv2.resize(there, texture.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        th, tw = texture.shape
        edge = np.array([[0, 0], [tw, 0], [tw, th], [0, th]], np.float32)
        perspective = cv2.getPerspectiveTransform(edge, quad - np.array([left, top], np.float32))
        size = (right - left, bottom - top)
        flat = texture.astype(np.float32)
        if infrared:
            light = rng.uniform(0.8, 1.8)
        else:
            around = float(image[top:bottom, left:right].mean())
            light = np.exp(rng.normal(0, 0.3)) * (0.35 + 0.65 * np.clip(around / 110, 0.1, 1.3))
        ramp = 1 + rng.normal(0, 0.12) * np.linspace(-1, 1, tw, dtype=np.float32)
        flat = flat * (light * ramp)[None, :]
        if rng.random() < 0.15:
            edge_at = int(rng.integers(0, tw))
            flat[:, :edge_at] *= rng.uniform(0.3, 0.8)
        warped = cv2.warpPerspective(flat, perspective, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpPerspective(there, perspective, size, flags=cv2.INTER_LINEAR) / np.float32(255)
        region = image[top:bottom, left:right]
        region[:] = np.clip(region * (1 - mask) + warped * mask, 0, 255).astype(np.uint8)

    def _degrade(self, image: Grey) -> Grey:
        """Light, night, blur, noise and coding, as a cheap camera does them."""
        rng = self._rng
        height, width = image.shape
        chance = rng.random(8)
        if chance[0] < 0.08:
            image = _night(rng, image)
        if chance[1] < 0.1:
            factor = rng.uniform(0.4, 0.8)
            small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            image = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        if chance[2] < 0.15:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6)), np.uint8)
        elif chance[2] < 0.25:
            image = _motion(rng, image)
        if chance[3] < 0.8:
            ramp = np.linspace(0, 1, 256)
            contrast, light = np.exp(rng.normal(0, 0.2)), rng.normal(0, 0.06)
            curve = np.clip((ramp ** np.exp(rng.normal(0, 0.3)) - 0.45) * contrast + 0.45 + light, 0, 1)
            image = np.asarray(cv2.LUT(image, (curve * 255).astype(np.uint8)), np.uint8)
        if chance[4] < 0.3:
            noise = np.empty(image.shape, np.int16)
            cv2.randn(noise, np.zeros(1), np.array([rng.uniform(2, 16)]))
            image = np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)
        if chance[5] < 0.15:
            _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])
            image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)
        return image


def _interpolation(matrix: NDArray[np.float64]) -> int:
    return cv2.INTER_AREA if float(np.hypot(matrix[0, 0], matrix[1, 0])) < 0.7 else cv2.INTER_LINEAR


def _bounds(quad: NDArray[Any]) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = quad.min(0), quad.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def _box_quads(boxes: Floats) -> Floats:
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def _transform_boxes(boxes: Floats, matrix: NDArray[np.float64]) -> Floats:
    """The boxes around the moved boxes."""
    centres = np.stack([boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], 1) / 2
    halves = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]], 1) / 2
    moved = centres @ matrix[:, :2].T + matrix[:, 2]
    grown = halves @ np.abs(matrix[:, :2]).T
    return np.concatenate([moved - grown, moved + grown], 1).astype(np.float32)


def _clip(boxes: Floats, width: int, height: int) -> Floats:
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
    return clipped[(clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])]


def _visible(boxes: Floats, width: int, height: int) -> tuple[Floats, Floats]:
    """Quads of the boxes that are seen for the greater part; what is seen of the others, or is tiny, is ignored."""
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    size, seen = boxes[:, 2:] - boxes[:, :2], clipped[:, 2:] - clipped[:, :2]
    share = seen.clip(0).prod(1) / size.prod(1).clip(1e-6)
    good = (share > 0.75) & (seen[:, 0] >= 8) & (seen[:, 1] >= 3)
    return _box_quads(clipped[good].astype(np.float32)), _clip(boxes[~good], width, height)


def _turned(rng: np.random.Generator, aspect: float, *, gentle: bool) -> Floats:
    """A plate of unit height seen by a camera, centred on 0: (4, 2) clockwise from its top left."""
    limits = (25, 15, 4) if gentle else (50, 30, 12)
    yaw, pitch, roll = (np.deg2rad(rng.triangular(-a, 0, a)) for a in limits)
    corners = np.array([[-aspect, -1, 0], [aspect, -1, 0], [aspect, 1, 0], [-aspect, 1, 0]]) / 2
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    around_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    around_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    around_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    points = corners @ (around_z @ around_x @ around_y).T
    distance = aspect * rng.uniform(2.5, 12)
    flat = points[:, :2] * (distance / (distance + points[:, 2:]))
    return np.asarray(flat - (flat.min(0) + flat.max(0)) / 2, np.float32)


def _cover(rng: np.random.Generator, image: Grey, box: tuple[float, float, float, float]) -> None:
    """Fills a box with the colours above and below it."""
    height, width = image.shape
    left, top = max(int(box[0]), 0), max(int(box[1]), 0)
    right, bottom = min(int(box[2]) + 1, width), min(int(box[3]) + 1, height)
    upper = float(np.median(image[max(top - 3, 0) : top + 1, left:right]))
    lower = float(np.median(image[bottom - 1 : bottom + 3, left:right]))
    ramp = np.linspace(upper, lower, bottom - top)[:, None] + rng.normal(0, 3, (bottom - top, right - left))
    image[top:bottom, left:right] = np.clip(ramp, 0, 255).astype(np.uint8)


def _night(rng: np.random.Generator, image: Grey) -> Grey:
    height, width = image.shape
    dark = image * np.float32(rng.uniform(0.2, 0.6))
    lamps = np.zeros((height // 4, width // 4), np.float32)
    for _ in range(int(rng.integers(1, 6))):
        at = (int(rng.integers(0, width // 4)), int(rng.integers(0, height // 4)))
        cv2.circle(lamps, at, int(rng.integers(1, 6)), float(rng.uniform(200, 2000)), -1)
    lamps = cv2.GaussianBlur(lamps, (0, 0), rng.uniform(1, 6))
    return np.asarray(np.clip(dark + cv2.resize(lamps, (width, height)), 0, 255), np.uint8)


def _motion(rng: np.random.Generator, image: Grey) -> Grey:
    length = int(rng.integers(3, 10))
    kernel = np.zeros((length, length), np.float32)
    end = np.array([np.cos(a := rng.uniform(0, np.pi)), np.sin(a)]) * (length - 1) / 2
    middle = (length - 1) / 2
    cv2.line(
        kernel, tuple(np.rint(middle - end).astype(int).tolist()), tuple(np.rint(middle + end).astype(int).tolist()), 1
    )
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)
