"""The control socket between real ends in one process, and against bytes that are not its protocol."""

import contextlib
import json
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import control
from edge.control import MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, ControlServer, ask
from edge.errors import ControlGarbled, ControlPath, ControlRefused, ControlUnreachable, DriverUnknown


def refuse() -> None:
    raise DriverUnknown("no driver of that name")


def fail() -> None:
    raise RuntimeError("not ours")


HANDLERS = {
    "fail": fail,
    "unfit": object,
    "status": lambda: {"lane": "north-1", "records": 3},
    "refuse": refuse,
    "huge": lambda: "x" * MAX_ANSWER_BYTES,
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(control, "TIMEOUT_S", 0.3)
    path = tmp_path / "control.sock"
    with ControlServer(path, HANDLERS):
        yield path


def exchange(path: Path, sent: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(sent)
        return connection.recv(65536)


def test_a_verb_is_answered_with_what_its_handler_returns(path: Path) -> None:
    assert ask(path, "status") == {"lane": "north-1", "records": 3}
    assert ask(path, "status") == {"lane": "north-1", "records": 3}


def test_an_error_of_the_handler_reaches_the_asker_with_its_code_and_hint(path: Path) -> None:
    with pytest.raises(ControlRefused, match=r"CTL-02 CFG-04 no driver of that name") as refused:
        ask(path, "refuse")
    assert refused.value.hint == DriverUnknown.hint


def test_an_error_that_this_version_does_not_know_has_the_hint_of_any() -> None:
    assert ControlRefused("NEW-01 something", "NEW-01").hint == ControlRefused.hint


@pytest.mark.parametrize("verb", ["fail", "unfit"])
def test_a_handler_that_fails_is_an_error_and_the_server_goes_on(verb: str, path: Path) -> None:
    with pytest.raises(ControlRefused, match=f"CTL-06 {verb}"):
        ask(path, verb)
    assert ask(path, "status")


def test_a_moment_without_file_descriptors_does_not_end_the_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ACCEPT_PAUSE_S", 0.05)
    monkeypatch.setattr(control, "TIMEOUT_S", 5.0)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        resource.setrlimit(resource.RLIMIT_NOFILE, (asker.fileno() + 1, limits[1]))
        try:
            asker.connect(str(path))
            time.sleep(0.2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        asker.sendall(b'{"verb":"status"}\n')
        assert b'"ok"' in asker.recv(1000)


def test_an_unknown_verb_is_refused_and_the_server_goes_on(path: Path) -> None:
    with pytest.raises(ControlRefused, match="CTL-03"):
        ask(path, "shutdown")
    assert ask(path, "status")


def test_an_answer_beyond_the_bound_is_an_error_and_not_sent(path: Path) -> None:
    with pytest.raises(ControlRefused, match="larger than"):
        ask(path, "huge")


def test_only_owner_and_group_may_use_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"[]\n",
        b'"status"\n',
        b"{}\n",
        b'{"verb":7}\n',
        b'{"verb":["status"]}\n',
        b"\xff\xfe\n",
        b"[" * 200 + b"\n",
    ],
)
def test_a_request_that_is_not_the_protocol_gets_an_error_line(path: Path, sent: bytes) -> None:
    assert json.loads(exchange(path, sent))["error"]["code"] == "CTL-03"
    assert ask(path, "status")


def test_a_request_longer_than_the_bound_is_cut_off_without_an_answer(path: Path) -> None:
    assert exchange(path, b"x" * (MAX_REQUEST_BYTES + 1)) == b""
    assert ask(path, "status")


def test_an_asker_that_says_nothing_holds_up_the_others_only_until_the_time_out(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(path))
        assert b'"ok"' in exchange(path, b'{"verb":"status"}\n')


def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(ControlUnreachable, match="No such file"):
        ask(tmp_path / "control.sock", "status")


def ask_whoever_says(answer: bytes, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            ask(path, "status")
        finally:
            thread.join()


@given(answer=st.binary(max_size=200).filter(lambda b: b"\n" not in b))
def test_whatever_a_daemon_answers_the_asker_gets_a_value_or_an_error_of_ours(
    answer: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with contextlib.suppress(ControlGarbled, ControlRefused):
        ask_whoever_says(answer, tmp_path_factory.mktemp("c") / "s")


def test_an_answer_nested_without_end_is_garbled(tmp_path: Path) -> None:
    with pytest.raises(ControlGarbled):
        ask_whoever_says(b"[" * 200_000, tmp_path / "s")


def test_the_socket_of_a_daemon_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with ControlServer(path, HANDLERS):
        assert ask(path, "status")
    assert not path.exists()


def test_a_second_daemon_on_the_same_socket_is_refused(path: Path) -> None:
    with pytest.raises(ControlPath, match="already answers"), ControlServer(path, HANDLERS):
        pass
    assert ask(path, "status")


def plain_file(path: Path) -> Path:
    path.write_text("kept")
    return path


def too_long(path: Path) -> Path:
    return path.parent / ("x" * 120)


@pytest.mark.parametrize("place", [plain_file, too_long])
def test_a_path_that_cannot_become_a_socket_is_an_error_and_stays_as_it_is(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path / "control.sock")
    before = list(tmp_path.iterdir())
    with pytest.raises(ControlPath), ControlServer(path, HANDLERS):
        pass
    assert list(tmp_path.iterdir()) == before
