"""How reads are scored: folding, intervals, groups."""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from models.train import reliability, syntax
from models.train.evaluate import Read, share, table
from models.train.photos import Photo
from models.train.pool import Labelled

_PICTURE = np.zeros((4, 8, 3), np.uint8)


def _read(truth: str, said: str, confidence: float = 0.9, region: str = "US-CA", name: str = "us_set") -> Read:
    photo = Photo(name, Labelled(_PICTURE, (0, 0, 8, 4), truth, frozenset({"US-CA"})), True)
    return Read(said, confidence, (confidence,) * len(said), region, 0.9, photo=photo)


@pytest.mark.parametrize(
    ("said", "exact", "folded"), [("AB01", True, True), ("ABOI", False, True), ("AB02", False, False)]
)
def test_a_folded_read_forgives_only_what_issuers_do_not_tell_apart(said: str, exact: bool, folded: bool) -> None:
    read = _read("AB01", said)
    assert (read.exact, read.folded) == (exact, folded)


def test_a_share_comes_with_its_wilson_interval() -> None:
    assert share(90, 100) == "90.0 (82.6-94.5)"


def test_the_table_counts_sets_apart_and_together() -> None:
    reads = [_read("A1", "A1"), _read("B2", "B3", region="DE"), _read("C3", "C3", name="other")]
    rows = {row[0]: row for row in table(reads)}
    assert rows["us_set"][1:3] == ("2", "2")
    assert rows["us_set"][3].startswith("50.0")
    assert rows["us_set"][5].startswith("50.0")
    assert rows["all"][1] == "3"


def test_reliability_sets_confidence_against_what_was_right() -> None:
    reads = [_read("A1", "A1", 0.97), _read("A1", "A7", 0.97), _read("A1", "A1", 0.3)]
    rows = reliability.table(reliability.of_plates(reads))
    assert [(row[0], row[2]) for row in rows] == [("0", "1"), ("0.95", "2")]
    assert rows[1][4].startswith("50.0")


def test_a_character_is_right_where_the_truth_has_it_in_order() -> None:
    assert [right for _, right in reliability.of_characters([_read("AB12C", "AB2C")])] == [True] * 4
    assert [right for _, right in reliability.of_characters([_read("AB12", "AX12")])] == [True, False, True, True]


def test_the_reliability_diagram_is_well_formed(tmp_path: Path) -> None:
    reads = [_read("A1", "A1", 0.97), _read("A1", "A7", 0.999), _read("A1", "A1", 1.0), _read("A1", "", 0.0)]
    curves = {"plates": reliability.bins(reliability.of_plates(reads))}
    reliability.diagram(curves, tmp_path / "r.svg")
    circles = [e for e in ElementTree.parse(tmp_path / "r.svg").iter() if e.tag.endswith("circle")]
    assert len(circles) == len(curves["plates"]) + 1
    assert all(math.isfinite(float(circle.attrib["cy"])) for circle in circles)


def test_plates_are_counted_that_fit_their_issuers_formats_and_that_would_with_other_look_alikes() -> None:
    plates = [("US-CA", "7ABC123"), ("GB", "LA51KAB"), ("GB", "LA5IKAB"), ("GB", "X"), ("unknown", "1")]
    plates += [("US-CA", "YOUBET"), ("US-CA", "W1NNER"), ("US-CA", "GR8")]
    photos = [
        Photo("set", Labelled(_PICTURE, (0, 0, 8, 4), text, frozenset({issuer})), True) for issuer, text in plates
    ]
    assert syntax.fits(photos + photos) == {
        "United States": syntax.Fits(plates=4, fit=1, only_so=1, letter_in_word=1, digit_in_word=1),
        "elsewhere": syntax.Fits(plates=3, fit=1, only_so=1, only_otherwise=1),
    }
