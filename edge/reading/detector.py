"""Grey frame in, plates out: score, box and corners, from three maps at stride 8."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ManifestInvalid
from edge.manifest import DetectorEntry
from edge.reading.bundle import Model
from edge.reading.runtime import Network, TensorSpec, decode

STRIDE = 8
PAD = 128
MAX_PLATES = 8
MAX_PEAKS = 32
OVERLAP = 0.4
"""IoU above which the weaker of two boxes is the same plate."""
ASPECTS = (16 / 9, 4 / 3, 1.0)
"""Frames for which there is a canvas of their own, width by height: what would only be padding costs a tenth to a third
of the time."""
AS_LARGE = 0.98
"""The share of its largest scale at which a frame is seen well enough."""

_UNIT = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One plate: score 0-1; box x0 y0 x1 y1; quad (4, 2) clockwise from the plate's top left; px of the frame."""

    score: float
    box: NDArray[np.float32]
    quad: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Canvas:
    """Grey pixels (H, W) uint8 that are PAD wherever there is no frame, and the network for as many."""

    pixels: NDArray[np.uint8]
    network: Network

    def scale(self, grey: NDArray[np.uint8]) -> float:
        """Canvas px per px of a frame that just fits."""
        return float(min(self.pixels.shape[0] / grey.shape[0], self.pixels.shape[1] / grey.shape[1]))

    def draw(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Letterboxes a frame from the top left; returns what it fills."""
        (height, width), scale = grey.shape, self.scale(grey)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        view = self.pixels[: size[1], : size[0]]
        # averaging by a whole number is several times as fast as by any other
        whole = min(int(1 / scale), width, height)
        if whole > 1:
            even = grey[: height - height % whole, : width - width % whole]
            grey = np.asarray(
                cv2.resize(even, None, fx=1 / whole, fy=1 / whole, interpolation=cv2.INTER_AREA), np.uint8
            )
        cv2.resize(grey, size, dst=view, interpolation=cv2.INTER_LINEAR)
        return view


def _canvas(network: Network) -> _Canvas:
    sides = network.inputs[0].shape[1:3]
    if any(spec.shape[:3] != (1, sides[0] // STRIDE, sides[1] // STRIDE) for spec in network.outputs):
        raise ManifestInvalid(f"the detector's maps must have a cell for every {STRIDE} x {STRIDE} pixels")
    return _Canvas(np.full(sides, PAD, np.uint8), network)


class Detector:
    """Letterboxes a frame to the network's input and decodes its maps. Nothing of a frame stays in it. Not thread-safe.

    threshold: from the manifest; detections that score less are dropped. sizes: (height, width) of its canvases, px.
    brightness: mean grey of the last frame.
    """

    def __init__(self, model: Model[DetectorEntry]) -> None:
        """ManifestInvalid if the network isn't a detector."""
        inputs, outputs = model.network.inputs, model.network.outputs
        shapes = [spec.shape for spec in (*inputs, *outputs)]
        if len(inputs) != 1 or [(len(shape), shape[-1]) for shape in shapes] != [(4, 1), (4, 1), (4, 4), (4, 8)]:
            raise ManifestInvalid("the detector must take one grey image and give score, box and corner maps")
        if abs(inputs[0].scale * 255 - 1) > 1e-3 or inputs[0].zero_point != -128:
            raise ManifestInvalid("the detector's input must code grey 0-255 as -128-127")
        rows, columns = inputs[0].shape[1:3]
        self._canvases = [_canvas(model.network)]
        for sides in _sizes(rows, columns) - {(rows, columns)}:
            self._canvases.append(_canvas(model.network.resized(*sides)))
        self.sizes = [canvas.pixels.shape for canvas in self._canvases]
        self._score, self._box, self._corners = outputs
        self.threshold = model.entry.threshold
        self._least_code = _least_code(self._score, self.threshold)
        self.brightness = 0.0

    def detect(self, grey: NDArray[np.uint8]) -> list[Detection]:
        """Plates in a frame (H, W) uint8, best first, at most MAX_PLATES."""
        canvas = self._canvas_for(grey)
        try:
            self.brightness = float(cv2.mean(canvas.draw(grey))[0])
            score, box, corners = canvas.network.run((canvas.pixels ^ 0x80).view(np.int8)[None, :, :, None])
        finally:
            canvas.pixels.fill(PAD)
        rows, columns = _peaks(score[0, :, :, 0], self._least_code)
        if len(rows) == 0:
            return []
        scores = 1 / (1 + np.exp(-decode(score[0, rows, columns, 0], self._score)))
        offsets = decode(box[0, rows, columns], self._box)
        deltas = decode(corners[0, rows, columns], self._corners).reshape(-1, 4, 2)
        to_frame = STRIDE / canvas.scale(grey)
        centres = (np.stack([columns, rows], 1) + 0.5 + offsets[:, :2]) * to_frame
        sizes = np.exp(offsets[:, 2:]) * to_frame
        boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1)
        quads = boxes[:, None, :2] + (_UNIT + deltas) * sizes[:, None]
        kept = _suppress(boxes)[:MAX_PLATES]
        return [Detection(float(scores[i]), boxes[i].astype(np.float32), quads[i].astype(np.float32)) for i in kept]

    def _canvas_for(self, grey: NDArray[np.uint8]) -> _Canvas:
        """The smallest on which the frame is hardly smaller than on any."""
        scales = [canvas.scale(grey) for canvas in self._canvases]
        fair = (c for c, scale in zip(self._canvases, scales, strict=True) if scale >= AS_LARGE * max(scales))
        return min(fair, key=lambda canvas: canvas.pixels.size)


def _sizes(rows: int, columns: int) -> set[tuple[int, int]]:
    """Rows and columns for frames of ASPECTS: what they fill of a canvas, to the nearest that halves as often."""
    step = (rows | columns) & -(rows | columns)  # the largest power of two that divides both
    return {
        (min(rows, round(columns / aspect / step) * step), min(columns, round(rows * aspect / step) * step))
        for aspect in ASPECTS
    }


def _least_code(spec: TensorSpec, threshold: float) -> int:
    logit = np.log(threshold / (1 - threshold))
    return int(np.clip(np.ceil(logit / spec.scale + spec.zero_point), -128, 127))


def _peaks(score: NDArray[np.int8], least: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of cells that are the best of their neighbourhood, best first, at most MAX_PEAKS."""
    level = score.view(np.uint8) ^ 0x80
    highest = cv2.dilate(level, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero((level == highest) & (score >= least))
    best = np.argsort(-score[rows, columns].astype(np.int16), kind="stable")[:MAX_PEAKS]
    return rows[best], columns[best]


def _suppress(boxes: NDArray[np.float32]) -> list[int]:
    """Indices of the boxes (best first) that no better box covers."""
    kept: list[int] = []
    for i in range(len(boxes)):
        if all(iou(boxes[i], boxes[j]) < OVERLAP for j in kept):
            kept.append(i)
    return kept


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / union) if union > 0 else 0.0
