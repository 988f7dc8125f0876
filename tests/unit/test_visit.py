"""Frames, edges and time are given by hand; the ring and the thread are the real ones."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.camera.base import Camera, Encoding, FrameInfo
from edge.capture import FrameLease, FrameRing
from edge.errors import FrameDamaged
from edge.passage import Passage
from edge.record import Ending, NoRead, PlateReading, PlateText
from edge.visit import DENSE_FRAMES, TRANSIT_NS, VisitReader, VisitSettings

MS = 1_000_000
S = 1_000 * MS
START = 100 * S


class HandCamera(Camera):
    """Gives the frame that was put into its hand."""

    def __init__(self) -> None:
        self.stamp_ns = 0

    def open(self) -> None: ...
    def close(self) -> None: ...

    def capture(self, into: memoryview, timeout_s: float) -> FrameInfo:
        into[:8] = self.stamp_ns.to_bytes(8, "big")
        return FrameInfo(self.stamp_ns, Encoding.GRAY8, 8, 8, 1, 8)


class CountingVote:
    """Settled after `enough` frames; says as its text which it used."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.stamps: list[int] = []

    @property
    def settled(self) -> bool:
        return len(self.stamps) >= self.enough

    def add(self, reading: int, exposure_us: float | None, gain: float | None) -> None:
        self.stamps.append(reading)

    def result(self) -> PlateReading:
        return PlateReading(PlateText("X"), None, frames_used=len(self.stamps))


class Bench:
    def __init__(self, *, enough: int = 1000, max_frames: int = 100, damaged: bool = False) -> None:
        self.now_ns = START
        self.heard_ns: int | None = None  # as the clock goes
        self.ring = FrameRing(64, 8)
        self.camera = HandCamera()
        self.votes: list[CountingVote] = []
        self.finished: list[tuple[Passage, PlateReading]] = []
        self.stop = threading.Event()
        self.damaged = damaged

        def new_vote() -> CountingVote:
            self.votes.append(CountingVote(enough))
            return self.votes[-1]

        self.visits = VisitReader(
            self.ring,
            self.read,
            new_vote,
            lambda passage, reading: self.finished.append((passage, reading)),
            VisitSettings(before_s=0.5, after_s=0.5, max_frames=max_frames),
            clock=lambda: self.now_ns,
            heard=lambda: self.now_ns if self.heard_ns is None else self.heard_ns,
        )
        self.thread = threading.Thread(target=self.visits.run, args=(self.stop, lambda: None), daemon=True)
        self.thread.start()

    def read(self, lease: FrameLease) -> int:
        if self.damaged:
            raise FrameDamaged("not a picture")
        return int.from_bytes(lease.data, "big")

    def frame(self, at_ns: int) -> None:
        self.now_ns = max(self.now_ns, at_ns)
        self.camera.stamp_ns = at_ns
        self.ring.capture(self.camera, 0)

    def settle(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not until() and time.monotonic() < deadline:
            time.sleep(0.002)
        assert until()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(**getattr(request, "param", {}))
    yield bench
    bench.stop.set()
    bench.thread.join(5)
    bench.ring.close()


def opened(at_ns: int, name: bytes = b"1" * 16) -> Passage:
    return Passage(name, at_ns)


def closed(at_ns: int, departure_ns: int, name: bytes = b"1" * 16) -> Passage:
    return Passage(name, at_ns, departure_ns, Ending.LEFT)


def test_frames_are_read_from_the_edge_on_and_then_back_and_until_after_the_departure(bench: Bench) -> None:
    for at in (START - S, START - 400 * MS, START + 100 * MS):
        bench.frame(at)
    bench.visits.open(opened(START))
    bench.settle(lambda: bool(bench.votes) and len(bench.votes[0].stamps) == 2)
    bench.visits.close(closed(START, START + S))
    bench.frame(START + 1400 * MS)
    bench.frame(START + 2 * S)
    bench.settle(lambda: len(bench.finished) == 1)
    assert bench.votes[0].stamps == [START + 100 * MS, START - 400 * MS, START + 1400 * MS]
    passage, reading = bench.finished[0]
    assert passage.departure_ns == START + S
    assert (reading.frames_seen, reading.frames_used) == (3, 3)


@pytest.mark.parametrize("bench", [{"enough": 2}], indirect=True)
def test_a_settled_visit_reads_no_more_and_is_finished_as_soon_as_it_is_closed(bench: Bench) -> None:
    bench.visits.open(opened(START))
    for n in range(5):
        bench.frame(START + n * 40 * MS)
    bench.settle(lambda: bool(bench.votes) and bench.votes[0].settled)
    bench.visits.close(closed(START, START + S))
    bench.settle(lambda: len(bench.finished) == 1)
    assert len(bench.votes[0].stamps) == 2


def test_a_frame_between_two_vehicles_belongs_to_the_nearer_one_only(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.visits.close(closed(START, START + S))
    bench.visits.open(opened(START + 1300 * MS, b"2" * 16))
    for at in (START + 900 * MS, START + 1100 * MS, START + 1200 * MS, START + 1400 * MS):
        bench.frame(at)
    bench.settle(lambda: len(bench.finished) == 1)
    bench.visits.close(closed(START + 1300 * MS, START + 2 * S, b"2" * 16))
    bench.frame(START + 3 * S)
    bench.settle(lambda: len(bench.finished) == 2)
    assert bench.votes[0].stamps == [START + 900 * MS, START + 1100 * MS]
    assert bench.votes[1].stamps == [START + 1400 * MS, START + 1200 * MS]


def test_a_frame_is_read_once_it_is_certain_that_no_other_vehicle_is_nearer_to_it(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.heard_ns = START + 1050 * MS
    for at in (START + 900 * MS, START + 1040 * MS, START + 1200 * MS):
        bench.frame(at)
    bench.settle(lambda: bool(bench.votes) and len(bench.votes[0].stamps) == 2)
    bench.visits.close(closed(START, START + S))
    bench.heard_ns = START + 1390 * MS
    time.sleep(0.1)
    assert len(bench.votes[0].stamps) == 2  # another may have arrived at 1390 ms
    bench.heard_ns = START + 1410 * MS
    bench.settle(lambda: len(bench.votes[0].stamps) == 3)
    bench.frame(START + 1600 * MS)
    bench.heard_ns = START + 1990 * MS
    time.sleep(0.1)
    assert bench.finished == []
    bench.heard_ns = START + 2 * S
    bench.settle(lambda: len(bench.finished) == 1)


def test_while_a_vehicle_may_be_between_the_loops_a_frame_that_is_nearer_to_the_next_waits(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.visits.left(START + S)
    for at in (START + 900 * MS, START + 1400 * MS, START + 1600 * MS, START + 2400 * MS):
        bench.frame(at)
    bench.settle(lambda: bool(bench.votes) and len(bench.votes[0].stamps) == 2)
    time.sleep(0.1)
    assert bench.votes[0].stamps == [START + 900 * MS, START + 1400 * MS]
    assert bench.finished == []
    bench.visits.left(None)  # it came to the other loop
    bench.settle(lambda: len(bench.votes[0].stamps) == 4)


@given(
    gap_ms=st.integers(0, 3000),
    before_s=st.sampled_from([0.0, 0.6, 2.0]),
    after_s=st.sampled_from([0.0, 0.6, 2.0]),
    frames_ms=st.lists(st.integers(-1000, 4000), max_size=DENSE_FRAMES, unique=True),
)
def test_no_frame_is_read_for_two_visits(gap_ms: int, before_s: float, after_s: float, frames_ms: list[int]) -> None:
    ring, camera, votes, stop = FrameRing(32, 8), HandCamera(), list[CountingVote](), threading.Event()

    def new_vote() -> CountingVote:
        votes.append(CountingVote(1000))
        return votes[-1]

    def finish(passage: Passage, reading: PlateReading) -> None:
        if len(votes) == 2:
            stop.set()

    visits = VisitReader(
        ring,
        lambda lease: int.from_bytes(lease.data, "big"),
        new_vote,
        finish,
        VisitSettings(before_s, after_s, 1000),
        clock=lambda: START + 100 * S,
    )
    for at in sorted(frames_ms):
        camera.stamp_ns = START + at * MS
        ring.capture(camera, 0)
    arrival_ns = START + gap_ms * MS
    visits.open(opened(START - S))
    visits.close(closed(START - S, START))
    visits.open(opened(arrival_ns, b"2" * 16))
    visits.close(closed(arrival_ns, arrival_ns + S, b"2" * 16))
    visits.run(stop, lambda: None)
    ring.close()
    first, second = (set(vote.stamps) for vote in votes)
    assert not first & second
    on_a_loop = {START + at * MS for at in frames_ms if at <= 0 or gap_ms < at <= gap_ms + 1000}
    assert on_a_loop <= first | second


def test_a_visit_without_a_frame_says_that_the_camera_was_silent(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.visits.close(closed(START, START + S))
    bench.now_ns = START + 2 * S + TRANSIT_NS
    bench.settle(lambda: len(bench.finished) == 1)
    assert bench.finished[0][1].no_read is NoRead.CAMERA_SILENT


@pytest.mark.parametrize("bench", [{"damaged": True}], indirect=True)
def test_a_visit_with_damaged_frames_only_says_so(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.frame(START)
    bench.visits.close(closed(START, START + S))
    bench.now_ns = START + 2 * S + TRANSIT_NS
    bench.settle(lambda: len(bench.finished) == 1)
    reading = bench.finished[0][1]
    assert (reading.no_read, reading.frames_seen) == (NoRead.FRAMES_DAMAGED, 1)


@pytest.mark.parametrize("bench", [{"max_frames": 30}], indirect=True)
def test_a_long_visit_is_read_ever_more_sparsely_and_within_its_bound(bench: Bench) -> None:
    bench.visits.open(opened(START))
    for n in range(1500):
        bench.frame(START + n * 40 * MS)
        if n < DENSE_FRAMES:
            bench.settle(lambda count=n + 1: bool(bench.votes) and len(bench.votes[0].stamps) == count)  # type: ignore[misc]
        elif n % 10 == 0:
            time.sleep(0.001)
    bench.visits.close(closed(START, START + 60 * S))
    bench.frame(START + 61 * S)
    bench.settle(lambda: len(bench.finished) == 1)
    stamps = bench.votes[0].stamps
    assert DENSE_FRAMES < len(stamps) <= 30
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    assert max(gaps[DENSE_FRAMES:]) > 2 * max(gaps[: DENSE_FRAMES // 2])


def test_visits_that_are_closed_at_the_stop_are_finished_with_what_was_read_of_them(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.frame(START)
    bench.settle(lambda: bool(bench.votes) and len(bench.votes[0].stamps) == 1)
    bench.visits.close(closed(START, START + S))
    bench.visits.open(opened(START + 2 * S, b"2" * 16))
    bench.visits.close(closed(START + 2 * S, START + 3 * S, b"2" * 16))
    bench.visits.open(opened(START + 4 * S, b"3" * 16))
    bench.stop.set()
    bench.thread.join(5)
    assert [(passage.id[:1], reading.no_read) for passage, reading in bench.finished] == [
        (b"1", None),
        (b"2", NoRead.INTERRUPTED),
    ]


def test_a_visit_that_is_open_at_the_stop_is_not_finished(bench: Bench) -> None:
    bench.visits.open(opened(START))
    bench.stop.set()
    bench.thread.join(5)
    assert not bench.thread.is_alive()
    assert bench.finished == []
