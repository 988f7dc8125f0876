"""From samples to events: debounce, and a connection that is kept up.

`Debouncer` is pure (samples in, events out). `LoopWatcher` does the I/O around it and is the same for every detector.
"""

import random
import threading
import time
from collections.abc import Callable, Collection
from enum import StrEnum

from drivers.backoff import STEADY_S, Backoff
from drivers.loop.base import LoopDetector, LoopEvent, LoopEventKind, LoopSample
from edge.errors import LoopError

RETRY_JITTER = 0.25
"""A wait is lengthened or shortened by up to this share, so that the boxes behind one serial server do not march."""
ALIVE_EVERY_S = 0.5


class Debouncer:
    """Believes a line once it has held its new level for `debounce_ms`; an event bears the time that level began.

    After start_over() the lines are unknown: one that is on is announced anew, one that went off meanwhile as off. The
    level believed first began with the first sample, even if it bounced for up to `debounce_ms` then. Loops in
    `occupied` count as announced on from the beginning. Of changes believed in one sample faults come first, so that
    the call of a failing loop is known for what it is.
    """

    def __init__(self, loops: int, debounce_ms: float, occupied: Collection[int] = ()) -> None:
        self._debounce_ns = round(debounce_ms * 1e6)
        self._faults = tuple(_Line() for _ in range(loops))
        self._presence = tuple(_Line(announced=loop in occupied) for loop in range(loops))
        self._sampled_ns = 0

    def start_over(self) -> None:
        for line in (*self._faults, *self._presence):
            line.known = line.pending = False

    @property
    def settled_ns(self) -> int:
        """No event is to come any more that began before this."""
        pending = (line.began_ns for line in (*self._faults, *self._presence) if line.pending)
        return min(pending, default=self._sampled_ns)

    def feed(self, sample: LoopSample) -> tuple[LoopEvent, ...]:
        """The changes that this sample makes certain. Samples come in the order of their time."""
        self._sampled_ns = sample.monotonic_ns
        events: list[LoopEvent] = []
        for lines, levels, on, off in (
            (self._faults, sample.fault, LoopEventKind.FAULT, LoopEventKind.CLEAR),
            (self._presence, sample.presence, LoopEventKind.ARRIVE, LoopEventKind.LEAVE),
        ):
            for loop, (line, level) in enumerate(zip(lines, levels, strict=True)):
                since_ns = line.feed(level, sample.monotonic_ns, self._debounce_ns)
                if since_ns is not None:
                    events.append(LoopEvent(on if level else off, loop, since_ns))
        return tuple(events)


class _Line:
    """One line: the level last announced, if it is known to hold still, and since when another level is seen."""

    __slots__ = ("announced", "began_ns", "candidate", "known", "pending", "since_ns")

    def __init__(self, *, announced: bool = False) -> None:
        self.announced = announced
        self.known = False
        self.pending = False
        self.candidate = False
        self.since_ns = 0
        self.began_ns = 0
        """What the event will bear: since_ns, or while the line is not known when it began to bounce."""

    def feed(self, level: bool, now_ns: int, debounce_ns: int) -> int | None:
        """When `level` began, if it is to be announced now, else None."""
        if self.known and level == self.announced:
            self.pending = False
            return None
        if not self.pending or level != self.candidate:
            if self.known or not self.pending or now_ns - self.began_ns > debounce_ns:
                self.began_ns = now_ns
            self.pending, self.candidate, self.since_ns = True, level, now_ns
        if now_ns - self.since_ns < debounce_ns:
            return None
        news = level or self.announced
        self.announced, self.known, self.pending = level, True, False
        return self.began_ns if news else None


class WatchState(StrEnum):
    STOPPED = "stopped"
    CONNECTING = "connecting"
    WATCHING = "watching"
    WAITING = "waiting"  # for the next attempt


class LoopWatcher:
    """Keeps one detector connected and turns its samples into events.

    The first event is RESTORED, once the detector has answered, or LOST if it does not answer at first; then they take
    turns. RESTORED bears the time of the first sample; a loop that is occupied in it follows as an ARRIVE of that time.
    occupied: loops of which an ARRIVE was told before, by another process; one that is free now follows as a LEAVE.
    """

    def __init__(
        self,
        detector: LoopDetector,
        *,
        debounce_ms: float,
        occupied: Collection[int] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.state = WatchState.STOPPED
        self.trouble: LoopError | None = None
        """Why the detector does not answer, told with LOST."""
        self._detector = detector
        self._debouncer = Debouncer(detector.loops, debounce_ms, occupied)
        self._clock = clock
        self._answers: bool | None = None
        self._restored_ns = 0
        self._settled_ns = 0
        self._asked = False

    @property
    def settled_ns(self) -> int:
        """Every event that began before this has been emitted. For any thread."""
        now_ns = self._clock()  # before the look whether it is asked: an answer is later
        return self._settled_ns if self._asked else now_ns

    def run(self, emit: Callable[[LoopEvent], None], stop: threading.Event, alive: Callable[[], None]) -> None:
        """Watch until `stop` is set, then close the detector.

        `alive` is called before each call of the driver and every ALIVE_EVERY_S of a wait. Raises the LoopError of the
        first attempt if a retry can't help; any other failure becomes an event and is tried again, for ever.
        """
        backoff = Backoff()
        try:
            while not stop.is_set():
                try:
                    self._watch(emit, stop, alive)
                except LoopError as error:
                    if self._answers is None and not error.retryable:
                        raise
                    if self._answers and self._clock() - self._restored_ns > STEADY_S * 1e9:
                        backoff.succeeded()
                    if self._answers is not False:
                        self._answers, self.trouble = False, error
                        emit(LoopEvent(LoopEventKind.LOST, 0, self._clock(), error.code))
                    self._asked = False
                    alive()
                    self._detector.close()
                    self._wait(backoff.failed() * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER), stop, alive)
        finally:
            self._detector.close()
            self.state = WatchState.STOPPED

    def _watch(self, emit: Callable[[LoopEvent], None], stop: threading.Event, alive: Callable[[], None]) -> None:
        """Connect and sample until `stop` is set. Raises a LoopError when the detector fails."""
        self.state = WatchState.CONNECTING
        alive()
        self._detector.connect()
        self._debouncer.start_over()
        self._settled_ns, self._asked = self._clock(), True
        next_s = time.monotonic()
        while not stop.is_set():
            alive()
            sample = self._detector.sample()
            if self.state is not WatchState.WATCHING:
                self.state = WatchState.WATCHING
                self._answers, self._restored_ns = True, self._clock()
                emit(LoopEvent(LoopEventKind.RESTORED, 0, sample.monotonic_ns))
            for event in self._debouncer.feed(sample):
                emit(event)
            self._settled_ns = self._debouncer.settled_ns
            now_s = time.monotonic()
            next_s = max(next_s + self._detector.poll_interval_s, now_s)
            time.sleep(next_s - now_s)

    def _wait(self, seconds: float, stop: threading.Event, alive: Callable[[], None]) -> None:
        self.state = WatchState.WAITING
        until_ns = self._clock() + round(seconds * 1e9)
        while (left_ns := until_ns - self._clock()) > 0 and not stop.is_set():
            alive()
            stop.wait(min(left_ns / 1e9, ALIVE_EVERY_S))
