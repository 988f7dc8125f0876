"""Health: counters, the lane's state message, and the evidence the watchdog asks for.

Every stage says when it last made progress; `stuck` names those that have not for longer than they may. The state
message holds numbers and codes only.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

HOUR_S = 3600.0
MAX_REJECTS_KEPT = 10_000
"""Most reject reasons remembered for the hourly counters."""


class Health:
    """Shared by all threads. `clock` gives seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[float, float]] = {}
        self._counts: Counter[str] = Counter()
        self._rejects: deque[tuple[float, str]] = deque(maxlen=MAX_REJECTS_KEPT)
        self._facts: dict[str, Any] = {}
        self._faults: dict[str, str] = {}

    def stage(self, name: str, patience_s: Callable[[], float]) -> Callable[[], None]:
        """Enrol a stage; returns what it calls to say that it made progress. Each time it is asked how long it may take
        until the next."""

        def alive() -> None:
            with self._lock:
                self._stages[name] = (self._clock(), patience_s())

        alive()
        return alive

    def stuck(self) -> list[str]:
        """Names of the stages that made no progress for longer than they may; empty feeds the watchdog."""
        now = self._clock()
        with self._lock:
            return [name for name, (seen, patience_s) in self._stages.items() if now - seen > patience_s]

    def count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self._counts[what] += by

    def reject(self, reason: str) -> None:
        """A visit ended without a plate, for this reason."""
        with self._lock:
            self._rejects.append((self._clock(), reason))

    def set(self, **facts: Any) -> None:
        """Facts of the moment for the state message (loop, camera, outbox, ...)."""
        with self._lock:
            self._facts.update(facts)

    def fault(self, source: str, code: str | None) -> bool:
        """The fault of one source, or None when it is over. Returns whether that is news. What may be wrong at the same
        time is of different sources."""
        with self._lock:
            before = self._faults.get(source)
            if code is None:
                self._faults.pop(source, None)
            else:
                self._faults[source] = code
            return before != code

    def state(self) -> dict[str, Any]:
        """The state message: facts, faults by source, counters since start, reject reasons of the last hour."""
        now = self._clock()
        with self._lock:
            return {
                **self._facts,
                "faults": dict(self._faults),
                "counts": dict(self._counts),
                "rejects_last_hour": dict(Counter(why for at, why in self._rejects if now - at <= HOUR_S)),
            }
