"""What a lane says of itself between its reads: audit records, faults, checkpoints; and the time on all it says.

A fault is shown in the state message at once, and told in the log and in a record as `FaultTeller` allows. No room in
the outbox is a fault like others: the lane reads on, and what could not be written down is, once there is room.
"""

import logging
import time

from drivers.clock import Clock
from edge import logs
from edge.errors import OutboxFull
from edge.faults import FaultTeller, Told
from edge.health import Health
from edge.outbox import Outbox
from edge.publisher import Publisher
from edge.record import AuditRecord, CheckpointRecord, ClockQuality, Instant

Fact = tuple[str, str | int]

log = logging.getLogger(__name__)


class Books:
    """Shared by all threads of one lane."""

    def __init__(self, outbox: Outbox, publisher: Publisher, health: Health, clock: Clock) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._health = health
        self._clock = clock
        self._faults = FaultTeller()
        self._checkpointed = outbox.checkpointed

    def instant(self, monotonic_ns: int) -> Instant:
        """That moment, with its UTC by the clock as it goes now."""
        now = self._clock.read()
        return Instant(now.utc_ns - (now.monotonic_ns - monotonic_ns), monotonic_ns)

    def clock_quality(self) -> ClockQuality:
        now = self._clock.read()
        return ClockQuality(now.synchronised, now.bound_ms, now.source)

    def audit(self, event: str, *facts: Fact) -> bool:
        """Write down that this happened now. Whether there was room for it in the outbox."""
        at = self._clock.read()
        said = AuditRecord(event, Instant(at.utc_ns, at.monotonic_ns), self.clock_quality(), facts)
        return self._keep(said) is not None

    def checkpoint(self) -> None:
        """One that waits says all that another would: while nobody confirms, the room is for reads."""
        if self._checkpointed is None or not self._outbox.waits(self._checkpointed):
            at = self.instant(time.monotonic_ns())
            self._checkpointed = self._keep(CheckpointRecord(at, self.clock_quality(), self._outbox.depth))

    def fault(self, source: str, code: str, *, active: bool) -> None:
        """The fault of one source, a code or a word, is there or over; nothing is done where that is known."""
        if self._health.fault(source, code if active else None):
            self._health.count("fault_changes")
            self._faults.changed(source, code, active=active)
            self.tell_faults()

    def tell_faults(self, *, everything: bool = False) -> None:
        """Tell what may be told by now; `everything`: what is held back too, because there is no later."""
        for told in self._faults.due(time.monotonic(), everything=everything):
            level = logging.WARNING if told.active else logging.INFO
            word = "began" if told.active else "over"
            logs.event(log, level, "fault", word, source=told.source, what=told.what, changes=told.changes)
            self._write_fault(told)
            self._publisher.announce()

    def _write_fault(self, told: Told) -> None:
        facts = ("source", told.source), ("what", told.what), ("active", int(told.active))
        if not self.audit("fault", *facts, *([("changes", told.changes)] if told.changes > 1 else [])):
            self._faults.unwritten(told)

    def _keep(self, said: AuditRecord | CheckpointRecord) -> int | None:
        """Append what is no read, and return its number; None if there is no room."""
        try:
            _, seq = self._outbox.append(said)
        except OutboxFull as error:
            if self._health.fault("outbox", error.code):
                self._health.count("fault_changes")
                logs.error(log, error)
                self._publisher.announce()
            return None
        self._publisher.wake()
        self.fault("outbox", OutboxFull.code, active=False)
        for told in self._faults.to_write():
            self._write_fault(told)
        return seq
