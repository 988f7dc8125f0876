"""AimSession: the daemon's side of `sealane aim`. Started by hand, over by itself, in the audit chain on and off."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from edge import logs
from edge.aim.view import View
from edge.capture import FrameLease, FrameRing
from edge.control import Handler
from edge.errors import AimOff, AimPictureRefused, CameraFrameError, OutboxFull, SealaneError

DURATION_S = 600.0
"""A session is over after this long; starting again is another session."""
PERIOD_S = 0.5
FRAME_TIMEOUT_S = 0.5
STOP_S = 5.0
"""Longest wait for a session to end: a frame that is being looked at."""

log = logging.getLogger(__name__)


class Eye(Protocol):
    """`edge.aim.eye.Eye`."""

    def look(self, lease: FrameLease, *, picture: bool) -> View: ...


class AimSession:
    """At most one session at a time, in a thread of its own.

    open_eye: makes an Eye, in that thread. loop: the loop's state in a word. picture_allowed: the owner's word, asked
    at every start and frame. audit: called with ("on", 1 or 0) and ("picture", 1 or 0) when a session begins and ends;
    False if that could not be written down, and then none begins.
    """

    def __init__(
        self,
        ring: FrameRing,
        open_eye: Callable[[], Eye],
        *,
        loop: Callable[[], str],
        picture_allowed: Callable[[], bool],
        audit: Callable[..., bool],
        duration_s: float = DURATION_S,
        period_s: float = PERIOD_S,
    ) -> None:
        self._ring = ring
        self._open_eye = open_eye
        self._loop = loop
        self._picture_allowed = picture_allowed
        self._audit = audit
        self._duration_s = duration_s
        self._period_s = period_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._until_s = 0.0
        self._view: Mapping[str, Any] | None = None
        self._failure: SealaneError | None = None

    def handlers(self) -> dict[str, Handler]:
        """Verbs for the control socket."""
        return {
            "aim-start": lambda: self.start(picture=False),
            "aim-start-picture": lambda: self.start(picture=True),
            "aim-view": self.view,
            "aim-stop": self.stop,
        }

    def start(self, *, picture: bool) -> dict[str, float]:
        """Begin a session, ending one that runs. AimPictureRefused unless the owner allows the picture, OutboxFull."""
        if picture and not self._picture_allowed():
            raise AimPictureRefused("the owner's policy does not allow the picture")
        self.stop()
        if not self._audit(("on", 1), ("picture", int(picture))):
            raise OutboxFull("no room to write down that somebody aims")
        self._stop = threading.Event()
        self._until_s = time.monotonic() + self._duration_s
        self._thread = threading.Thread(target=self._run, args=(picture, self._stop), name="aim", daemon=True)
        self._thread.start()
        return {"left_s": self._duration_s}

    def view(self) -> dict[str, Any]:
        """The newest view, `view` None before the first. Raises AimOff when no session runs, and the SealaneError of
        `open_eye` after one that could not begin for it."""
        if self._thread is None or not self._thread.is_alive():
            raise self._failure or AimOff("no aim session runs")
        with self._lock:
            return {"left_s": max(0.0, self._until_s - time.monotonic()), "loop": self._loop(), "view": self._view}

    def stop(self) -> None:
        """End the session that runs, if one does."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None
        self._failure = None

    def _run(self, picture: bool, stop: threading.Event) -> None:
        try:
            eye = self._open_eye()
            seen_ns = time.monotonic_ns()
            while time.monotonic() < self._until_s and not stop.wait(self._period_s):
                if picture and not self._picture_allowed():
                    return
                lease = self._ring.lease_next(
                    max(seen_ns, time.monotonic_ns() - int(self._period_s * 1e9)), FRAME_TIMEOUT_S
                )
                if lease is not None:
                    with lease:
                        seen_ns = lease.info.captured_ns
                        self._look(eye, lease, picture)
        except SealaneError as error:
            logs.error(log, error)
            self._failure = error
        finally:
            with self._lock:
                self._view = None
            self._audit(("on", 0), ("picture", int(picture)))

    def _look(self, eye: Eye, lease: FrameLease, picture: bool) -> None:
        try:
            view = asdict(eye.look(lease, picture=picture))
        except CameraFrameError as error:
            logs.error(log, error, logging.DEBUG)
            return
        with self._lock:
            self._view = view
