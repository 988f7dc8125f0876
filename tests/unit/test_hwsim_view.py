import numpy as np
import pytest
from hw_sim.view import NEAR_M, Face, Texture, View
from numpy.typing import NDArray


def sheet(width_m: float, height_m: float, px_per_m: float = 100) -> Texture:
    image = np.full((round(height_m * px_per_m), round(width_m * px_per_m), 3), 200, np.uint8)
    return Texture.of(image, None, px_per_m)


def upright(y: float, width_m: float = 0.5) -> Face:
    return Face(sheet(width_m, 0.2), (-width_m / 2, y, 0.6), (1, 0, 0), (0, 0, -1))


def flank() -> Face:
    return Face(sheet(4.5, 1.4), (0.9, 0.0, 1.4), (0, 1, 0), (0, 0, -1))


def test_the_target_is_in_the_middle_of_the_picture() -> None:
    view = View()
    assert view.project(np.array([view.target]))[0] == pytest.approx([639.5, 359.5])


def test_right_is_right_and_up_is_up() -> None:
    view = View()
    x, y, z = view.target
    middle, right, above = view.project(np.array([[x, y, z], [x + 0.1, y, z], [x, y, z + 0.1]]))
    assert right[0] > middle[0] + 10
    assert above[1] < middle[1] - 10


def test_the_ground_under_a_pixel_projects_to_that_pixel() -> None:
    view = View()
    x, y = view.ground()
    for column, row in ((100, 700), (640, 400), (1200, 300)):
        seen = view.project(np.array([[x[row, column], y[row, column], 0.0]]))[0]
        assert seen == pytest.approx([column, row], abs=0.05)


def test_above_the_horizon_there_is_no_ground() -> None:
    _, y = View(target=(0.2, 6.2, 2.5)).ground()
    assert np.isinf(y[0]).all()
    assert np.isfinite(y[-1]).all()


@pytest.mark.parametrize("y", [4.5, 7.0, 20.0])
def test_a_face_is_seen_where_its_corners_project(y: float) -> None:
    view, face = View(), upright(0.0)
    seen = face.seen(view, y)
    assert seen is not None
    corners: NDArray[np.float64] = np.array([[-0.25, y, 0.6], [0.25, y, 0.6], [0.25, y, 0.4], [-0.25, y, 0.4]])
    assert seen.quad == pytest.approx(view.project(corners))
    image, mask = seen.warp()
    assert image.shape[:2] == mask.shape == (seen.roi[3] - seen.roi[1], seen.roi[2] - seen.roi[0])
    diagonals = np.stack([seen.quad[2] - seen.quad[0], seen.quad[3] - seen.quad[1]])
    area = abs(np.linalg.det(diagonals)) / 2
    assert mask.sum() / 255 == pytest.approx(area, rel=0.1)


def test_a_face_is_not_seen_from_behind() -> None:
    away = Face(sheet(0.5, 0.2), (0.25, 0.0, 0.6), (-1, 0, 0), (0, 0, -1))
    assert away.seen(View(), 7.0) is None


def test_a_face_out_of_the_picture_is_not_seen() -> None:
    assert Face(sheet(0.5, 0.2), (9.0, 0.0, 0.6), (1, 0, 0), (0, 0, -1)).seen(View(), 7.0) is None


def test_a_flank_that_passes_the_camera_is_cut_before_it_and_leaves_no_ghost() -> None:
    view, face = View(), flank()
    seen = face.seen(view, -2.0)
    assert seen is not None
    left, top, right, bottom = seen.part
    assert left > 1.5
    assert (top, right, bottom) == pytest.approx((0.0, 4.5, 1.4))
    near_edge = np.array([[0.9, -2.0 + left, z] for z in (0.0, 1.4)])
    assert view.depth(near_edge).min() == pytest.approx(NEAR_M, abs=1e-6)
    assert face.seen(view, -5.0) is None


def test_a_far_face_is_warped_from_a_small_level() -> None:
    near, far = (upright(0.0).seen(View(), y) for y in (5.0, 25.0))
    assert near is not None
    assert far is not None
    assert near.scale / far.scale > 4
    scales = [scale for _, _, scale in near.face.texture.levels]
    assert scales == sorted(scales, reverse=True)
