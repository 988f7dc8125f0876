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
HEAR_S = 0.02
"""How often the loop is asked whose a frame is that is there already."""
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
    """One visit on its way through the reader; `closed`, `left_ns` (`VisitReader.left`) and `next_ns`, when the next
    vehicle arrived, are set by the thread that hears the loop."""

    def __init__(self, opened: Passage, from_ns: int) -> None:
        self.opened = opened
        self.from_ns = from_ns
        self.closed: Passage | None = None
        self.left_ns: int | None = None
        self.next_ns: int | None = None
        self.ended = threading.Event()


class VisitReader:
    """`read` turns a leased frame into what a Vote adds; `finish` gets every visit, closed, with its reading.

    heard: CLOCK_MONOTONIC ns before which every arrival has been told to open(); `clock` if they are told at once.
    open(), left() and close() are called by the thread that hears the loop, in turn; run() is a thread of its own.
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
        heard: Callable[[], int] | None = None,
    ) -> None:
        self._ring = ring
        self._read = read
        self._new_vote = new_vote
        self._finish = finish
        self._before_ns = int(settings.before_s * 1e9)
        self._after_ns = int(settings.after_s * 1e9)
        self._max_frames = settings.max_frames
        self._clock = clock
        self._heard = heard or clock
        self._waiting: queue.Queue[_Visit] = queue.Queue(MAX_WAITING)
        self._last: _Visit | None = None

    def open(self, passage: Passage) -> None:
        """A vehicle arrived. Frames between it and the one before belong to the one that is nearer in time."""
        from_ns = passage.arrival_ns - self._before_ns
        if self._last is not None and self._last.closed is not None:
            from_ns = max(from_ns, self._cut_ns(_departure_ns(self._last.closed), passage.arrival_ns) + 1)
            self._last.next_ns = passage.arrival_ns
        self._last = _Visit(passage, from_ns)
        self._waiting.put(self._last, timeout=30)

    def left(self, left_ns: int | None) -> None:
        """The vehicle of the last opened visit left its loop then and may come back to one; None: it stands on one."""
        if self._last is not None and self._last.closed is None:
            self._last.left_ns = left_ns

    def close(self, passage: Passage) -> None:
        """The vehicle of the last opened visit is gone."""
        if self._last is not None:
            self._last.closed = passage
            self._last.ended.set()

    def run(self, stop: threading.Event, alive: Callable[[], None]) -> None:
        """Read visits until `stop` is set; those that are closed then are finished with what was read of them, and one
        that is open is left to whoever finds it at the next start."""
        while not stop.is_set():
            alive()
            try:
                visit = self._waiting.get(timeout=WAIT_S)
            except queue.Empty:
                continue
            self._take(visit, stop, alive)
        while not self._waiting.empty():
            self._take(self._waiting.get(), stop, alive)

    def _take(self, visit: _Visit, stop: threading.Event, alive: Callable[[], None]) -> None:
        reading = self._read_visit(visit, stop, alive)
        if visit.closed is not None:
            self._finish(visit.closed, reading)

    def _read_visit(self, visit: _Visit, stop: threading.Event, alive: Callable[[], None]) -> PlateReading:
        """From the edge on, where the plate is best seen; and while no newer frame is there, back towards `from_ns`."""
        vote, seen, read = self._new_vote(), 0, 0
        oldest_ns = visit.opened.arrival_ns
        newest_ns = max(oldest_ns, visit.from_ns) - 1
        while not stop.is_set():
            alive()
            end_ns, final = self._end_ns(visit)
            if vote.settled or read >= self._max_frames:
                if visit.closed is not None:
                    break
                visit.ended.wait(WAIT_S)
                continue
            past = newest_ns >= end_ns
            lease = self._ring.lease_next(newest_ns, 0)
            if lease is not None and lease.info.captured_ns > end_ns:
                lease.release()
                lease, past = None, True
            lease = lease or self._ring.lease_before(oldest_ns, visit.from_ns)
            if lease is None:
                if final and (past or self._clock() > end_ns + TRANSIT_NS):
                    break
                if past:
                    stop.wait(HEAR_S)
                elif lease := self._ring.lease_next(newest_ns, WAIT_S):
                    lease.release()
                continue
            with lease:
                taken_ns = lease.info.captured_ns
                seen += 1
                read += self._add(vote, lease, lease.info)
            if taken_ns < oldest_ns:
                oldest_ns = taken_ns
            else:
                newest_ns = taken_ns + ((taken_ns - visit.from_ns) // PACE if seen >= DENSE_FRAMES else 0)
        if read:
            return replace(vote.result(), frames_seen=seen)
        why = NoRead.FRAMES_DAMAGED if seen else NoRead.INTERRUPTED if stop.is_set() else NoRead.CAMERA_SILENT
        return PlateReading(text=None, no_read=why, frames_seen=seen)

    def _add(self, vote: Vote, lease: FrameLease, info: FrameInfo) -> int:
        try:
            vote.add(self._read(lease), info.exposure_us, info.gain)
        except CameraFrameError:
            return 0
        return 1

    def _end_ns(self, visit: _Visit) -> tuple[int, bool]:
        """The last moment whose frames are sure to belong to the visit, and whether it is the last of all: until then
        a departure, or the next arrival, may still be heard of."""
        heard_ns = self._heard()
        closed, next_ns = visit.closed, visit.next_ns
        left_ns = visit.left_ns if closed is None else _departure_ns(closed)
        if left_ns is None:
            return heard_ns, False
        end_ns = self._cut_ns(left_ns, max(heard_ns, left_ns) if next_ns is None else next_ns)
        return end_ns, closed is not None and (next_ns is not None or end_ns == left_ns + self._after_ns)

    def _cut_ns(self, departure_ns: int, next_ns: int) -> int:
        """The last moment of a visit that ended at `departure_ns` if the next vehicle arrived at `next_ns`: midway, or
        where the frames that one of them may have begin or end."""
        midway_ns = (departure_ns + next_ns) // 2
        return min(max(midway_ns, next_ns - self._before_ns), departure_ns + self._after_ns)


def _departure_ns(closed: Passage) -> int:
    return closed.arrival_ns if closed.departure_ns is None else closed.departure_ns
