"""Debounce, and the connection that is kept up; without a wire and without waiting."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.backoff import Backoff
from drivers.loop.base import LoopDetector, LoopEvent, LoopEventKind, LoopSample
from drivers.loop.watch import RETRY_JITTER, Debouncer, LoopWatcher, WatchState
from edge.errors import LoopError, LoopPortForbidden, LoopPortMissing, LoopSilent

ARRIVE, LEAVE, FAULT, CLEAR, LOST, RESTORED = LoopEventKind
MS = 1_000_000
LONGEST_RETRY_S = Backoff().cap_s
DEBOUNCE_MS = 20


def feed(debouncer: Debouncer, *samples: tuple[int, bool, bool]) -> list[tuple[LoopEventKind, int]]:
    """Samples of one loop are (ms, presence, fault); events come back as (kind, ms)."""
    events: list[tuple[LoopEventKind, int]] = []
    for at_ms, presence, fault in samples:
        sample = LoopSample(at_ms * MS, (presence,), (fault,))
        events += [(event.kind, event.monotonic_ns // MS) for event in debouncer.feed(sample)]
    return events


def levels(*runs: tuple[int, bool]) -> list[tuple[int, bool, bool]]:
    """A sample each ms: runs of (length in ms, presence)."""
    flat = [presence for length, presence in runs for _ in range(length)]
    return [(at_ms, presence, False) for at_ms, presence in enumerate(flat)]


def test_an_edge_bears_the_time_it_began() -> None:
    samples = levels((100, False), (100, True), (100, False))
    assert feed(Debouncer(1, DEBOUNCE_MS), *samples) == [(ARRIVE, 100), (LEAVE, 200)]


def test_a_contact_that_bounces_is_one_edge() -> None:
    samples = levels((50, False), (3, True), (2, False), (4, True), (1, False), (100, True), (5, False), (60, True))
    assert feed(Debouncer(1, DEBOUNCE_MS), *samples) == [(ARRIVE, 60)]


def test_a_line_that_bounces_at_start_is_believed_once_it_is_still() -> None:
    samples = levels((5, True), (5, False), (15, True), (30, False))
    assert feed(Debouncer(1, DEBOUNCE_MS), *samples) == []


def test_a_line_that_bounces_at_start_bears_the_time_of_the_first_sample() -> None:
    assert feed(Debouncer(1, DEBOUNCE_MS), *levels((1, False), (3, True), (1, False), (60, True))) == [(ARRIVE, 0)]


def test_a_loop_that_was_occupied_in_another_process_is_told_as_left_if_it_is_free_now() -> None:
    left, stayed = (Debouncer(1, DEBOUNCE_MS, occupied=(0,)) for _ in range(2))
    assert feed(left, *levels((30, False), (30, True))) == [(LEAVE, 0), (ARRIVE, 30)]
    assert feed(stayed, *levels((30, True), (30, False))) == [(ARRIVE, 0), (LEAVE, 30)]


def test_a_level_must_last_for_the_whole_debounce_time() -> None:
    assert feed(Debouncer(1, DEBOUNCE_MS), *levels((50, False), (20, True), (50, False))) == []
    assert feed(Debouncer(1, DEBOUNCE_MS), *levels((50, False), (21, True))) == [(ARRIVE, 50)]


def test_without_debounce_each_change_counts_at_once() -> None:
    assert feed(Debouncer(1, 0), *levels((1, False), (1, True), (1, False))) == [(ARRIVE, 1), (LEAVE, 2)]


def test_a_failing_loops_fault_comes_before_its_call() -> None:
    samples = [(at_ms, at_ms >= 50, at_ms >= 50) for at_ms in range(100)]
    assert feed(Debouncer(1, DEBOUNCE_MS), *samples) == [(FAULT, 50), (ARRIVE, 50)]


def test_after_an_outage_what_is_on_is_told_anew_and_what_went_off_as_off() -> None:
    debouncer = Debouncer(1, DEBOUNCE_MS)
    assert feed(debouncer, *[(at_ms, True, True) for at_ms in range(30)]) == [(FAULT, 0), (ARRIVE, 0)]
    debouncer.start_over()
    assert feed(debouncer, *[(at_ms, True, False) for at_ms in range(100, 130)]) == [(CLEAR, 100), (ARRIVE, 100)]


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=200))
def test_events_of_a_line_take_turns_and_never_come_from_the_future(steps: list[tuple[int, bool, bool]]) -> None:
    debouncer = Debouncer(1, DEBOUNCE_MS)
    at_ms, last = 0, {"presence": (LEAVE, -1), "fault": (CLEAR, -1)}
    for gap_ms, presence, fault in steps:
        at_ms += gap_ms
        for kind, began_ms in feed(debouncer, (at_ms, presence, fault)):
            line = "presence" if kind in (ARRIVE, LEAVE) else "fault"
            before, before_ms = last[line]
            assert kind != before
            assert before_ms < began_ms <= at_ms - DEBOUNCE_MS or (before_ms < 0 <= began_ms <= at_ms - DEBOUNCE_MS)
            last[line] = kind, began_ms


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=100))
def test_no_event_is_older_than_what_was_settled_before_it(steps: list[tuple[int, bool, bool]]) -> None:
    debouncer = Debouncer(1, DEBOUNCE_MS)
    at_ms = settled_ns = 0
    for gap_ms, presence, fault in steps:
        at_ms += gap_ms
        for event in debouncer.feed(LoopSample(at_ms * MS, (presence,), (fault,))):
            assert event.monotonic_ns >= settled_ns
        assert settled_ns <= debouncer.settled_ns <= at_ms * MS
        settled_ns = debouncer.settled_ns


def test_a_line_that_hums_from_the_first_sample_on_holds_up_nothing() -> None:
    debouncer = Debouncer(1, DEBOUNCE_MS)
    for at_ms in range(1000):
        debouncer.feed(LoopSample(at_ms * MS, (False,), (at_ms // 10 % 2 == 0,)))
        assert debouncer.settled_ns >= (at_ms - 2 * DEBOUNCE_MS) * MS


class Scripted(LoopDetector):
    """A detector that plays a script: samples, errors, and at its end it stops the watcher."""

    poll_interval_s = 0.0
    waits: "Waits"

    def __init__(self, *script: LoopSample | LoopError) -> None:
        self._script = list(script)
        self.stop = threading.Event()
        self.connects = self.closes = 0

    @property
    def loops(self) -> int:
        return 1

    def connect(self) -> None:
        self.connects += 1
        if not self._script:
            self.stop.set()
        elif isinstance(self._script[0], (LoopPortMissing, LoopPortForbidden)):
            raise self._script.pop(0)  # type: ignore[misc]

    def sample(self) -> LoopSample:
        if not self._script:
            self.stop.set()
            return self._last
        step = self._script.pop(0)
        if isinstance(step, LoopError):
            raise step
        self._last = step
        return step

    def close(self) -> None:
        self.closes += 1


class Waits:
    """A clock that moves only while somebody waits, and the stop event that waits on it."""

    def __init__(self, stop: threading.Event) -> None:
        self.now_ns = 0
        self.waits_s: list[float] = []
        self._stop = stop

    def clock(self) -> int:
        return self.now_ns

    def is_set(self) -> bool:
        return self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.now_ns += round(seconds * 1e9)
        return self._stop.is_set()


def run(detector: Scripted, alive: Callable[[], None] = lambda: None) -> tuple[list[LoopEvent], Waits, LoopWatcher]:
    events: list[LoopEvent] = []
    waits = detector.waits = Waits(detector.stop)
    watcher = LoopWatcher(detector, debounce_ms=0, clock=waits.clock)
    watcher.run(events.append, waits, alive)  # type: ignore[arg-type]
    return events, waits, watcher


def sample(at_ms: int, presence: bool) -> LoopSample:
    return LoopSample(at_ms * MS, (presence,), (False,))


def test_a_loop_that_is_occupied_at_start_arrives_with_the_first_answer() -> None:
    events, _, watcher = run(Scripted(sample(5, True), sample(6, True), sample(9, False)))
    assert [(event.kind, event.monotonic_ns // MS) for event in events] == [(RESTORED, 5), (ARRIVE, 5), (LEAVE, 9)]
    assert watcher.state is WatchState.STOPPED


def test_nothing_is_settled_until_it_is_clear_whether_a_change_holds_and_all_is_while_nobody_answers() -> None:
    samples = sample(10, False), sample(20, False), sample(21, True), sample(22, True)
    detector = Scripted(*samples, LoopSilent("no answer"))
    settled: list[int] = []
    watcher = LoopWatcher(detector, debounce_ms=5, clock=lambda: 90 * MS)

    def note() -> None:
        settled.append(watcher.settled_ns // MS)
        if len(settled) == 7:
            detector.stop.set()

    watcher.run(lambda event: None, detector.stop, note)
    assert settled == [90, 90, 10, 20, 21, 21, 90]


def test_an_outage_is_lost_once_and_restored_once_however_many_attempts_it_takes() -> None:
    detector = Scripted(
        sample(1, False), LoopSilent("no answer"), LoopPortMissing("gone"), LoopPortForbidden("not yet"),
        LoopSilent("no answer"), sample(2, False),
    )  # fmt: skip
    events, _, _ = run(detector)
    assert [event.kind for event in events] == [RESTORED, LOST, RESTORED]
    assert events[1].detail == "LOOP-06"
    assert detector.closes >= 4


def test_a_detector_that_is_not_there_at_start_is_lost_and_waited_for() -> None:
    events, _, _ = run(Scripted(LoopPortMissing("not plugged in"), sample(1, False)))
    assert [event.kind for event in events] == [LOST, RESTORED]


def test_a_first_failure_that_no_retry_can_help_is_the_callers() -> None:
    detector = Scripted(LoopPortForbidden("no permission"))
    with pytest.raises(LoopPortForbidden):
        run(detector)
    assert detector.closes == 1


def test_waits_grow_to_a_cap_with_jitter_and_the_watcher_says_it_is_alive() -> None:
    alive: list[int] = []
    _, waits, _ = run(Scripted(*[LoopPortMissing("gone")] * 12, sample(1, False)), lambda: alive.append(1))
    longest_s = LONGEST_RETRY_S * (1 + RETRY_JITTER)
    assert sum(waits.waits_s) > 4 * LONGEST_RETRY_S * (1 - RETRY_JITTER)
    assert sum(waits.waits_s) < 12 * longest_s
    assert max(waits.waits_s) <= 0.5
    assert len(alive) >= len(waits.waits_s)


def test_the_watcher_says_that_it_connects_before_a_call_that_may_take_long() -> None:
    states: list[WatchState] = []
    detector = Scripted(LoopPortMissing("gone"), sample(1, False), sample(2, False))
    watcher = LoopWatcher(detector, debounce_ms=0)
    watcher.run(lambda event: None, detector.stop, lambda: states.append(watcher.state))
    connecting, waiting, watching = WatchState.CONNECTING, WatchState.WAITING, WatchState.WATCHING
    assert [state for state in states if state is not waiting] == [connecting] * 4 + [watching] * 2


def test_after_answering_for_long_a_detector_is_first_tried_again_soon() -> None:
    class Slow(Scripted):
        def sample(self) -> LoopSample:
            self.waits.now_ns += 6 * 10**9
            return super().sample()

    answers = [sample(n, False) for n in range(4)]
    _, waits, _ = run(Slow(*[LoopPortMissing("gone")] * 6, *answers, LoopSilent("no answer"), sample(9, False)))
    assert waits.waits_s[-1] <= Backoff().first_s * (1 + RETRY_JITTER)


def test_a_detector_that_answers_now_and_then_is_not_asked_ever_faster() -> None:
    flapping = [step for n in range(8) for step in (sample(n, False), LoopSilent("no answer"))]
    _, waits, _ = run(Scripted(*flapping))
    assert sum(waits.waits_s) > 2 * LONGEST_RETRY_S * (1 - RETRY_JITTER)
