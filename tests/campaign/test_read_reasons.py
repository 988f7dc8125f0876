"""Why a visit has no text: rendered passages spoilt in one way each. A minute; prints what was said with -s.

python -m pytest -s tests/campaign/test_read_reasons.py
"""

from collections import Counter
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hw_sim.vehicle import build
from hw_sim.view import View
from hw_sim.world import Light, Placed, World
from numpy.typing import NDArray

from edge.reading.fuse import Vote
from edge.reading.reader import PlateReader
from edge.record import NoRead, PlateReading
from models.train.render import render_plate

Frame = NDArray[np.uint8]
Quad = NDArray[np.float64]
VISITS = 8
FRAMES = 4


def far_away(frame: Frame, quad: Quad) -> Frame:
    """The plate 26 px wide."""
    scale = 26 / np.ptp(quad[:, 0])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full_like(frame, 90)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas


def in_the_dark(frame: Frame, quad: Quad) -> Frame:
    return np.asarray(frame // 40, np.uint8)


def overexposed(frame: Frame, quad: Quad) -> Frame:
    centre = quad.mean(0)
    lit = cv2.fillConvexPoly(frame.astype(np.float32), ((quad - centre) * 0.97 + centre).astype(np.int32), 600.0)
    return np.clip(cv2.GaussianBlur(lit, (0, 0), 2), 0, 255).astype(np.uint8)


def out_of_focus(frame: Frame, quad: Quad) -> Frame:
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), np.ptp(quad[:, 1]) / 6), np.uint8)


def behind_a_bar(frame: Frame, quad: Quad) -> Frame:
    left, right = quad[[0, 3]].mean(0), quad[[1, 2]].mean(0)
    ends = [tuple((left + (right - left) * share).astype(int).tolist()) for share in (0.12, 0.88)]
    return np.asarray(cv2.line(frame.copy(), ends[0], ends[1], 70, int(np.ptp(quad[:, 1]) * 0.4)), np.uint8)


def visit(reader: PlateReader, spoil: Callable[[Frame, Quad], Frame], seed: int) -> PlateReading:
    rng = np.random.default_rng((9, seed))
    vehicle = build(rng, render_plate(rng, "de"), night=False)
    world, vote = World(View(), Light.day(), ((5.0, 7.0),), seed), Vote()
    for number in range(FRAMES):
        placed = Placed(vehicle, 7.0 - 0.2 * number, 5.0)
        quad = world.plate_quad(placed)
        assert quad is not None
        grey = np.asarray(cv2.cvtColor(world.frame([placed]), cv2.COLOR_BGR2GRAY), np.uint8)
        vote.add(reader.read_frame(spoil(grey, quad)), 1000.0, 1.0)
    return vote.result()


@pytest.mark.parametrize(
    ("spoil", "reasons"),
    [
        (far_away, {NoRead.TOO_SMALL, NoRead.NO_PLATE}),
        (in_the_dark, {NoRead.TOO_DARK}),
        (overexposed, {NoRead.BLOOMED}),
        (out_of_focus, {NoRead.BLURRED, NoRead.NO_PLATE}),
        (behind_a_bar, {NoRead.OCCLUDED, NoRead.UNSURE, NoRead.NO_PLATE}),
    ],
)
def test_a_spoilt_visit_says_what_spoilt_it(spoil: Callable[[Frame, Quad], Frame], reasons: set[NoRead]) -> None:
    reader = PlateReader(threads=1)
    said = Counter(str(visit(reader, spoil, seed).no_read or "read") for seed in range(VISITS))
    print(f"{spoil.__name__}: {dict(said)}")
    assert sum(said[reason] for reason in reasons) >= VISITS * 0.75
