import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hw_sim.photos import MAX_WIDTH_PX, photos

from edge.errors import PhotosMissing


def picture(path: Path, width: int = 64, height: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 120, np.uint8))


def labels(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_photographs_come_in_the_order_of_their_names_with_what_their_labels_say(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.webp"):
        picture(tmp_path / "images" / name)
    labels(
        tmp_path / "labels.jsonl",
        {"image": "images/a.jpg", "text": "AB12CDE", "box": [0, 0, 5, 2]},
        {"image": "images/b.png", "text": None, "box": None},
    )
    assert [(p.name, p.text) for p in photos(tmp_path)] == [("a.jpg", "AB12CDE"), ("b.png", None), ("c.webp", None)]


def test_a_folder_of_bare_images_finds_the_labels_beside_it(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    labels(tmp_path / "labels.jsonl", {"image": "images/a.jpg", "text": "AB12CDE"})
    assert [p.text for p in photos(tmp_path / "images")] == ["AB12CDE"]


def test_of_several_labelled_plates_the_largest_counts(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    labels(
        tmp_path / "labels.jsonl",
        {"image": "a.jpg", "text": "FAR1", "box": [0, 0, 10, 4]},
        {"image": "a.jpg", "text": "NEAR2", "box": [0, 0, 40, 12]},
        {"image": "a.jpg", "text": "FAR3", "box": [0, 0, 9, 4]},
    )
    assert [p.text for p in photos(tmp_path)] == ["NEAR2"]


def test_a_large_photograph_is_shown_as_wide_as_a_camera_is(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", 4000, 1000)
    shown = cv2.imdecode(np.frombuffer(next(photos(tmp_path)).jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (480, MAX_WIDTH_PX, 3)


def test_a_folder_without_photographs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(PhotosMissing):
        photos(tmp_path)


def test_a_photograph_that_is_damaged_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    with pytest.raises(PhotosMissing, match=r"broken\.jpg"):
        next(photos(tmp_path))
