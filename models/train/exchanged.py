"""Photographs with characters of a plate exchanged for one another: what stands there can't be known by heart.

Trained for long, a reader knows the few thousand photographs by their looks and no longer reads them. Letters change
places with letters and digits with digits, so that each text keeps its syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.train import views
from models.train.photos import Photo
from models.train.pool import Labelled

Image = NDArray[np.uint8]
Spans = list[tuple[float, float]]
"""Left and right end of each character, px of the plate's picture."""

_FEWEST = 3
_ALIKE = 1.45
"""How many times as wide as the other one of two characters may be that change places."""
_BANDS = {True: (0.2, 0.82), False: (-0.02, 1.02)}
"""From where to where a plate's height belongs to its serial: on United States plates names stand above and below."""
_SOFT = 0.06
"""Share of a character's width over which what is put there fades in and out."""
_WEIGHT = 0.6
"""Of an exchanged plate beside the one it was made of."""


def exchanged(photos: list[Photo], steps: Iterable[str], times: int, rng: np.random.Generator) -> list[Photo]:
    """Up to `times` other versions of every photograph of one line that is read as it is labelled.

    steps: what a network reads in each photograph's straight cut, a symbol a step, " " for blank, two rows end to end.
    """
    made = []
    for photo, read in zip(photos, steps, strict=True):
        if (spans := _spans(read, photo.plate)) is None:
            continue
        for _ in range(times):
            if (plate := _mixed(rng, photo.plate, spans)) is not None:
                made.append(replace(photo, plate=plate, weight=_WEIGHT * photo.weight))
    return made


def _spans(steps: str, plate: Labelled) -> Spans | None:
    """Where the plate's characters stand; None where another text is read, or two lines."""
    runs = [(found.start(), found.end()) for found in re.finditer(r"([^ ])\1*", steps)]
    columns = len(steps) // 2
    if "".join(steps[start] for start, _ in runs) != plate.text or len(runs) < _FEWEST:
        return None
    if runs[0][0] // columns != (runs[-1][1] - 1) // columns:
        return None
    x, _, w, _ = plate.box
    column = w * (1 + 2 * views.MARGIN) / columns
    middles = [x - views.MARGIN * w + ((start + end) / 2 % columns) * column for start, end in runs]
    gaps = [b - a for a, b in pairwise(middles)]
    pitch = float(np.median(gaps))
    reach = [min(pitch, gap) / 2 for gap in gaps]
    return [
        (m - left, m + right) for m, left, right in zip(middles, [pitch / 2, *reach], [*reach, pitch / 2], strict=True)
    ]


def _mixed(rng: np.random.Generator, plate: Labelled, spans: Spans) -> Labelled | None:
    """The plate with about half of its characters in other places; None where nothing could change.

    The issuer's name may have suffered: nothing is said of who issued it.
    """
    text = list(plate.text or "")
    picture = plate.picture.copy()
    _, y, _, h = plate.box
    us = any(region.startswith("US-") for region in plate.regions)
    top, bottom = (int(np.clip(y + share * h, 0, picture.shape[0])) for share in _BANDS[us])
    order = rng.permutation(len(text))
    changed = set[int]()
    for i, j in [(i, j) for n, i in enumerate(order) for j in order[n + 1 :]]:
        wide = [spans[k][1] - spans[k][0] for k in (i, j)]
        if changed & {i, j} or text[i] == text[j] or text[i].isdigit() != text[j].isdigit():
            continue
        if max(wide) > _ALIKE * min(wide):
            continue
        _put(picture, plate.picture, spans[i], spans[j], top, bottom)
        _put(picture, plate.picture, spans[j], spans[i], top, bottom)
        text[i], text[j] = text[j], text[i]
        changed |= {i, j}
    if not changed:
        return None
    return replace(plate, picture=picture, text="".join(text), regions=frozenset(), names=())


def _put(
    picture: Image, source: Image, taken: tuple[float, float], place: tuple[float, float], top: int, bottom: int
) -> None:
    """Lay what stands at `taken` in `source` over `place` in `picture`, stretched to it."""
    left, right = max(round(place[0]), 0), min(round(place[1]), picture.shape[1])
    if right - left < 2 or bottom - top < 4:
        return
    share = (np.arange(left, right) + 0.5 - place[0]) / (place[1] - place[0])
    at = np.clip(taken[0] + share * (taken[1] - taken[0]) - 0.5, 0, source.shape[1] - 1.001)
    low = at.astype(int)
    part = (at - low)[None, :, None]
    rows = source[top:bottom].astype(np.float32)
    laid = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    fade = np.clip(np.minimum(share, 1 - share) / _SOFT, 0, 1)[None, :, None]
    under = picture[top:bottom, left:right]
    under[:] = (under * (1 - fade) + laid * fade).astype(np.uint8)
