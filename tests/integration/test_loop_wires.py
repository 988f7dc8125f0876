"""Detectors on real ptys and sockets: bad answers, wrong ports, and vehicles all the way to visits."""

import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial

from drivers.loop.asked import ATTEMPTS
from drivers.loop.base import LoopEvent
from drivers.loop.contact import ContactDetector, ContactSettings
from drivers.loop.modbus import ModbusDetector, ModbusSettings, crc16
from drivers.loop.watch import LoopWatcher
from drivers.loop.wire import open_wire
from edge.errors import LoopError, LoopPortBusy, LoopPortForbidden, LoopPortMissing, LoopPortUnfit
from edge.passage import Closed, Opened, PassageMachine, PassageSettings
from edge.record import Ending
from tests.loop_rigs import MODULE, ContactRig, PtyWire, url

VECTORS = Path(__file__).parents[1] / "vectors" / "modbus"
GOOD_AT_FIRST = "LOOP-08-bytes-after-the-frame"  # on a wire the frame is taken and the rest dropped
BAD_ANSWERS = sorted(path for path in VECTORS.glob("*.bin") if path.stem != GOOD_AT_FIRST)
GOOD_ANSWER = bytes((MODULE, 2, 1, 0b0001))
GOOD_ANSWER += crc16(GOOD_ANSWER)

Plug = Callable[[Callable[[bytes], bytes]], PtyWire]


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    wires: list[PtyWire] = []

    def made(answer: Callable[[bytes], bytes]) -> PtyWire:
        wires.append(PtyWire(tmp_path / "usb-port0", answer))
        return wires[-1]

    yield made
    for wire in wires:
        wire.unplug()


def modbus(wire: PtyWire, baudrate: int = 115200) -> ModbusDetector:
    table = {"presence": (1, 2), "fault": (3, 4), "answer_timeout_ms": 30, "baudrate": baudrate}
    return ModbusDetector(ModbusSettings(port=str(wire.path), address=MODULE, **table))


@pytest.mark.parametrize("path", BAD_ANSWERS, ids=lambda path: path.stem)
def test_a_bad_answer_on_the_wire_is_an_error_with_its_code_and_is_over_with_the_next_good_one(
    path: Path, plug: Plug
) -> None:
    answers = [path.read_bytes()] * ATTEMPTS
    detector = modbus(plug(lambda question: answers.pop(0) if answers else GOOD_ANSWER))
    detector.connect()
    with pytest.raises(LoopError) as caught:
        detector.sample()
    if (
        path.stem != "LOOP-08-bytes-after-the-frame"
    ):  # the frame itself is good; what follows is dropped before the next
        assert caught.value.code == path.name[: len("LOOP-00")]
    assert detector.sample().presence == (True, False)
    detector.close()


def test_one_bad_answer_is_asked_again_and_ends_nothing(plug: Plug) -> None:
    answers = [GOOD_ANSWER[:3], b"\x00\xff", GOOD_ANSWER]
    detector = modbus(plug(lambda question: answers.pop(0)))
    detector.connect()
    assert detector.sample().presence == (True, False)
    detector.close()


@pytest.mark.parametrize(("baudrate", "every_s", "burst"), [(115200, 0.001, 16), (1200, 0.01, 1)])
def test_a_line_that_never_falls_silent_is_an_error_within_bounds(
    baudrate: int, every_s: float, burst: int, plug: Plug
) -> None:
    wire = plug(lambda question: b"")
    chatter = threading.Event()

    def talk() -> None:
        while not chatter.wait(every_s):
            os.write(wire.master, b"U" * burst)

    detector = modbus(wire, baudrate)
    detector.connect()
    thread = threading.Thread(target=talk)
    thread.start()
    try:
        began_s = time.monotonic()
        with pytest.raises(LoopError) as caught:
            detector.sample()
        assert time.monotonic() - began_s < 1  # 3 * ATTEMPTS * 30 ms, on a busy machine
        assert caught.value.code == "LOOP-08"
    finally:
        chatter.set()
        thread.join()
        detector.close()


def test_a_port_that_somebody_holds_is_busy(plug: Plug) -> None:
    wire = plug(lambda question: GOOD_ANSWER)
    first, second = modbus(wire), modbus(wire)
    first.connect()
    with pytest.raises(LoopPortBusy):
        second.connect()
    assert first.sample().presence == (True, False)
    first.close()
    second.connect()
    second.close()


def test_a_pty_has_no_modem_lines_for_a_contact(plug: Plug) -> None:
    wire = plug(lambda question: b"")
    detector = ContactDetector(ContactSettings(port=str(wire.path), presence=("cts",)))
    with pytest.raises(LoopPortUnfit):
        detector.connect()


def test_a_server_that_does_not_speak_rfc_2217_is_an_error_within_bounds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        detector = ContactDetector(ContactSettings(port=url("rfc2217", mute.getsockname()), presence=("cts",)))
        began_s = time.monotonic()
        with pytest.raises(LoopPortMissing):
            detector.connect()
        assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOENT, LoopPortMissing),
        (errno.EACCES, LoopPortForbidden),
        (errno.EBUSY, LoopPortBusy),
        (errno.EAGAIN, LoopPortBusy),
    ],
)
def test_what_the_system_says_of_a_port_becomes_advice(
    code: int, error: type[LoopError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: serial.Serial) -> None:
        raise serial.SerialException(code, "refused")

    monkeypatch.setattr(serial.Serial, "open", refuse)
    with pytest.raises(error):
        open_wire("/dev/ttyAMA0", timeout_s=0)


def test_vehicles_over_two_contact_loops_become_visits_with_direction_and_speed() -> None:
    rig = ContactRig()
    detector = rig.driver(rig.driver.Settings(**rig.table))
    events: queue.Queue[LoopEvent] = queue.Queue(100)
    machine = PassageMachine(PassageSettings(loops=2, gate_time_s=10, spacing_m=3.0), new_id=lambda: os.urandom(16))
    stop = threading.Event()
    watcher = threading.Thread(
        target=LoopWatcher(detector, debounce_ms=20).run, args=(events.put, stop, lambda: None), daemon=True
    )
    watcher.start()
    try:
        assert machine.on(events.get(timeout=10)) == ()
        time.sleep(0.1)  # what comes before the free loops are believed was there at the first sight
        closed = []
        for first, second in ((0, 1), (1, 0)):
            for loop, level, pause_s in ((first, True, 0.27), (second, True, 0.13), (first, False, 0.27)):
                rig.set_loop(loop, level)
                time.sleep(pause_s)
            rig.set_loop(second, False)
            changes = [change for _ in range(4) for change in machine.on(events.get(timeout=5))]
            assert [type(change) for change in changes] == [Opened, Closed]
            closed.append(changes[1].passage)
    finally:
        stop.set()
        watcher.join(10)
        rig.close()
    assert [passage.direction for passage in closed] == ["forward", "reverse"]
    assert [passage.ending for passage in closed] == [Ending.LEFT] * 2
    for passage in closed:
        assert passage.speed_kmh == pytest.approx(40, rel=0.15)
