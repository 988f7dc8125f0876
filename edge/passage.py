"""Loop events and time in, visits out: which calls of the detector are one vehicle. Pure: no I/O, no clock, no thread.

Two layers. Each loop's call is free, live, or spent: a call that a fault made, or that has had its visit already, is
spent, and opens no visit until it ends. Live calls become signals, and TRANSITIONS says what a signal does to the
lane; a pair that is not in the table changes nothing. docs/passage.md explains it for people.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from drivers.loop.base import LoopEvent, LoopEventKind
from edge.record import Ending

MIN_SPEED_KMH = 8.0
MAX_SPEED_KMH = 190.0
MIN_TIMING_NS = 20_000_000
"""Times on and between the loops shorter than this give no speed."""
MAX_DURATION_DIFFERENCE = 0.10
"""The two loops must have been occupied equally long, within this share of the longer time, to give a speed."""
UNKNOWN_SPACING_M = 4.0
"""Taken for two loops of unknown spacing, only to bound the wait for a short vehicle between them."""


@dataclass(frozen=True, slots=True)
class PassageSettings:
    """loops: 1 or 2; gate_time_s: longest visit; spacing_m: between the leading edges of two loops, None if unknown."""

    loops: int = 1
    gate_time_s: float = 120
    spacing_m: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """One visit of one vehicle; CLOCK_MONOTONIC ns.

    departure_ns and ending are None while it is open. restarted: the loop was occupied already when the detector began
    to answer, so that arrival_ns is later than the real one. direction ("forward", "reverse", "unknown") and speed_kmh
    (not evidential) are known when it is closed, and only from two loops. loop_faults: loops that were at fault at any
    time of the visit.
    """

    id: bytes
    arrival_ns: int
    departure_ns: int | None = None
    ending: Ending | None = None
    restarted: bool = False
    direction: str = "unknown"
    speed_kmh: float | None = None
    loop_faults: tuple[int, ...] = ()


class FaultKind(StrEnum):
    DETECTOR = "detector"  # the detector reports a fault of the loop
    STUCK = "stuck-on"  # one call has stood on the loop for the gate time
    LOST = "lost"  # the detector does not answer


@dataclass(frozen=True, slots=True)
class Opened:
    passage: Passage


@dataclass(frozen=True, slots=True)
class Closed:
    passage: Passage


@dataclass(frozen=True, slots=True)
class FaultChanged:
    """A fault began or ended. `loop` is None for LOST; `detail` is the error code for LOST, else empty."""

    fault: FaultKind
    active: bool
    at_ns: int
    loop: int | None = None
    detail: str = ""


Change = Opened | Closed | FaultChanged


class State(StrEnum):
    BLIND = "blind"  # the detector does not answer: before the first RESTORED, and after LOST
    EMPTY = "empty"  # no live call
    VISIT = "visit"  # a visit is open, a live call stands
    BETWEEN = "between"  # a visit is open, the vehicle has left one of two loops and has not reached the other


class Signal(StrEnum):
    RESTORED = "restored"  # the detector answers
    START = "start"  # a live call began on a loop that is not yet part of the visit
    SECOND_START = "second start"  # ... on a loop that is part of the visit already
    STOP = "stop"  # a live call ended; nothing live is left, and nothing more is expected
    STOP_MIDWAY = "stop midway"  # ... and the vehicle may still be on its way to the other loop
    NOT_REACHED = "not reached"  # it did not reach the other loop in the time that MIN_SPEED_KMH allows
    GATE_TIME = "gate time"  # the visit has lasted for the gate time
    FAULT = "fault"  # the detector reports a fault of any loop
    LOST = "lost"  # the detector does not answer any more
    SHUTDOWN = "shutdown"  # the daemon stops


class Transition(NamedTuple):
    """The next state, and first the visit that it closes and the one that it opens."""

    to: State
    closes: Ending | None = None
    opens: bool = False


TRANSITIONS: Mapping[tuple[State, Signal], Transition] = {
    (State.BLIND, Signal.RESTORED): Transition(State.EMPTY),
    (State.EMPTY, Signal.START): Transition(State.VISIT, opens=True),
    (State.EMPTY, Signal.LOST): Transition(State.BLIND),
    (State.EMPTY, Signal.SHUTDOWN): Transition(State.BLIND),
    (State.VISIT, Signal.START): Transition(State.VISIT),
    (State.VISIT, Signal.SECOND_START): Transition(State.VISIT, closes=Ending.NEXT, opens=True),
    (State.VISIT, Signal.STOP): Transition(State.EMPTY, closes=Ending.LEFT),
    (State.VISIT, Signal.STOP_MIDWAY): Transition(State.BETWEEN),
    (State.VISIT, Signal.GATE_TIME): Transition(State.EMPTY, closes=Ending.GATE_TIME),
    (State.VISIT, Signal.FAULT): Transition(State.EMPTY, closes=Ending.FAULT),
    (State.VISIT, Signal.LOST): Transition(State.BLIND, closes=Ending.LOST),
    (State.VISIT, Signal.SHUTDOWN): Transition(State.BLIND, closes=Ending.STOPPED),
    (State.BETWEEN, Signal.START): Transition(State.VISIT),
    (State.BETWEEN, Signal.SECOND_START): Transition(State.VISIT, closes=Ending.LEFT, opens=True),
    (State.BETWEEN, Signal.NOT_REACHED): Transition(State.EMPTY, closes=Ending.LEFT),
    (State.BETWEEN, Signal.FAULT): Transition(State.EMPTY, closes=Ending.LEFT),
    (State.BETWEEN, Signal.LOST): Transition(State.BLIND, closes=Ending.LEFT),
    (State.BETWEEN, Signal.SHUTDOWN): Transition(State.BLIND, closes=Ending.LEFT),
}


class PassageMachine:
    """Feed it every event of one LoopWatcher in order, and tick() when next_deadline_ns has come and no event from
    before it can follow (`LoopWatcher.settled_ns`: an event is believed some time after it began).

    `new_id` gives 16 random bytes for each visit. Visits never overlap: at most one is open. Deadlines that lie before
    an event are met before it, so the result does not depend on when tick() is called. `spent` and `stuck`: of an
    earlier machine, when it ended.
    """

    def __init__(
        self,
        settings: PassageSettings,
        *,
        new_id: Callable[[], bytes],
        spent: Collection[int] = (),
        stuck: Collection[int] = (),
    ) -> None:
        self.state = State.BLIND
        self._settings = settings
        self._gate_time_ns = round(settings.gate_time_s * 1e9)
        self._new_id = new_id
        self._loops = tuple(
            _Loop(_Call.SPENT if loop in {*spent, *stuck} else _Call.FREE, stuck=loop in stuck)
            for loop in range(settings.loops)
        )
        self._visit: _Visit | None = None
        self._lost = False
        self.sighted_ns = 0
        """When the detector began to answer, last time."""

    @property
    def spent(self) -> tuple[int, ...]:
        """Loops whose call opens no visit until it ends; those that are stuck on are among them."""
        return tuple(number for number, loop in enumerate(self._loops) if loop.call is _Call.SPENT)

    @property
    def stuck(self) -> tuple[int, ...]:
        """Loops that are declared stuck on."""
        return tuple(number for number, loop in enumerate(self._loops) if loop.stuck)

    @property
    def left_ns(self) -> int | None:
        """When the vehicle of the open visit left its last loop, while it may be on its way to the other; else None."""
        return self._visit.last_stop_ns if self.state is State.BETWEEN and self._visit is not None else None

    @property
    def next_deadline_ns(self) -> int | None:
        """When tick() is next needed, or None."""
        stuck_ns = None if self.state is State.BLIND else map(self._stuck_ns, self._loops)
        due_ns = [at_ns for at_ns in (self._visit_deadline_ns, *(stuck_ns or ())) if at_ns is not None]
        return min(due_ns, default=None)

    @property
    def _visit_deadline_ns(self) -> int | None:
        if self._visit is None:
            return None
        if self.state is State.BETWEEN:
            spacing_m = self._settings.spacing_m or UNKNOWN_SPACING_M
            return self._visit.last_stop_ns + round(spacing_m * 3.6e9 / MIN_SPEED_KMH)
        return self._visit.arrival_ns + self._gate_time_ns

    def _stuck_ns(self, loop: "_Loop") -> int | None:
        """When a spent call has stood, as far as it was seen to, for the gate time."""
        if loop.call is not _Call.SPENT or loop.stuck:
            return None
        return max(loop.since_ns, self.sighted_ns) + self._gate_time_ns

    def tick(self, now_ns: int) -> tuple[Change, ...]:
        """What the passing of time changes. Events from before `now_ns` must have been given to on()."""
        changes: tuple[Change, ...] = ()
        while (deadline_ns := self.next_deadline_ns) is not None and deadline_ns <= now_ns:
            changes += self._meet(deadline_ns)
        return changes

    def _meet(self, deadline_ns: int) -> tuple[Change, ...]:
        stuck = [number for number, loop in enumerate(self._loops) if self._stuck_ns(loop) == deadline_ns]
        changes: tuple[Change, ...] = ()
        if self._visit_deadline_ns == deadline_ns:
            stuck += [number for number, loop in enumerate(self._loops) if loop.call is _Call.LIVE]
            changes = self._apply(Signal.NOT_REACHED if self.state is State.BETWEEN else Signal.GATE_TIME, deadline_ns)
        for number in stuck:
            self._loops[number].call, self._loops[number].stuck = _Call.SPENT, True
        self._note_faults()
        return (*changes, *(FaultChanged(FaultKind.STUCK, True, deadline_ns, number) for number in stuck))

    def on(self, event: LoopEvent) -> tuple[Change, ...]:
        """What one event changes, after what was due before it. Raises IndexError for a loop that was not announced."""
        changes = self.tick(event.monotonic_ns)
        match event.kind:
            case LoopEventKind.ARRIVE:
                return changes + self._on_arrive(event)
            case LoopEventKind.LEAVE:
                return changes + self._on_leave(event)
            case LoopEventKind.FAULT:
                return changes + self._on_fault(event)
            case LoopEventKind.CLEAR:
                return changes + self._on_clear(event)
            case LoopEventKind.LOST:
                return changes + self._on_lost(event)
            case LoopEventKind.RESTORED:
                return changes + self._on_restored(event)

    def stop(self, now_ns: int) -> tuple[Change, ...]:
        """Close what is open, because the daemon stops."""
        changes = self.tick(now_ns) + self._apply(Signal.SHUTDOWN, now_ns)
        self._end_live_calls(_Call.FREE)
        return changes

    def _on_arrive(self, event: LoopEvent) -> tuple[Change, ...]:
        loop, now_ns = self._loops[event.loop], event.monotonic_ns
        if self.state is State.BLIND:
            return ()
        stood_before = now_ns <= self.sighted_ns
        if loop.fault or (loop.call is _Call.SPENT and stood_before):
            loop.call, loop.since_ns = _Call.SPENT, now_ns
            return ()
        changes = self._release(event)  # it has a second start, so the end of a spent call was missed
        loop.call, loop.since_ns = _Call.LIVE, now_ns
        again = self._visit is not None and event.loop in self._visit.starts
        changes += self._apply(Signal.SECOND_START if again else Signal.START, now_ns, event.loop)
        return changes

    def _on_leave(self, event: LoopEvent) -> tuple[Change, ...]:
        loop, now_ns = self._loops[event.loop], event.monotonic_ns
        if loop.call is not _Call.LIVE or self._visit is None:
            return self._release(event)
        loop.call = _Call.FREE
        self._visit.stops[event.loop] = now_ns
        if any(other.call is _Call.LIVE for other in self._loops):
            return ()
        reachable = any(
            number not in self._visit.starts and not other.fault and not other.stuck
            for number, other in enumerate(self._loops)
        )
        return self._apply(Signal.STOP_MIDWAY if reachable else Signal.STOP, now_ns)

    def _release(self, event: LoopEvent) -> tuple[Change, ...]:
        loop = self._loops[event.loop]
        was_stuck, loop.stuck, loop.call = loop.stuck, False, _Call.FREE
        return (FaultChanged(FaultKind.STUCK, False, event.monotonic_ns, event.loop),) if was_stuck else ()

    def _on_fault(self, event: LoopEvent) -> tuple[Change, ...]:
        loop = self._loops[event.loop]
        if loop.fault:
            return ()
        loop.fault = True
        self._note_faults()
        change = FaultChanged(FaultKind.DETECTOR, True, event.monotonic_ns, event.loop)
        changes = (*self._apply(Signal.FAULT, event.monotonic_ns), change)
        self._end_live_calls(_Call.SPENT)
        return changes

    def _on_clear(self, event: LoopEvent) -> tuple[Change, ...]:
        loop = self._loops[event.loop]
        if not loop.fault:
            return ()
        loop.fault = False
        return (FaultChanged(FaultKind.DETECTOR, False, event.monotonic_ns, event.loop),)

    def _on_lost(self, event: LoopEvent) -> tuple[Change, ...]:
        if self._lost:
            return ()
        self._lost = True
        changes = self._apply(Signal.LOST, event.monotonic_ns)
        self._end_live_calls(_Call.FREE)
        return (*changes, FaultChanged(FaultKind.LOST, True, event.monotonic_ns, detail=event.detail))

    def _on_restored(self, event: LoopEvent) -> tuple[Change, ...]:
        was_lost, self._lost = self._lost, False
        if self.state is State.BLIND:
            self.sighted_ns = event.monotonic_ns
        changes = self._apply(Signal.RESTORED, event.monotonic_ns)
        return (*changes, FaultChanged(FaultKind.LOST, False, event.monotonic_ns)) if was_lost else changes

    def _apply(self, signal: Signal, now_ns: int, loop: int = 0) -> tuple[Change, ...]:
        transition = TRANSITIONS.get((self.state, signal))
        if transition is None:
            return ()
        changes: list[Change] = []
        if transition.closes is not None and self._visit is not None:
            departure_ns = self._visit.last_stop_ns if self.state is State.BETWEEN else now_ns
            changes.append(Closed(self._visit.closed(departure_ns, transition.closes, self._settings.spacing_m)))
            self._visit = None
        if transition.opens:
            self._end_live_calls(_Call.SPENT, but=loop)
            self._visit = _Visit(self._new_id(), now_ns, restarted=now_ns <= self.sighted_ns)
            self._note_faults()
            changes.append(Opened(self._visit.passage()))
        if signal in (Signal.START, Signal.SECOND_START) and self._visit is not None:
            self._visit.starts[loop] = now_ns
        self.state = transition.to
        return tuple(changes)

    def _end_live_calls(self, call: "_Call", but: int | None = None) -> None:
        for number, loop in enumerate(self._loops):
            if loop.call is _Call.LIVE and number != but:
                loop.call = call

    def _note_faults(self) -> None:
        if self._visit is not None:
            self._visit.faults.update(number for number, loop in enumerate(self._loops) if loop.fault or loop.stuck)


def speed_kmh(spacing_m: float, elapsed_ns: tuple[int, int], durations_ns: tuple[int, int]) -> float | None:
    """Speed over two loops: spacing / mean of the times between their starts and between their stops.

    None where the loops do not agree (MAX_DURATION_DIFFERENCE), a time is too short to be measured (MIN_TIMING_NS), or
    the result lies outside MIN_SPEED_KMH to MAX_SPEED_KMH.
    """
    shorter_ns, longer_ns = sorted(durations_ns)
    if min(shorter_ns, *elapsed_ns) < MIN_TIMING_NS or longer_ns - shorter_ns > MAX_DURATION_DIFFERENCE * longer_ns:
        return None
    speed = spacing_m * 3.6e9 / (sum(elapsed_ns) / 2)
    return speed if MIN_SPEED_KMH <= speed <= MAX_SPEED_KMH else None


class _Call(StrEnum):
    FREE = "free"
    LIVE = "live"
    SPENT = "spent"


@dataclass(slots=True)
class _Loop:
    call: _Call = _Call.FREE
    fault: bool = False
    stuck: bool = False
    since_ns: int = 0
    """When the call began, if it was seen to."""


@dataclass(slots=True)
class _Visit:
    """The open visit. starts and stops: monotonic ns by loop; each loop has at most one of each."""

    id: bytes
    arrival_ns: int
    restarted: bool
    starts: dict[int, int] = field(default_factory=dict)
    stops: dict[int, int] = field(default_factory=dict)
    faults: set[int] = field(default_factory=set)

    @property
    def last_stop_ns(self) -> int:
        return max(self.stops.values())

    def passage(self) -> Passage:
        return Passage(self.id, self.arrival_ns, restarted=self.restarted, loop_faults=tuple(sorted(self.faults)))

    def closed(self, departure_ns: int, ending: Ending, spacing_m: float | None) -> Passage:
        forward, speed = self._travel(spacing_m)
        return replace(
            self.passage(),
            departure_ns=departure_ns,
            ending=ending,
            direction={None: "unknown", True: "forward", False: "reverse"}[forward],
            speed_kmh=speed,
        )

    def _travel(self, spacing_m: float | None) -> tuple[bool | None, float | None]:
        """Forward (None: unknown) and speed. A vehicle that came in and went out over the same loop went nowhere."""
        if self.restarted or len(self.starts) < 2 or self.starts[0] == self.starts[1]:
            return None, None
        forward = self.starts[1] > self.starts[0]
        if len(self.stops) < 2:
            return forward, None
        first, second = (0, 1) if forward else (1, 0)
        elapsed_ns = self.starts[second] - self.starts[first], self.stops[second] - self.stops[first]
        if elapsed_ns[1] <= 0:
            return None, None
        durations_ns = self.stops[0] - self.starts[0], self.stops[1] - self.starts[1]
        return forward, None if spacing_m is None else speed_kmh(spacing_m, elapsed_ns, durations_ns)
