"""The contract of every loop detector: run it over your own by adding a rig."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from pydantic import ValidationError

from drivers.loop.base import LoopDetector, LoopEvent, LoopEventKind
from drivers.loop.watch import LoopWatcher
from edge.errors import LoopError
from tests.loop_rigs import ContactRig, DconRig, FakeRig, ModbusPtyRig, ModbusTcpRig, Rig

NONE, FIRST, BOTH = (False, False), (True, False), (True, True)
LONGEST_FAILURE_S = 6.0

RIGS: dict[str, Callable[[Path], Rig]] = {
    "fake": lambda folder: FakeRig(),
    "contact-rfc2217": lambda folder: ContactRig(),
    "modbus-pty": ModbusPtyRig,
    "modbus-socket": lambda folder: ModbusTcpRig("socket"),
    "dcon-pty": DconRig,
    "modbus-rfc2217": lambda folder: ModbusTcpRig("rfc2217"),
}


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = RIGS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def detector(rig: Rig) -> Iterator[LoopDetector]:
    made = rig.driver(rig.driver.Settings(**rig.table))  # as the daemon does
    yield made
    made.close()


def failure(detector: LoopDetector) -> tuple[LoopError, float]:
    """The error that sampling comes to, and after how many seconds."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < LONGEST_FAILURE_S:
        try:
            detector.sample()
        except LoopError as error:
            return error, time.monotonic() - began_s
        time.sleep(detector.poll_interval_s)
    pytest.fail("the detector went on as if nothing had happened")


def test_a_sample_tells_presence_and_fault_of_each_loop(rig: Rig, detector: LoopDetector) -> None:
    detector.connect()
    for p0, p1, f0, f1 in product((False, True), repeat=4):
        rig.drive((p0, p1), (f0, f1))
        before_ns = time.monotonic_ns()
        sample = detector.sample()
        assert (sample.presence, sample.fault) == ((p0, p1), (f0, f1))
        assert before_ns <= sample.monotonic_ns <= time.monotonic_ns()
    assert detector.loops == 2
    assert 0 < detector.poll_interval_s <= 0.5


def test_closing_is_allowed_at_any_time_and_twice(detector: LoopDetector) -> None:
    detector.close()
    with pytest.raises(LoopError):
        detector.sample()
    detector.connect()
    detector.close()
    detector.close()
    with pytest.raises(LoopError):
        detector.sample()


def test_a_broken_wire_is_an_error_and_connects_again_once_it_is_back(rig: Rig, detector: LoopDetector) -> None:
    rig.drive(FIRST, NONE)
    detector.connect()
    assert detector.sample().presence == FIRST
    rig.cut()
    error, after_s = failure(detector)
    assert error.retryable
    assert after_s < 2
    detector.close()
    with pytest.raises(LoopError) as caught:
        detector.connect()
    assert caught.value.retryable
    detector.close()
    rig.heal()
    rig.drive(BOTH, NONE)
    detector.connect()
    assert detector.sample().presence == BOTH


def test_a_detector_that_falls_silent_is_an_error_within_bounds(rig: Rig, detector: LoopDetector) -> None:
    rig.drive(FIRST, NONE)
    detector.connect()
    detector.sample()
    rig.mute()
    error, after_s = failure(detector)
    assert error.retryable
    assert after_s < LONGEST_FAILURE_S


def test_unknown_settings_are_refused(rig: Rig) -> None:
    with pytest.raises(ValidationError):
        rig.driver.Settings(**rig.table, colour="green")


def test_the_watcher_turns_the_wire_into_events_across_an_outage(rig: Rig, detector: LoopDetector) -> None:
    events: list[LoopEvent] = []
    stop = threading.Event()
    watcher = LoopWatcher(detector, debounce_ms=20)
    thread = threading.Thread(target=watcher.run, args=(events.append, stop, lambda: None))

    def wait_for(*kinds: LoopEventKind) -> None:
        deadline_s = time.monotonic() + 10
        while tuple(event.kind for event in events) != kinds:
            assert time.monotonic() < deadline_s, events
            time.sleep(0.01)
        events.clear()

    thread.start()
    try:
        wait_for(LoopEventKind.RESTORED)
        rig.drive(FIRST, NONE)
        wait_for(LoopEventKind.ARRIVE)
        rig.drive(NONE, NONE)
        wait_for(LoopEventKind.LEAVE)
        rig.cut()
        wait_for(LoopEventKind.LOST)
        rig.heal()
        rig.drive(FIRST, (False, True))
        wait_for(LoopEventKind.RESTORED, LoopEventKind.FAULT, LoopEventKind.ARRIVE)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
