"""Reads the frames of one visit after the other: newer ones while the vehicle is there, in between those from before
the loop's edge, until the vote is settled or a bound is reached; and hands over exactly one reading per visit.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from drivers.camera.base import FrameInfo
from edge.capture import FrameLease, FrameRing
from edge.errors import CameraFrameError
from edge.passage import Passage
from edge.record import NoRead, PlateReading

MAX_WAITING = 16
"""Visits opened and not yet read; a lane is never that far ahead of its reader."""
TRANSIT_NS = 500_000_000
"""How long a frame may be on its way from the sensor to the ring."""
WAIT_S = 0.1
PACE = 8
"""After DENSE_FRAMES the next frame is taken when the visit has grown by 1/PACE, so that a bounded number of frames
covers any visit."""
DENSE_FRAMES = 12
"""Frames at the start of a visit that are read as they come."""


class Vote(Protocol):
    """What is known of the plate so far: `edge.reading.fuse.Vote`."""

    @property
    def settled(self) -> bool: ...
    def add(self, reading: Any, exposure_us: float | None, gain: float | None) -> None: ...
    def result(self) -> PlateReading: ...


@dataclass(frozen=True, slots=True)
class VisitSettings:
    """before_s and after_s: frames this long before arrival and after departure belong to the visit; max_frames: most
    frames read for one."""

    before_s: float
    after_s: float
    max_frames: int


class _Visit:
    """One visit on its way through the reader; `closed` and `cut_ns` are set by the thread that hears the loop."""

    def __init__(self, opened: Passage, from_ns: int) -> None:
        self.opened = opened
        self.from_ns = from_ns
        self.closed: Passage | None = None
        self.cut_ns: int | None = None
        self.ended = threading.Event()


class VisitReader:
    """`read` turns a leased frame into what a Vote adds; `finish` gets every visit, closed, with its reading.

    open() and close() are called by the thread that hears the loop, in turn; run() is a thread of its own.
    """

    def __init__(
        self,
        ring: FrameRing,
        read: Callable[[FrameLease], Any],
        new_vote: Callable[[], Vote],
        finish: Callable[[Passage, PlateReading], None],
        settings: VisitSettings,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._ring = ring
        self._read = read
        self._new_vote = new_vote
        self._finish = finish
        self._settings = settings
        self._clock = clock
        self._waiting: queue.Queue[_Visit] = queue.Queue(MAX_WAITING)
        self._last: _Visit | None = None

    def open(self, passage: Passage) -> None:
        """A vehicle arrived. Frames before it belong to this visit unless they belong to the one before."""
        from_ns = passage.arrival_ns - int(self._settings.before_s * 1e9)
        if self._last is not None and self._last.closed is not None:
            from_ns = max(from_ns, self._last.closed.departure_ns or 0)
            self._last.cut_ns = passage.arrival_ns
        self._last = _Visit(passage, from_ns)
        self._waiting.put(self._last, timeout=30)

    def close(self, passage: Passage) -> None:
        """The vehicle of the last opened visit is gone."""
        if self._last is not None:
            self._last.closed = passage
            self._last.ended.set()

    def run(self, stop: threading.Event, alive: Callable[[], None]) -> None:
        """Read visits until `stop` is set; a visit that is open then is left to whoever finds it at the next start."""
        while not stop.is_set():
            alive()
            try:
                visit = self._waiting.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            reading = self._read_visit(visit, stop, alive)
            if visit.closed is not None:
                self._finish(visit.closed, reading)

    def _read_visit(self, visit: _Visit, stop: threading.Event, alive: Callable[[], None]) -> PlateReading:
        """From the edge on, where the plate is best seen; and while no newer frame is there, back towards `from_ns`."""
        vote, seen, read = self._new_vote(), 0, 0
        oldest_ns = visit.opened.arrival_ns
        newest_ns = oldest_ns - 1
        while not stop.is_set():
            alive()
            end_ns = self._end_ns(visit)
            if vote.settled or read >= self._settings.max_frames:
                if visit.closed is not None:
                    break
                visit.ended.wait(WAIT_S)
                continue
            past = newest_ns >= end_ns
            over = past or (visit.closed is not None and self._clock() > end_ns + TRANSIT_NS)
            lease = (
                (None if past else self._ring.lease_next(newest_ns, 0))
                or self._ring.lease_before(oldest_ns, visit.from_ns)
                or (None if over else self._ring.lease_next(newest_ns, WAIT_S))
            )
            if lease is None:
                if over:
                    break
                continue
            with lease:
                taken_ns = lease.info.captured_ns
                if taken_ns <= end_ns:
                    seen += 1
                    read += self._add(vote, lease, lease.info)
            if taken_ns < oldest_ns:
                oldest_ns = taken_ns
            else:
                newest_ns = taken_ns + ((taken_ns - visit.from_ns) // PACE if seen >= DENSE_FRAMES else 0)
        return self._result(vote, seen, read)

    def _add(self, vote: Vote, lease: FrameLease, info: FrameInfo) -> int:
        try:
            vote.add(self._read(lease), info.exposure_us, info.gain)
        except CameraFrameError:
            return 0
        return 1

    def _end_ns(self, visit: _Visit) -> int:
        """The last moment of frames that belong to the visit; far away while it is open."""
        if visit.closed is None or visit.closed.departure_ns is None:
            return 1 << 62
        end_ns = visit.closed.departure_ns + int(self._settings.after_s * 1e9)
        return end_ns if visit.cut_ns is None else min(end_ns, visit.cut_ns)

    @staticmethod
    def _result(vote: Vote, seen: int, read: int) -> PlateReading:
        if read:
            return replace(vote.result(), frames_seen=seen)
        return PlateReading(
            text=None, no_read=NoRead.FRAMES_DAMAGED if seen else NoRead.CAMERA_SILENT, frames_seen=seen
        )
