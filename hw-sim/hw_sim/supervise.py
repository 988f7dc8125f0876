"""Child processes that are kept running: what systemd does on a lane box, small enough for a bench.

A child that ends is started again with a capped, growing delay; `failures` tells its owner when that is of no use.
All of them end with the supervisor, even if it is killed.
"""

import ctypes
import os
import signal
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
    `on_change` hears "started" and how it ended."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log_dir: Path,
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_change: Callable[["Child", str], None] = lambda child, what: None,
    ) -> None:
        self.name = name
        self.starts = 0
        self.failures = 0
        """How often in a row it failed by itself; one that had run for STEADY_S begins a new row."""
        self._argv = list(argv)
        self._log = log_dir / f"{name}.log"
        self._env = {**os.environ, **(env or {})}
        self._on_line = on_line
        self._on_change = on_change
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
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

    def _keep_running(self) -> None:
        quick = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run_once()
            quick = 0 if time.monotonic() - began > STEADY_S else quick + 1
            self.failures = 0 if code <= 0 else self.failures + 1 if quick else 1
            if not self._stopping.is_set():
                how = f"ended with {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
                self._on_change(self, how)
            self._stopping.wait(BACKOFF_S[min(quick, len(BACKOFF_S)) - 1] if quick else 0)

    def _run_once(self) -> int:
        """Its exit status, negative if a signal ended it."""
        with self._log.open("a") as log:
            process = subprocess.Popen(
                self._argv,
                env=self._env,
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
            if self._on_line is not None and process.stdout is not None:
                self._pump(process.stdout, self._on_line)
            return process.wait()

    @staticmethod
    def _pump(stream: IO[str], on_line: Callable[[str], None]) -> None:
        for line in stream:
            on_line(line.rstrip("\n"))
