"""The collector's store: sealed messages as they came, and what their headers say. SQLite, or PostgreSQL for several.

Nothing here can be opened with what is here. A message is named (lane, epoch, seq), once; another one under the same
name is a fork, kept as evidence. How far a lane may forget is decided inside the commit, from the shared rows: a
receipt covers an unbroken chain from the epoch's first message, with nothing missing but declared gaps.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from central.prefix import Epoch, Head, Link, walk
from edge.errors import (
    EpochUnlinked,
    MessageForked,
    RecordsMissing,
    SealaneError,
    SealError,
    StoreAddress,
    StoreFailed,
    StoreForeign,
    StoreShared,
    StoreVersion,
    clean,
)
from edge.record import Kind
from edge.seal.envelope import Envelope, EpochLink, Header, parse

SCHEMA_VERSION = 1
ROWS_A_STEP = 500
"""Rows looked at in one step of walking along a chain."""
BUSY_TIMEOUT_S = 10
MAX_ALARMS = 1000
"""Alarms kept of one lane and one kind: noise of one kind must not leave another kind without a place."""
LONGEST_WHAT = 200

_tables = sa.MetaData()
_meta = sa.Table("meta", _tables, sa.Column("version", sa.Integer, primary_key=True))
_messages = sa.Table(
    "messages",
    _tables,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(1), nullable=False),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("received_ns", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("prev", sa.LargeBinary(32)),
    sa.Column("gap_first", sa.BigInteger),
    sa.Column("gap_last", sa.BigInteger),
    sa.Column("gap_hash", sa.LargeBinary(32)),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Index("messages_received", "received_ns"),
    sqlite_with_rowid=False,
)
_by_prev = sa.Index("messages_prev", _messages.c.lane, _messages.c.epoch, _messages.c.prev)
_openings = sa.Table(  # what the first message of each epoch says
    "openings",
    _tables,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("after", sa.String(16)),  # the epoch that it goes on from, and the end of that
    sa.Column("head", sa.LargeBinary(32)),
    sa.Index("openings_after", "lane", "after", "head"),
)
_heads = sa.Table(
    "heads",
    _tables,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("up_to", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary(32)),
)
_alarms = sa.Table(
    "alarms",
    _tables,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("code", sa.String(16), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("what", sa.String(LONGEST_WHAT), nullable=False),
    sa.Column("evidence", sa.LargeBinary),
)


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
        url = _url(address)
        self._sqlite = url.get_backend_name() == "sqlite"
        if self._sqlite and shared:
            raise StoreShared("several collectors cannot share an SQLite file")
        if read_only and self._sqlite and not Path(url.database or "").exists():
            raise StoreFailed(f"there is no store at {clean(url.database)}")
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S} if self._sqlite else {})
        if self._sqlite:
            _prepare_sqlite(self._engine, read_only)
        with self._begin() as db:
            if not read_only:
                before = sa.inspect(db).get_table_names()
                _tables.create_all(db)
                if _messages.name in before and _openings.name not in before:
                    _add_openings(db)
                if db.scalar(sa.select(sa.func.count()).select_from(_meta)) == 0:
                    db.execute(_meta.insert().values(version=SCHEMA_VERSION))
            version = db.scalar(sa.select(_meta.c.version))
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
        outcomes = [Outcome.STORED] * len(envelopes)
        heads = []
        with self._begin() as db:
            self._lock_lanes(db, {lane for lane, _ in chains})
            for (lane, epoch), indexes in sorted(chains.items()):
                head = self._head(db, lane, epoch)
                judged = self._add_to_chain(db, head, [envelopes[index] for index in indexes], now_ns, announced(lane))
                for index, outcome in zip(indexes, judged, strict=True):
                    outcomes[index] = outcome
                heads.append(self._advance(db, head))
        return outcomes, heads

    def alarm(self, alarm: Alarm) -> None:
        """Keep an alarm; the same one again changes nothing, and a lane's number of them is bounded."""
        with self._begin() as db:
            self._keep_alarm(db, alarm)

    def accept_missing(self, lane: str, now_ns: int) -> list[Head]:
        """The operator's word that what is missing next of `lane` is lost for good: what follows is confirmed again.

        Returns the new heads. In each epoch one hole is accepted, the first, and it stays in the store as an alarm.
        Where a chain is broken by forged messages, it goes on with those that are kept as evidence: all that a receipt
        then confirms is there, and if it is another's chain, the lane refuses it.
        """
        with self._begin() as db:
            self._lock_lanes(db, {lane})
            epochs = list(db.scalars(sa.select(_heads.c.epoch).where(_heads.c.lane == lane).order_by(_heads.c.epoch)))
            heads = [self._advance(db, self._head(db, lane, epoch)) for epoch in epochs]
            accepted = [self._accept(db, head, now_ns) for head in heads if head.missing]
            return accepted + [end for head in heads if head.broken and (end := self._go_round(db, head)) is not None]

    def heads(self) -> list[Head]:
        """The ends of all chains, as of the last commit."""
        with self._begin() as db:
            rows = db.execute(sa.select(_heads).order_by(_heads.c.lane, _heads.c.epoch))
            found = [Head(*row) for row in rows]
        for head in found:
            _check_types(head.lane, (head.up_to, int))
        return found

    def chains(self) -> list[tuple[str, Epoch]]:
        """Lane and epoch of all messages."""
        named = _messages.c.lane, _messages.c.epoch
        with self._begin() as db:
            return [(row.lane, row.epoch) for row in db.execute(sa.select(*named).distinct().order_by(*named))]

    def messages(self, lane: str | None = None, epoch: Epoch | None = None, after_seq: int = 0) -> Iterator[Stored]:
        """All messages, a lane's, or an epoch's beyond a number, by lane, epoch and number. Read in steps."""
        columns = _messages.c.lane, _messages.c.epoch, _messages.c.seq
        query = sa.select(*columns, _messages.c.received_ns, _messages.c.sealed).order_by(*columns).limit(ROWS_A_STEP)
        if lane is not None:
            query = query.where(_messages.c.lane == lane)
        if epoch is not None:
            query = query.where(_messages.c.epoch == epoch)
        after = lane or "", epoch or "", after_seq
        while True:
            rows = self._stored(query.where(sa.tuple_(*columns) > sa.tuple_(*after)))
            yield from rows
            if len(rows) < ROWS_A_STEP:
                return
            after = rows[-1].lane, rows[-1].epoch, rows[-1].seq

    def received(self, after: tuple[int, str, str, int] = (0, "", "", 0)) -> list[Stored]:
        """The next messages in the order of their coming, beyond the place `after` (of the last one handed out)."""
        columns = _messages.c.received_ns, _messages.c.lane, _messages.c.epoch, _messages.c.seq
        query = sa.select(_messages.c.lane, _messages.c.epoch, _messages.c.seq, columns[0], _messages.c.sealed)
        return self._stored(query.where(sa.tuple_(*columns) > sa.tuple_(*after)).order_by(*columns).limit(ROWS_A_STEP))

    def _stored(self, query: sa.Select[Any]) -> list[Stored]:
        with self._begin() as db:
            found = [Stored(*row) for row in db.execute(query)]
        for one in found:
            _check_types(one.lane, (one.seq, int), (one.received_ns, int), (one.sealed, bytes))
        return found

    def alarms(self) -> list[Alarm]:
        """All alarms, oldest first."""
        with self._begin() as db:
            rows = db.execute(sa.select(_alarms).order_by(_alarms.c.at_ns)).all()
        for row in rows:
            _check_types(row.lane, (row.seq, int))
        return [Alarm(**row._mapping) for row in rows]

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except DBAPIError as error:  # its text would quote the statement and its values
            no_database = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB
            failed = StoreForeign if no_database else StoreFailed
            raise failed(f"{self._engine.dialect.name}: {clean(error.orig)}") from error

    def _lock_lanes(self, db: sa.Connection, lanes: Collection[str]) -> None:
        """Until the commit no other collector adds to these lanes: each end of a fork is judged with the other in
        sight, in whichever epoch that is. With SQLite, any transaction that writes is alone."""
        if self._engine.dialect.name == "postgresql":
            for name in sorted(map(_lock_name, lanes)):  # in one order, or two collectors would deadlock
                db.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.cast(name, sa.BigInteger))))

    def _head(self, db: sa.Connection, lane: str, epoch: Epoch) -> Head:
        """The chain's row, made if need be."""
        self._insert_new(db, _heads, lane=lane, epoch=epoch, up_to=0, digest=None)
        row = db.execute(sa.select(_heads).where(_of(_heads, lane, epoch))).one()
        return Head(lane, epoch, row.up_to, row.digest)

    def _add_to_chain(
        self, db: sa.Connection, chain: Head, envelopes: Sequence[Envelope], now_ns: int, announced: Collection[int]
    ) -> list[Outcome]:
        named = _of(_messages, chain.lane, chain.epoch) & _messages.c.seq.in_([one.header.seq for one in envelopes])
        rows = db.execute(sa.select(_messages.c.seq, _messages.c.digest).where(named))
        known: dict[int, bytes] = {row.seq: row.digest for row in rows}
        outcomes, fresh = [], []
        for envelope in envelopes:
            header = envelope.header
            digest = known.get(header.seq)
            if digest == envelope.digest:
                outcomes.append(Outcome.DUPLICATE)
            elif digest is not None:
                outcomes.append(Outcome.FORK)
                self._alarm(db, MessageForked, envelope, now_ns)
            else:
                outcomes.append(Outcome.STORED)
                known[header.seq] = envelope.digest
                fresh.append(envelope)
        if fresh:
            self._judge_links(db, chain, fresh, now_ns, announced)
            db.execute(_messages.insert(), [_row(envelope, now_ns) for envelope in fresh])
        return outcomes

    def _judge_links(
        self, db: sa.Connection, chain: Head, fresh: Sequence[Envelope], now_ns: int, announced: Collection[int]
    ) -> None:
        """Alarms where a chain goes on both in its epoch and in another, or an epoch begins with no link to any.

        Costs the same however many epochs a lane has: whoever holds one lane's key must not hold up the others.
        """
        prevs = [one.header.prev for one in fresh if isinstance(one.header.prev, bytes)]
        ends = (_openings.c.lane == chain.lane) & (_openings.c.after == chain.epoch) & _openings.c.head.in_(prevs)
        followed = set(db.scalars(sa.select(_openings.c.head).where(ends)))
        for envelope in fresh:
            header = envelope.header
            if header.prev in followed:  # nothing but that other epoch may go on from there
                self._alarm(db, MessageForked, envelope, now_ns)
            if header.seq == 1:
                opening = _opening(chain.lane, chain.epoch, header)
                self._insert_new(db, _openings, **opening)
                if opening["head"] is not None:
                    goes_on = _of(_messages, chain.lane, opening["after"]) & (_messages.c.prev == opening["head"])
                    if db.execute(sa.select(_messages.c.seq).where(goes_on).limit(1)).first():
                        self._alarm(db, MessageForked, envelope, now_ns)
                elif header.epoch not in announced and self._may_follow(db, chain, header.time_ns, announced):
                    self._alarm(db, EpochUnlinked, envelope, now_ns)

    def _may_follow(self, db: sa.Connection, chain: Head, time_ns: int, announced: Collection[int]) -> bool:
        """Whether an epoch without a link, sealed from `time_ns` on, is not the lane's first: another one without a
        link is here, and it is none that the owner announced as begun later."""
        known = [f"{epoch:016x}" for epoch in announced]
        others = (_openings.c.lane == chain.lane) & (_openings.c.epoch != chain.epoch) & _openings.c.after.is_(None)
        before = _openings.c.epoch.not_in(known) | (_openings.c.time_ns < time_ns)
        return db.execute(sa.select(_openings.c.epoch).where(others & before).limit(1)).first() is not None

    def _advance(self, db: sa.Connection, head: Head) -> Head:
        """Walk on from `head` as far as the chain is unbroken, and keep where that ends."""

        def gap_over(seq: int) -> Link | None:
            covers = (_messages.c.gap_first <= seq) & (_messages.c.gap_last >= seq)
            query = sa.select(_messages.c.gap_last, _messages.c.gap_hash).order_by(_messages.c.gap_last.desc())
            row = db.execute(query.where(_of(_messages, head.lane, head.epoch) & covers).limit(1)).first()
            return Link(row.gap_last, None, row.gap_hash) if row else None

        end = walk(head, self._links_after(db, head), gap_over)
        if end.up_to != head.up_to:
            changed = {"up_to": end.up_to, "digest": end.digest}
            db.execute(_heads.update().where(_of(_heads, head.lane, head.epoch)).values(changed))
        return end

    def _links_after(self, db: sa.Connection, head: Head) -> Iterator[Link]:
        early = (_messages.c.kind == str(Kind.GAP)).label("early")
        query = sa.select(_messages.c.seq, _messages.c.prev, _messages.c.digest, early).order_by(_messages.c.seq)
        after, more = head.up_to, True
        while more:
            here = query.where(_of(_messages, head.lane, head.epoch) & (_messages.c.seq > after)).limit(ROWS_A_STEP)
            rows = db.execute(here).all()
            yield from (Link(*row) for row in rows)
            more = len(rows) == ROWS_A_STEP
            after = rows[-1].seq if rows else after

    def _accept(self, db: sa.Connection, head: Head, now_ns: int) -> Head:
        """Go on behind what is missing. It ends at a message that is sent in its turn: what has a lower number was sent
        before. A declared gap proves nothing of the kind, and what is missing further on may still be on its way."""
        following = next(link for link in self._links_after(db, head) if not link.early)
        what = f"{head.up_to + 1} to {following.seq - 1} never came, or were given up; the operator accepted that"
        self._keep_alarm(db, Alarm(head.lane, RecordsMissing.code, head.epoch, following.seq, what, now_ns))
        return self._advance(db, Head(head.lane, head.epoch, following.seq - 1, following.prev))

    def _go_round(self, db: sa.Connection, head: Head) -> Head | None:
        """Go on with the first message whose chain leads back, over those kept as forks, to one that was confirmed."""
        forks = (_alarms.c.code == MessageForked.code) & _alarms.c.evidence.is_not(None)
        query = sa.select(_alarms.c.digest, _alarms.c.evidence).where(_of(_alarms, head.lane, head.epoch) & forks)
        kept = {row.digest: header for row in db.execute(query) if (header := _header_of(row.evidence)) is not None}
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
        message = (_messages.c.seq == seq) & (_messages.c.digest == digest)
        gap = (_messages.c.gap_last == seq) & (_messages.c.gap_hash == digest)
        query = sa.select(_messages.c.seq).where(_of(_messages, head.lane, head.epoch) & (message | gap)).limit(1)
        return db.execute(query).first() is not None

    def _alarm(self, db: sa.Connection, kind: type[SealaneError], envelope: Envelope, now_ns: int) -> None:
        header, epoch = envelope.header, epoch_of(envelope)
        seen = Alarm(header.lane, kind.code, epoch, header.seq, kind.hint, now_ns, envelope.digest, envelope.data)
        self._keep_alarm(db, seen)

    def _keep_alarm(self, db: sa.Connection, alarm: Alarm) -> None:
        same_kind = (_alarms.c.lane == alarm.lane) & (_alarms.c.code == alarm.code)
        count = db.scalar(sa.select(sa.func.count()).select_from(_alarms).where(same_kind))
        if count is not None and count < MAX_ALARMS:
            self._insert_new(db, _alarms, **asdict(replace(alarm, what=alarm.what[:LONGEST_WHAT])))

    def _insert_new(self, db: sa.Connection, table: sa.Table, **values: Any) -> None:
        """Insert unless a row with that key is there."""
        insert = sqlite.insert if self._sqlite else postgresql.insert
        db.execute(insert(table).values(values).on_conflict_do_nothing())


def epoch_of(envelope: Envelope) -> Epoch:
    return Epoch(f"{envelope.header.epoch:016x}")


def link_of(sealed: bytes | None) -> EpochLink | None:
    """The end of another epoch that a message goes on from, None if there is none, or it is no message any more."""
    header = _header_of(sealed)
    return header.prev if header is not None and isinstance(header.prev, EpochLink) else None


def _lock_name(lane: str) -> int:
    """What PostgreSQL calls the lock of a lane: 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(f"sealane {lane}".encode()).digest()[:8], "big", signed=True)


def _check_types(lane: str, *values: tuple[object, type]) -> None:
    """StoreFailed if one is not of its type: SQLite keeps text in a column of bytes or numbers."""
    for value, kind in values:
        if not isinstance(value, kind):
            raise StoreFailed(
                f"{clean(lane)} has a {type(value).__name__} for {kind.__name__}: somebody else wrote here"
            )


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
    _by_prev.create(db, checkfirst=True)
    first = (_messages.c.lane == _heads.c.lane) & (_messages.c.epoch == _heads.c.epoch) & (_messages.c.seq == 1)
    rows = db.execute(sa.select(_heads.c.lane, _heads.c.epoch, _messages.c.sealed).join_from(_heads, _messages, first))
    found = [_opening(row.lane, row.epoch, header) for row in rows if (header := _header_of(row.sealed)) is not None]
    if found:
        db.execute(_openings.insert(), found)


def _of(table: sa.Table, lane: str, epoch: Epoch) -> sa.ColumnElement[bool]:
    return (table.c.lane == lane) & (table.c.epoch == epoch)


def _url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address if "://" in address else f"sqlite:///{address}")
    except ArgumentError as error:
        raise StoreAddress("the store's address can't be understood") from error
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreAddress(f"no store of the kind {clean(url.drivername)}")
    return url


def _prepare_sqlite(engine: sa.Engine, read_only: bool) -> None:
    """Every transaction takes the write lock at once, so that none is given up half-way; a commit is on disk."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
