"""The lane's own time: CLOCK_MONOTONIC that stands still while the lane is held. All that moves goes by it."""

import threading
import time
from collections.abc import Callable


class LaneClock:
    """Held or going; safe to use from several threads. `clock`: CLOCK_MONOTONIC ns."""

    def __init__(self, *, held: bool = False, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._held_at_ns: int | None = clock() if held else None
        self._lost_ns = 0
        self._closed = False

    def now_ns(self) -> int:
        """Lane time; as long as nothing was ever held, it is CLOCK_MONOTONIC."""
        with self._changed:
            return self._now_ns()

    def hold(self) -> None:
        """Time stands still: whoever is under way stops where it is."""
        with self._changed:
            if self._held_at_ns is None:
                self._held_at_ns = self._clock()

    def go(self) -> None:
        """Time goes on from where it stood."""
        with self._changed:
            if self._held_at_ns is not None:
                self._lost_ns += self._clock() - self._held_at_ns
                self._held_at_ns = None
                self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_until(self, lane_ns: int) -> bool:
        """Until lane time `lane_ns`, however long it is held; False once closed."""
        with self._changed:
            while not self._closed:
                left_ns = lane_ns - self._now_ns()
                if self._held_at_ns is None and left_ns <= 0:
                    return True
                self._changed.wait(None if self._held_at_ns is not None else left_ns / 1e9)
            return False

    def _now_ns(self) -> int:
        return (self._clock() if self._held_at_ns is None else self._held_at_ns) - self._lost_ns
