"""The simulated lane as a process, met over its real wires: HTTP, RFC 2217, a pty, JSON lines."""

import base64
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import serial
from hw_sim.show import LOOP_Y_M
from hw_sim.view import View
from pymodbus.client import ModbusSerialClient

from drivers.loop.modbus import ModbusDetector

HW_SIM = str(Path(sys.executable).with_name("hw-sim"))
QUICK = ("--style", "de", "--speed", "60-60")


class Lane:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        ready = self.line()
        assert ready["event"] == "ready"
        self.camera, self.detector = ready["camera"], ready["detector"]

    def line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def get(self, path: str | None = None, login: str | None = None) -> http.client.HTTPResponse:
        """A request for the camera's stream, or for another path of it."""
        at = urlsplit(self.camera)
        connection = http.client.HTTPConnection(str(at.hostname), int(at.port or 0), timeout=10)
        headers = {} if login is None else {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        connection.request("GET", path or at.path, headers=headers)
        return connection.getresponse()


@contextmanager
def lane(*options: str) -> Iterator[Lane]:
    with subprocess.Popen([HW_SIM, "lane", *options], stdin=-1, stdout=-1, text=True) as process:
        one = Lane(process)
        try:
            yield one
        finally:
            one.say("quit")
            assert process.wait(10) == 0


def frames(stream: http.client.HTTPResponse) -> Iterator[bytes]:
    """The pictures of a multipart stream, cut by what each part says of its length."""
    while True:
        assert stream.readline() == b"--frame\r\n"
        head = {}
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.decode().strip().partition(": ")
            head[name] = value
        assert head["Content-Type"] == "image/jpeg"
        yield stream.read(int(head["Content-Length"]))
        assert stream.readline() == b"\r\n"


def decoded(jpeg: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_the_camera_streams_jpeg_frames_at_its_rate_to_several_clients() -> None:
    with lane("--start-held") as one:
        first, second = one.get(), one.get()
        assert first.status == second.status == 200
        assert str(first.getheader("Content-Type")).startswith("multipart/x-mixed-replace")
        streams = frames(first), frames(second)
        assert all(decoded(next(stream)).shape == (720, 1280, 3) for stream in streams)
        began = time.monotonic()
        for _ in range(25):
            next(streams[0])
        assert 0.8 < time.monotonic() - began < 1.6


def test_a_client_that_does_not_read_delays_nobody_else() -> None:
    with lane("--start-held") as one:
        asleep, awake = one.get(), frames(one.get())
        began = time.monotonic()
        for _ in range(50):
            next(awake)
        assert time.monotonic() - began < 3.2
        asleep.close()


def test_the_camera_answers_a_snapshot_and_asks_for_its_password() -> None:
    with lane("--start-held", "--camera-login", "gate:throw-away") as one:
        refused = one.get("/snapshot.jpg")
        assert refused.status == 401
        assert str(refused.getheader("WWW-Authenticate")).startswith("Basic")
        assert one.get("/snapshot.jpg", "gate:wrong").status == 401
        assert one.get("/nothing", "gate:throw-away").status == 404
        taken = one.get("/snapshot.jpg", "gate:throw-away")
        assert decoded(taken.read()).shape == (720, 1280, 3)


def test_the_modem_line_the_picture_and_the_truth_are_in_step() -> None:
    with lane("--vehicles", "1", "--start-held", *QUICK) as one, serial.serial_for_url(one.detector) as port:
        seen: list[tuple[int, bytes]] = []
        watching = threading.Event()

        def watch() -> None:
            for frame in frames(one.get()):
                seen.append((time.monotonic_ns(), frame))
                if watching.is_set():
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        one.say("go")
        edges = []
        for level in (True, False):
            while port.cts is not level:
                time.sleep(0.0005)
            edges.append(time.monotonic_ns())
            time.sleep(0.05)  # past the chatter
        truth = one.line()
        watching.set()
        watcher.join()
        assert (truth["event"], truth["n"], truth["region"]) == ("vehicle", 1, "DE")
        assert edges == pytest.approx([truth["arrival_ns"], truth["departure_ns"]], abs=30e6)
        seconds = (truth["departure_ns"] - truth["arrival_ns"]) / 1e9
        assert seconds == pytest.approx((truth["length_m"] + 2.0) / (truth["speed_kmh"] / 3.6), abs=0.03)
        assert one.line() == {"event": "end", "vehicles": 1}

    x, y = np.rint(View().project(np.array([[0.0, LOOP_Y_M, 0.35]]))[0]).astype(int)

    def bumper_at_the_loops_edge(after_s: float) -> np.ndarray[Any, Any]:
        frame = next(jpeg for at_ns, jpeg in seen if at_ns > truth["arrival_ns"] + after_s * 1e9)
        return decoded(frame)[y - 8 : y + 8, x - 40 : x + 40].astype(np.int16)

    before, shortly_before, shortly_after = (bumper_at_the_loops_edge(s) for s in (-1.5, -0.25, 0.04))
    assert np.abs(shortly_before - before).mean() < 5
    assert np.abs(shortly_after - before).mean() > 15


def test_only_one_client_at_a_time_has_the_serial_port_and_it_can_come_back() -> None:
    with lane("--start-held") as one:
        with serial.serial_for_url(one.detector) as port:
            assert not port.cts
            with pytest.raises(OSError):
                serial.serial_for_url(one.detector)
        time.sleep(0.2)
        with serial.serial_for_url(one.detector) as port:
            assert not port.cts


def test_a_failing_detector_reports_the_fault_and_calls_all_the_while(tmp_path: Path) -> None:
    scenario = tmp_path / "fault.toml"
    scenario.write_text('[[trouble]]\nafter = 1\nkind = "fault"\nseconds = 1.0\n')
    options = ("--scenario", str(scenario), "--vehicles", "1", "--headway-s", "0.3", *QUICK)
    with lane(*options) as one, serial.serial_for_url(one.detector) as port:
        assert one.line()["event"] == "vehicle"
        assert not port.dsr
        while not port.dsr:
            time.sleep(0.001)
        assert port.cts
        trouble = one.line()
        assert (trouble["event"], trouble["kind"]) == ("trouble", "fault")
        assert trouble["to_ns"] - trouble["from_ns"] == pytest.approx(1e9, abs=50e6)
        time.sleep(0.05)
        assert not port.dsr
        assert not port.cts


def test_a_modbus_detector_on_a_pty_calls_while_the_vehicle_is_there(tmp_path: Path) -> None:
    with lane("--vehicles", "1", "--start-held", "--pty", str(tmp_path / "loop"), *QUICK) as one:
        detector = ModbusDetector(ModbusDetector.Settings(port=one.detector, address=1, profile="ld120"))
        detector.connect()
        try:
            assert detector.sample().presence == (False,)
            one.say("go")
            called = []
            while not called or called[-1][1]:
                sample = detector.sample()
                assert sample.fault == (False,)
                if sample.presence[0] or called:
                    called.append((sample.monotonic_ns, sample.presence[0]))
            truth = one.line()
            assert abs(called[0][0] - truth["arrival_ns"]) < 50e6
            assert abs(called[-1][0] - truth["departure_ns"]) < 50e6
        finally:
            detector.close()


def test_photographs_stand_before_the_camera_while_the_loop_is_occupied(tmp_path: Path) -> None:
    for name, grey in (("a.png", 250), ("b.png", 5)):
        cv2.imwrite(str(tmp_path / name), np.full((300, 400, 3), grey, np.uint8))
    (tmp_path / "labels.jsonl").write_text('{"image": "a.png", "text": "AB12CDE"}\n')
    with lane("--frames", str(tmp_path), "--start-held") as one, serial.serial_for_url(one.detector) as port:
        stream = frames(one.get())
        assert decoded(next(stream)).shape == (720, 1280, 3)
        one.say("go")
        while not port.cts:
            time.sleep(0.001)
        for _ in range(3):
            shown = decoded(next(stream))
        assert shown.shape == (300, 400, 3)
        assert shown.mean() == pytest.approx(250, abs=3)
        assert [one.line().get("text") for _ in range(2)] == ["AB12CDE", None]
        assert one.line() == {"event": "end", "vehicles": 2}


def test_a_photograph_that_cannot_be_decoded_ends_the_lane_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    done = subprocess.run([HW_SIM, "lane", "--frames", str(tmp_path)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "SIM-02" in done.stderr
    assert "broken.jpg" in done.stderr


def test_a_port_that_is_taken_is_an_error_that_says_so() -> None:
    with lane("--start-held") as one:
        port = str(urlsplit(one.camera).port)
        done = subprocess.run([HW_SIM, "lane", "--camera-port", port], capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert "SIM-03" in done.stderr


def test_a_frame_is_written_as_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "frame.png"
    subprocess.run([HW_SIM, "frame", "--night", "--out", str(out), "--width", "640"], check=True, timeout=30)
    assert decoded(out.read_bytes()).shape == (360, 640, 3)


@contextmanager
def relays(*options: str) -> Iterator[tuple[str, Callable[[str], None]]]:
    """A detector that is switched by hand: where it is, and how to press a key."""
    with subprocess.Popen([HW_SIM, "detector", *options], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        stdin, stdout = process.stdin, process.stdout

        def press(key: str) -> None:
            stdin.write(key + "\n")
            stdin.flush()
            stdout.readline()
            time.sleep(0.02)

        yield stdout.readline().split(": ")[0], press
        stdin.write("q\n")
        stdin.flush()
        assert process.wait(10) == 0


def test_a_technician_switches_the_relays_by_hand() -> None:
    with relays("--loops", "2") as (url, press), serial.serial_for_url(url) as port:
        for key, line in (("1", "cts"), ("2", "cd"), ("f1", "dsr"), ("f2", "ri")):
            for level in (True, False):
                press(key)
                assert getattr(port, line) is level


def test_a_two_loop_modbus_module_has_presence_on_its_first_inputs_and_faults_on_the_next(tmp_path: Path) -> None:
    with relays("--loops", "2", "--pty", str(tmp_path / "loop")) as (port, press):
        detector = ModbusDetector(ModbusDetector.Settings(port=port, address=1, presence=(1, 2), fault=(3, 4)))
        detector.connect()
        try:
            press("2")
            press("f1")
            sample = detector.sample()
            assert (sample.presence, sample.fault) == ((False, True), (True, False))
        finally:
            detector.close()


def test_an_ld120_tells_its_type_its_state_and_its_count_as_its_manual_says(tmp_path: Path) -> None:
    with relays("--pty", str(tmp_path / "loop")) as (port, press):
        press("1")
        press("f1")
        with ModbusSerialClient(port, baudrate=9600) as client:
            assert client.read_discrete_inputs(0, count=6, device_id=1).bits[:6] == [
                True,
                True,
                False,
                False,
                True,
                False,
            ]
            kind, state = client.read_input_registers(0, count=2, device_id=1).registers
            assert kind & 0xFF == 34
            assert state == 0b010011
            assert client.read_holding_registers(9, count=2, device_id=1).registers == [0, 0]
