"""The doctor names what is wrong with its code, and what to do about it."""

from typing import Any

import pytest

from drivers.clock import UNKNOWN_ERROR_MS, ClockReading
from edge.doctor import Check, checks
from edge.errors import CameraSilent

WELL: dict[str, Any] = {"faults": {}, "broker": "ok", "outbox": 2, "loop": "ok", "camera": "ok"}
CONFINED = [{"name": "writes", "on": True, "why": "Landlock ABI 7", "needed": True}]
CLOCK = ClockReading(1, 1, synchronised=True, bound_ms=3.2, source="time.example")


def bad(
    status: dict[str, Any],
    measures: list[dict[str, Any]] = CONFINED,
    clock: ClockReading = CLOCK,
    swaps: tuple[str, ...] = (),
) -> list[Check]:
    return [check for check in checks(status, measures, clock, swaps) if not check.good]


def test_a_lane_in_order_has_nothing_to_do() -> None:
    assert bad(WELL) == []
    assert all(check.do == "" for check in checks(WELL, CONFINED, CLOCK, ()))


def test_a_fault_with_a_code_comes_with_the_hint_of_that_code() -> None:
    (check,) = bad({**WELL, "faults": {"camera": CameraSilent.code}})
    assert (check.what, check.found, check.do) == ("camera", CameraSilent.code, CameraSilent.hint)


@pytest.mark.parametrize(
    ("source", "fault", "do"),
    [
        ("loop-0-detector", "detector", "feeder"),
        ("loop-0-stuck-on", "stuck-on", "parked"),
        ("loop", "LOOP-04", "modem lines"),
    ],
)
def test_each_fault_of_the_loop_says_where_to_look(source: str, fault: str, do: str) -> None:
    status = {**WELL, "faults": {source: fault}}
    (check,) = bad(status)
    assert do in check.do
    assert not any(check.what == "loop" and check.good for check in checks(status, CONFINED, CLOCK, ()))


def test_a_broker_in_trouble_and_an_outbox_that_fills_are_named() -> None:
    assert [check.what for check in bad({**WELL, "broker": "MQTT-01", "outbox": 5000})] == ["broker", "outbox"]


def test_a_lane_that_no_receipt_reaches_is_not_well_though_the_broker_is() -> None:
    (check,) = bad({**WELL, "unconfirmed_s": 400})
    assert (check.what, check.found) == ("outbox", "2 messages wait for a receipt, none came for 7 min")
    assert "newest policy" in check.do


def test_a_needed_measure_that_is_off_fails_and_one_that_is_not_needed_is_only_told() -> None:
    measures = [
        {"name": "memory-locked", "on": False, "why": "the limit is 8192 KiB", "needed": True},
        {"name": "tcp-ports", "on": False, "why": "Landlock ABI 3 lacks it", "needed": False},
    ]
    (check,) = bad(WELL, measures)
    assert check.what == "memory-locked"
    assert "LimitMEMLOCK" in check.do
    told = checks(WELL, measures, CLOCK, ())
    assert any(check.what == "tcp-ports" and "newer Landlock" in check.do for check in told)


def test_no_confinement_at_all_fails() -> None:
    assert [check.what for check in bad(WELL, [])] == ["confinement"]


def test_a_clock_that_is_right_is_told_with_its_bound_and_its_source() -> None:
    (check,) = (check for check in checks(WELL, CONFINED, CLOCK, ()) if check.what == "clock")
    assert (check.good, check.found) == (True, "synchronised within 3 ms, by time.example")


def test_a_clock_that_nobody_sets_says_what_to_do() -> None:
    (check,) = bad(WELL, clock=ClockReading(1, 1, synchronised=False, bound_ms=UNKNOWN_ERROR_MS, source=""))
    assert (check.what, check.found) == ("clock", "not synchronised, may be wrong by 16 s or more")
    assert "time server" in check.do


def test_swap_on_the_box_fails() -> None:
    (check,) = bad(WELL, swaps=("/dev/zram0",))
    assert check.found == "/dev/zram0"
