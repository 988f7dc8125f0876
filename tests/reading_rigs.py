"""A network that says what a test wants, and plates as a network would see them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.manifest import DetectorEntry, Evidence
from edge.reading.bundle import Model
from edge.reading.ocr import Characters, beam_search, character_confidence
from edge.reading.reader import FramePlate, FrameReading
from edge.reading.runtime import TensorSpec
from edge.record import Alternative, NoRead, PlateText, Quality

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REGIONS = ("unknown", "GB", "US-NY")
PIXELS = {"dtype": "int8", "scale": 1 / 255, "zero_point": -128}
MAPS = ((1, 56, 76, 1), (1, 56, 76, 4), (1, 56, 76, 8))
FILE: dict[str, Any] = {"file": "fake.tflite", "sha256": "0" * 64, "inputs": (), "outputs": ()}
WEIGHTS = Evidence(least=0.0, legible=0.5, plausible=0.2, wide=0.55)
MAP_SPEC = {"dtype": "int8", "scale": 0.05, "zero_point": 0}


class FakeNetwork:
    """Stands in for edge.reading.runtime.Network: `answer` turns int8 inputs into int8 outputs."""

    def __init__(
        self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], answer: Callable[..., tuple[Any, ...]]
    ) -> None:
        self.inputs, self.outputs, self.run = tuple(inputs), tuple(outputs), answer

    def resized(self, height: int, width: int) -> "FakeNetwork":
        """It answers what it would have answered, and says that it has maps for other sides."""
        rows, columns = self.inputs[0].shape[1:3]

        def other(spec: TensorSpec) -> TensorSpec:
            one, high, wide, channels = spec.shape
            return replace(spec, shape=(one, high * height // rows, wide * width // columns, channels))

        return FakeNetwork([other(s) for s in self.inputs], [other(s) for s in self.outputs], self.run)


def detector_model(
    answer: Callable[[NDArray[np.int8]], tuple[Any, ...]], threshold: float = 0.5
) -> Model[DetectorEntry]:
    """A detector of 608 x 448 whose maps `answer` makes."""
    network: Any = FakeNetwork(
        [TensorSpec((1, 448, 608, 1), **PIXELS)],  # type: ignore[arg-type]
        [TensorSpec(shape, **MAP_SPEC) for shape in MAPS],  # type: ignore[arg-type]
        answer,
    )
    return Model(network, DetectorEntry(**FILE, threshold=threshold, evidence=WEIGHTS))


def empty_maps() -> tuple[NDArray[np.int8], ...]:
    """Score, box and corner maps of a frame without plates."""
    score, box, corners = (np.zeros(shape, np.int8) for shape in MAPS)
    score -= 100
    return score, box, corners


def characters(
    text: str, *, sure: float = 0.99, confused: dict[int, str] | None = None, torn: float = 0.8, region: int = 1
) -> Characters:
    """What a network says of `text`: each character with probability `sure`, the rest for the next of the alphabet;
    a character that `confused` names is taken for the other one with probability `torn`."""
    rows = [_step("", 0.999)]
    for index, symbol in enumerate(text):
        if confused and index in confused:
            rows.append(_step(confused[index], torn, symbol))
        else:
            rows.append(_step(symbol, sure, ALPHABET[(ALPHABET.index(symbol) + 1) % 36]))
        rows.append(_step("", 0.999))
    shares = np.full(len(REGIONS), 0.05)
    shares[region] = 1 - 0.05 * (len(REGIONS) - 1)
    return Characters(np.stack(rows), ALPHABET, np.log(shares).astype(np.float32), REGIONS, plausible=0.99)


def plate(
    seen: Characters, *, at: tuple[float, float] = (320, 240), width: float = 120, no_read: NoRead | None = None
) -> FramePlate:
    """A plate of a 640 x 480 frame, centred at `at`."""
    candidates = beam_search(seen.log_probs, seen.alphabet)
    w, h = width / 2, width / 8
    quad = np.array([[-w, -h], [w, -h], [w, h], [-w, h]], np.float32) + np.array(at, np.float32)
    return FramePlate(
        text=PlateText(candidates[0][0]),
        confidence=candidates[0][1],
        chars=character_confidence(candidates),
        alternatives=tuple(Alternative(PlateText(text), p) for text, p in candidates[1:]),
        quad=quad,
        region="GB",
        region_confidence=0.9,
        syntax=None,
        score=0.9,
        quality=Quality(plate_height_px=2 * h, sharpness=0.5, clipped_share=0.0, brightness=90.0),
        characters=seen,
        no_read=no_read,
    )


def frame(*plates: FramePlate, reason: NoRead | None = None, brightness: float = 90.0) -> FrameReading:
    """A 640 x 480 frame with these plates."""
    why = reason or (None if plates else NoRead.NO_PLATE)
    return FrameReading(plates, why, 1.0, brightness, 640, 480)


def _step(symbol: str, p: float, other: str = "") -> NDArray[np.float32]:
    row = np.full(37, 1e-6)
    row[ALPHABET.index(symbol) if symbol else -1] = p
    if other:
        row[ALPHABET.index(other)] = 1 - p
    return np.asarray(np.log(row / row.sum()), np.float32)
