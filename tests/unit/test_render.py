"""Plates as they are drawn: every style, repeatable, and degraded without changing shape."""

import re

import numpy as np
import pytest

from models.train.render import REGIONS, SIGN, STYLES, Optics, degrade, render_plate, render_sign, us, weather
from models.train.render.canvas import Canvas, drawn
from models.train.render.faces import FaceMissingError, glyph, installed
from models.train.render.us import ISSUERS


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_a_readable_plate_of_its_region(style: str) -> None:
    plate = render_plate(np.random.default_rng(3), style)
    height, width = plate.image.shape[:2]
    assert re.fullmatch(r"[0-9A-Z]{1,10}", plate.text)
    assert plate.region == STYLES[style].region
    assert plate.image.dtype == np.uint8
    assert plate.alpha.shape == (height, width)
    assert plate.char_boxes.shape == (len(plate.text), 4)
    assert (plate.char_boxes[:, :2] > -2).all()
    assert (plate.char_boxes[:, 0] + plate.char_boxes[:, 2] < width + 2).all()
    assert (plate.char_boxes[:, 1] + plate.char_boxes[:, 3] < height + 2).all()


def test_the_same_generator_state_draws_the_same_plate() -> None:
    first, second = (render_plate(np.random.default_rng(11)) for _ in range(2))
    assert first.text == second.text
    assert np.array_equal(first.image, second.image)


def test_serials_keep_to_their_issuers_formats() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        assert re.fullmatch(r"[A-Z]{3}[0-9][A-Z][0-9]{2}", render_plate(rng, "br").text)


def test_the_two_lines_of_a_plate_are_read_top_first() -> None:
    rng = np.random.default_rng(0)
    plate = next(plate for plate in (render_plate(rng, "in") for _ in range(50)) if plate.two_line)
    tops = plate.char_boxes[:, 1]
    assert (np.diff(tops) >= 0).all()
    assert tops[-1] > tops[0] + plate.image.shape[0] / 3


def test_characters_stand_out_from_the_plate() -> None:
    plate = render_plate(np.random.default_rng(2), "gb-rear")
    x, y, w, h = plate.char_boxes[0].round().astype(int)
    inside = plate.image[y : y + h, x : x + w].astype(float)
    assert inside.std() > 40


def test_all_56_united_states_issuers_are_drawn() -> None:
    assert len(ISSUERS) == 56
    assert {f"US-{code}" for code in ISSUERS} <= set(REGIONS)
    assert REGIONS[0] == "unknown"


def test_signs_of_many_kinds_bear_nothing_to_read() -> None:
    rng = np.random.default_rng(4)
    signs = [render_sign(rng) for _ in range(40)]
    assert {(sign.text, sign.style) for sign in signs} == {("", SIGN)}
    assert all(sign.image.shape[:2] == sign.alpha.shape and np.ptp(sign.image) > 50 for sign in signs)


def test_a_code_stacked_beside_a_serial_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(us, "_code", lambda _: ["X", "X"])
    monkeypatch.setattr(us, "_serial", lambda *_: "12 345")
    monkeypatch.setattr(us, "_old_serial", lambda _: "12 345")
    monkeypatch.setattr(us, "_vanity", lambda _: "12 345")
    rng = np.random.default_rng(4)
    assert {us.render_us(rng, "KS").text for _ in range(60)} == {"12345"}


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(KeyError):
        render_plate(np.random.default_rng(0), "atlantis")


def test_a_face_that_no_package_brings_is_named() -> None:
    with pytest.raises(KeyError):
        installed(["no such face"])
    with pytest.raises(FaceMissingError, match="no face of"):
        installed([])


def test_o_and_zero_differ_in_the_face_of_european_plates() -> None:
    assert glyph("fe", "O").shape != glyph("fe", "0").shape or (glyph("fe", "O") != glyph("fe", "0")).any()


def test_a_pattern_keeps_what_is_not_a_placeholder() -> None:
    assert re.fullmatch(r"B-[0-9] [XY]", drawn(np.random.default_rng(1), "B-# @", letters="XY"))


def test_a_serial_that_is_too_long_is_squeezed_into_its_box() -> None:
    canvas = Canvas(200, 100)
    canvas.serial("fe", "ABCDEFGH12", (10, 10, 180, 80), (0, 0, 0), height=70, width=40, gap=5, space=10)
    assert canvas.text == "ABCDEFGH12"
    assert canvas.boxes[0][0] >= 9
    assert canvas.boxes[-1][0] + canvas.boxes[-1][2] <= 191


@pytest.mark.parametrize("shape", [(20, 60, 3), (152, 305, 3)])
def test_wear_and_optics_keep_shape_and_type(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(4)
    image = rng.integers(0, 255, shape, np.uint8)
    for _ in range(40):
        worn = weather(rng, image)
        seen = degrade(rng, worn, Optics())
        assert worn.shape == seen.shape == shape
        assert worn.dtype == seen.dtype == np.uint8


def test_gentle_optics_leave_the_picture_recognisable() -> None:
    plate = render_plate(np.random.default_rng(9), "es")
    calm = Optics(focus_px=0, motion_px=0, noise=0, lowres=1, jpeg=0, light=0, infrared=0)
    seen = degrade(np.random.default_rng(9), plate.image, calm)
    assert np.corrcoef(seen.mean(axis=2).ravel(), plate.image.mean(axis=2).ravel())[0, 1] > 0.8
