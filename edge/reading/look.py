"""One plate of a frame read, and looked at again where the first look leaves doubt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.reading.detector import Detector, iou
from edge.reading.ocr import BEAM, LEAST, Candidates, Characters, Ocr, beam_search, log_likelihood
from edge.reading.rectify import rectify, to_grey
from edge.reading.region import alike, fold, ranked

HOPELESS, SURE = 0.05, 0.8
"""Between these probabilities of its text a plate is looked at again: below, it hardly is one, and looks cost time."""
REGIONS_WEIGHED = 8
"""Most probable issuers whose formats may prefer one text to another."""

Quad = NDArray[np.float32]

CERTAIN = 0.95
"""Probability of its text from which nobody looks for the corners of a plate that is known by its box."""
_AROUND = 0.35
"""What is laid around such a plate, in its widths: the detector knows plates by what is not plate."""
_SAME = 0.5
"""IoU with the box from which what the detector finds is that plate."""

_TIGHT = np.array([[0.03, 0.08], [-0.03, 0.08], [-0.03, -0.08], [0.03, -0.08]])
_RISING = np.array([[0, 0.12], [0, -0.12], [0, -0.12], [0, 0.12]])
TIGHTER = (_TIGHT,)
TURNED = (_TIGHT, -0.7 * _TIGHT, _RISING, -_RISING)
"""How a doubtful plate is cut again: its corners moved by shares of its width and height. Where corners are wrong, they
are mostly too wide; an upright box may be too narrow as well, and the plate in it turned."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What was seen: the plate made straight; what the network says of it; the texts that it may bear by that alone;
    the texts, best first, as syntax weighs them; the most probable issuers with their probabilities, best first."""

    flat: NDArray[np.uint8]
    characters: Characters
    spoken: dict[str, float]
    texts: Candidates
    regions: dict[str, float]

    @property
    def confidence(self) -> float:
        """The probability of the best text."""
        return self.texts[0][1]


def look(ocr: Ocr, frame: NDArray[np.uint8], quad: NDArray[np.float32]) -> Look:
    """What all looks at a plate say together. frame: (H, W) grey or (H, W, 3) BGR uint8; quad: (4, 2) px, from its top
    left."""
    looks = [_once(ocr, frame, quad)]
    if HOPELESS < looks[0].confidence < SURE:
        again = TURNED if _upright(quad) else TIGHTER
        looks += [_once(ocr, frame, _moved(quad, by)) for by in again]
    return _together(looks)


def _together(looks: Sequence[Look]) -> Look:
    """The mean of the looks' words, each weighed by the square of how sure it is, told of the look that is surest of
    the likeliest text.

    One sure look among doubtful ones is a doubtful one: of several, some look is always sure of something.
    """
    if len(looks) == 1:
        return looks[0]
    weights = [max(seen.confidence, 1e-6) ** 2 for seen in looks]  # so that their sum is never nothing
    shares = dict[str, float]()
    for seen, weight in zip(looks, weights, strict=True):
        for text, p in seen.spoken.items():
            shares[text] = shares.get(text, 0.0) + p * weight / sum(weights)
    issuers = _mean([seen.characters.region_log_probs for seen in looks])
    plausible = sum(seen.characters.plausible for seen in looks) / len(looks)
    likeliest = max(shares, key=shares.__getitem__)
    best = max(looks, key=lambda seen: seen.spoken.get(likeliest, 0.0))
    return _weighed(best.flat, replace(best.characters, region_log_probs=issuers, plausible=plausible), shares)


def look_closer(ocr: Ocr, detector: Detector, frame: NDArray[np.uint8], box: NDArray[np.float32]) -> tuple[Look, Quad]:
    """A look at a plate of which the box x0 y0 x1 y1 px is known: at the whole of it, and, where that leaves doubt, at
    the corners that the detector finds in it. Also the quad of the surer one, (4, 2) px of the frame."""
    quad = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
    whole = look(ocr, frame, quad)
    if whole.confidence >= CERTAIN:
        return whole, quad
    (left, top), (right, bottom) = np.maximum(box[:2].astype(int), 0), np.ceil(box[2:]).astype(int)
    crop = frame[top:bottom, left:right]
    border = int(_AROUND * crop.shape[1])
    padded = np.asarray(cv2.copyMakeBorder(crop, border, border, border, border, cv2.BORDER_REPLICATE), np.uint8)
    moved = np.array([left - border, top - border], np.float32)
    for found in detector.detect(to_grey(padded)):
        if iou(found.box + np.tile(moved, 2), box) >= _SAME:
            closer = look(ocr, padded, found.quad)
            surer = found.quad + moved if closer.confidence > whole.confidence else quad
            return _together([whole, closer]), surer
    return whole, quad


def region_shares(log_probs: NDArray[np.float32], names: tuple[str, ...]) -> dict[str, float]:
    """The most probable issuers and their probabilities, best first."""
    best = np.argsort(-log_probs)[:REGIONS_WEIGHED]
    return {names[i]: min(1.0, float(np.exp(log_probs[i]))) for i in best}  # a rounded 1 may be a little more


def _mean(log_probs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The logarithm of the mean probability."""
    return np.asarray(np.logaddexp.reduce(log_probs, axis=0) - np.log(len(log_probs)), np.float32)


def _once(ocr: Ocr, frame: NDArray[np.uint8], quad: NDArray[np.float32]) -> Look:
    flat = rectify(frame, quad, ocr.size, ocr.margin)
    seen = ocr.read(flat)
    return _weighed(flat, seen, dict(beam_search(seen.log_probs, seen.alphabet)))


def _weighed(flat: NDArray[np.uint8], seen: Characters, spoken: dict[str, float]) -> Look:
    """The look once syntax has had its say; also on texts that look like one of those spoken, and fit a format."""
    regions = region_shares(seen.region_log_probs, seen.regions)
    one_of_each = {fold(text): text for text, p in spoken.items() if p >= LEAST}  # others of a class bring up the same
    more = [other for text in one_of_each.values() for other in alike(text, regions) if other not in spoken]
    if more:
        p = np.exp(log_likelihood(seen.log_probs, more, seen.alphabet)).tolist()
        spoken = spoken | dict(zip(more, p, strict=True))
    return Look(flat, seen, spoken, ranked(list(spoken.items()), regions)[:BEAM], regions)


def _upright(quad: NDArray[np.float32]) -> bool:
    """Is it the box from its first to its third corner, so that nothing is known of corners?"""
    (left, top), (right, bottom) = quad[0], quad[2]
    return bool((quad == [[left, top], [right, top], [right, bottom], [left, bottom]]).all())


def _moved(quad: NDArray[np.float32], by: NDArray[np.float64]) -> NDArray[np.float32]:
    """The quad with each corner moved along its own edges, by shares of them."""
    along = np.stack([quad[1] - quad[0], quad[1] - quad[0], quad[2] - quad[3], quad[2] - quad[3]])
    down = np.stack([quad[3] - quad[0], quad[2] - quad[1], quad[2] - quad[1], quad[3] - quad[0]])
    return np.asarray(quad + along * by[:, :1] + down * by[:, 1:], np.float32)
