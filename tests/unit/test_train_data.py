"""What the reader learns from: pool on disk, labelled photographs, views of both. No torch."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.reading.reader import Clues
from models.train import evidence, material, photos, pool, scene, views
from models.train.exchanged import exchanged
from models.train.render import render_plate


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder of one set with rows of every kind, its pictures plain."""
    folder = tmp_path / "some_scene"
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((120, 400, 3), 90, np.uint8))
    rows: list[dict[str, object]] = [
        {"text": "AB12CD", "box": [100, 40, 120, 30], "country": "uk", "dev": False},
        {"text": "ZZ99ZZ", "box": [100, 40, 120, 30], "country": "uk", "dev": True},
        {"text": None, "box": [0, 0, 50, 20], "country": "us", "dev": False},
        {"text": "BAD1", "box": [0, 0, 50, 20], "country": "us", "dev": False, "bad": "mosaic"},
        {"text": "TINY1", "box": [0, 0, 20, 4], "country": "us", "dev": False},
    ]
    lines = [json.dumps({"image": "images/a.png", "quad": None, "w": 400, "h": 120, **row}) for row in rows]
    (folder / "labels.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_no_development_row_is_ever_trained_on(labelled: Path) -> None:
    seen = [photo.plate.text for photo in photos.training(labelled) + photos.held_out(labelled)]
    assert seen == ["AB12CD"]
    assert [photo.plate.text for photo in photos.development(labelled)] == ["ZZ99ZZ"]


def test_a_row_is_either_trained_on_or_held_out(labelled: Path) -> None:
    both = len(photos.training(labelled)) + len(photos.held_out(labelled))
    assert both == 1


def test_a_picture_that_labels_name_and_that_is_not_there_is_an_error(labelled: Path) -> None:
    (labelled / "some_scene" / "images" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        photos.training(labelled)


@pytest.mark.parametrize(
    ("country", "state", "possible"),
    [
        ("us", "hawai", {"US-HI"}),
        ("eu-de", None, {"DE"}),
        ("uk", None, {"GB"}),
        ("lv", None, {"LV"}),
        ("kh", None, {"unknown"}),
        ("mixed", None, set()),
        (None, None, set()),
    ],
)
def test_labels_say_which_issuers_are_possible(country: str | None, state: str | None, possible: set[str]) -> None:
    assert photos.possible_regions(country, state) == possible


def test_a_us_plate_of_no_named_state_may_come_from_all_56() -> None:
    assert len(photos.possible_regions("us", None)) == 56


def test_a_straight_view_shows_the_plate_and_its_margin() -> None:
    picture = np.zeros((200, 600, 3), np.uint8)
    picture[60:124, 200:392] = 255
    view = views.straight(pool.Labelled(picture, (200, 60, 192, 64), "A1", frozenset()))
    assert view.shape == (views.INPUT_H, views.INPUT_W, 3)
    white = view[..., 0] > 127
    share = 1 / (1 + 2 * views.MARGIN)
    assert white.any(axis=0).sum() == pytest.approx(views.INPUT_W * share, abs=1.5)
    assert white.any(axis=1).sum() == pytest.approx(views.INPUT_H * share, abs=1.5)


def test_views_of_training_plates_are_pictures_of_the_networks_size() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (60, 200, 3), np.uint8)
    plate = pool.Labelled(picture, (20, 10, 160, 40), "A1", frozenset())
    for _ in range(20):
        for view in (
            views.rendered_view(rng, plate),
            views.photo_view(rng, plate, cropped=False),
            views.loose(rng, plate),
        ):
            assert view.shape == (views.INPUT_H, views.INPUT_W, 3)
            assert view.dtype == np.uint8


def test_a_pool_keeps_the_parts_it_has_and_names_every_plate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PART_SIZE", 3)
    monkeypatch.setattr(pool, "SIGNS", 0.0)
    assert list(pool.render_pool(tmp_path, 6, seed=1)) == [3, 6]
    times = [part.stat().st_mtime_ns for part in pool.pool_parts(tmp_path)]
    assert list(pool.render_pool(tmp_path, 6, seed=1)) == [3, 6]
    assert [part.stat().st_mtime_ns for part in pool.pool_parts(tmp_path)] == times
    plates = pool.pool_plates(pool.pool_parts(tmp_path))
    assert len(plates) == 6
    assert all(plate.picture.shape == pool.POOL_SHAPE and plate.text and plate.regions for plate in plates)


def test_signs_of_a_pool_are_no_plates_and_teach_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PART_SIZE", 5)
    monkeypatch.setattr(pool, "SIGNS", 1.0)
    list(pool.render_pool(tmp_path, 5, seed=1))
    signs = pool.pool_plates(pool.pool_parts(tmp_path))
    assert [(sign.text, sign.regions) for sign in signs] == [(None, frozenset({pool.NO_PLATE}))] * 5


def test_signs_are_pasted_into_scenes_and_are_no_plates_there(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros((0, 4), np.float32)
    night = material.Scene(np.zeros((320, 448), np.uint8), nothing, nothing, "", "")
    board, letters = np.full((2, 40, 100), 255, np.uint8)
    letters[:, 10:90] = 0
    pasted = []
    paste = scene.Composer._paste

    def pasting(*given: Any) -> None:
        pasted.append(given[2])
        paste(*given)

    monkeypatch.setattr(scene.Composer, "_paste", pasting)
    monkeypatch.setattr(scene.Composer, "_surround", lambda *_: None)
    monkeypatch.setattr(scene.Composer, "_degrade", lambda _, image: image)
    monkeypatch.setattr(scene, "PAD", 0)
    composer = scene.Composer([], [night], [], [np.stack([board, letters])], np.random.default_rng(1))
    samples = [composer.sample(448, 320) for _ in range(10)]
    assert not any(len(sample.quads) for sample in samples)
    assert len(pasted) > 5
    assert all((texture == board).all() for texture in pasted)
    lit = sum(np.count_nonzero(sample.image) for sample in samples)
    solid = scene.Composer([], [night], [], [np.stack([board, board])], np.random.default_rng(1))
    assert 0 < lit < 0.4 * sum(np.count_nonzero(solid.sample(448, 320).image) for _ in range(10))


def test_rows_nobody_transcribed_are_kept_apart(labelled: Path) -> None:
    assert [(photo.plate.text, photo.plate.box[2]) for photo in photos.unread(labelled)] == [(None, 50)]


def test_a_state_is_known_by_every_way_its_name_is_written() -> None:
    assert set(photos.possible_names("pennsylvania")) >= {"PENNSYLVANIA"}
    assert photos.possible_names(None) == ()
    assert all(name.isalpha() and name.isupper() for name in photos.possible_names("washington_dc"))


def test_a_rendered_plate_knows_where_its_issuers_name_is_spelt() -> None:
    rng = np.random.default_rng(3)
    plates = [render_plate(rng, "us-oh") for _ in range(12)]
    named = [plate for plate in plates if plate.spelt]
    assert len(named) >= 10
    for plate in named:
        assert set("".join(letter for letter, _, _ in plate.spelt)) <= set("OHIO")
        assert all(0 < x < 1 and 0 < y < 1 for _, x, y in plate.spelt)


def test_characters_change_places_with_their_like_in_picture_and_text_alike() -> None:
    grey = {"A": 40, "B": 80, "C": 120, "1": 160, "2": 200, "3": 240}
    picture = np.zeros((30, 192, 3), np.uint8)
    for i, char in enumerate("ABC123"):
        picture[:, i * 32 : i * 32 + 32] = grey[char]
    plate = pool.Labelled(picture, (0, 0, 192, 30), "ABC123", frozenset({"FR"}), ("FRANCE",))
    photo = photos.Photo("set", plate, cropped=True, weight=2.0)
    middles = [round((views.MARGIN * 192 + 32 * i + 16) / (192 * (1 + 2 * views.MARGIN)) * 48) for i in range(6)]
    row = "".join("ABC123"[middles.index(step)] if step in middles else " " for step in range(48))
    made = exchanged([photo, photo], [row + " " * 48, "XYZ" + " " * 93], 4, np.random.default_rng(2))
    assert len(made) == 4
    for other in made:
        text = other.plate.text or ""
        assert sorted(text[:3]) == list("ABC")
        assert sorted(text[3:]) == list("123")
        assert text != "ABC123"
        shown = other.plate.picture[15, 16::32, 0]
        assert [int(value) for value in shown] == [grey[char] for char in text]
        assert (other.plate.regions, other.plate.names, other.weight) == (frozenset(), (), 1.2)


def test_letters_move_with_the_plate_into_a_view() -> None:
    rng = np.random.default_rng(3)
    picture = np.zeros((100, 260, 3), np.uint8)
    plate = pool.Labelled(picture, (30, 20, 192, 64), "A1", frozenset(), spelt=(("X", 126.0, 52.0),))
    for _ in range(10):
        view, ((letter, x, y),) = views.spelt_view(rng, plate)
        assert letter == "X"
        assert abs(x - view.shape[1] / 2) < 40
        assert abs(y - view.shape[0] / 2) < 20


def test_the_least_evidence_allows_as_many_false_plates_as_were_granted() -> None:
    scenes = [
        [_candidate(2.0, 0), _candidate(0.5, None)],
        [_candidate(1.0, 1), _candidate(0.2, None), _candidate(0.1, 2)],
    ]
    for false, least, granted, found in ((0.0, 1.0, 0.0, 2), (0.5, 0.5, 0.5, 2), (1.0, 0.1, 1.0, 3)):
        level = evidence.fit(scenes, false)
        assert (level.evidence.least, level.false, level.found) == (pytest.approx(least), granted, found)


def test_a_clue_counts_as_much_as_it_told_plates_from_others() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(4000, 4))
    is_plate = rng.random(4000) < 1 / (1 + np.exp(-(1.5 * drawn @ [1.0, 0.0, 0.4, -0.6])))
    candidates = [
        evidence.Candidate(Clues(*row), 0 if plate else None, np.zeros((4, 4), np.uint8))
        for row, plate in zip(drawn.tolist(), is_plate, strict=True)
    ]
    weights = evidence.fit([candidates], 0.05).evidence
    assert (weights.legible, weights.plausible, weights.wide) == pytest.approx((0.0, 0.4, -0.6), abs=0.08)


def _candidate(score: float, plate: int | None) -> evidence.Candidate:
    return evidence.Candidate(Clues(score, 0.0, 0.0, 0.0), plate, np.zeros((4, 4), np.uint8))
