"""How the benchmark credits readings to labelled plates."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.benchmark import score
from models.benchmark.scenes import Picture, Plate, labelled

PICTURE = Picture(
    Path("a.jpg"),
    "set",
    (Plate((100, 100, 200, 140), "AB0123"), Plate((300, 300, 330, 310), None)),
    ((0, 0, 50, 50),),
)


def found(text: str, *box: float, sure: float = 0.9) -> dict[str, Any]:
    return {"text": text, "score": sure, "box": list(box)}


def test_the_plate_that_overlaps_the_label_most_is_credited() -> None:
    plates = [found("WRONG", 180, 130, 280, 170), found("ABO123", 98, 101, 203, 139)]
    read, other = score.ours(PICTURE, plates)
    assert (read.exact, read.folded, read.found, read.wide) == (False, True, True, True)
    assert (other.exact, other.folded, other.found, other.wide) == (False, False, False, False)


def test_a_plate_elsewhere_is_not_credited_but_counts_when_blind() -> None:
    plates = [found("AB0123", 400, 100, 500, 140)]
    assert not score.ours(PICTURE, plates)[0].exact
    assert score.blind(PICTURE, plates) == (True, True)
    assert len(score.false_plates(PICTURE, plates)) == 1


def test_blind_takes_the_best_plate_only_and_needs_a_known_text() -> None:
    plates = [found("OTHER", 400, 100, 500, 140), found("AB0123", 100, 100, 200, 140)]
    assert score.blind(PICTURE, plates) == (False, False)
    assert score.blind(PICTURE, []) == (False, False)
    assert score.blind(Picture(Path("b"), "set", (Plate((0, 0, 9, 9), None),), ()), plates) is None


def test_what_touches_a_label_or_an_unjudged_box_is_not_false() -> None:
    assert score.false_plates(PICTURE, [found("", 120, 100, 220, 140), found("", 5, 5, 45, 48)]) == []


def test_the_peer_is_right_if_any_run_of_its_lines_in_the_plate_is() -> None:
    lines = [found("TEXAS", 110, 101, 190, 108), found("ab-0", 105, 112, 140, 135), found("123", 150, 112, 190, 135)]
    (read, _) = score.peer(PICTURE, lines)
    assert read.exact
    assert not score.peer(PICTURE, [found("AB0123", 10, 10, 90, 30)])[0].found


def test_labels_are_read_as_boxes_and_only_the_development_split_where_there_is_one(tmp_path: Path) -> None:
    rows = [
        {"image": "images/a.jpg", "text": "ABC", "box": [1, 2, 10, 5], "dev": True},
        {"image": "images/a.jpg", "text": "皖A1", "box": [20, 2, 10, 5], "dev": True, "bad": "cut"},
        {"image": "images/b.jpg", "text": "DEF", "box": [1, 2, 10, 5], "dev": False},
        {"image": "images/c.jpg", "text": None, "box": None, "dev": True},
    ]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (picture,) = labelled(tmp_path)
    assert picture == Picture(
        tmp_path / "one" / "images/a.jpg", "one", (Plate((1, 2, 11, 7), "ABC"),), ((20.0, 2.0, 30.0, 7.0),)
    )
    assert list(labelled(tmp_path / "one")) == [Picture(picture.path, "one", picture.plates, picture.ignored)]


def test_overlap_is_symmetric_and_bounded() -> None:
    assert score.iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert score.iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert score.iou((0, 0, 10, 10), (10, 10, 20, 20)) == 0
