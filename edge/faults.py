"""Which changes of a fault are told one by one: a contact that chatters must not fill the outbox. No I/O, no clock.

Every source may have BURST changes told as they come, and one more each PERIOD_S. What comes beyond that is counted and
told together, as the state that the source has then. What was told and could not be written down is kept to be written.
"""

import threading
from dataclasses import dataclass

BURST = 10
PERIOD_S = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """A source's fault as it is now (what: its code or a word). changes: how many there were since it was last told."""

    source: str
    what: str
    active: bool
    changes: int


class FaultTeller:
    """Shared by all threads. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}

    def changed(self, source: str, what: str, *, active: bool) -> None:
        """The fault of one source began, became another, or is over."""
        with self._lock:
            of = self._sources.setdefault(source, _Source())
            of.what, of.active, of.changes = what, active, of.changes + 1

    def due(self, now_s: float, *, everything: bool = False) -> list[Told]:
        """What is to be told now, each once; `everything`: what is held back too, because there is no later."""
        with self._lock:
            return [
                Told(source, of.what, of.active, of.take())
                for source, of in self._sources.items()
                if of.changes and (of.may_tell(now_s) or everything)
            ]

    def unwritten(self, told: Told) -> None:
        """There was no room to write down what was told."""
        with self._lock:
            self._sources[told.source].unwritten += told.changes

    def to_write(self) -> list[Told]:
        """What was told and not written down, each once, as it is now."""
        with self._lock:
            return [
                Told(source, of.what, of.active, of.take_unwritten())
                for source, of in self._sources.items()
                if of.unwritten
            ]


@dataclass(slots=True)
class _Source:
    what: str = ""
    active: bool = False
    changes: int = 0
    unwritten: int = 0
    allowance: float = BURST
    at_s: float = 0.0

    def may_tell(self, now_s: float) -> bool:
        self.allowance = min(BURST, self.allowance + (now_s - self.at_s) / PERIOD_S)
        self.at_s = now_s
        return self.allowance >= 1

    def take(self) -> int:
        changes, self.changes = self.changes, 0
        self.allowance -= 1
        return changes + self.take_unwritten()

    def take_unwritten(self) -> int:
        changes, self.unwritten = self.unwritten, 0
        return changes
