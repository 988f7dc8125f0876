"""The chain: every message of a lane names the one before it, so none can be dropped, added or reordered unnoticed.

`ChainState` is the sender's end of it. `ChainVerifier` judges what arrives, message by message and in any order, for
tail, collector and audit alike. Both are values and rules only; neither checks signatures: verify first.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from operator import itemgetter

from edge.record import Kind
from edge.seal.envelope import Envelope, EpochLink


@dataclass(frozen=True, slots=True)
class ChainState:
    """Where a sender's chain goes on. prev: digest of the last message, or what an epoch's first message says."""

    epoch: int
    next_seq: int
    prev: bytes | EpochLink | None

    @classmethod
    def start(cls, epoch: int, link: EpochLink | None = None) -> "ChainState":
        """Before the first message of an epoch; `link` is the end of the epoch before, None if none is known."""
        return cls(epoch, 1, link)

    def after(self, digest: bytes) -> "ChainState":
        """Once the message `next_seq` has been made."""
        return ChainState(self.epoch, self.next_seq + 1, digest)


class Finding(StrEnum):
    """What a message is in the light of those before it."""

    IN_ORDER = "in-order"
    NEW_EPOCH = "new-epoch"  # the first of an epoch, rightly linked or announced
    JOINED = "joined"  # the first heard from this lane; what came before is not known here
    DECLARED = "declared-gap"  # says that `missing` was given up
    LATE = "late"  # fills a hole reported before, or was declared given up
    DUPLICATE = "duplicate"  # the same message again
    OLD = "old"  # accounted for too long ago to compare
    GAP = "gap"  # `missing` has not arrived, so far
    FORK = "fork"  # contradicts what is known: two messages with one number, or a broken link
    UNLINKED_EPOCH = "unlinked-epoch"  # does not go on from the end of an epoch, or not alone: one may have vanished
    FOREIGN_LANE = "foreign-lane"


ALARMS = frozenset({Finding.GAP, Finding.FORK, Finding.UNLINKED_EPOCH, Finding.FOREIGN_LANE})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`missing`: first and last sequence number that a GAP lacks or a DECLARED gap gives up."""

    finding: Finding
    missing: tuple[int, int] | None = None

    @property
    def alarm(self) -> bool:
        """Whether somebody must look."""
        return self.finding in ALARMS


class ChainVerifier:
    """Judges the messages of one lane.

    from_start: whether everything the lane ever sent must be here (an audit of a whole store), so that beginning in
    the middle is an alarm; epochs may come in any order then, and one of them, the lane's first, has no link.
    announced: epochs that the owner knows to begin without a link, may change meanwhile. window: messages remembered
    per epoch to compare with; older ones count as accounted for. max_holes, max_epochs: beyond it the oldest one is
    forgotten, which is for those who tell of each at once.
    """

    def __init__(
        self,
        lane: str,
        *,
        from_start: bool = False,
        announced: Collection[int] = (),
        window: int = 16384,
        max_holes: int = 4096,
        max_epochs: int = 64,
    ) -> None:
        self.lane = lane
        self.announced = announced
        self._from_start = from_start
        self._window = window
        self._max_holes = max_holes
        self._max_epochs = max_epochs
        self._epochs: OrderedDict[int, _Epoch] = OrderedDict()
        self._begun = False

    def accept(self, envelope: Envelope) -> Verdict:
        """Judge one message, and remember it unless it is an alarm that is not a gap."""
        header = envelope.header
        if header.lane != self.lane:
            return Verdict(Finding.FOREIGN_LANE)
        epoch = self._epochs.get(header.epoch)
        if epoch is not None and (header.seq != 1 or not epoch.headless):
            return epoch.accept(envelope)
        opening = self._opening(envelope)
        headless = header.seq != 1 and opening.finding is not Finding.JOINED  # its first message may come and tell
        if epoch is None:
            self._epochs[header.epoch] = epoch = _Epoch(self._window, self._max_holes)
            if len(self._epochs) > self._max_epochs:
                self._epochs.popitem(last=False)
        epoch.headless = headless
        if header.seq == 1 or self._from_start:
            epoch.cover(0, 0)
        verdict = epoch.accept(envelope)
        if not opening.alarm and verdict.finding is Finding.LATE and (unheard := epoch.unheard(0, epoch.top)):
            return Verdict(Finding.GAP, unheard)  # between the first message and what was heard before it
        return opening if opening.alarm or verdict.finding in (Finding.IN_ORDER, Finding.LATE) else verdict

    def holes(self, epoch: int) -> list[tuple[int, int]]:
        """First and last of each run that neither arrived nor was declared, between messages that did."""
        return self._epochs[epoch].holes() if epoch in self._epochs else []

    def awaited(self, epoch: int) -> list[tuple[int, int]]:
        """Those of `holes` that may still come: only declared gaps are beyond, which are sent ahead of their turn."""
        known = self._epochs.get(epoch)
        if known is None or known.followed:
            return []
        return [hole for hole in known.holes() if hole[0] > known.top]

    def complete_up_to(self, epoch: int) -> int:
        """The sequence number up to which nothing is missing, from the start or from where this verifier joined."""
        return self._epochs[epoch].covered[0][1] if epoch in self._epochs else 0

    def judged_from(self, epoch: int) -> int:
        """The first sequence number that `holes` looks at: 1, or that where this verifier joined."""
        return max(1, self._epochs[epoch].covered[0][0]) if epoch in self._epochs else 1

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs heard from, in order of appearance."""
        return tuple(self._epochs)

    def _opening(self, envelope: Envelope) -> Verdict:
        header = envelope.header
        link = header.prev
        before = self._epochs.get(link.epoch) if isinstance(link, EpochLink) else None
        if isinstance(link, EpochLink) and before is not None:
            if not before.followed and before.ends_with(link.head):
                before.followed = before.covered[-1][1]  # by one epoch only: a second one would hide the first
                return Verdict(Finding.NEW_EPOCH)
            if not (before.followed or self._from_start) and before.covered[0][0] > 1 and len(before.seen) == 1:
                return Verdict(Finding.JOINED)  # all that is known of it is what a broker retained
            return Verdict(Finding.UNLINKED_EPOCH)  # also if it was announced: its own link says what is not here
        if not self._epochs and not self._from_start and (header.seq != 1 or header.prev is not None):
            return Verdict(Finding.JOINED)
        if header.epoch in self.announced:
            return Verdict(Finding.NEW_EPOCH)
        if header.seq == 1 and header.prev is None and not (self._begun if self._from_start else self._epochs):
            self._begun = True
            return Verdict(Finding.NEW_EPOCH)
        return Verdict(Finding.UNLINKED_EPOCH)


_FIRST, _LAST = itemgetter(0), itemgetter(1)


@dataclass(slots=True)
class _Epoch:
    """What is known of one epoch.

    covered: disjoint runs of accounted sequence numbers, ascending; given_up: runs of those, declared and never heard;
    kept: numbers heard that were no reads, ascending, which can't be given up; seen: digest and prev of those
    remembered; beside_holes: of those that are remembered for what is missing beside them only; top: highest
    number heard, but for messages that declare gaps: those are sent ahead of their turn;
    followed: the number of the message that another epoch goes on from, 0 if none does; headless: nobody knows yet
    whether it is linked.
    """

    window: int
    max_holes: int
    covered: list[tuple[int, int]] = field(default_factory=list)
    given_up: list[tuple[int, int]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    seen: OrderedDict[int, tuple[bytes, bytes | None]] = field(default_factory=OrderedDict)
    beside_holes: OrderedDict[int, tuple[bytes, bytes | None]] = field(default_factory=OrderedDict)
    top: int = 0
    followed: int = 0
    headless: bool = False

    def accept(self, envelope: Envelope) -> Verdict:
        header, digest = envelope.header, envelope.digest
        seq, given_up = header.seq, self._given_up(header.seq)
        if seq in self.seen and (given_up is None or self.seen[seq][0] != digest):
            return Verdict(Finding.DUPLICATE if self.seen[seq][0] == digest else Finding.FORK)
        prev = header.prev if isinstance(header.prev, bytes) else None
        if not self._fits(seq, prev, digest) or (self.followed and seq > self.followed):
            return Verdict(Finding.FORK)
        if given_up is not None:
            if header.kind is not Kind.READ:
                return Verdict(Finding.FORK)
            self._found(seq, given_up)
            self._remember(seq, digest, prev)
            return Verdict(Finding.LATE)
        if self._covers(seq):
            return Verdict(Finding.OLD)
        if header.gap and not self._declare(header.gap.first_seq, header.gap.last_seq, header.gap.last_hash):
            return Verdict(Finding.FORK)
        if header.kind is not Kind.READ:
            insort(self.kept, seq)
            del self.kept[: -self.window]
        self.cover(seq, seq)
        self._remember(seq, digest, prev)
        if header.gap:
            return Verdict(Finding.DECLARED, (header.gap.first_seq, header.gap.last_seq))
        if seq < self.top:
            return Verdict(Finding.LATE)
        unheard = self.unheard(self.top, seq)
        self.top = seq
        return Verdict(Finding.GAP, unheard) if unheard else Verdict(Finding.IN_ORDER)

    def _fits(self, seq: int, prev: bytes | None, digest: bytes) -> bool:
        before, after = self._said(seq - 1), self._said(seq + 1)
        return (before is None or before[0] == prev) and (after is None or after[1] in (None, digest))

    def _declare(self, first: int, last: int, last_hash: bytes) -> bool:
        known, after = self._said(last), self._said(last + 1)
        if (known and known[0] != last_hash) or (after and after[1] not in (None, last_hash)):
            return False
        if bisect_left(self.kept, first) < bisect_right(self.kept, last):
            return False
        for run in self._unaccounted(first, last):
            insort(self.given_up, run)
        del self.given_up[: -self.max_holes]
        self.cover(first, last)
        if not known:
            self._remember(last, last_hash, None)
        return True

    def _given_up(self, seq: int) -> int | None:
        """Which of the runs given up that number is in."""
        run = bisect_right(self.given_up, seq, key=_FIRST) - 1
        return run if run >= 0 and seq <= self.given_up[run][1] else None

    def _found(self, seq: int, run: int) -> None:
        """What was given up has come all the same."""
        first, last = self.given_up[run]
        self.given_up[run : run + 1] = [part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]]
        del self.given_up[: -self.max_holes]

    def _unaccounted(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs between two numbers that nothing is known of."""
        begin, end = bisect_left(self.covered, first, key=_LAST), bisect_right(self.covered, last, key=_FIRST)
        for known in self.covered[begin:end]:
            if first < known[0]:
                yield first, known[0] - 1
            first = known[1] + 1
        if first <= last:
            yield first, last

    def cover(self, first: int, last: int) -> None:
        """Count `first` to `last` as accounted for."""
        begin = bisect_left(self.covered, first - 1, key=_LAST)
        end = bisect_right(self.covered, last + 1, key=_FIRST)
        if begin < end:
            first, last = min(first, self.covered[begin][0]), max(last, self.covered[end - 1][1])
        self.covered[begin:end] = [(first, last)]
        if len(self.covered) > self.max_holes + 1:
            self.covered[:2] = [(self.covered[0][0], self.covered[1][1])]

    def holes(self, beyond: int = 0) -> list[tuple[int, int]]:
        """All, or those from the run on that covers `beyond`."""
        runs = self.covered[max(0, bisect_right(self.covered, beyond, key=_FIRST) - 1) :]
        return [(left[1] + 1, right[0] - 1) for left, right in pairwise(runs)]

    def unheard(self, after: int, before: int) -> tuple[int, int] | None:
        """From the first hole to the last between two numbers; None if there is none."""
        found = [hole for hole in self.holes(after) if after < hole[0] < before]
        return (found[0][0], found[-1][1]) if found else None

    def ends_with(self, digest: bytes) -> bool:
        last = self.seen.get(self.covered[-1][1])
        return last is not None and last[0] == digest

    def _said(self, seq: int) -> tuple[bytes, bytes | None] | None:
        """Digest and prev of a number, None if they are not known any more."""
        return self.seen.get(seq) or self.beside_holes.get(seq)

    def _covers(self, seq: int) -> bool:
        run = bisect_left(self.covered, seq, key=_LAST)
        return run < len(self.covered) and self.covered[run][0] <= seq

    def _remember(self, seq: int, digest: bytes, prev: bytes | None) -> None:
        self.seen[seq] = (digest, prev)
        if len(self.seen) > self.window:
            oldest, said = self.seen.popitem(last=False)
            if not (self._covers(oldest - 1) and self._covers(oldest + 1)):
                self.beside_holes[oldest] = said
                if len(self.beside_holes) > 2 * self.max_holes:
                    self.beside_holes.popitem(last=False)
