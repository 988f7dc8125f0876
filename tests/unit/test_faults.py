"""A fault is told at once; one that chatters seldom, and its last state always."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.loop.base import LoopEventKind, LoopSample
from drivers.loop.watch import Debouncer
from edge.faults import BURST, PERIOD_S, FaultTeller, Told


def test_a_fault_is_told_when_it_begins_and_when_it_is_over() -> None:
    teller = FaultTeller()
    teller.changed("loop-0-detector", "detector", active=True)
    assert teller.due(1.0) == [Told("loop-0-detector", "detector", True, 1)]
    assert teller.due(2.0) == []
    teller.changed("loop-0-detector", "detector", active=False)
    assert teller.due(3.0) == [Told("loop-0-detector", "detector", False, 1)]


def test_a_contact_that_chatters_is_told_once_a_minute_with_the_number_of_its_changes() -> None:
    teller, debouncer, told, changes = FaultTeller(), Debouncer(1, 20), list[Told](), 0
    for at_ms in range(0, 600_000, 5):
        for event in debouncer.feed(LoopSample(at_ms * 10**6, (False,), (at_ms // 25 % 2 == 1,))):
            changes += 1
            teller.changed("loop-0-detector", "detector", active=event.kind is LoopEventKind.FAULT)
            told += teller.due(at_ms / 1000)
    assert changes > 20_000
    assert len(told) <= BURST + 600 / PERIOD_S
    assert sum(each.changes for each in told) > changes - 3000
    told += teller.due(600.0, everything=True)
    assert sum(each.changes for each in told) == changes


def test_one_source_that_chatters_keeps_no_other_from_being_told() -> None:
    teller = FaultTeller()
    for n in range(100):
        teller.changed("loop-0-detector", "detector", active=n % 2 == 0)
        teller.due(1.0)
    teller.changed("camera", "CAM-03", active=True)
    assert teller.due(1.0) == [Told("camera", "CAM-03", True, 1)]


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60))
def test_the_last_state_is_always_told_in_the_end_and_every_change_is_counted(steps: list[tuple[float, bool]]) -> None:
    teller, now_s, told = FaultTeller(), 0.0, list[Told]()
    for gap_s, active in steps:
        now_s += gap_s
        teller.changed("camera", "CAM-03", active=active)
        told += teller.due(now_s)
    told += teller.due(now_s + PERIOD_S)
    assert sum(each.changes for each in told) == len(steps)
    assert [each.active for each in told[-1:]] == [active for _, active in steps[-1:]]
    assert len(told) <= BURST + (now_s + PERIOD_S) / PERIOD_S + 1
