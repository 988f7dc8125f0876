"""Looking at a doubtful plate again: how often, which look counts, what is made of the issuer."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.reading.detector import Detection
from edge.reading.look import CERTAIN, HOPELESS, SURE, TIGHTER, TURNED, look, look_closer, region_shares
from edge.reading.ocr import Characters
from edge.reading.reader import clues, evidence
from tests.reading_rigs import WEIGHTS, characters

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


def test_a_doubtful_plate_is_looked_at_in_every_way() -> None:
    surer = (characters("AB12CDF", sure=0.999) for _ in range(3))
    ocr = _ocr(characters("AB12CDE", sure=0.9), characters("XY12CDE", sure=0.93), *surer)
    seen = look(ocr, FRAME, QUAD)
    assert (seen.texts[0][0], ocr.looks) == ("AB12CDF", 1 + len(TURNED))


def test_one_sure_look_among_doubtful_ones_is_a_doubtful_one() -> None:
    doubtful = [characters(text, sure=0.9) for text in ("AB12CDE", "XY12CDE", "AB12CDE", "XY12CDE")]
    ocr = _ocr(*doubtful, characters("AB12CDF", sure=0.999))
    assert 0.3 < look(ocr, FRAME, QUAD).confidence < SURE


def test_looks_that_agree_are_as_sure_as_each_and_show_the_surest() -> None:
    ocr = _ocr(characters("AB12CDE", sure=0.95), *(characters("AB12CDE", sure=0.999) for _ in TURNED))
    seen = look(ocr, FRAME, QUAD)
    assert seen.texts[0][0] == "AB12CDE"
    assert 0.95**7 < seen.confidence < 0.999**7
    assert np.exp(seen.characters.log_probs).max(1).min() == pytest.approx(0.999, abs=1e-3)


def _detector(*boxes: tuple[float, float, float, float]) -> Any:
    """A detector that always finds these boxes, as plates that rise to the right."""
    found = []
    for x0, y0, x1, y1 in boxes:
        quad = np.array([[x0, y0 + 5], [x1, y0], [x1, y1 - 5], [x0, y1]], np.float32)
        found.append(Detection(0.9, np.array([x0, y0, x1, y1], np.float32), quad))
    return SimpleNamespace(detect=lambda _: found)


BOX = QUAD[[0, 2]].reshape(4)


def test_a_plate_known_by_its_box_is_read_at_the_corners_found_in_it_where_that_is_surer() -> None:
    ocr = _ocr(*(characters("AB12CDE", sure=0.9) for _ in range(1 + len(TURNED))), characters("AB12CDE", sure=0.999))
    around = 0.35 * (BOX[2] - BOX[0])
    seen, quad = look_closer(ocr, _detector((0, 0, 30, 9), (around, around, around + 160, around + 40)), FRAME, BOX)
    assert seen.texts[0][0] == "AB12CDE"
    assert quad.tolist() == [[100, 85], [260, 80], [260, 115], [100, 120]]


def test_no_corners_are_looked_for_where_the_box_will_do_nor_taken_from_elsewhere() -> None:
    seen, quad = look_closer(_ocr(characters("AB12CDE", sure=0.999)), None, FRAME, BOX)  # type: ignore[arg-type]
    assert seen.confidence > CERTAIN
    assert quad.tolist() == QUAD.tolist()
    ocr = _ocr(*(characters("AB12CDE", sure=0.9) for _ in range(1 + len(TURNED))))
    assert look_closer(ocr, _detector((0, 0, 30, 9)), FRAME, BOX)[1].tolist() == QUAD.tolist()


def test_the_surest_of_doubtful_looks_counts() -> None:
    doubtful = [
        characters(text, sure=sure)
        for text, sure in (("AA1", 0.7), ("BB2", 0.9), ("CC3", 0.8), ("DD4", 0.6), ("EE5", 0.7))
    ]
    ocr = _ocr(*doubtful)
    assert look(ocr, FRAME, QUAD).texts[0][0] == "BB2"
    assert ocr.looks == 1 + len(TURNED)


def test_a_plate_whose_corners_are_known_is_not_looked_at_as_if_it_were_turned() -> None:
    ocr = _ocr(*(characters("AB12CDE", sure=0.9) for _ in range(1 + len(TURNED))))
    look(ocr, FRAME, QUAD + np.array([[0, 0], [0, 6], [0, 6], [0, 0]], np.float32))
    assert ocr.looks == 1 + len(TIGHTER)


def test_what_is_hardly_a_plate_costs_one_look() -> None:
    ocr = _ocr(characters("AB12CDE", sure=0.55))
    assert look(ocr, FRAME, QUAD).confidence < HOPELESS
    assert ocr.looks == 1


def test_the_issuer_is_judged_by_all_looks() -> None:
    ocr = _ocr(*(characters("AB12CDE", sure=0.9, region=region) for region in (1, 2, 2, 2, 2)))
    seen = look(ocr, FRAME, QUAD)
    assert next(iter(seen.regions)) == "US-NY"
    assert seen.characters.regions[int(np.argmax(seen.characters.region_log_probs))] == "US-NY"
    assert np.exp(seen.characters.region_log_probs).sum() == pytest.approx(1)


def test_of_two_that_look_alike_the_wider_one_is_more_likely_a_plate() -> None:
    seen = look(_ocr(characters("AB12CDE", sure=0.999)), FRAME, QUAD)
    candidate = Detection(0.6, BOX, QUAD)
    near, far = (evidence(clues(candidate, seen, width), WEIGHTS) for width in (400, 1600))
    assert near > far


@pytest.mark.parametrize("log_prob", [1e-7, 0.0])
def test_a_probability_that_was_rounded_up_is_one(log_prob: float) -> None:
    shares = region_shares(np.array([-30, log_prob], np.float32), ("unknown", "GB"))
    assert next(iter(shares.items())) == ("GB", 1.0)
