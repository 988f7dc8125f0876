"""Log lines: one bounded line per event, nothing of a plate or payload, priorities for the journal."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import logs
from edge.errors import ConfigMissing
from edge.record import PlateText

LOG = logging.getLogger("edge.test")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.setup()
    yield stream
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks


def test_an_event_is_one_line_with_code_message_and_facts(lines: io.StringIO) -> None:
    logs.event(LOG, logging.WARNING, "LOOP-02", "the wire is silent", device="/dev/ttyUSB0", silent_s=1.25, why="a b")
    assert lines.getvalue().endswith(
        ' warning  LOOP-02 the wire is silent device=/dev/ttyUSB0 silent_s=1.25 why="a b"\n'
    )


def test_an_error_of_ours_is_logged_with_its_code(lines: io.StringIO) -> None:
    logs.error(LOG, ConfigMissing("cannot read lane.toml"))
    assert " error    CFG-01 cannot read lane.toml\n" in lines.getvalue()


def test_peer_text_cannot_start_a_line_or_move_the_cursor(lines: io.StringIO) -> None:
    logs.event(LOG, logging.INFO, "MQTT-01", "refused", peer="a\n<0>CRITICAL fake\x1b[2J\x00é" + "x" * 5000)
    assert lines.getvalue().count("\n") == 1
    assert lines.getvalue().isascii()
    assert "\x1b" not in lines.getvalue()
    assert len(lines.getvalue()) < logs.MAX_LINE


def test_plates_and_payloads_given_by_mistake_do_not_show(lines: io.StringIO) -> None:
    logs.event(
        LOG, logging.INFO, "read", "visit", plate=PlateText("CANARY7"), payload=b"CANARY7", view=memoryview(b"CAN")
    )
    assert "CAN" not in lines.getvalue()
    assert "<7 bytes>" in lines.getvalue()


def test_a_library_is_heard_from_warning_on_and_its_traceback_shows_no_values(lines: io.StringIO) -> None:
    logging.getLogger("paho").info("chatter")
    try:
        int("CANARY7")
    except ValueError:
        logging.getLogger("paho").exception("callback failed")
    assert "chatter" not in lines.getvalue()
    assert "CANARY7" not in lines.getvalue()
    assert "callback failed exception=ValueError at=test_logs.py:" in lines.getvalue()


def test_a_crash_in_any_thread_is_one_line_without_its_message() -> None:
    script = """
import threading
from edge import logs
logs.setup()
thread = threading.Thread(target=int, args=("CANARY7",)); thread.start(); thread.join()
int("CANARY7")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("LANE-00 unexpected exception=ValueError at=") == 2
    assert done.stderr.count("\n") == 2
    assert "CANARY7" not in done.stderr


def test_the_journal_gets_priorities_instead_of_time_and_level(tmp_path: Path) -> None:
    script = (
        "import logging; from edge import logs; logs.setup(); logs.event(logging.getLogger('edge'), 40, 'X-01', 'no')"
    )
    with (tmp_path / "journal").open("w+") as journal:
        stat = os.fstat(journal.fileno())
        environ = {**os.environ, "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        subprocess.run([sys.executable, "-c", script], stderr=journal, check=True, env=environ)
        journal.seek(0)
        assert journal.read() == "<3>X-01 no\n"


def test_a_long_fact_is_cut_and_json_stays_out_of_facts(lines: io.StringIO) -> None:
    logs.event(LOG, logging.INFO, "x", "y", fact=json.dumps({"a": "b" * 500}))
    assert lines.getvalue().count("b") < 130
