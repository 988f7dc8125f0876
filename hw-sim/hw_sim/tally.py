"""The bench's books: what drove past, beside what was recorded of it. No I/O."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SLACK_NS = 700_000_000
"""A record belongs to the vehicle whose time on the loop it overlaps, give or take this much."""


@dataclass(frozen=True, slots=True)
class Truth:
    """One vehicle as the simulator drove it: when it came onto the loop and when it left (CLOCK_MONOTONIC ns).

    `text` is None for a photograph that nobody labelled, and for a call without a vehicle, which is number 0.
    """

    n: int
    text: str | None
    arrival_ns: int
    departure_ns: int
    speed_kmh: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One read record as `sealane tail --json` opened it."""

    epoch: str
    seq: int
    arrival_ns: int
    departure_ns: int
    text: str | None
    no_read: str | None
    confidence: float
    region: str
    restarted: bool
    frames: int


@dataclass(slots=True)
class Row:
    """One vehicle and its record."""

    truth: Truth
    seen: Seen | None = None
    confirmed_ns: int | None = None

    @property
    def exact(self) -> bool:
        return self.seen is not None and self.truth.text is not None and self.seen.text == self.truth.text


@dataclass(slots=True)
class Tally:
    """Matches records to vehicles by time, in whatever order they come."""

    rows: list[Row] = field(default_factory=list)
    unmatched: list[Seen] = field(default_factory=list)
    _receipts: list[tuple[str, int, int]] = field(default_factory=list)

    def drove(self, truth: Truth) -> None:
        self.rows.append(Row(truth))
        waiting, self.unmatched = self.unmatched, []
        for seen in waiting:
            self.saw(seen)

    def saw(self, seen: Seen) -> None:
        known = [*(row.seen for row in self.rows if row.seen is not None), *self.unmatched]
        if any((one.epoch, one.seq) == (seen.epoch, seen.seq) for one in known):
            return
        for row in self.rows:
            truth = row.truth
            if row.seen is None and (
                seen.arrival_ns <= truth.departure_ns + SLACK_NS and truth.arrival_ns <= seen.departure_ns + SLACK_NS
            ):
                row.seen = seen
                row.confirmed_ns = self._first_receipt(seen)
                return
        self.unmatched.append(seen)

    def confirmed(self, epoch: str, up_to: int, at_ns: int) -> None:
        """A receipt came for everything of `epoch` up to and with `up_to`."""
        self._receipts.append((epoch, up_to, at_ns))
        for row in self.rows:
            if row.seen is not None and row.confirmed_ns is None:
                row.confirmed_ns = self._first_receipt(row.seen)

    def _first_receipt(self, seen: Seen) -> int | None:
        return next((at for epoch, up_to, at in self._receipts if epoch == seen.epoch and up_to >= seen.seq), None)

    @property
    def records(self) -> int:
        return sum(row.seen is not None for row in self.rows) + len(self.unmatched)

    @property
    def labelled(self) -> int:
        return sum(row.truth.text is not None for row in self.rows)

    @property
    def exact(self) -> int:
        return sum(row.exact for row in self.rows)

    @property
    def complete(self) -> bool:
        """Every vehicle has its record, and every record its vehicle."""
        return not self.unmatched and all(row.seen is not None for row in self.rows)

    def latencies_ms(self) -> tuple[list[float], list[float]]:
        """From the arriving and from the leaving edge to the receipt, ms, one of each per confirmed vehicle."""
        rows = [row for row in self.rows if row.confirmed_ns is not None]
        return (
            [((row.confirmed_ns or 0) - row.truth.arrival_ns) / 1e6 for row in rows],
            [((row.confirmed_ns or 0) - row.truth.departure_ns) / 1e6 for row in rows],
        )


def truth_from(line: Mapping[str, Any]) -> Truth:
    return Truth(
        n=int(line["n"]),
        text=line["text"],
        arrival_ns=int(line["arrival_ns"]),
        departure_ns=int(line["departure_ns"]),
        speed_kmh=line.get("speed_kmh"),
    )


def seen_from(line: Mapping[str, Any]) -> Seen:
    """A read record as `sealane tail --json` writes it."""
    record = line["record"]
    reading = record["reading"]
    return Seen(
        epoch=line["epoch"],
        seq=line["seq"],
        arrival_ns=record["arrival"]["monotonic_ns"],
        departure_ns=record["departure"]["monotonic_ns"],
        text=reading["text"],
        no_read=reading["no_read"],
        confidence=reading["confidence"],
        region=reading["region"],
        restarted=record["restarted"],
        frames=reading["frames_used"],
    )


def median_and_p95(values: Iterable[float]) -> tuple[float, float]:
    """Median and 95th percentile (nearest rank); zeros without values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0, 0.0
    return statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1]
