"""Making a plate straight."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.reading.rectify import plate_height, plate_width, rectify

SIZE = (192, 64)
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [200, 200, 30]], np.uint8)


def quartered(width: int, height: int) -> NDArray[np.uint8]:
    """A plate whose quarters have four colours: top left, top right, bottom right, bottom left."""
    plate = np.empty((height, width, 3), np.uint8)
    plate[: height // 2, : width // 2], plate[: height // 2, width // 2 :] = COLOURS[0], COLOURS[1]
    plate[height // 2 :, width // 2 :], plate[height // 2 :, : width // 2] = COLOURS[2], COLOURS[3]
    return plate


@pytest.mark.parametrize(
    "quad",
    [
        [[100, 100], [300, 100], [300, 160], [100, 160]],
        [[120, 90], [310, 130], [300, 210], [100, 150]],
        [[900, 300], [1500, 420], [1480, 640], [890, 470]],
    ],
)
def test_each_corner_of_a_turned_plate_comes_to_its_own_corner(quad: list[list[float]]) -> None:
    corners = np.array(quad, np.float32)
    flat = quartered(300, 90)
    source = np.array([[0, 0], [300, 0], [300, 90], [0, 90]], np.float32)
    frame = cv2.warpPerspective(flat, cv2.getPerspectiveTransform(source, corners), (1600, 900))
    seen = rectify(np.asarray(frame, np.uint8), corners, SIZE, 0.0)
    assert seen.shape == (64, 192, 3)
    for colour, (x, y) in zip(COLOURS, [(40, 14), (150, 14), (150, 50), (40, 50)], strict=True):
        assert seen[y, x] == pytest.approx(colour, abs=12)


def test_the_margin_shows_what_is_around_the_plate() -> None:
    frame = np.zeros((200, 400), np.uint8)
    frame[50:100, 100:250] = 255
    quad = np.array([[100, 50], [250, 50], [250, 100], [100, 100]], np.float32)
    seen = rectify(frame, quad, SIZE, 0.1)
    assert seen.shape == (64, 192)
    assert seen[:3].max() < 30
    assert seen[:, :12].max() < 30
    assert seen[8:56, 20:172].min() > 220
    assert rectify(frame, quad, SIZE, 0.0)[2:-2, 2:-2].min() > 220


def test_a_plate_that_is_far_larger_than_the_network_wants_is_averaged_not_skipped() -> None:
    frame = np.zeros((1000, 2000), np.uint8)
    frame[:, ::2] = 255
    quad = np.array([[100, 100], [1900, 100], [1900, 800], [100, 800]], np.float32)
    assert rectify(frame, quad, SIZE, 0.05).std() < 12


def test_corners_outside_the_frame_repeat_its_edge() -> None:
    frame = np.full((100, 200), 90, np.uint8)
    for scale in (1, 40):
        quad = np.array([[-30, -20], [60, -20], [60, 20], [-30, 20]], np.float32) * scale
        assert (rectify(frame, quad, SIZE, 0.06) == 90).all()


def test_height_and_width_are_those_of_the_edges() -> None:
    quad = np.array([[0, 0], [40, 30], [40, 70], [0, 20]], np.float32)
    assert plate_height(quad) == pytest.approx(30)
    assert plate_width(quad) == pytest.approx((50 + np.hypot(40, 50)) / 2)
