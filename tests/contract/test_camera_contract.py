"""The contract of every camera driver: run it over your own by adding a rig to tests/camera_rigs.py."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from drivers.camera.base import Camera, FrameInfo
from edge.capture import FrameRing
from edge.errors import CameraError, CameraFrameError, CameraSilent, FrameTooLarge
from edge.frames import FrameDecoder
from tests.camera_rigs import HEIGHT, RIGS, WIDTH, Rig

ROOM = 64 * 1024
UNTOUCHED = 0xA5


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = RIGS[request.param](tmp_path)
    yield made
    for camera in (made.live, made.absent, made.quiet):
        camera.close()
    made.close()


def next_frame(camera: Camera, into: memoryview) -> FrameInfo:
    """The next whole frame; what comes before a stream's first key frame may be damaged."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            info = camera.capture(into, 0.5)
        except CameraFrameError:
            continue
        if info is not None:
            return info
    pytest.fail("no frame came")


def test_frames_come_one_after_the_other_stamped_with_the_monotonic_clock(rig: Rig) -> None:
    began_ns = time.monotonic_ns()
    rig.live.open()
    stamps = [next_frame(rig.live, memoryview(bytearray(ROOM))).captured_ns for _ in range(5)]
    assert stamps == sorted(set(stamps))
    assert began_ns - 1_000_000_000 < stamps[0]
    assert stamps[-1] <= time.monotonic_ns()


def test_a_frame_fills_the_start_of_the_buffer_and_no_more_than_it_says(rig: Rig) -> None:
    rig.live.open()
    room = memoryview(bytearray([UNTOUCHED] * ROOM))
    info = next_frame(rig.live, room)
    assert 0 < info.nbytes < ROOM
    assert set(room[info.nbytes :]) == {UNTOUCHED}


def test_what_the_ring_holds_decodes_to_the_picture(rig: Rig) -> None:
    rig.live.open()
    ring, decoder = FrameRing(4, ROOM), FrameDecoder()
    while not (leases := ring.lease_since(0)):
        ring.capture(rig.live, 1)
    with leases[0] as lease:
        grey = decoder.grey(lease)
        assert grey.shape == (HEIGHT, WIDTH)
        assert grey.max() - grey.min() > 60
    ring.close()


def test_a_frame_that_does_not_fit_is_refused_and_the_next_one_may_fit(rig: Rig) -> None:
    rig.live.open()
    next_frame(rig.live, memoryview(bytearray(ROOM)))
    refused: FrameTooLarge | None = None
    while refused is None:
        try:
            assert rig.live.capture(memoryview(bytearray(100)), 1) is None
        except FrameTooLarge as error:
            refused = error
    assert str(refused).startswith("CAM-04 ")
    next_frame(rig.live, memoryview(bytearray(ROOM)))


def test_a_quiet_camera_lets_capture_return_in_time(rig: Rig) -> None:
    rig.quiet.open()
    room = memoryview(bytearray(ROOM))
    next_frame(rig.quiet, room)
    rig.hush()
    for _ in range(100):  # what was under way already
        began = time.monotonic()
        try:
            info = rig.quiet.capture(room, 0.1)
        except CameraFrameError:
            continue
        except CameraSilent:
            info = None
        if info is None:
            assert 0.09 <= time.monotonic() - began < 1
            return
    pytest.fail("frames came from nowhere")


def test_a_camera_that_is_not_there_is_a_coded_error_in_time(rig: Rig) -> None:
    began = time.monotonic()
    with pytest.raises(CameraError, match=r"^CAM-\d\d "):
        rig.absent.open()
    assert time.monotonic() - began < 5


def test_close_may_be_called_at_any_time_and_open_works_after_it(rig: Rig) -> None:
    rig.live.close()
    rig.live.open()
    rig.live.close()
    rig.live.close()
    with pytest.raises(CameraError):
        rig.live.capture(memoryview(bytearray(ROOM)), 0.1)
    rig.live.close()
    rig.live.open()
    next_frame(rig.live, memoryview(bytearray(ROOM)))


def test_settings_refuse_what_they_do_not_know(rig: Rig) -> None:
    with pytest.raises(ValidationError, match="colour"):
        type(rig.live).Settings(colour="red")
