"""PlateReader: one frame in, every plate in it out, with what the vote and the record need."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import FrameDamaged, ManifestInvalid, clean
from edge.manifest import Evidence
from edge.reading.bundle import load_bundle
from edge.reading.detector import Detection, Detector
from edge.reading.look import Look, look, look_closer
from edge.reading.ocr import Characters, Ocr, character_confidence
from edge.reading.rectify import plate_height, to_grey
from edge.reading.region import fitting
from edge.record import MOST_PX, Alternative, NoRead, PlateText, Quality

MAX_READ = 4
"""Candidates of one frame that are read."""
USUAL, NARROWEST = 0.2, 0.01
"""Width of a plate as a share of the frame's: at which it says nothing, and below which it says no more."""
SHORTEST = 4
"""A shorter text is no evidence: signs, lamps and grilles are read as such."""
LIKELY = 0.45
"""A candidate that is no plate for want of a text, and scores this much, is the reason why there is none."""
LEAST_CONFIDENCE = 0.05
"""A text that is less probable is no text."""
TOO_SMALL_PX = 14.0
"""Height of a plate below which characters are fewer than nine pixels high."""
BLOOMED_SHARE = 0.25
BLURRED = 0.12
TOO_DARK = 14.0
"""Mean grey of a frame (0-255) in which nothing can be told apart."""


@dataclass(frozen=True, slots=True, eq=False)
class FramePlate:
    """One plate of one frame.

    text: PlateText, empty where no character was made out; confidence: probability of the whole text; chars: one
    probability a character; alternatives: best first; quad (4, 2) float32 px clockwise from the plate's top left;
    region: issuer or "unknown"; syntax: the issuer's pattern that the text fits, or None; score: the detector's, 0-1;
    characters: the network's word, for the vote; no_read: why text is empty or hardly probable, None if it is neither.
    """

    text: PlateText
    confidence: float
    chars: tuple[float, ...]
    alternatives: tuple[Alternative, ...]
    quad: NDArray[np.float32]
    region: str
    region_confidence: float
    syntax: str | None
    score: float
    quality: Quality
    characters: Characters
    no_read: NoRead | None


@dataclass(frozen=True, slots=True)
class FrameReading:
    """What one frame shows. plates: best first; reason: why no plate has a text, None if one has; ms: time it took;
    brightness: the frame's mean grey, 0-255; width, height: px of the frame."""

    plates: tuple[FramePlate, ...]
    reason: NoRead | None
    ms: float
    brightness: float
    width: int
    height: int


class PlateReader:
    """Detector and reader over one model bundle, which keep no picture once it is read. Not thread-safe; both
    networks run on `threads` threads."""

    def __init__(self, bundle_dir: Path | None = None, *, threads: int = 1) -> None:
        """bundle_dir: a folder with manifest.json, or None for the shipped bundle. Raises RuntimeMissing,
        ManifestInvalid, ManifestMismatch, ModelRefused."""
        bundle = load_bundle(bundle_dir, threads=threads)
        self.bundle_dir = bundle_dir
        self.model_id = bundle.model_id
        self.version = bundle.version
        try:
            self._detector = Detector(bundle.detector)
            self._ocr = Ocr(bundle.ocr)
            self._try_out()
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            raise ManifestInvalid(f"the networks are not as the reader needs them: {clean(error)}") from error
        self._weights = bundle.detector.entry.evidence

    def _try_out(self) -> None:
        """A network may be built and fail on the first picture: it is not to be a vehicle's."""
        width, height = self._ocr.size
        with _looking():
            for sides in self._detector.sizes:
                self._detector.detect(np.zeros(sides, np.uint8))
            self._ocr.read(np.zeros((height, width, 3), np.uint8))

    def read_frame(self, image: NDArray[np.uint8]) -> FrameReading:
        """image: (H, W) grey or (H, W, 3) BGR uint8. FrameDamaged for one that is empty or that OpenCV refuses."""
        with _looking():
            return self._read_frame(image)

    def read_crop(self, image: NDArray[np.uint8]) -> FrameReading:
        """As read_frame, of an image that is one plate, edge to edge; turned in it, or straight."""
        with _looking():
            return self._read_crop(image)

    def _read_frame(self, image: NDArray[np.uint8]) -> FrameReading:
        started = time.perf_counter()
        grey = to_grey(image)
        found = self._detector.detect(grey)
        brightness = self._detector.brightness
        plates, unread = list[FramePlate](), list[FramePlate]()
        for candidate in found[:MAX_READ]:
            seen = look(self._ocr, image, candidate.quad)
            plate = _plate(seen, candidate.quad, candidate.score, brightness)
            if evidence(clues(candidate, seen, image.shape[1]), self._weights) >= self._weights.least:
                plates.append(plate)
            elif plate.score >= LIKELY:
                unread.append(plate)
        return _reading(plates, unread, brightness, image, started)

    def _read_crop(self, image: NDArray[np.uint8]) -> FrameReading:
        started = time.perf_counter()
        height, width = image.shape[:2]
        seen, quad = look_closer(self._ocr, self._detector, image, np.array([0, 0, width, height], np.float32))
        brightness = float(to_grey(image).mean())
        return _reading([_plate(seen, quad, 1.0, brightness)], [], brightness, image, started)


@contextmanager
def _looking() -> Iterator[None]:
    try:
        yield
    except (cv2.error, ZeroDivisionError) as error:
        raise FrameDamaged(f"a picture that can't be looked at: {clean(error)}") from error


def _plate(seen: Look, quad: NDArray[np.float32], score: float, brightness: float) -> FramePlate:
    best, confidence = seen.texts[0]
    region = next(iter(seen.regions))
    quality = _quality(to_grey(seen.flat), quad, brightness)
    return FramePlate(
        text=PlateText(best),
        confidence=confidence,
        chars=character_confidence(seen.texts),
        alternatives=tuple(Alternative(PlateText(text), p) for text, p in seen.texts[1:] if text),
        quad=quad,
        region=region,
        region_confidence=seen.regions[region],
        syntax=fitting(best, region),
        score=score,
        quality=quality,
        characters=seen.characters,
        no_read=None if best and confidence >= LEAST_CONFIDENCE else why_unread(quality),
    )


@dataclass(frozen=True, slots=True)
class Clues:
    """What speaks for a plate: the detector's log-odds and the reader's, how legible it is (0-1), and the logarithm of
    its width, in usual ones: what is small is more often something else."""

    score: float
    legible: float
    plausible: float
    wide: float


def clues(candidate: Detection, seen: Look, width: int) -> Clues:
    """What speaks for a candidate in a frame of `width` px."""
    text, confidence = seen.texts[0]
    share = float(candidate.box[2] - candidate.box[0]) / width
    return Clues(
        score=_log_odds(candidate.score),
        legible=math.sqrt(confidence) if len(text) >= SHORTEST else 0.0,
        plausible=_log_odds(seen.characters.plausible),
        wide=math.log(max(share, NARROWEST) / USUAL),
    )


def evidence(seen: Clues, weights: Evidence) -> float:
    """The sum that makes a plate from `weights.least` on."""
    return seen.score + weights.legible * seen.legible + weights.plausible * seen.plausible + weights.wide * seen.wide


def _log_odds(p: float) -> float:
    p = min(max(p, 0.01), 0.99)
    return math.log(p / (1 - p))


def why_unread(quality: Quality) -> NoRead:
    """The likeliest reason that a plate was seen and not read."""
    if quality.plate_height_px is not None and quality.plate_height_px < TOO_SMALL_PX:
        return NoRead.TOO_SMALL
    if quality.brightness is not None and quality.brightness < TOO_DARK:
        return NoRead.TOO_DARK
    if quality.clipped_share is not None and quality.clipped_share > BLOOMED_SHARE:
        return NoRead.BLOOMED
    if quality.sharpness is not None and quality.sharpness < BLURRED:
        return NoRead.BLURRED
    return NoRead.OCCLUDED


def _reading(
    plates: list[FramePlate], unread: list[FramePlate], brightness: float, image: NDArray[np.uint8], started: float
) -> FrameReading:
    plates.sort(key=lambda plate: -plate.score * (0.5 + plate.confidence))
    if any(plate.no_read is None for plate in plates):
        reason = None
    elif plates or unread:
        worst = (plates or unread)[0]
        reason = worst.no_read or why_unread(worst.quality)
    else:
        reason = NoRead.TOO_DARK if brightness < TOO_DARK else NoRead.NO_PLATE
    ms = (time.perf_counter() - started) * 1e3
    return FrameReading(tuple(plates), reason, ms, brightness, image.shape[1], image.shape[0])


def _quality(grey: NDArray[np.uint8], quad: NDArray[np.float32], brightness: float) -> Quality:
    """grey: the plate made straight. Sharpness is its steepest step between neighbours, as a share of its contrast."""
    low, high = _level(grey, 0.05), _level(grey, 0.95)
    steps = cv2.absdiff(grey[:, 1:], grey[:, :-1])
    return Quality(
        plate_height_px=min(plate_height(quad), float(MOST_PX)),
        sharpness=min(1.0, _level(np.asarray(steps, np.uint8), 0.98) / max(high - low, 8)),
        clipped_share=cv2.countNonZero(cv2.inRange(grey, (250,), (255,))) / grey.size,
        brightness=brightness,
    )


def _level(grey: NDArray[np.uint8], share: float) -> int:
    """The grey level that this share of the pixels doesn't exceed."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256])
    return int(np.searchsorted(counts.ravel().cumsum(), share * grey.size))
