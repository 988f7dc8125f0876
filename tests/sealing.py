"""What the tests of record, seal and outbox have in common: records of every kind, keys, a sealer."""

import dataclasses
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edge.outbox import Limits, Outbox
from edge.record import (
    Alternative,
    AuditRecord,
    CheckpointRecord,
    ClockQuality,
    Ending,
    GapRecord,
    Instant,
    NoRead,
    PlateReading,
    PlateText,
    Quality,
    ReadRecord,
)
from edge.seal import keys
from edge.seal.envelope import Sealer
from edge.seal.keys import KeyType, PrivateKey
from edge.seal.signer import FileSigner

NOW = Instant(utc_ns=1_795_500_000_000_000_000, monotonic_ns=4_200_000_000_000)
CLOCK = ClockQuality(synchronised=True, bound_ms=1.25, source="chrony 192.0.2.1")
READ = ReadRecord(
    passage_id=bytes(range(16)),
    arrival=NOW,
    departure=Instant(NOW.utc_ns + 2_000_000_000, NOW.monotonic_ns + 2_000_000_000),
    ending=Ending.LEFT,
    restarted=False,
    clock=CLOCK,
    reading=PlateReading(
        text=PlateText("AB12CDE"),
        no_read=None,
        confidence=0.9731,
        chars=(0.99, 0.98, 1.0, 0.97, 0.99, 0.9999, 0.95),
        alternatives=(Alternative(PlateText("A812CDE"), 0.0123),),
        region="GB",
        region_confidence=0.8,
        syntax="GB 2001",
        frames_seen=24,
        frames_used=18,
        frames_agreeing=17,
        detector_score=0.91,
        plates_in_frame=1,
        quality=Quality(34.5, 0.72, 0.01, 101.5, 500.0, 4.25),
    ),
    direction="forward",
    speed_kmh=31.4,
    loop_faults=(),
    model_id="5b" * 32,
    software="0.1.0",
)
NO_READ = dataclasses.replace(READ, reading=PlateReading(text=None, no_read=NoRead.TOO_DARK), speed_kmh=None)
CHECKPOINT = CheckpointRecord(at=NOW, clock=CLOCK, outbox_depth=3)
GAP = GapRecord(first_seq=5, last_seq=9, count=5, reason="outbox-full", last_hash=bytes(32))
AUDIT = AuditRecord(event="boot", at=NOW, clock=CLOCK, facts=(("down_from", NOW.utc_ns), ("software", "0.1.0")))
EVERY_KIND = (READ, NO_READ, CHECKPOINT, GAP, AUDIT)


def read(**changes: Any) -> ReadRecord:
    """A read of its own passage."""
    return dataclasses.replace(READ, **{"passage_id": os.urandom(16), **changes})


def signing_key(kind: KeyType = KeyType.ED25519, name: str = "lane") -> PrivateKey:
    """The signing key of that name, the same each time."""
    return _made(keys.make_signing_key, kind, name)


def recipient_key(kind: KeyType = KeyType.X25519, name: str = "owner") -> PrivateKey:
    """The recipient key of that name, the same each time."""
    return _made(keys.make_recipient_key, kind, name)


@cache
def _made(make: Callable[[KeyType], PrivateKey], kind: KeyType, name: str) -> PrivateKey:
    return make(kind)


def sealer(lane: str = "lane-1", *kinds: KeyType, signs_with: KeyType = KeyType.ED25519) -> Sealer:
    """Seals for one recipient of each of `kinds` (X25519 by default), at a standing clock."""
    recipients = tuple(recipient_key(kind).public for kind in kinds or (KeyType.X25519,))
    return Sealer(lane, FileSigner(signing_key(signs_with)), recipients, 3, now_ns=lambda: NOW.utc_ns)


SMALL = Limits(bytes=56 * 4096, ballast_bytes=1 << 16)
"""Room for some 130 messages."""


def outbox(folder: Path, limits: Limits = SMALL) -> Outbox:
    """A small outbox in `folder`."""
    return Outbox.open(folder / "outbox.sqlite", sealer(), limits)
