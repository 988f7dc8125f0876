"""The collector's store: sealed messages as they came, and what their headers say. SQLite, or PostgreSQL for several.

Nothing here can be opened with what is here. A message is named (lane, epoch, seq), once; another one under the same
name is a fork, kept as evidence. How far a lane may forget is decided inside the commit, from the shared rows: a
receipt covers an unbroken chain from the epoch's first message, with nothing missing but declared gaps.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from central.database import (
    ALARMS,
    HEADS,
    LONGEST_WHAT,
    MESSAGES,
    META,
    OPENINGS,
    begin,
    fetch,
    insert_new,
    lock_lanes,
    make_tables,
    of,
    open_engine,
)
from central.prefix import Epoch, Head, Link, walk
from edge.errors import (
    EpochUnlinked,
    MessageForked,
    RecordsMissing,
    SealaneError,
    SealError,
    StoreVersion,
)
from edge.record import Kind
from edge.seal.envelope import Envelope, EpochLink, Header, parse

SCHEMA_VERSION = 1
ROWS_A_STEP = 500
"""Rows looked at in one step of walking along a chain."""
MAX_ALARMS = 1000
"""Alarms kept of one lane and one kind: noise of one kind must not leave another kind without a place. As many places
again are for forks that a stored message leads back to: noise must not close the way round a forgery."""


class Outcome(StrEnum):
    """What became of a message that was handed to the store."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    FORK = "fork"  # another message has this name; kept as evidence


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as it was received."""

    lane: str
    epoch: Epoch
    seq: int
    received_ns: int
    sealed: bytes

    @property
    def place(self) -> tuple[int, str, str, int]:
        """Its place in the order of coming."""
        return self.received_ns, self.lane, self.epoch, self.seq


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that must not happen, with the message that proves it if there is one."""

    lane: str
    code: str
    epoch: Epoch
    seq: int
    what: str
    at_ns: int = 0
    digest: bytes = b""
    evidence: bytes | None = None


class Store:
    """`address`: a file (SQLite), or an SQLAlchemy address such as postgresql+psycopg://user@host/name.

    shared: several collectors write into it; refused for SQLite, whose file is of one machine. read_only: for those who
    only look. Raises StoreAddress, StoreShared, StoreFailed, StoreForeign, StoreVersion.
    """

    def __init__(self, address: str, *, shared: bool = False, read_only: bool = False) -> None:
        self._engine = open_engine(address, shared=shared, read_only=read_only)
        with begin(self._engine) as db:
            if not read_only:
                before = make_tables(db)
                if MESSAGES.name in before and OPENINGS.name not in before:
                    _add_openings(db)
                if db.scalar(sa.select(sa.func.count()).select_from(META)) == 0:
                    db.execute(META.insert().values(version=SCHEMA_VERSION))
            version = db.scalar(sa.select(META.c.version))
        if version != SCHEMA_VERSION:
            raise StoreVersion(f"the store has schema {version}, this program writes {SCHEMA_VERSION}")

    def add(
        self,
        envelopes: Sequence[Envelope],
        now_ns: int,
        announced: Callable[[str], Collection[int]] = lambda lane: (),
    ) -> tuple[list[Outcome], list[Head]]:
        """Store verified messages in one durable commit: the outcome of each, the heads of the chains they touch.

        announced: a lane's epochs that rightly begin without a link.
        """
        chains: dict[tuple[str, Epoch], list[int]] = {}
        for index, envelope in enumerate(envelopes):
            chains.setdefault((envelope.header.lane, epoch_of(envelope)), []).append(index)
        lanes = {lane for lane, _ in chains}
        begun = {lane: announced(lane) for lane in lanes}  # it may ask the network: before anything is locked
        outcomes = [Outcome.STORED] * len(envelopes)
        heads = []
        with begin(self._engine) as db:
            lock_lanes(db, lanes)
            for (lane, epoch), indexes in chains.items():
                head = self._head(db, lane, epoch)
                judged = self._add_to_chain(db, head, [envelopes[index] for index in indexes], now_ns, begun[lane])
                for index, outcome in zip(indexes, judged, strict=True):
                    outcomes[index] = outcome
                heads.append(self._advance(db, head))
        return outcomes, heads

    def alarm(self, alarm: Alarm) -> None:
        """Keep an alarm; the same one again changes nothing, and a lane's number of them is bounded."""
        with begin(self._engine) as db:
            self._keep_alarm(db, alarm)

    def accept_missing(self, lane: str, now_ns: int) -> list[Head]:
        """The operator's word that what is missing next of `lane` is lost for good: what follows is confirmed again.

        Returns the new heads. In each epoch one hole is accepted, the first, and it stays in the store as an alarm.
        Where a chain is broken by forged messages, it goes on with those that are kept as evidence: all that a receipt
        then confirms is there, and if it is another's chain, the lane refuses it.
        """
        with begin(self._engine) as db:
            lock_lanes(db, {lane})
            kept = fetch(db, sa.select(HEADS).where(HEADS.c.lane == lane).order_by(HEADS.c.epoch))
            heads = [self._advance(db, Head(*row)) for row in kept]
            accepted = [self._accept(db, head, now_ns) for head in heads if head.missing]
            return accepted + [end for head in heads if head.broken and (end := self._go_round(db, head)) is not None]

    def heads(self) -> list[Head]:
        """The ends of all chains, as of the last commit."""
        with begin(self._engine) as db:
            return [Head(*row) for row in fetch(db, sa.select(HEADS).order_by(HEADS.c.lane, HEADS.c.epoch))]

    def chains(self) -> list[tuple[str, Epoch]]:
        """Lane and epoch of all messages."""
        named = MESSAGES.c.lane, MESSAGES.c.epoch
        with begin(self._engine) as db:
            return [(row.lane, row.epoch) for row in fetch(db, sa.select(*named).distinct().order_by(*named))]

    def messages(self, lane: str | None = None, epoch: Epoch | None = None, after_seq: int = 0) -> Iterator[Stored]:
        """All messages, a lane's, or an epoch's beyond a number, by lane, epoch and number. Read in steps."""
        columns = MESSAGES.c.lane, MESSAGES.c.epoch, MESSAGES.c.seq
        query = sa.select(*columns, MESSAGES.c.received_ns, MESSAGES.c.sealed).order_by(*columns).limit(ROWS_A_STEP)
        if lane is not None:
            query = query.where(MESSAGES.c.lane == lane)
        if epoch is not None:
            query = query.where(MESSAGES.c.epoch == epoch)
        after = lane or "", epoch or "", after_seq
        while True:
            rows = self._stored(query.where(sa.tuple_(*columns) > sa.tuple_(*after)))
            yield from rows
            if len(rows) < ROWS_A_STEP:
                return
            after = rows[-1].lane, rows[-1].epoch, rows[-1].seq

    def received(self, after: tuple[int, str, str, int] = (0, "", "", 0)) -> list[Stored]:
        """The next messages in the order of their coming, beyond the place `after` (of the last one handed out)."""
        columns = MESSAGES.c.received_ns, MESSAGES.c.lane, MESSAGES.c.epoch, MESSAGES.c.seq
        query = sa.select(MESSAGES.c.lane, MESSAGES.c.epoch, MESSAGES.c.seq, columns[0], MESSAGES.c.sealed)
        return self._stored(query.where(sa.tuple_(*columns) > sa.tuple_(*after)).order_by(*columns).limit(ROWS_A_STEP))

    def _stored(self, query: sa.Select[Any]) -> list[Stored]:
        with begin(self._engine) as db:
            return [Stored(*row) for row in fetch(db, query)]

    def alarms(self) -> list[Alarm]:
        """All alarms, oldest first."""
        with begin(self._engine) as db:
            return [Alarm(**row._mapping) for row in fetch(db, sa.select(ALARMS).order_by(ALARMS.c.at_ns))]

    def close(self) -> None:
        self._engine.dispose()

    def _head(self, db: sa.Connection, lane: str, epoch: Epoch) -> Head:
        """The chain's row, made if need be."""
        insert_new(db, HEADS, lane=lane, epoch=epoch, up_to=0, digest=None)
        (row,) = fetch(db, sa.select(HEADS).where(of(HEADS, lane, epoch)))
        return Head(*row)

    def _add_to_chain(
        self, db: sa.Connection, chain: Head, envelopes: Sequence[Envelope], now_ns: int, announced: Collection[int]
    ) -> list[Outcome]:
        named = of(MESSAGES, chain.lane, chain.epoch) & MESSAGES.c.seq.in_([one.header.seq for one in envelopes])
        rows = fetch(db, sa.select(MESSAGES.c.seq, MESSAGES.c.digest).where(named))
        known: dict[int, bytes] = {row.seq: row.digest for row in rows}
        outcomes, fresh, forks = [], [], []
        for envelope in envelopes:
            header = envelope.header
            digest = known.get(header.seq)
            if digest == envelope.digest:
                outcomes.append(Outcome.DUPLICATE)
            elif digest is not None:
                outcomes.append(Outcome.FORK)
                forks.append(envelope)
            else:
                outcomes.append(Outcome.STORED)
                known[header.seq] = envelope.digest
                fresh.append(envelope)
        if fresh:
            self._judge_links(db, chain, fresh, now_ns, announced)
            db.execute(MESSAGES.insert(), [_row(envelope, now_ns) for envelope in fresh])
            lowest = min(envelope.header.seq for envelope in fresh)
            covered = _any(db, MESSAGES, of(MESSAGES, chain.lane, chain.epoch) & (MESSAGES.c.gap_last >= lowest))
            for envelope in fresh:
                if (covered or envelope.header.gap) and self._contradicts_a_gap(db, chain, envelope):
                    self._alarm(db, MessageForked, envelope, now_ns)
        if forks:
            led_to = self._led_to(db, chain, forks)
            for fork in forks:
                self._alarm(db, MessageForked, fork, now_ns, led_to=fork.digest in led_to)
        return outcomes

    def _led_to(self, db: sa.Connection, chain: Head, forks: Sequence[Envelope]) -> set[bytes | EpochLink | None]:
        """The digests of those of `forks` that a stored message goes on from, directly or over others of them."""
        named = of(MESSAGES, chain.lane, chain.epoch) & MESSAGES.c.prev.in_([fork.digest for fork in forks])
        found = {row.prev for row in fetch(db, sa.select(MESSAGES.c.prev).where(named))}
        for fork in sorted(forks, key=lambda fork: fork.header.seq, reverse=True):
            if fork.digest in found:
                found.add(fork.header.prev)
        return found

    def _judge_links(
        self, db: sa.Connection, chain: Head, fresh: Sequence[Envelope], now_ns: int, announced: Collection[int]
    ) -> None:
        """Alarms where a chain goes on both in its epoch and in another, or an epoch begins with no link to any.

        Costs the same however many epochs a lane has: whoever holds one lane's key must not hold up the others.
        """
        prevs = [one.header.prev for one in fresh if isinstance(one.header.prev, bytes)]
        ends = (OPENINGS.c.lane == chain.lane) & (OPENINGS.c.after == chain.epoch) & OPENINGS.c.head.in_(prevs)
        followed = set(db.scalars(sa.select(OPENINGS.c.head).where(ends)))
        for envelope in fresh:
            header = envelope.header
            if header.prev in followed:  # nothing but that other epoch may go on from there
                self._alarm(db, MessageForked, envelope, now_ns)
            if header.seq == 1:
                opening = _opening(chain.lane, chain.epoch, header)
                insert_new(db, OPENINGS, **opening)
                if opening["head"] is not None:
                    goes_on = of(MESSAGES, chain.lane, opening["after"]) & (MESSAGES.c.prev == opening["head"])
                    end = (OPENINGS.c.after == opening["after"]) & (OPENINGS.c.head == opening["head"])
                    others = (OPENINGS.c.lane == chain.lane) & end & (OPENINGS.c.epoch != chain.epoch)
                    if _any(db, MESSAGES, goes_on) or _any(db, OPENINGS, others):
                        self._alarm(db, MessageForked, envelope, now_ns)
                elif header.epoch not in announced and self._may_follow(db, chain, header.time_ns, announced):
                    self._alarm(db, EpochUnlinked, envelope, now_ns)

    def _may_follow(self, db: sa.Connection, chain: Head, time_ns: int, announced: Collection[int]) -> bool:
        """Whether an epoch without a link, sealed from `time_ns` on, is not the lane's first: another one without a
        link is here, or one that the owner announced (it may go on from another store), and not as begun later."""
        known = OPENINGS.c.epoch.in_([f"{epoch:016x}" for epoch in announced])
        others = (OPENINGS.c.lane == chain.lane) & (OPENINGS.c.epoch != chain.epoch)
        before = (known & (OPENINGS.c.time_ns < time_ns)) | (~known & OPENINGS.c.after.is_(None))
        return _any(db, OPENINGS, others & before)

    def _contradicts_a_gap(self, db: sa.Connection, chain: Head, envelope: Envelope) -> bool:
        """Whether a declared gap covers what is no read, which is never given up, or names another message as its last:
        whichever came first."""
        header, gap = envelope.header, envelope.header.gap
        here = of(MESSAGES, chain.lane, chain.epoch)
        # the first that ends there or beyond: gaps of a lane are apart, and whoever declares more holds nobody up
        query = sa.select(MESSAGES.c.gap_first, MESSAGES.c.gap_last, MESSAGES.c.gap_hash).order_by(MESSAGES.c.gap_last)
        for over in fetch(db, query.where(here & (MESSAGES.c.gap_last >= header.seq)).limit(1)):
            if header.kind is not Kind.READ and over.gap_first <= header.seq:
                return True
            if over.gap_last == header.seq and over.gap_hash != envelope.digest:
                return True
        if gap is None:
            return False
        kept = MESSAGES.c.kind.in_([str(kind) for kind in Kind if kind is not Kind.READ])
        covered = kept & MESSAGES.c.seq.between(gap.first_seq, gap.last_seq)
        another = (MESSAGES.c.seq == gap.last_seq) & (MESSAGES.c.digest != gap.last_hash)
        return _any(db, MESSAGES, here & covered) or _any(db, MESSAGES, here & another)

    def _advance(self, db: sa.Connection, head: Head) -> Head:
        """Walk on from `head` as far as the chain is unbroken, and keep where that ends."""

        def gap_over(seq: int) -> Link | None:
            covers = (MESSAGES.c.gap_first <= seq) & (MESSAGES.c.gap_last >= seq)
            query = sa.select(MESSAGES.c.gap_last, MESSAGES.c.gap_hash).order_by(MESSAGES.c.gap_last)
            found = fetch(db, query.where(of(MESSAGES, head.lane, head.epoch) & covers).limit(1))
            return Link(found[0].gap_last, None, found[0].gap_hash) if found else None

        def sent_beyond(seq: int) -> bool:
            return self._next_in_turn(db, head, seq) is not None

        end = walk(head, self._links_after(db, head), gap_over, sent_beyond)
        if end.up_to != head.up_to:
            changed = {"up_to": end.up_to, "digest": end.digest}
            db.execute(HEADS.update().where(of(HEADS, head.lane, head.epoch)).values(changed))
        return end

    def _links_after(self, db: sa.Connection, head: Head) -> Iterator[Link]:
        query = sa.select(MESSAGES.c.seq, MESSAGES.c.prev, MESSAGES.c.digest).order_by(MESSAGES.c.seq)
        after, more = head.up_to, True
        while more:
            here = query.where(of(MESSAGES, head.lane, head.epoch) & (MESSAGES.c.seq > after)).limit(ROWS_A_STEP)
            rows = fetch(db, here)
            yield from (Link(*row) for row in rows)
            more = len(rows) == ROWS_A_STEP
            after = rows[-1].seq if rows else after

    def _next_in_turn(self, db: sa.Connection, chain: Head, seq: int) -> int | None:
        """The first number beyond `seq` of a message that declares no gap: that one is not sent ahead of its turn."""
        in_turn = MESSAGES.c.gap_last.is_(None) & MESSAGES.c.gap_first.is_(None) & (MESSAGES.c.seq > seq)
        query = sa.select(MESSAGES.c.seq).where(of(MESSAGES, chain.lane, chain.epoch) & in_turn)
        found = fetch(db, query.order_by(MESSAGES.c.seq).limit(1))
        return found[0].seq if found else None

    def _accept(self, db: sa.Connection, head: Head, now_ns: int) -> Head:
        """Go on behind what is missing. It ends at a message that is sent in its turn: what has a lower number was sent
        before. A declared gap proves nothing of the kind, and what is missing further on may still be on its way."""
        seq = self._next_in_turn(db, head, head.up_to)
        if seq is None:
            return head
        what = f"{head.up_to + 1} to {seq - 1} never came, or were given up; the operator accepted that"
        self._keep_alarm(db, Alarm(head.lane, RecordsMissing.code, head.epoch, seq, what, now_ns))
        following = next(self._links_after(db, replace(head, up_to=seq - 1)))
        return self._advance(db, Head(head.lane, head.epoch, seq - 1, following.prev))

    def _go_round(self, db: sa.Connection, head: Head) -> Head | None:
        """Go on with the first message whose chain leads back, over those kept as forks, to one that was confirmed."""
        forks = (ALARMS.c.code == MessageForked.code) & ALARMS.c.evidence.is_not(None)
        query = sa.select(ALARMS.c.digest, ALARMS.c.evidence).where(of(ALARMS, head.lane, head.epoch) & forks)
        kept = {row.digest: header for row in fetch(db, query) if (header := _header_of(row.evidence)) is not None}
        for following in self._links_after(db, head):
            seq = following.seq - 1
            digest: bytes | EpochLink | None = following.prev
            while isinstance(digest, bytes) and digest in kept and kept[digest].seq == seq:
                seq, digest = seq - 1, kept[digest].prev
            if seq < following.seq - 1 and seq <= head.up_to and self._ends(db, head, seq, digest):
                return self._advance(db, Head(head.lane, head.epoch, following.seq - 1, following.prev))
        return None

    def _ends(self, db: sa.Connection, head: Head, seq: int, digest: bytes | EpochLink | None) -> bool:
        """Whether the chain up to `seq` ends with `digest`: by that message, by a declared gap, or before the first."""
        if not isinstance(digest, bytes):
            return seq == 0
        message = (MESSAGES.c.seq == seq) & (MESSAGES.c.digest == digest)
        gap = (MESSAGES.c.gap_last == seq) & (MESSAGES.c.gap_hash == digest)
        here = of(MESSAGES, head.lane, head.epoch)
        return _any(db, MESSAGES, here & message) or _any(db, MESSAGES, here & gap)

    def _alarm(
        self, db: sa.Connection, kind: type[SealaneError], envelope: Envelope, now_ns: int, led_to: bool = False
    ) -> None:
        header, epoch = envelope.header, epoch_of(envelope)
        seen = Alarm(header.lane, kind.code, epoch, header.seq, kind.hint, now_ns, envelope.digest, envelope.data)
        self._keep_alarm(db, seen, led_to)

    def _keep_alarm(self, db: sa.Connection, alarm: Alarm, led_to: bool = False) -> None:
        same_kind = (ALARMS.c.lane == alarm.lane) & (ALARMS.c.code == alarm.code)
        count = db.scalar(sa.select(sa.func.count()).select_from(ALARMS).where(same_kind))
        if count is not None and count < MAX_ALARMS * (2 if led_to else 1):
            insert_new(db, ALARMS, **asdict(replace(alarm, what=alarm.what[:LONGEST_WHAT])))


def _any(db: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> bool:
    return db.execute(sa.select(table.c.lane).where(where).limit(1)).first() is not None


def epoch_of(envelope: Envelope) -> Epoch:
    return Epoch(f"{envelope.header.epoch:016x}")


def link_of(sealed: bytes | None) -> EpochLink | None:
    """The end of another epoch that a message goes on from, None if there is none, or it is no message any more."""
    header = _header_of(sealed)
    return header.prev if header is not None and isinstance(header.prev, EpochLink) else None


def _header_of(sealed: bytes | None) -> Header | None:
    try:
        return parse(sealed).header if isinstance(sealed, bytes) else None
    except SealError:
        return None


def _row(envelope: Envelope, now_ns: int) -> dict[str, Any]:
    header, gap = envelope.header, envelope.header.gap
    return {
        "lane": header.lane,
        "epoch": epoch_of(envelope),
        "seq": header.seq,
        "kind": str(header.kind),
        "time_ns": header.time_ns,
        "received_ns": now_ns,
        "digest": envelope.digest,
        "prev": header.prev if isinstance(header.prev, bytes) else None,
        "gap_first": gap and gap.first_seq,
        "gap_last": gap and gap.last_seq,
        "gap_hash": gap and gap.last_hash,
        "sealed": envelope.data,
    }


def _opening(lane: str, epoch: Epoch, header: Header) -> dict[str, Any]:
    link = header.prev if isinstance(header.prev, EpochLink) else None
    after, head = (None, None) if link is None else (f"{link.epoch:016x}", link.head)
    return {"lane": lane, "epoch": epoch, "time_ns": header.time_ns, "after": after, "head": head}


def _add_openings(db: sa.Connection) -> None:
    """For a store that was begun without."""
    first = (MESSAGES.c.lane == HEADS.c.lane) & (MESSAGES.c.epoch == HEADS.c.epoch) & (MESSAGES.c.seq == 1)
    rows = db.execute(sa.select(HEADS.c.lane, HEADS.c.epoch, MESSAGES.c.sealed).join_from(HEADS, MESSAGES, first))
    found = [_opening(row.lane, row.epoch, header) for row in rows if (header := _header_of(row.sealed)) is not None]
    if found:
        db.execute(OPENINGS.insert(), found)
