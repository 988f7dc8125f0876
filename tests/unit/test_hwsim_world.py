from functools import cache

import cv2
import numpy as np
import pytest
from hw_sim.vehicle import Vehicle, build
from hw_sim.view import View
from hw_sim.world import MAX_BLUR_PX, Light, Placed, World, streak
from numpy.typing import NDArray

from models.train.render import render_plate

LOOPS = ((5.0, 7.0),)
SMALL = View(focal_px=1000, width=640, height=360)
SIZE = (260, 56)


@cache
def world_of(*, night: bool = False, exposure_us: float = 1000, small: bool = True) -> World:
    light = Light.infrared(exposure_us) if night else Light.day(exposure_us)
    return World(SMALL if small else View(), light, LOOPS, 1)


@cache
def vehicle_of(style: str, *, night: bool = False, seed: int = 1) -> Vehicle:
    rng = np.random.default_rng(seed)
    return build(rng, render_plate(rng, style), night=night)


def cut(world: World, placed: Placed) -> NDArray[np.uint8]:
    """The plate as the frame shows it, straightened, grey."""
    quad = world.plate_quad(placed)
    assert quad is not None
    straight = np.array([[0, 0], [SIZE[0], 0], [SIZE[0], SIZE[1]], [0, SIZE[1]]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32), straight)
    flat = cv2.warpPerspective(world.frame([placed]), matrix, SIZE)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_BGR2GRAY), np.uint8)


def likeness(seen: NDArray[np.uint8], vehicle: Vehicle) -> float:
    """Correlation of what was seen with the plate as its maker stamped it."""
    made = cv2.resize(cv2.cvtColor(vehicle.truth.image, cv2.COLOR_BGR2GRAY), SIZE, interpolation=cv2.INTER_AREA)
    return float(np.corrcoef(seen.ravel(), made.ravel())[0, 1])


@pytest.mark.parametrize("night", [False, True])
@pytest.mark.parametrize("front_y", [8.0, 7.0, 5.0])
def test_the_frame_shows_the_plate_where_the_quad_says(night: bool, front_y: float) -> None:
    vehicle = vehicle_of("de", night=night)
    seen = cut(world_of(night=night, small=False), Placed(vehicle, front_y, 5.0))
    assert likeness(seen, vehicle) > 0.75


@pytest.mark.parametrize(("style", "narrowest", "widest"), [("de", 130, 200), ("us-ny", 75, 125)])
def test_on_the_loop_a_plate_is_as_wide_as_a_gate_camera_sees_it(style: str, narrowest: int, widest: int) -> None:
    world = world_of(small=False)
    for front_y in (7.0, 6.0, 5.0):
        quad = world.plate_quad(Placed(vehicle_of(style), front_y, 5.0))
        assert quad is not None
        assert narrowest <= np.linalg.norm(quad[1] - quad[0]) <= widest


def test_the_same_seed_draws_the_same_frames_and_another_seed_does_not() -> None:
    def frame(seed: int) -> NDArray[np.uint8]:
        return World(SMALL, Light.day(), LOOPS, seed).frame([Placed(vehicle_of("fr"), 7.0, 5.0)])

    assert (frame(3) == frame(3)).all()
    assert (frame(3) != frame(4)).any()


def test_the_sensor_is_never_silent() -> None:
    world = world_of()
    first, second = (world.frame([]).astype(np.int16) for _ in range(2))
    assert 2.0 < np.abs(first - second).std() < 6.0


def test_a_night_frame_is_grey_with_a_bright_plate_in_the_dark() -> None:
    world = world_of(night=True)
    placed = Placed(vehicle_of("de", night=True), 7.0, 5.0)
    frame = world.frame([placed])
    assert (frame[..., 0] == frame[..., 2]).all()
    assert np.percentile(frame, 75) < 50
    assert np.percentile(cut(world, placed), 75) > 150


def test_a_fast_vehicle_is_blurred_and_a_slow_one_is_not() -> None:
    def sharpness(speed_mps: float) -> float:
        world = world_of(exposure_us=4000, small=False)
        return float(cv2.Laplacian(cut(world, Placed(vehicle_of("de"), 7.0, speed_mps)), cv2.CV_64F).var())

    assert sharpness(36.0) < sharpness(12.0) < sharpness(1.4)


@pytest.mark.parametrize("night", [False, True])
def test_rain_falls_through_the_picture_and_dims_the_plate(night: bool) -> None:
    dry = world_of(night=night)
    wet = World(SMALL, Light.infrared(rain=1.0) if night else Light.day(rain=1.0), LOOPS, 1)
    placed = Placed(vehicle_of("de", night=night), 7.0, 5.0)
    assert np.percentile(cut(wet, placed), 75) < 0.9 * np.percentile(cut(dry, placed), 75)
    drops = wet.frame([]).astype(np.int16) - wet.frame([])
    assert (np.abs(drops) > 6 * dry_noise(dry)).sum() > 50


def dry_noise(world: World) -> float:
    return float((world.frame([]).astype(np.int16) - world.frame([])).std())


def test_a_vehicle_can_pass_the_camera_without_a_trace() -> None:
    world = world_of()
    empty = world.frame([]).astype(np.int16)
    for front_y in np.arange(8.0, -9.0, -0.5):
        world.frame([Placed(vehicle_of("gb-front"), float(front_y), 10.0)])
    gone = world.frame([Placed(vehicle_of("gb-front"), -9.0, 10.0)]).astype(np.int16)
    assert np.abs(gone - empty).max() < 40


@pytest.mark.parametrize("moved", [(0.5, 0.2), (-6.0, 3.0), (300.0, 0.0)])
def test_a_streak_moves_light_and_loses_none(moved: tuple[float, float]) -> None:
    kernel = streak(np.array(moved))
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    assert max(kernel.shape) <= MAX_BLUR_PX + 4
    assert kernel == pytest.approx(kernel[::-1, ::-1], abs=1e-6)
