"""Which calls of the detector are one vehicle."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.loop.base import LoopEvent, LoopEventKind, LoopSample
from drivers.loop.watch import Debouncer
from edge.passage import (
    TRANSITIONS,
    Change,
    Closed,
    FaultChanged,
    FaultKind,
    Opened,
    Passage,
    PassageMachine,
    PassageSettings,
    Signal,
    State,
    speed_kmh,
)
from edge.record import Ending

ARRIVE, LEAVE, FAULT, CLEAR, LOST, RESTORED = LoopEventKind
MS = 1_000_000
GATE_S = 10.0


def machine(
    loops: int = 1, spacing_m: float | None = None, spent: tuple[int, ...] = (), stuck: tuple[int, ...] = ()
) -> PassageMachine:
    numbers = count(1)
    settings = PassageSettings(loops, GATE_S, spacing_m)
    return PassageMachine(settings, new_id=lambda: next(numbers).to_bytes(16), spent=spent, stuck=stuck)


def play(made: PassageMachine, *steps: tuple[LoopEventKind | str, int, int]) -> list[Change]:
    """Steps are (event, loop, ms); the event "tick" lets time pass, "stop" stops the machine."""
    changes: list[Change] = []
    for kind, loop, at_ms in steps:
        if kind == "tick":
            changes += made.tick(at_ms * MS)
        elif kind == "stop":
            changes += made.stop(at_ms * MS)
        else:
            changes += made.on(LoopEvent(LoopEventKind(kind), loop, at_ms * MS, "LOOP-05" if kind == LOST else ""))
    return changes


def closed(changes: list[Change]) -> list[Passage]:
    return [change.passage for change in changes if isinstance(change, Closed)]


def endings(changes: list[Change]) -> list[Ending | None]:
    return [passage.ending for passage in closed(changes)]


def opened(changes: list[Change]) -> int:
    return sum(isinstance(change, Opened) for change in changes)


def faults(changes: list[Change]) -> list[tuple[FaultKind, bool]]:
    return [(change.fault, change.active) for change in changes if isinstance(change, FaultChanged)]


def test_a_vehicle_is_one_visit_from_its_arrival_to_its_departure() -> None:
    changes = play(machine(), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (LEAVE, 0, 1400))
    assert changes == [
        Opened(Passage((1).to_bytes(16), 1000 * MS)),
        Closed(Passage((1).to_bytes(16), 1000 * MS, 1400 * MS, Ending.LEFT)),
    ]


def test_a_standing_vehicle_is_one_visit_until_the_gate_time() -> None:
    lane = machine()
    changes = play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), ("tick", 0, 10_999))
    assert closed(changes) == []
    assert lane.next_deadline_ns == 11_000 * MS


def test_a_loop_that_is_stuck_on_is_a_declared_fault_and_no_flood_of_visits() -> None:
    lane = machine()
    changes = play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), *(("tick", 0, 11_000 + 500 * n) for n in range(100)))
    assert endings(changes) == [Ending.GATE_TIME]
    assert faults(changes) == [(FaultKind.STUCK, True)]
    assert lane.next_deadline_ns is None
    changes = play(lane, (LEAVE, 0, 70_000), (ARRIVE, 0, 71_000))
    assert faults(changes) == [(FaultKind.STUCK, False)]
    assert opened(changes) == 1


def test_a_stop_before_any_start_is_ignored() -> None:
    assert play(machine(), (RESTORED, 0, 0), (LEAVE, 0, 500)) == []


def test_a_second_start_closes_the_visit_and_opens_another() -> None:
    changes = play(machine(), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (ARRIVE, 0, 2000), (LEAVE, 0, 2500))
    assert endings(changes) == [Ending.NEXT, Ending.LEFT]
    assert [passage.departure_ns for passage in closed(changes)] == [2000 * MS, 2500 * MS]


def test_a_fault_closes_the_visit_and_its_call_is_no_vehicle_even_when_the_fault_is_over() -> None:
    changes = play(machine(), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (FAULT, 0, 1200), (CLEAR, 0, 5000), (LEAVE, 0, 6000))
    assert [(passage.ending, passage.loop_faults) for passage in closed(changes)] == [(Ending.FAULT, (0,))]
    assert opened(changes) == 1
    assert faults(changes) == [(FaultKind.DETECTOR, True), (FaultKind.DETECTOR, False)]


def test_calls_during_a_fault_are_never_vehicles() -> None:
    lane = machine()
    changes = play(lane, (RESTORED, 0, 0), (FAULT, 0, 500), (ARRIVE, 0, 600), (LEAVE, 0, 900), (ARRIVE, 0, 950))
    assert opened(changes) == 0
    changes = play(lane, (CLEAR, 0, 1000), (LEAVE, 0, 1100), (ARRIVE, 0, 2000))
    assert opened(changes) == 1


def test_of_two_loops_the_sound_one_goes_on_alone() -> None:
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0), (FAULT, 0, 100), (ARRIVE, 0, 200), (ARRIVE, 1, 1000), (LEAVE, 1, 1500)
    )
    assert closed(changes) == [
        Passage((1).to_bytes(16), 1000 * MS, 1500 * MS, Ending.LEFT, loop_faults=(0,)),
    ]


def test_losing_the_detector_closes_the_visit_and_what_stands_there_later_is_a_restarted_one() -> None:
    changes = play(
        machine(), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (LOST, 0, 2000), (LOST, 0, 2500), (RESTORED, 0, 5000),
        (ARRIVE, 0, 5000), (LEAVE, 0, 6000),
    )  # fmt: skip
    assert [(passage.ending, passage.restarted) for passage in closed(changes)] == [
        (Ending.LOST, False),
        (Ending.LEFT, True),
    ]
    assert [change for change in changes if isinstance(change, FaultChanged)] == [
        FaultChanged(FaultKind.LOST, True, 2000 * MS, None, "LOOP-05"),
        FaultChanged(FaultKind.LOST, False, 5000 * MS),
    ]


def test_a_loop_that_is_occupied_at_start_opens_a_visit_marked_restarted() -> None:
    changes = play(machine(), (RESTORED, 0, 3000), (ARRIVE, 0, 3000), (LEAVE, 0, 4000), (ARRIVE, 0, 5000))
    assert [change.passage.restarted for change in changes if isinstance(change, Opened)] == [True, False]


def test_a_detector_that_does_not_answer_at_start_is_a_declared_fault() -> None:
    changes = play(machine(), (LOST, 0, 100), (RESTORED, 0, 900))
    assert faults(changes) == [(FaultKind.LOST, True), (FaultKind.LOST, False)]


def test_a_stuck_loop_stays_stuck_across_an_outage_without_new_visits() -> None:
    steps: list[tuple[LoopEventKind | str, int, int]] = [(RESTORED, 0, 0), (ARRIVE, 0, 1000), ("tick", 0, 11_000)]
    for n in range(20):
        steps += [(LOST, 0, 12_000 + n * 100), (RESTORED, 0, 12_050 + n * 100), (ARRIVE, 0, 12_050 + n * 100)]
    changes = play(machine(), *steps)
    assert opened(changes) == 1


def test_a_stuck_loop_stays_stuck_across_a_restart_without_new_visits() -> None:
    lane = machine()
    play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), ("tick", 0, 11_000), ("stop", 0, 12_000))
    assert lane.stuck == (0,)
    after = machine(stuck=lane.stuck)
    assert play(after, (RESTORED, 0, 20_000), (ARRIVE, 0, 20_000), ("tick", 0, 60_000)) == []
    assert after.stuck == (0,)
    changes = play(after, (LEAVE, 0, 70_000), (ARRIVE, 0, 71_000))
    assert (faults(changes), opened(changes), after.stuck) == ([(FaultKind.STUCK, False)], 1, ())


def test_a_stuck_loop_that_is_free_after_a_restart_is_sound_again() -> None:
    after, debouncer, changes = machine(stuck=(0,)), Debouncer(1, 20, occupied=(0,)), list[Change]()
    changes += after.on(LoopEvent(RESTORED, 0, 0))
    for at_ms in range(300):
        for event in debouncer.feed(LoopSample(at_ms * MS, (100 <= at_ms < 200,), (False,))):
            changes += after.on(event)
    assert faults(changes) == [(FaultKind.STUCK, False)]
    assert [(passage.restarted, passage.ending) for passage in closed(changes)] == [(False, Ending.LEFT)]


@pytest.mark.parametrize(
    "steps",
    [
        [(RESTORED, 0, 0), (ARRIVE, 0, 1000), (FAULT, 0, 2000), (CLEAR, 0, 3000)],  # closed by a fault
        [(RESTORED, 0, 0), (ARRIVE, 0, 1000), (ARRIVE, 1, 1500), (ARRIVE, 1, 2000), (LEAVE, 1, 2500)],  # by the next
        [(RESTORED, 0, 0), (FAULT, 0, 1000), (ARRIVE, 0, 1000), (CLEAR, 0, 2000)],  # a fault's call
    ],
)
def test_what_stands_on_a_spent_loop_across_a_restart_makes_no_second_visit(
    steps: list[tuple[LoopEventKind | str, int, int]],
) -> None:
    lane = machine(2)
    play(lane, *steps)
    assert lane.spent == (0,)
    after = machine(2, spent=lane.spent)
    assert play(after, (RESTORED, 0, 20_000), (ARRIVE, 0, 20_000), ("tick", 0, 29_000), (LEAVE, 0, 29_500)) == []
    assert (opened(play(after, (ARRIVE, 0, 31_000))), after.spent) == (1, ())


def test_a_spent_call_that_stands_for_the_gate_time_is_stuck_on_and_so_it_is_after_a_restart() -> None:
    lane = machine()
    changes = play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), (FAULT, 0, 2000), (CLEAR, 0, 3000), ("tick", 0, 10_999))
    assert (faults(changes)[-1], lane.stuck) == ((FaultKind.DETECTOR, False), ())
    after = machine(spent=lane.spent)
    assert play(after, (LOST, 0, 12_000), ("tick", 0, 40_000), (RESTORED, 0, 50_000), (ARRIVE, 0, 50_000))[2:] == []
    for made, at_ms in ((lane, 11_000), (after, 60_000)):
        assert made.next_deadline_ns == at_ms * MS
        assert play(made, ("tick", 0, 99_000)) == [FaultChanged(FaultKind.STUCK, True, at_ms * MS, 0)]
        assert (made.spent, made.stuck, made.next_deadline_ns) == ((0,), (0,), None)
        assert faults(play(made, (LEAVE, 0, 100_000))) == [(FaultKind.STUCK, False)]


def test_a_loop_that_is_found_stuck_on_while_a_vehicle_is_on_the_other_is_a_fault_of_its_visit() -> None:
    lane = machine(2)
    changes = play(
        lane, (RESTORED, 0, 0), (FAULT, 0, 500), (ARRIVE, 0, 1000), (CLEAR, 0, 2000), (ARRIVE, 1, 3000),
        (LEAVE, 1, 12_000),
    )  # fmt: skip
    assert [(passage.ending, passage.loop_faults) for passage in closed(changes)] == [(Ending.LEFT, (0,))]
    assert lane.stuck == (0,)


def test_a_call_that_a_killed_process_saw_live_is_not_spent() -> None:
    lane = machine()
    play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000))
    assert lane.spent == ()


def test_stopping_closes_what_is_open() -> None:
    lane = machine()
    changes = play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), ("stop", 0, 1700))
    assert [(passage.ending, passage.departure_ns) for passage in closed(changes)] == [(Ending.STOPPED, 1700 * MS)]
    assert play(lane, ("stop", 0, 1800)) == []


@pytest.mark.parametrize(("first", "direction"), [(0, "forward"), (1, "reverse")])
def test_two_loops_give_direction_and_speed(first: int, direction: str) -> None:
    second = 1 - first
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0), (ARRIVE, first, 1000), (ARRIVE, second, 1270), (LEAVE, first, 1500),
        (LEAVE, second, 1770),
    )  # fmt: skip
    (passage,) = closed(changes)
    assert (passage.direction, passage.departure_ns) == (direction, 1770 * MS)
    assert passage.speed_kmh == pytest.approx(40.0)


def test_a_short_vehicle_between_the_loops_is_one_visit() -> None:
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (LEAVE, 0, 1200), (ARRIVE, 1, 1270), (LEAVE, 1, 1470)
    )
    (passage,) = closed(changes)
    assert (passage.direction, passage.speed_kmh) == ("forward", pytest.approx(40.0))


@pytest.mark.parametrize("debounce_ms", [0, 20, 500])
def test_a_vehicle_whose_arrival_is_believed_after_the_deadline_that_it_met_is_one_visit(debounce_ms: int) -> None:
    lane, debouncer, changes = machine(2, 3.0), Debouncer(2, debounce_ms), list[Change]()
    changes += lane.on(LoopEvent(RESTORED, 0, 0))
    for at_ms in range(0, 6000, 10):
        presence = 1000 <= at_ms < 2000, 3340 <= at_ms < 4340  # 3 m at 8 km/h are 1350 ms
        for event in debouncer.feed(LoopSample(at_ms * MS, presence, (False, False))):
            changes += lane.on(event)
        changes += lane.tick(debouncer.settled_ns)
    assert [(passage.direction, passage.ending) for passage in closed(changes)] == [("forward", Ending.LEFT)]


def test_a_vehicle_that_backs_out_has_no_direction_and_departed_when_it_left_the_loop() -> None:
    lane = machine(2, 3.0)
    changes = play(lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), (LEAVE, 0, 2000))
    assert closed(changes) == []
    assert (lane.left_ns, lane.next_deadline_ns) == (2000 * MS, 3350 * MS)  # 3 m at 8 km/h
    (passage,) = closed(play(lane, ("tick", 0, 3350)))
    assert (passage.ending, passage.direction, passage.departure_ns) == (Ending.LEFT, "unknown", 2000 * MS)


def test_a_vehicle_that_came_and_went_over_the_first_loop_has_no_direction() -> None:
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (ARRIVE, 1, 1270), (LEAVE, 1, 1500), (LEAVE, 0, 1900)
    )
    assert [(passage.direction, passage.speed_kmh) for passage in closed(changes)] == [("unknown", None)]


def test_a_vehicle_close_behind_is_a_visit_of_its_own() -> None:
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0),
        (ARRIVE, 0, 1000), (ARRIVE, 1, 1270), (LEAVE, 0, 1500), (ARRIVE, 0, 1600), (LEAVE, 1, 1770),
        (ARRIVE, 1, 1870), (LEAVE, 0, 2100), (LEAVE, 1, 2370),
    )  # fmt: skip
    assert [(passage.ending, passage.direction) for passage in closed(changes)] == [
        (Ending.NEXT, "forward"),
        (Ending.LEFT, "forward"),
    ]


def test_what_the_vehicle_before_still_occupies_does_not_hold_the_next_visit_open() -> None:
    lane = machine(2, 3.0)
    changes = play(
        lane, (RESTORED, 0, 0), (ARRIVE, 0, 1000), (ARRIVE, 1, 1270), (LEAVE, 0, 1500),  # stands on the second loop
        (ARRIVE, 0, 3000), (LEAVE, 0, 4000), ("tick", 0, 9000),  # another comes, and backs out again
    )  # fmt: skip
    assert [(passage.ending, passage.departure_ns) for passage in closed(changes)] == [
        (Ending.NEXT, 3000 * MS),
        (Ending.LEFT, 4000 * MS),
    ]


def test_a_vehicle_whose_visit_a_fault_closed_does_not_hold_the_next_visit_open() -> None:
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0), (ARRIVE, 1, 1000), (FAULT, 0, 1200), (CLEAR, 0, 2000),
        (ARRIVE, 0, 3000), (LEAVE, 0, 4000), ("tick", 0, 9000),
    )  # fmt: skip
    assert endings(changes) == [Ending.FAULT, Ending.LEFT]


def test_a_call_whose_visit_a_fault_closed_is_no_restarted_visit_after_an_outage() -> None:
    changes = play(
        machine(), (RESTORED, 0, 0), (ARRIVE, 0, 50), (FAULT, 0, 100), (CLEAR, 0, 200), (LOST, 0, 300),
        (RESTORED, 0, 400), (ARRIVE, 0, 400), (LEAVE, 0, 500), (ARRIVE, 0, 600),
    )  # fmt: skip
    assert [change.passage.restarted for change in changes if isinstance(change, Opened)] == [False, False]


def test_a_call_that_ended_during_an_outage_is_forgotten() -> None:
    changes = play(
        machine(2, 3.0), (RESTORED, 0, 0), (ARRIVE, 0, 1000), (ARRIVE, 1, 1270), (LOST, 0, 2000),
        (RESTORED, 0, 3000), (ARRIVE, 0, 4000), (LEAVE, 0, 5000), ("tick", 0, 9000),
    )  # fmt: skip
    assert endings(changes) == [Ending.LOST, Ending.LEFT]


@pytest.mark.parametrize(
    ("elapsed_ms", "durations_ms", "expected"),
    [
        ((270, 270), (500, 500), 40.0),
        ((270, 290), (500, 520), pytest.approx(38.57, abs=0.01)),
        ((270, 330), (500, 560), None),  # durations differ by more than 10 %
        ((19, 19), (500, 500), None),  # too short to be measured
        ((270, 270), (19, 19), None),
        ((56, 56), (200, 200), None),  # 193 km/h
        ((1400, 1400), (2000, 2000), None),  # 7.7 km/h
    ],
)
def test_a_speed_that_can_not_be_trusted_is_none(
    elapsed_ms: tuple[int, int], durations_ms: tuple[int, int], expected: float | None
) -> None:
    elapsed_ns = elapsed_ms[0] * MS, elapsed_ms[1] * MS
    durations_ns = durations_ms[0] * MS, durations_ms[1] * MS
    assert speed_kmh(3.0, elapsed_ns, durations_ns) == expected


def test_every_state_ends_on_every_signal_that_takes_the_detector_or_the_daemon_away() -> None:
    for state in set(State) - {State.BLIND}:
        for signal in (Signal.LOST, Signal.SHUTDOWN):
            assert TRANSITIONS[state, signal].to is State.BLIND


def test_a_visit_is_open_exactly_in_the_states_that_have_one() -> None:
    with_visit = {State.VISIT, State.BETWEEN}
    for (state, signal), to in TRANSITIONS.items():
        was, is_ = state in with_visit, to.to in with_visit
        assert (to.closes is not None) == (was and (not is_ or to.opens)), (state, signal)
        assert to.opens == (is_ and (not was or to.closes is not None)), (state, signal)


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[LoopEventKind | str, int, int]]]:
    """Any events at all, in the order of their time; ticks and a final stop among them."""
    loops = draw(st.integers(1, 2))
    steps: list[tuple[LoopEventKind | str, int, int]] = []
    at_ms = 0
    kinds = st.sampled_from([ARRIVE, ARRIVE, LEAVE, LEAVE, FAULT, CLEAR, LOST, RESTORED, "tick"])
    for kind in draw(st.lists(kinds, max_size=60)):
        at_ms += draw(st.sampled_from([0, 1, 30, 300, 1000, 11_000]))
        steps.append((kind, draw(st.integers(0, loops - 1)), at_ms))
    return loops, [(RESTORED, 0, 0), *steps, ("stop", 0, at_ms + 1)]


@given(histories())
def test_visits_never_overlap_and_each_is_opened_once_and_closed_once(
    history: tuple[int, list[tuple[LoopEventKind | str, int, int]]],
) -> None:
    loops, steps = history
    open_id: bytes | None = None
    last_departure_ns = -1
    for change in play(machine(loops, 3.0), *steps):
        if isinstance(change, Opened):
            assert open_id is None
            assert change.passage.departure_ns is change.passage.ending is None
            assert change.passage.arrival_ns >= last_departure_ns
            open_id = change.passage.id
        elif isinstance(change, Closed):
            passage = change.passage
            assert passage.id == open_id
            assert passage.departure_ns is not None
            assert passage.arrival_ns <= passage.departure_ns <= passage.arrival_ns + GATE_S * 1e9
            last_departure_ns, open_id = passage.departure_ns, None
    assert open_id is None


@given(histories())
def test_every_call_on_a_sound_loop_belongs_to_exactly_one_visit(
    history: tuple[int, list[tuple[LoopEventKind | str, int, int]]],
) -> None:
    loops, steps = history
    lane = machine(loops, 3.0)
    sound, sees = [True] * loops, False
    sighted_ms = -1
    for kind, loop, at_ms in steps:
        arrives = kind == ARRIVE and sees and sound[loop] and at_ms > sighted_ms
        changes = play(lane, (kind, loop, at_ms))
        assert any(each.call == "live" for each in lane._loops) == (lane.state is State.VISIT)
        if arrives:
            assert lane.state is State.VISIT
            assert opened(changes) <= 1
            joined = lane._visit is not None and lane._visit.starts.get(loop) == at_ms * MS
            assert joined
        if kind == RESTORED and not sees:
            sees, sighted_ms = True, at_ms
        elif kind in (LOST, "stop"):
            sees = False
        elif kind in (FAULT, CLEAR):
            sound[loop] = kind == CLEAR


@given(histories(), st.lists(st.integers(0, 120_000), max_size=30))
def test_the_visits_do_not_depend_on_when_the_clock_ticks(
    history: tuple[int, list[tuple[LoopEventKind | str, int, int]]], ticks: list[int]
) -> None:
    loops, steps = history
    ticked = sorted([*steps[:-1], *(("tick", 0, at) for at in ticks if at <= steps[-1][2])], key=lambda step: step[2])
    plain = play(machine(loops, 3.0), *(step for step in steps if step[0] != "tick"))
    assert closed(play(machine(loops, 3.0), *ticked, steps[-1])) == closed(plain)


@given(histories())
def test_faults_begin_and_end_in_turn(history: tuple[int, list[tuple[LoopEventKind | str, int, int]]]) -> None:
    loops, steps = history
    active: set[tuple[FaultKind, int | None]] = set()
    for change in play(machine(loops, 3.0), *steps):
        if isinstance(change, FaultChanged):
            key = change.fault, change.loop
            assert change.active == (key not in active)
            active ^= {key}
