"""Child processes that are kept running: what systemd does on a lane box, small enough for a bench.

A child that ends is started again with a capped, growing delay; all of them end with the supervisor, even if it is
killed. A child that speaks sd_notify (READY=1) is ready when it says so, as under systemd.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_S = 10.0
"""A child that ran this long is not failing in a loop."""
STOP_TIMEOUT_S = 8.0
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One supervised process. `on_line` gets its standard output line by line; otherwise that goes to the log file.
    `notify` is the path of an sd_notify socket made for it. `on_change` hears "started", "ready" and how it ended."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_dir: Path,
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_change: Callable[["Child", str], None] = lambda child, what: None,
        notify: Path | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self._argv = list(argv)
        self._log = log_dir / f"{name}.log"
        self._env = {**os.environ, **(env or {})}
        self._on_line = on_line
        self._on_change = on_change
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._notify = _NotifySocket(notify, self._notified) if notify else None
        self._thread = threading.Thread(target=self._keep_running, name=f"supervise-{name}", daemon=True)

    def start(self) -> "Child":
        self._thread.start()
        return self

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def log(self) -> Path:
        return self._log

    def wait_ready(self, timeout_s: float) -> bool:
        """Until the child said READY=1 since its last start; without sd_notify, until it runs."""
        return self._ready.wait(timeout_s)

    def say(self, line: str) -> None:
        """One line to the child's standard input; lost if it is not running."""
        process = self._process
        if process is not None and process.stdin is not None:
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            except OSError:
                return

    def stop(self) -> None:
        """Ask it to end, then insist."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(STOP_TIMEOUT_S)
        if self._notify is not None:
            self._notify.close()

    def _notified(self, message: str) -> None:
        if "READY=1" in message.splitlines() and not self._ready.is_set():
            self._ready.set()
            self._on_change(self, "ready")

    def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            self._run_once()
            failures = 0 if time.monotonic() - began > STEADY_S else failures + 1
            self._stopping.wait(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else 0)

    def _run_once(self) -> None:
        env = self._env if self._notify is None else {**self._env, "NOTIFY_SOCKET": str(self._notify.path)}
        with self._log.open("a") as log:
            process = subprocess.Popen(
                self._argv,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if self._on_line else log,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
            self._process = process
            self.starts += 1
            if self._stopping.is_set():
                process.terminate()
            self._on_change(self, "started")
            if self._notify is None:
                self._ready.set()
            if self._on_line is not None and process.stdout is not None:
                self._pump(process.stdout, self._on_line)
            code = process.wait()
        self._ready.clear()
        if not self._stopping.is_set():
            self._on_change(self, f"ended with {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}")

    @staticmethod
    def _pump(stream: IO[str], on_line: Callable[[str], None]) -> None:
        for line in stream:
            on_line(line.rstrip("\n"))


class _NotifySocket:
    """The receiving end of sd_notify(3): datagrams on a unix socket."""

    def __init__(self, path: Path, on_message: Callable[[str], None]) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._on_message = on_message
        threading.Thread(target=self._listen, name=f"notify-{path.stem}", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                message = self._socket.recv(4096)
            except OSError:
                return
            if not message:
                return
            self._on_message(message.decode(errors="replace"))

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes the listener; some kernels say ENOTCONN
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.path.unlink(missing_ok=True)
