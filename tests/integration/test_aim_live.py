"""The commands that ask a running lane: explain, aim and what they refuse, at a real daemon with a real reader."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hw_sim.detector import ModbusEnd, Outputs
from numpy.typing import NDArray

from edge.aim.view import Mosaic, mosaic
from edge.control import ask, socket_path
from edge.errors import ControlRefused, SealaneError
from edge.reading.reader import PlateReader
from models.train.render import render_plate
from tests.integration.lane_site import Site, until

NIBBLE = 17
"""From a digit of 16 levels to a grey of 256."""


def photograph(plate: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    """A frame with the plate in it, that wide."""
    frame = np.full((720, 1280, 3), 70, np.uint8)
    high = round(width_px * plate.shape[0] / plate.shape[1])
    top, left = (720 - high) // 2, (1280 - width_px) // 2
    frame[top : top + high, left : left + width_px] = cv2.resize(plate, (width_px, high), interpolation=cv2.INTER_AREA)
    cv2.GaussianBlur(frame, (3, 3), 0.6, dst=frame)
    return frame


@dataclass
class Running:
    """A daemon without a broker: it works all the same, and what it says waits in the outbox."""

    config: Path
    control: Path
    outputs: Outputs
    log: Path

    def visit(self) -> None:
        before = ask(self.control, "status")["counts"].get("visits", 0)
        self.outputs.switch(self.outputs.presence, 0, True)
        time.sleep(0.8)
        self.outputs.switch(self.outputs.presence, 0, False)
        until(lambda: ask(self.control, "status")["counts"].get("visits", 0) > before)

    def sealane(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge", *arguments, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("aim")
    site = Site(root / "site")
    site.enrol("lane-1")
    frames = root / "frames"
    frames.mkdir()
    plate = render_plate(np.random.default_rng(5), "de").image
    cv2.imwrite(str(frames / "0.jpg"), photograph(plate, 260))
    outputs = Outputs(1)
    end = ModbusEnd(outputs, root / "detector")
    (root / "lane.toml").write_text(f"""
[lane]
id = "lane-1"
[loop]
driver = "modbus"
[loop.device]
port = "{(root / "detector").resolve()}"
profile = "ld120"
address = 1
[camera]
driver = "files"
[camera.device]
path = "{frames}"
[broker]
host = "127.0.0.1"
port = {site.broker.port}
ca_file = "{site.tls}/ca.pem"
certificate_file = "{site.tls}/lane-1.pem"
key_file = "{site.tls}/lane-1.key"
[keys]
signing_key_file = "{site.root}/lane-1.signing"
recipient_files = ["{site.root}/owner.pub"]
collector_files = ["{site.root}/collector.pub"]
[state]
directory = "{root}/state"
""")
    for name, key in (("owner", site.owner), ("collector", site.collector)):
        (site.root / f"{name}.pub").write_text(key.public.pem())
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge", "run", "--config", str(root / "lane.toml")], stdout=log, stderr=log
        )
    running = Running(root / "lane.toml", socket_path(root / "state"), outputs, root / "log")

    def ready() -> bool:
        assert process.poll() is None, running.log.read_text()
        try:
            status = ask(running.control, "status")
        except SealaneError:
            return False
        return (status.get("loop"), status.get("camera")) == ("ok", "ok")

    until(ready)
    yield running
    process.terminate()
    assert process.wait(20) == 0, running.log.read_text()
    end.close()


def test_explain_says_in_words_what_came_of_the_last_visits(lane: Running) -> None:
    lane.visit()
    told = lane.sealane("explain", "--last", "1")
    assert told.returncode == 0, told.stderr
    assert "read with confidence" in told.stdout or "not read, because" in told.stdout
    line = json.loads(lane.sealane("explain", "--last", "1", "--json").stdout)
    assert line["visit"]["frames_seen"] > 0
    assert "text" not in line["visit"]


def test_the_state_says_how_the_lane_is_confined(lane: Running) -> None:
    assert ask(lane.control, "status")["confinement"]["mode"] == "try"
    assert "confine confined" in lane.log.read_text()


def test_the_doctor_finds_the_broker_away_and_the_rest_in_order(lane: Running) -> None:
    until(lambda: ask(lane.control, "status")["broker"] != "ok")
    told = lane.sealane("doctor", "--json")
    assert told.returncode == 1
    wrong = {line["what"]: line for line in map(json.loads, told.stdout.splitlines()) if not line["good"]}
    assert set(wrong) - {"swap", "memory-locked", "clock"} == {"broker"}  # the machine's own business
    assert wrong["broker"]["found"].startswith("MQTT-")
    assert wrong["broker"]["do"]


def test_aim_shows_gauges_in_a_terminal_and_ends_its_session_on_ctrl_c(lane: Running) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", "aim", "--config", str(lane.config)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    shown = ""
    deadline = time.monotonic() + 30
    while "plate height" not in shown and time.monotonic() < deadline:
        shown += os.read(ours, 65536).decode(errors="replace")
    assert "plate height" in shown
    assert "at least 20 px" in shown
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # until nobody writes any more: a terminal that nobody reads would hold the program up
        while time.monotonic() < deadline + 20 and select.select([ours], [], [], 20)[0]:
            os.read(ours, 65536)
    assert process.wait(20) == 0
    os.close(ours)
    with pytest.raises(ControlRefused, match="AIM-01"):
        ask(lane.control, "aim-view")


def test_the_picture_is_refused_without_a_policy_of_the_owner(lane: Running) -> None:
    refused = lane.sealane("aim", "--picture")
    assert refused.returncode == 2
    assert "AIM-02" in refused.stderr
    assert "Only the owner can allow it" in refused.stderr


def test_nothing_that_can_be_asked_tells_a_plate(lane: Running) -> None:
    lane.visit()
    ask(lane.control, "aim-start")
    until(lambda: ask(lane.control, "aim-view")["view"])
    answers = [ask(lane.control, verb) for verb in ("status", "visits", "aim-view")]
    ask(lane.control, "aim-stop")
    plate = render_plate(np.random.default_rng(5), "de").text
    assert plate not in json.dumps(answers)
    assert plate not in lane.log.read_text()


def seen(of: Mosaic, width: int, height: int, interpolation: int) -> NDArray[np.uint8]:
    """What somebody makes of a mosaic: the cells drawn up to the frame's size."""
    cells = np.array([[int(cell, 16) * NIBBLE for cell in row] for row in of.cells], np.uint8)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=interpolation), np.uint8)


@pytest.fixture(scope="module")
def reader() -> PlateReader:
    return PlateReader()


@pytest.mark.parametrize("width_px", [120, 260, 500, 900, 1100])
@pytest.mark.parametrize("found", [True, False])
def test_a_plate_can_be_read_in_the_frame_but_not_in_its_mosaic(
    reader: PlateReader, width_px: int, found: bool
) -> None:
    plate = render_plate(np.random.default_rng(5), "de")
    frame = photograph(plate.image, width_px)
    assert any(p.text == plate.text for p in reader.read_frame(frame).plates) or width_px > 500
    heights = (width_px * plate.image.shape[0] / plate.image.shape[1],) if found else ()
    made = mosaic(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), heights)
    for interpolation in (cv2.INTER_NEAREST, cv2.INTER_CUBIC):
        picture = seen(made, 1280, 720, interpolation)
        left, top = (1280 - width_px) // 2, 360 - round(width_px * 0.12)
        crop = picture[top : 720 - top, left : left + width_px]
        texts = [p.text for p in (*reader.read_frame(picture).plates, *reader.read_crop(crop).plates)]
        assert not any(_alike(text, plate.text) > 1 for text in texts)


def _alike(a: str, b: str) -> int:
    """Characters that agree in their place."""
    return sum(x == y for x, y in zip(a, b, strict=False))
