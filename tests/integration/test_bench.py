"""The whole lane as people run it: `hw-sim bench` and the processes it keeps."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hw_sim.bench import EXACT_BY_DAY

HW_SIM = Path(sys.executable).with_name("hw-sim")
VEHICLES = 5
ROW = re.compile(r"^(\d+)  \d+  ([0-9A-Z]+)  ")
STARTED = re.compile(r"(\S+): started, pid (\d+)")


class Run:
    """One bench run; `on_row` is called with the number of each vehicle as its record is confirmed."""

    def __init__(self, folder: Path, *options: str, on_row: Callable[["Run", int], None] | None = None) -> None:
        self.folder = folder
        self.pids: dict[str, int] = {}
        self.plates: list[str] = []
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [HW_SIM, "bench", "--vehicles", str(VEHICLES), "--speed", "30-60", "--folder", folder, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )
        watchdog = threading.Timer(100, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if started := STARTED.search(line):
                self.pids[started[1]] = int(started[2])
            if row := ROW.match(line):
                self.plates.append(row[2])
                if on_row is not None:
                    on_row(self, int(row[1]))
        self.code = self._process.wait()
        watchdog.cancel()

    @property
    def told(self) -> str:
        return "\n".join(self.lines)


@pytest.mark.parametrize("broker", ["iotcore", "mosquitto"])
def test_the_books_balance_and_nothing_at_rest_can_be_read(tmp_path: Path, broker: str) -> None:
    run = Run(tmp_path / "bench", "--broker", broker)
    closing = rf"{VEHICLES} passages, {VEHICLES} records, (\d) exact, chain intact, outbox empty"
    books = re.fullmatch(closing, run.lines[-1])
    assert books, run.told
    assert run.code == (0 if int(books[1]) >= int(EXACT_BY_DAY * VEHICLES) else 1), run.told
    assert "loop edge -> record confirmed: median" in run.told
    assert len(run.plates) == VEHICLES
    at_rest = [path for path in run.folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("outbox.sqlite") for path in at_rest)
    assert any(path.name.startswith("collector.sqlite") for path in at_rest)
    for path in at_rest:
        content = path.read_bytes()
        assert not [plate for plate in run.plates if plate.encode() in content], path


@pytest.mark.parametrize("broker", ["iotcore", "mosquitto"])
def test_the_books_balance_though_everything_is_killed_once(tmp_path: Path, broker: str) -> None:
    victims = {1: "broker", 2: "collector", 3: "daemon"}

    def kill(run: Run, row: int) -> None:
        if row in victims:
            os.kill(run.pids[victims[row]], signal.SIGKILL)

    run = Run(tmp_path / "bench", "--broker", broker, on_row=kill)
    assert run.told.count("killed by SIGKILL") == 3, run.told
    closing = rf"{VEHICLES} passages, {VEHICLES} records, \d exact, chain intact, outbox empty"
    assert re.fullmatch(closing, run.lines[-1]), run.told


@pytest.mark.parametrize(
    ("option", "code"),
    [(("--scenario", "nowhere"), "SIM-01"), (("--speed", "9-5"), "CFG-03"), (("--frames", "."), "SIM-02")],
)
def test_what_cannot_run_is_said_before_anything_starts(tmp_path: Path, option: tuple[str, str], code: str) -> None:
    command = [HW_SIM, "bench", "--folder", tmp_path / "bench", *option]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert code in done.stderr
    assert not (tmp_path / "bench").exists()


def test_a_simulator_that_is_killed_leaves_one_daemon(tmp_path: Path) -> None:
    def kill(run: Run, row: int) -> None:
        if row == 1 and "killed" not in run.told:
            os.kill(run.pids["hw-sim"], signal.SIGKILL)

    run = Run(tmp_path / "bench", on_row=kill)
    assert "hw-sim: killed by SIGKILL" in run.told
    assert run.told.count("daemon: started") == 1, run.told
    assert "chain intact" in run.lines[-1]
