"""UTC with its quality."""

import time

import pytest

from drivers.clock import SOURCE_EVERY_S, STEP_NS, UNKNOWN_ERROR_MS, Clock, kernel_quality, parse_tracking, read_times
from edge import record
from edge.record import CheckpointRecord, ClockQuality, Instant


class Box:
    """Clocks that stand still until they are moved."""

    def __init__(self) -> None:
        self.utc_ns, self.monotonic_ns, self.asked = 10**18, 10**12, 0

    def times(self) -> tuple[int, int]:
        return self.utc_ns, self.monotonic_ns

    def name(self) -> str:
        self.asked += 1
        return f"ntp{self.asked}.example"

    def clock(self, *, synchronised: bool = True) -> Clock:
        return Clock(times=self.times, quality=lambda: (synchronised, 3.0), source=self.name)

    def pass_time(self, ns: int) -> None:
        self.utc_ns += ns
        self.monotonic_ns += ns


def test_a_reading_is_of_one_moment_on_both_clocks() -> None:
    before_ns = time.time_ns() - time.monotonic_ns()
    utc_ns, monotonic_ns = read_times()
    assert abs(utc_ns - monotonic_ns - before_ns) < STEP_NS


def test_the_kernel_tells_a_bound() -> None:
    synchronised, bound_ms = kernel_quality()
    assert isinstance(synchronised, bool)
    assert 0 <= bound_ms <= UNKNOWN_ERROR_MS


def test_a_step_is_told_once_and_the_passing_of_time_is_none() -> None:
    box = Box()
    clock = box.clock()
    box.pass_time(3600 * 10**9)
    assert clock.step_ns() == 0
    box.utc_ns -= 2 * 10**9
    assert clock.step_ns() == -2 * 10**9
    assert clock.step_ns() == 0


def test_small_steps_add_up() -> None:
    box = Box()
    clock = box.clock()
    box.utc_ns += STEP_NS * 2 // 3
    assert clock.step_ns() == 0
    box.utc_ns += STEP_NS * 2 // 3
    assert clock.step_ns() == STEP_NS * 2 // 3 * 2


def test_the_source_is_asked_for_now_and_then_only() -> None:
    box = Box()
    clock = box.clock()
    assert [clock.read().source for _ in range(3)] == ["ntp1.example"] * 3
    box.pass_time(round(SOURCE_EVERY_S * 1e9))
    assert clock.read().source == "ntp2.example"
    assert box.asked == 2


def test_a_clock_that_is_not_synchronised_has_no_source() -> None:
    assert Box().clock(synchronised=False).read().source == ""


@pytest.mark.parametrize("name", ["2a01:4f8:c2c:1234:5678:9abc:def0:1234", "ntp-primary-01.zrh.corp.example.com"])
def test_a_long_name_of_a_source_is_cut_to_what_a_record_takes(name: str) -> None:
    source = parse_tracking(f"C000021A,{name},2,0,0,0,0,0,0,0,0,0,64,Normal\n".encode())
    assert source.startswith(name[:20])
    record.encode(CheckpointRecord(Instant(1, 1), ClockQuality(True, 1.0, source), 0))


@pytest.mark.parametrize(
    ("output", "source"),
    [
        (
            b"C0A80101,192.168.1.1,3,1700000000.123,0.000012,0.1,0.2,-3.4,0,0.1,0.01,0,64.2,Normal\n",
            "192.168.1.1",
        ),
        (b"50505300,PPS,1,1700000000.1,0,0,0,0,0,0,0,0,16,Normal\n", "PPS"),
        (b"7F7F0101,,10,1700000000.1,0,0,0,0,0,0,0,0,0,Normal\n", ""),
        (b"00000000,,0,0,0,0,0,0,0,0,1,1,0,Not synchronised\n", ""),
        (b"C0A80101,evil\x1b[31m\xff,3\n", "evil?[31m?"),
        (b"506 Cannot talk to daemon\n", ""),
        (b"", ""),
    ],
)
def test_chronys_tracking_line_names_the_source(output: bytes, source: str) -> None:
    assert parse_tracking(output) == source
