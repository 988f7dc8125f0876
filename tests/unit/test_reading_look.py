"""Looking at a doubtful plate again: how often, which look counts, what is made of the issuer."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.reading.look import HOPELESS, SURE, TIGHTER, TURNED, look
from edge.reading.ocr import Characters
from tests.reading_rigs import characters

FRAME = np.zeros((200, 400), np.uint8)
QUAD = np.array([[100, 80], [260, 80], [260, 120], [100, 120]], np.float32)


def _ocr(*answers: Characters) -> Any:
    """A reader that gives one answer a look, and counts them in `looks`."""
    waiting: Iterator[Characters] = iter(answers)
    ocr = SimpleNamespace(size=(192, 64), margin=0.06, looks=0)

    def read(flat: Any) -> Characters:
        assert flat.shape == (64, 192)
        ocr.looks += 1
        return next(waiting)

    ocr.read = read
    return ocr


def test_a_plate_that_is_surely_read_is_looked_at_once() -> None:
    ocr = _ocr(characters("AB12CDE", sure=0.999))
    assert look(ocr, FRAME, QUAD).texts[0][0] == "AB12CDE"
    assert ocr.looks == 1


def test_a_doubtful_plate_is_looked_at_until_one_look_is_sure() -> None:
    ocr = _ocr(characters("AB12CDE", sure=0.9), characters("XY12CDE", sure=0.93), characters("AB12CDF", sure=0.999))
    seen = look(ocr, FRAME, QUAD)
    assert (seen.texts[0][0], ocr.looks) == ("AB12CDF", 3)
    assert seen.confidence >= SURE


def test_the_surest_of_doubtful_looks_counts() -> None:
    doubtful = [characters(text, sure=sure) for text, sure in (("AA1", 0.7), ("BB2", 0.9), ("CC3", 0.8), ("DD4", 0.6))]
    ocr = _ocr(*doubtful)
    assert look(ocr, FRAME, QUAD).texts[0][0] == "BB2"
    assert ocr.looks == 1 + len(TURNED)


def test_a_plate_whose_corners_are_known_is_not_looked_at_as_if_it_were_turned() -> None:
    ocr = _ocr(*(characters("AB12CDE", sure=0.9) for _ in range(4)))
    look(ocr, FRAME, QUAD + np.array([[0, 0], [0, 6], [0, 6], [0, 0]], np.float32))
    assert ocr.looks == 1 + len(TIGHTER)


def test_what_is_hardly_a_plate_costs_one_look() -> None:
    ocr = _ocr(characters("AB12CDE", sure=0.55))
    assert look(ocr, FRAME, QUAD).confidence < HOPELESS
    assert ocr.looks == 1


def test_the_issuer_is_judged_by_all_looks() -> None:
    ocr = _ocr(*(characters("AB12CDE", sure=0.9, region=region) for region in (1, 2, 2, 2)))
    seen = look(ocr, FRAME, QUAD)
    assert next(iter(seen.regions)) == "US-NY"
    assert seen.characters.regions[int(np.argmax(seen.characters.region_log_probs))] == "US-NY"
    assert np.exp(seen.characters.region_log_probs).sum() == pytest.approx(1)
