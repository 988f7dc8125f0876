"""An authority's folder: commands change it one after the other, and a file in it is whole or not there."""

import fcntl
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from edge import logs
from edge.errors import AuthorityBusy, AuthorityUnusable

PART = ".part"
"""What a file's name ends with until it is whole."""
PATIENCE_S, SAID_AFTER_S = 60.0, 1.0
"""How long a command waits for another one in the same folder, and when it says so."""

log = logging.getLogger(__name__)


class Turn:
    """A command's turn in a folder: no other one reads or writes there what this one changes. One in another is one.

    Never while a person types or a network answers. AuthorityBusy if another command's lasts PATIENCE_S.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if self._held:
            yield
            return
        lock = os.open(self._directory / ".turn", os.O_RDWR | os.O_CREAT, 0o600)  # a network's folder locks no less
        try:
            self._wait_for(lock)
            self._held = True
            yield
        finally:
            self._held = False
            os.close(lock)

    def _wait_for(self, lock: int) -> None:
        began, said = time.monotonic(), False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                waited_s = time.monotonic() - began
                if waited_s > PATIENCE_S:
                    raise AuthorityBusy(f"another command is at work in {self._directory}") from error
                if waited_s > SAID_AFTER_S and not said:
                    said = True
                    logs.event(log, logging.WARNING, AuthorityBusy.code, "waiting for another command in this folder")
            time.sleep(0.05)


class _Shared(Protocol):
    """What has an authority's folder."""

    @property
    def turn(self) -> Callable[[], AbstractContextManager[None]]: ...


S = TypeVar("S", bound=_Shared)
P = ParamSpec("P")
T = TypeVar("T")


def in_turn(change: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Let a function take the turn of what it is given first, as it writes what follows from what it reads."""

    @functools.wraps(change)
    def changed(shared: S, /, *given: P.args, **named: P.kwargs) -> T:
        with shared.turn():
            return change(shared, *given, **named)

    return changed


def write(path: Path, content: bytes) -> None:
    """Replace a file, whole or not at all, in a folder that is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def read(path: Path) -> bytes:
    """AuthorityUnusable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuthorityUnusable(f"cannot read {path}: {error.strerror}") from error


def whole_files(folder: Path) -> dict[str, Path]:
    """All that are whole, by name."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != PART)
    return {path.relative_to(folder).as_posix(): path for path in found}
