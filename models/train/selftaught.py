"""Plates of photographs that nobody transcribed, with the text that the present reader is sure of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge.reading.ocr import Ocr
from models.train import photos
from models.train.evaluate import read
from models.train.photos import Photo

SURE = 0.8
"""What the weakest character of both reads must reach."""
_SHORTEST, _OFF = 4, 0.05


def labelled(ocr: Ocr, folder: Path) -> list[Photo]:
    """Untranscribed rows that are surely read, and alike when their box is a little off.

    A text of the development split is left out: its vehicle may stand on the other side of the split.
    """
    barred = {photo.plate.text for photo in photos.development(folder)}
    found = []
    for photo in photos.unread(folder):
        x, y, w, h = photo.plate.box
        reads = [read(ocr, photo.plate), read(ocr, replace(photo.plate, box=(x - _OFF * w, y, w, h + _OFF * h)))]
        text = reads[0].text
        sure = min(seen.weakest for seen in reads) >= SURE and len(text) >= _SHORTEST
        if sure and reads[1].text == text and text not in barred:
            found.append(replace(photo, plate=replace(photo.plate, text=text)))
    return found
