"""The local control socket: how doctor, explain and aim ask the one running daemon. Fixed verbs, no arguments.

One exchange is one connection: a line `{"verb": "..."}`, answered by a line `{"ok": ...}` or
`{"error": {"code": ..., "what": ...}}`. The socket stands in the state directory with mode 0660: its group may ask.
Both ends are bounded in bytes and time, so that nobody who may ask can hold up the daemon.
"""

import contextlib
import json
import logging
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge import logs
from edge.errors import (
    ControlFailed,
    ControlGarbled,
    ControlPath,
    ControlRefused,
    ControlUnreachable,
    SealaneError,
    clean,
)

SOCKET_NAME = "control.sock"
MAX_REQUEST_BYTES = 256
MAX_ANSWER_BYTES = 1 << 20
TIMEOUT_S = 2.0
"""Longest wait for the other end, on both ends."""
ACCEPT_PAUSE_S = 1.0
"""After a connection could not be taken (no file descriptor left, say), this long until the next attempt."""

Jsonable = None | bool | int | float | str | list["Jsonable"] | dict[str, "Jsonable"]
Handler = Callable[[], Any]
"""Answers one verb with something json can write. Runs in the server's thread; what it raises becomes the answer."""

log = logging.getLogger(__name__)


def socket_path(state_directory: Path) -> Path:
    return state_directory / SOCKET_NAME


def ask(path: Path, verb: str) -> Any:
    """Ask the daemon whose socket is `path`. Raises ControlUnreachable, ControlRefused, ControlGarbled."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps({"verb": verb}).encode() + b"\n")
            line = _read_line(connection, MAX_ANSWER_BYTES)
    except OSError as error:
        raise ControlUnreachable(f"no answer at {path}: {error.strerror or 'timed out'}") from error
    try:
        answer = json.loads(line)
        if "ok" in answer:
            return answer["ok"]
        code, what = answer["error"]["code"], answer["error"]["what"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ControlGarbled(f"the answer to {verb!r} is not the protocol's") from error
    raise ControlRefused(clean(f"{code} {what}"), code)


class ControlServer:
    """Serves the verbs of `handlers` at `path`, one exchange at a time, in a thread of its own while entered.

    Raises ControlPath on entry where the socket can't be made or another daemon answers there.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = dict(handlers)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._listener = _listen(self._path)
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), name="control", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is None or self._thread is None:
            return
        self._stop.set()
        with contextlib.suppress(OSError):  # a listener that failed already is as good as closed
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join(2 * TIMEOUT_S)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _serve(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if not self._stop.wait(ACCEPT_PAUSE_S):
                    logs.event(log, logging.WARNING, "control", "nobody could be heard", why=error.strerror)
                continue
            with connection:
                connection.settimeout(TIMEOUT_S)
                try:
                    connection.sendall(self._answer(_read_line(connection, MAX_REQUEST_BYTES)))
                except OSError as error:  # the asker went away or never asked
                    logs.event(log, logging.DEBUG, "control", "exchange broken off", why=error.strerror or "time-out")

    def _answer(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
            verb = request["verb"]
            handler = self._handlers[verb]
        except (ValueError, TypeError, KeyError):
            return _error(ControlGarbled("this daemon does not know that request"))
        try:
            answer = json.dumps({"ok": handler()}, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        except SealaneError as error:
            return _error(error)
        except Exception as error:  # noqa: BLE001 - whatever one verb lacks, the others are served
            failed = ControlFailed(f"{clean(verb)}: {type(error).__name__}")
            logs.error(log, failed, at=logs.places(error.__traceback__))
            return _error(failed)
        if len(answer) > MAX_ANSWER_BYTES:
            return _error(ControlGarbled(f"the answer to {verb!r} is larger than {MAX_ANSWER_BYTES} bytes"))
        return answer


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen(4)
    except OSError as error:
        listener.close()
        raise ControlPath(f"cannot make the socket {path}: {clean(error.strerror or error)}") from error
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody serves any more; raises ControlPath if somebody does, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlPath(f"{path} is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(TIMEOUT_S)
        if probe.connect_ex(str(path)) == 0:
            raise ControlPath(f"a daemon already answers at {path}")
    path.unlink()


def _read_line(connection: socket.socket, limit: int) -> bytes:
    """Bytes up to the first newline, within TIMEOUT_S in all; OSError when there is no whole line within `limit`."""
    deadline = time.monotonic() + TIMEOUT_S
    line = bytearray()
    while not line.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = connection.recv(min(65536, limit + 1 - len(line)))
        line += chunk
        if not chunk or len(line) > limit:
            raise ConnectionError("no whole line")
    return bytes(line)


def _error(error: SealaneError) -> bytes:
    return json.dumps({"error": {"code": error.code, "what": error.what}}).encode() + b"\n"
