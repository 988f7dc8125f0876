import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest

from edge.capture import CameraFeed, CameraState, FrameRing
from edge.errors import (
    CameraError,
    CameraSilent,
    CameraUnreachable,
    FrameDamaged,
    FrameTooLarge,
    PicturesMissing,
    StreamEnded,
)
from tests.camera_rigs import FakeCamera

FRAME = b"a frame"


class Bench:
    """A feed in a thread of its own over a fake camera."""

    def __init__(self) -> None:
        self.camera = FakeCamera()
        self.ring = FrameRing(4, 64)
        self.states: list[CameraState] = []
        self.alive: list[float] = []
        self.stop = threading.Event()
        self.raised: CameraError | None = None
        self.feed = CameraFeed(self.camera, self.ring, keep_s=0.1, silent_after_s=0.3)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.feed.run(self.stop, lambda: self.alive.append(time.monotonic()), self.states.append)
        except CameraError as error:
            self.raised = error

    def until(self, condition: Callable[[], object]) -> None:
        if not self.thread.ident:
            self.thread.start()
        deadline = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.005)

    def close(self) -> None:
        self.stop.set()
        if self.thread.ident:
            self.thread.join(5)
            assert not self.thread.is_alive()
        self.ring.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_frames_come_into_the_ring_and_the_camera_is_reported_live_once(bench: Bench) -> None:
    bench.camera.repeated = FRAME
    bench.until(lambda: bench.feed.frames >= 10)
    assert bench.states == [CameraState(live=True)]
    leases = bench.ring.lease_since(0)
    assert leases
    for lease in leases:
        assert bytes(lease.data) == FRAME
        lease.release()


def test_a_damaged_frame_is_counted_and_the_next_one_taken(bench: Bench) -> None:
    bench.camera.steps.extend([FRAME, FrameDamaged("half"), bytes(65), FRAME])
    bench.until(lambda: bench.feed.frames == 2)
    assert bench.feed.damaged == 2
    assert bench.feed.losses == 0


def test_a_silent_camera_is_reported_closed_and_opened_again(bench: Bench) -> None:
    bench.camera.steps.append(FRAME)
    bench.until(lambda: bench.camera.opened == 2)
    assert isinstance(bench.states[-1].error, CameraSilent)
    bench.camera.repeated = FRAME
    bench.until(lambda: bench.states[-1].live)


def test_a_camera_whose_every_frame_is_refused_is_lost_for_that_reason(bench: Bench) -> None:
    bench.camera.repeated = bytes(65)
    bench.until(lambda: bench.states)
    assert isinstance(bench.states[0].error, FrameTooLarge)


def test_attempts_to_open_grow_apart(bench: Bench) -> None:
    bench.camera.opening.extend([CameraUnreachable("no")] * 3)
    bench.camera.repeated = FRAME
    times: list[float] = []
    bench.until(lambda: times.append(time.monotonic()) if len(bench.states) > len(times) else len(times) == 4)
    assert [state.live for state in bench.states] == [False, False, False, True]
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[0] < gaps[1] < gaps[2]
    assert bench.feed.losses == 3


def test_signs_of_life_are_given_all_the_while(bench: Bench) -> None:
    bench.camera.opening.extend([CameraUnreachable("no")] * 2)
    bench.until(lambda: bench.camera.opened == 3)
    assert max(after - before for before, after in pairwise(bench.alive)) < 0.4


def test_a_sign_of_life_is_given_between_a_loss_and_the_closing_of_the_camera(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_alive: list[float] = []
    close = bench.camera.close
    monkeypatch.setattr(bench.camera, "close", lambda: (last_alive.append(bench.alive[-1]), close()))
    lost: list[float] = []
    monkeypatch.setattr(bench, "states", SimpleNamespace(append=lambda state: lost.append(time.monotonic())))
    bench.camera.opening.append(CameraUnreachable("no"))
    bench.until(lambda: last_alive)
    assert last_alive[0] >= lost[0]


def test_an_unleased_frame_is_kept_no_longer_than_it_may_be_needed(bench: Bench) -> None:
    bench.camera.steps.append(FRAME)
    bench.until(lambda: bench.feed.frames == 1)
    bench.until(lambda: not bench.ring._held)
    assert bench.feed.losses == 0


def test_a_frame_grows_old_while_the_driver_blocks(bench: Bench) -> None:
    open_camera, go_on = bench.camera.open, threading.Event()

    def open_slowly() -> None:
        if bench.camera.opened:
            go_on.wait(5)
        open_camera()

    bench.camera.open = open_slowly  # type: ignore[method-assign]
    bench.camera.steps.extend([FRAME, StreamEnded("gone")])
    bench.until(lambda: bench.feed.losses == 1)
    bench.until(lambda: not bench.ring._held)
    assert (bench.camera.opened, go_on.is_set()) == (1, False)
    go_on.set()


def test_a_camera_that_gives_one_frame_and_drops_is_asked_less_and_less(bench: Bench) -> None:
    bench.camera.steps.extend([FRAME, StreamEnded("gone")] * 20)
    bench.until(lambda: bench.feed.losses)
    time.sleep(1.2)
    assert bench.feed.losses <= 3  # after 0.25, 0.5 and 1 s


def test_after_steady_frames_the_camera_is_asked_again_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.capture.STEADY_S", 0.0)
    bench.camera.steps.extend([FRAME, FRAME, StreamEnded("gone")] * 4)
    began = time.monotonic()
    bench.until(lambda: bench.feed.losses == 4)
    assert time.monotonic() - began < 1.5  # not 0.25 + 0.5 + 1


def test_an_error_that_no_retry_can_mend_ends_the_feed_and_closes_the_camera(bench: Bench) -> None:
    bench.camera.opening.append(PicturesMissing("gone"))
    bench.until(lambda: bench.raised)
    assert isinstance(bench.raised, PicturesMissing)
    assert bench.states[-1].error is bench.raised
    assert not bench.camera.is_open


def test_stopping_closes_the_camera_and_leaves_leases_alone(bench: Bench) -> None:
    bench.camera.steps.append(FRAME)
    bench.until(lambda: bench.feed.frames == 1)
    with bench.ring.lease_since(0)[0] as lease:
        bench.stop.set()
        bench.thread.join(5)
        assert not bench.camera.is_open
        assert bytes(lease.data) == FRAME
