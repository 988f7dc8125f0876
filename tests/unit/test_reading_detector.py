"""From maps to plates: places, sizes, corners, doubles and bounds."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import ManifestInvalid
from edge.reading.bundle import Model
from edge.reading.detector import MAX_PLATES, Detector, iou
from tests.reading_rigs import detector_model, empty_maps

GREY = np.zeros((448, 608), np.uint8)


def test_an_empty_frame_has_no_plates() -> None:
    assert Detector(detector_model(lambda codes: empty_maps())).detect(GREY) == []


@pytest.mark.parametrize(
    ("width", "height"), [(608, 448), (640, 480), (1280, 720), (1920, 1080), (300, 300), (480, 640)]
)
def test_a_plate_is_placed_in_pixels_of_the_frame_whatever_its_size(width: int, height: int) -> None:
    def one(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        score, box, corners = empty_maps()
        score[0, 20, 30] = 60
        box[0, 20, 30] = [4, -6, 40, 10]  # x, y in 0.05 cells; log of width and height
        corners[0, 20, 30] = [1, 2, 0, 0, 0, 0, 0, 0]  # in 0.05 of width and height
        return score, box, corners

    (found,) = Detector(detector_model(one)).detect(np.zeros((height, width), np.uint8))
    px = 8 / min(608 / width, 448 / height)
    wide, high = np.exp(2) * px, np.exp(0.5) * px
    x, y = 30.7 * px, 20.2 * px
    assert found.box == pytest.approx([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], abs=0.1)
    assert found.quad[0] == pytest.approx([x - 0.45 * wide, y - 0.4 * high], abs=0.1)
    assert found.quad[2] == pytest.approx([x + wide / 2, y + high / 2], abs=0.1)
    assert found.score == pytest.approx(1 / (1 + np.exp(-3)))


@pytest.mark.parametrize(
    ("frame", "canvas"),
    [
        ((480, 640), (448, 608)),  # full: 4:3 would be 597 px wide
        ((1080, 1920), (352, 608)),
        ((720, 1280), (352, 608)),
        ((300, 300), (448, 448)),
        ((640, 480), (448, 448)),
        ((200, 2000), (352, 608)),
    ],
)
def test_a_frame_is_looked_at_on_the_smallest_canvas_that_shows_all_of_it_as_large(
    frame: tuple[int, int], canvas: tuple[int, int]
) -> None:
    seen: list[tuple[int, ...]] = []

    def note(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        seen.append(codes.shape)
        return empty_maps()

    Detector(detector_model(note)).detect(np.zeros(frame, np.uint8))
    assert seen == [(1, *canvas, 1)]


def test_maps_of_another_grid_than_the_pictures_are_refused() -> None:
    model = detector_model(lambda codes: empty_maps())
    coarse = [dataclasses.replace(spec, shape=(1, 28, 38, spec.shape[-1])) for spec in model.network.outputs]
    model.network.outputs = tuple(coarse)
    with pytest.raises(ManifestInvalid, match="a cell for every 8 x 8"):
        Detector(model)


def test_of_two_boxes_over_one_plate_the_better_is_kept() -> None:
    def two(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        score, box, corners = empty_maps()
        for column, value in ((30, 50), (32, 70), (60, 20)):
            score[0, 20, column] = value
            box[0, 20, column] = [0, 0, 50, 30]
        return score, box, corners

    found = Detector(detector_model(two)).detect(GREY)
    assert [round(float(d.quad.mean(0)[0])) for d in found] == [260, 484]
    assert found[0].score > found[1].score


@pytest.mark.parametrize(("threshold", "count"), [(0.3, 2), (0.9, 1), (0.97, 0)])
def test_only_scores_at_or_over_the_threshold_count(threshold: float, count: int) -> None:
    def two(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        score, box, corners = empty_maps()
        score[0, 10, 10], score[0, 40, 40] = 60, 0  # 0.95 and 0.5
        return score, box, corners

    assert len(Detector(detector_model(two, threshold)).detect(GREY)) == count


def test_a_wall_of_plates_is_bounded() -> None:
    def many(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        score, box, corners = empty_maps()
        score[0, ::4, ::4] = 50
        box[0, :, :, 2:] = [0, -20]
        return score, box, corners

    assert len(Detector(detector_model(many)).detect(GREY)) == MAX_PLATES


def test_the_network_sees_the_frame_on_a_grey_ground_after_any_other_frame() -> None:
    seen: list[NDArray[np.int8]] = []

    def note(codes: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        seen.append(codes.copy())
        return empty_maps()

    detector = Detector(detector_model(note))
    detector.detect(np.full((360, 640), 255, np.uint8))
    detector.detect(np.full((200, 800), 100, np.uint8))
    codes = seen[1][0, :, :, 0]
    assert codes.shape == seen[0][0, :, :, 0].shape
    assert (codes[:152] == 100 - 128).all()
    assert (codes[153:] == 0).all()
    assert detector.brightness == pytest.approx(100)


@pytest.mark.parametrize(("width", "height"), [(1200, 1), (1, 1000), (4000, 2), (65000, 3), (1, 1)])
def test_a_thin_picture_is_looked_at_like_any_other(width: int, height: int) -> None:
    detector = Detector(detector_model(lambda codes: empty_maps()))
    assert detector.detect(np.full((height, width), 99, np.uint8)) == []
    assert detector.brightness == pytest.approx(99)


def test_a_network_of_another_make_is_refused() -> None:
    model = detector_model(lambda codes: empty_maps())
    model.network.outputs = model.network.outputs[:2]
    with pytest.raises(ManifestInvalid):
        Detector(Model(model.network, model.entry))


def test_a_map_of_too_few_dimensions_is_refused() -> None:
    model = detector_model(lambda codes: empty_maps())
    first, *others = model.network.outputs
    model.network.outputs = (dataclasses.replace(first, shape=(1,)), *others)
    with pytest.raises(ManifestInvalid):
        Detector(Model(model.network, model.entry))


def test_overlap_is_the_shared_part_of_both() -> None:
    a = np.array([0, 0, 10, 10], np.float32)
    assert iou(a, np.array([5, 0, 15, 10], np.float32)) == pytest.approx(1 / 3)
    assert iou(a, np.array([20, 0, 30, 10], np.float32)) == 0
