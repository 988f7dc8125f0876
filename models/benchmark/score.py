"""Who read what: labelled plates against what a reader found."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.reading.region import fold
from models.benchmark.scenes import Box, Picture

WIDE_PX = 40
"""Plates narrower than this are not expected to be found."""
FOUND = 0.5
"""IoU at which a labelled plate counts as found."""


@dataclass(frozen=True, slots=True)
class PlateScore:
    """One labelled plate: the readings credited to it, whether it was found, whether it is wide enough."""

    source: str
    text: str | None
    readings: frozenset[str]
    found: bool
    wide: bool

    @property
    def exact(self) -> bool:
        return self.text in self.readings

    @property
    def folded(self) -> bool:
        return self.text is not None and fold(self.text) in {fold(reading) for reading in self.readings}


def ours(picture: Picture, plates: Sequence[dict[str, Any]]) -> list[PlateScore]:
    """For each labelled plate, the one reading of ours that overlaps it most."""
    scores = []
    for label in picture.plates:
        overlap, text = max(((iou(p["box"], label.box), p["text"]) for p in plates), default=(0.0, ""))
        scores.append(_score(picture, label, {text} if overlap > 0 else set(), found=overlap >= FOUND))
    return scores


def peer(picture: Picture, lines: Sequence[dict[str, Any]]) -> list[PlateScore]:
    """For each labelled plate, every line of text whose middle lies in it, and every run of such lines joined.

    A plate reader would have to choose one; here the peer is right if any of them is.
    """
    scores = []
    for label in picture.plates:
        inside = [_plain(line["text"]) for line in lines if _centred(line["box"], label.box)]
        runs = {"".join(inside[i:j]) for i in range(len(inside)) for j in range(i + 1, len(inside) + 1)}
        scores.append(_score(picture, label, runs, found=bool(inside)))
    return scores


def blind(picture: Picture, plates: Sequence[dict[str, Any]]) -> tuple[bool, bool] | None:
    """Is our best-scored plate's text one of the picture's: exactly, and folded. None where no text is known."""
    texts = {label.text for label in picture.plates if label.text}
    if not texts:
        return None
    best = plates[0]["text"] if plates else ""
    return best in texts, fold(best) in {fold(text) for text in texts}


def false_plates(picture: Picture, plates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Detections that touch no labelled plate."""
    known = [*(label.box for label in picture.plates), *picture.ignored]
    return [plate for plate in plates if all(iou(plate["box"], box) < 0.1 for box in known)]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(w, 0) * max(h, 0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def _score(picture: Picture, label: Any, readings: set[str], *, found: bool) -> PlateScore:
    return PlateScore(picture.source, label.text, frozenset(readings), found, label.box[2] - label.box[0] >= WIDE_PX)


def _centred(box: Sequence[float], plate: Box) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return plate[0] <= x <= plate[2] and plate[1] <= y <= plate[3]


def _plain(text: str) -> str:
    return re.sub("[^A-Z0-9]", "", text.upper())
