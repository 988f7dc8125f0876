"""What systemd is told, on a socket that stands for systemd's."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import notify


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(1)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_each_state_is_one_datagram(systemd: socket.socket) -> None:
    notify.ready()
    notify.alive()
    notify.status("12 records\nREADY=0")
    notify.stopping()
    told = [systemd.recv(1000).decode() for _ in range(4)]
    assert told == ["READY=1", "WATCHDOG=1", "STATUS=12 records READY=0", "STOPPING=1"]


def test_an_abstract_socket_is_reached_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0sealane-test-{os.getpid()}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@sealane-test-{os.getpid()}")
        notify.ready()
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_said_and_no_watchdog_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    notify.ready()
    assert notify.watchdog_s() is None


def test_the_watchdog_interval_is_in_seconds_and_only_for_the_process_it_was_meant_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert notify.watchdog_s() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert notify.watchdog_s() is None


def test_a_systemd_that_does_not_listen_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify.alive()
    assert "could not be told" in caplog.text
