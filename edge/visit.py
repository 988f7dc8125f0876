"""Reads the frames of one visit after the other: those around the loop's edge, then newer ones while the vehicle is
there, until the vote is settled or a bound is reached; and hands over exactly one reading per visit.
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
        vote, seen, read = self._new_vote(), 0, 0
        cursor_ns = visit.from_ns
        while not stop.is_set():
            alive()
            end_ns = self._end_ns(visit)
            if visit.closed is not None and (vote.settled or cursor_ns >= end_ns or read >= self._settings.max_frames):
                break
            if vote.settled or read >= self._settings.max_frames:
                visit.ended.wait(WAIT_S)
                continue
            lease = self._ring.lease_next(cursor_ns, WAIT_S)
            if lease is None:
                if visit.closed is not None and self._clock() > end_ns + TRANSIT_NS:
                    break
                continue
            with lease:
                info = lease.info
                cursor_ns = info.captured_ns
                if cursor_ns > end_ns:
                    break
                seen += 1
                read += self._add(vote, lease, info)
            if seen >= DENSE_FRAMES:
                cursor_ns += (cursor_ns - visit.from_ns) // PACE
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
