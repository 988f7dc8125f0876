import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hw_sim.supervise import Child

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert what()


def test_a_child_that_is_killed_is_started_again_and_says_how_it_ended(tmp_path: Path) -> None:
    news: list[str] = []
    child = Child("echo", [sys.executable, "-c", ECHO], tmp_path, on_change=lambda _, what: news.append(what)).start()
    wait_for(lambda: child.pid is not None)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: child.pid not in (None, first))
    child.stop()
    assert child.pid is None
    assert news == ["started", "killed by SIGKILL", "started"]


def test_a_child_that_ends_by_itself_again_and_again_is_counted(tmp_path: Path) -> None:
    child = Child("loser", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path).start()
    wait_for(lambda: child.failures >= 2)
    child.stop()


def test_lines_go_in_and_come_out(tmp_path: Path) -> None:
    heard: list[str] = []
    came = threading.Event()

    def hear(line: str) -> None:
        heard.append(line)
        came.set()

    child = Child("echo", [sys.executable, "-c", ECHO], tmp_path, on_line=hear).start()
    wait_for(lambda: child.pid is not None)
    child.say("go")
    assert came.wait(10)
    child.stop()
    assert heard == ["go"]


def test_children_end_with_their_supervisor_even_if_it_is_killed(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from hw_sim.supervise import Child\n"
            f"child = Child('sleeper', ['sleep', '600'], Path({str(tmp_path)!r})).start()\n"
            "while child.pid is None: time.sleep(0.01)\n"
            "print(child.pid, flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    supervisor.kill()
    supervisor.wait()
    wait_for(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
