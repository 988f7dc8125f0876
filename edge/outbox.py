"""The outbox: sealed messages, kept on disk until a collector's receipt says they are held elsewhere.

One SQLite file (WAL, synchronous=FULL: an append that returned survives a power cut), one process, any thread. A record
becomes a message in ONE transaction: take the next sequence number, seal, store. What cannot be kept is declared: when
the file is full the oldest reads are given up, and a message of kind `g` says which (docs/wire-format.md). What is no
read is never given up, and has a bounded share of the room (docs/adr/0011).
"""

import errno
import os
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge.errors import (
    EpochLinkMalformed,
    MessageMalformed,
    OutboxCorrupt,
    OutboxDiskFull,
    OutboxError,
    OutboxForeign,
    OutboxFull,
    OutboxLocked,
    OutboxUnavailable,
    ReceiptRefused,
    clean,
)
from edge.record import GapRecord, Instant, Kind, LaneRecord, ReadRecord, kind_of
from edge.seal.chain import ChainState
from edge.seal.envelope import EpochLink, Sealer
from edge.seal.receipt import Receipt

T = TypeVar("T")

PAGE_BYTES = 4096
WAL_PAGES = 256
FORMAT = 1
APPLICATION_ID = 0x5EA1A11E
GAP_REASON = "outbox-full"
PREVIOUS_EPOCH = "previous-epoch"
"""A file with one line: number of the epoch before in 16 hex digits, digest of its last message in 64."""
MESSAGE_PAGES = 8
"""As much as the longest message takes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """bytes: most that the file may take; ballast_bytes: given back to a full file system so that work can go on, and
    therefore more than the WAL_PAGES of the write-ahead log."""

    bytes: int = 256 << 20
    ballast_bytes: int = 4 << 20

    @property
    def pages(self) -> int:
        return self.bytes // PAGE_BYTES

    @property
    def reserve_pages(self) -> int:
        """Kept free for declaring gaps: nothing else is stored once no more is free."""
        return max(16, min(256, self.pages // 8))

    @property
    def kept_messages(self) -> int:
        """Most messages that wait and are no reads. Each may part two gaps; there is room to declare them all."""
        return self.pages // MESSAGE_PAGES


@dataclass(frozen=True, slots=True)
class Sealed:
    """One message that waits for its receipt. place: its turn to be sent; a declared gap takes the turn of what it
    replaces, which is earlier than its own sequence number."""

    place: int
    epoch: int
    seq: int
    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class OpenVisit:
    """A visit that had begun and has no record yet."""

    passage_id: bytes
    arrival: Instant


class Outbox:
    """Made by `open`. Every method may raise OutboxDiskFull, OutboxCorrupt or OutboxUnavailable.

    interrupted: visits that had no record yet when the last process ended, in the order in which they began: each is
    owed one; last_alive_ns: UTC when that process was last known to live, None for a new file; checkpointed: number of
    the newest checkpoint that waited, None if none did.
    """

    interrupted: tuple[OpenVisit, ...]
    last_alive_ns: int | None
    checkpointed: int | None

    def __init__(self, connection: sqlite3.Connection, path: Path, sealer: Sealer, limits: Limits) -> None:
        self._db = connection
        self._path = path
        self._ballast = path.with_name(path.name + ".ballast")
        self._limits = limits
        self._sealer = sealer
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, sealer: Sealer, limits: Limits = Limits()) -> "Outbox":
        """The outbox in the file `path`. If there is none it is made, which begins a new epoch, linked to the one that
        the file PREVIOUS_EPOCH beside it names, or to none. That file is used up: one epoch only may follow another.

        OutboxLocked if another process has it, OutboxForeign if it is another lane's or version's, OutboxCorrupt,
        EpochLinkMalformed, OutboxUnavailable.
        """
        with _translated(path):
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        outbox = cls(connection, path, sealer, limits)
        try:
            with _translated(path):
                outbox._prepare()
        except BaseException:
            connection.close()
            raise
        return outbox

    def close(self) -> None:
        """Give the file back. What is in it stays."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> "Outbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def use(self, sealer: Sealer) -> None:
        """Seal from now on with other keys or for other recipients. OutboxForeign for another lane's sealer."""
        if sealer.lane != self._sealer.lane:
            raise OutboxForeign(f"the outbox is of lane {self._sealer.lane}, not of {sealer.lane}")
        with self._lock:
            self._sealer = sealer

    def append(self, record: LaneRecord) -> tuple[int, int]:
        """Take the next number, seal and store, all or nothing; returns (epoch, seq). A read closes its visit.

        When the file is full the oldest reads are given up, or failing them a read that is new. OutboxFull for a record
        of another kind then, or when Limits.kept_messages of them wait. RecordInvalid before anything has changed.
        """
        return self._write(lambda: self._append(record))

    def pending(self, after: int = 0, limit: int = 100) -> list[Sealed]:
        """Up to `limit` messages in the order to send them, beyond the place `after` (of the last one handed out)."""
        return self._write(lambda: self._pending(after, limit))

    def confirm(self, receipt: Receipt) -> int:
        """Forget what a receipt confirms, and say how many messages that were. The caller has verified the receipt.

        ReceiptRefused if it does not fit what this lane sent: another lane or epoch, a number not reached, another
        message's digest.
        """
        forgotten = self._write(lambda: self._confirm(receipt))
        if forgotten:
            self._take_ballast()
        return forgotten

    def waits(self, seq: int) -> bool:
        """Whether the message with this number waits for its receipt."""
        with self._lock, _translated(self._path):
            return self._db.execute("SELECT 1 FROM message WHERE seq = ?", (seq,)).fetchone() is not None

    @property
    def depth(self) -> int:
        """Messages that wait for a receipt, and gaps that wait to be declared."""
        with self._lock, _translated(self._path):
            row = self._db.execute(
                "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM gap WHERE declared_seq IS NULL)"
            ).fetchone()
            return int(row[0])

    @property
    def position(self) -> ChainState:
        """Where the chain goes on."""
        with self._lock, _translated(self._path):
            return self._chain()

    @property
    def given_up(self) -> int:
        """Reads given up in this epoch."""
        with self._lock, _translated(self._path):
            return int(self._db.execute("SELECT given_up FROM state").fetchone()[0])

    def alive(self, utc_ns: int) -> None:
        """Note that the process lives, for the next one's boot record. Grows again if the file system was full once."""
        self._write(lambda: self._db.execute("UPDATE state SET alive_ns = ?", (utc_ns,)))
        self._take_ballast()

    def open_visit(self, passage_id: bytes, arrival: Instant) -> None:
        """Note that a visit began: its read is owed even if this process does not live to make it."""
        row = (passage_id, arrival.utc_ns, arrival.monotonic_ns)
        self._write(lambda: self._db.execute("INSERT INTO visit VALUES (?, ?, ?)", row))

    def noted(self, what: str) -> str | None:
        """What `note` kept under this name, None if nothing."""
        with self._lock, _translated(self._path):
            row = self._db.execute("SELECT value FROM note WHERE what = ?", (what,)).fetchone()
            return None if row is None else str(row[0])

    def note(self, values: Mapping[str, str]) -> None:
        """Keep each value under its name, in place of what was there: all or nothing."""
        rows = list(values.items())
        self._write(lambda: self._db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", rows))

    def _write(self, work: Callable[[], T]) -> T:
        """`work` in one transaction; once more on the ballast's room if the file system is full."""
        with self._lock:
            try:
                with self._transaction():
                    return work()
            except OutboxDiskFull:
                if not self._release_ballast():
                    raise
            with self._transaction():
                return work()

    # --- within a transaction, the lock held ---

    def _append(self, record: LaneRecord) -> tuple[int, int]:
        read = isinstance(record, ReadRecord)
        if not read and self._kept_messages() >= self._limits.kept_messages:
            raise OutboxFull(f"{self._limits.kept_messages} messages wait that may not be given up")
        keep = self._make_room(MESSAGE_PAGES if self._on_ballast else self._limits.reserve_pages)
        if not keep and not read:
            raise OutboxFull("the outbox is full of messages that may not be given up")
        chain = self._seal(record, keep=keep)
        if isinstance(record, ReadRecord):
            self._db.execute("DELETE FROM visit WHERE passage_id = ?", (record.passage_id,))
        return chain.epoch, chain.next_seq

    def _pending(self, after: int, limit: int) -> list[Sealed]:
        found = self._waiting(after, limit)
        until = found[-1].place if len(found) == limit else _MAX_SEQ
        return self._waiting(after, limit) if self._declare(after, until, limit) else found

    def _confirm(self, receipt: Receipt) -> int:
        chain = self._chain()
        if (receipt.lane, receipt.epoch) != (self._sealer.lane, chain.epoch):
            raise ReceiptRefused(f"a receipt for lane {receipt.lane}, epoch {receipt.epoch:016x}")
        if receipt.up_to_seq >= chain.next_seq:
            raise ReceiptRefused(f"a receipt up to {receipt.up_to_seq}; {chain.next_seq - 1} is the last made")
        known = self._digest(receipt.up_to_seq)
        if known is None:
            return 0  # confirmed before, or given up within a gap: a later receipt will tell
        if known != receipt.head:
            raise ReceiptRefused(f"a receipt for another message with number {receipt.up_to_seq}")
        return self._forget(receipt.up_to_seq)

    def _seal(self, record: LaneRecord, *, keep: bool = True, place: int | None = None) -> ChainState:
        """Make `record` the chain's next message; without `keep` only its place in the chain is kept, as a gap."""
        chain = self._chain()
        message = self._sealer.seal(record, chain.epoch, chain.next_seq, chain.prev)
        if keep:
            self._db.execute(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?)",
                (chain.next_seq, place or chain.next_seq, kind_of(record), message.digest, message.data),
            )
        else:
            self._add_gap(chain.next_seq, message.digest)
        self._db.execute(
            "UPDATE state SET next_seq = ?, prev = ?, link_epoch = NULL", (chain.next_seq + 1, message.digest)
        )
        return chain

    def _chain(self) -> ChainState:
        epoch, next_seq, prev, link_epoch = self._db.execute(
            "SELECT epoch, next_seq, prev, link_epoch FROM state"
        ).fetchone()
        return ChainState(int(epoch), next_seq, prev if link_epoch is None else EpochLink(int(link_epoch), prev))

    def _waiting(self, after: int, limit: int) -> list[Sealed]:
        epoch = self._chain().epoch
        rows = self._db.execute(
            "SELECT place, seq, kind, data FROM message WHERE place > ? ORDER BY place LIMIT ?", (after, limit)
        )
        return [Sealed(place, epoch, seq, Kind(kind), data) for place, seq, kind, data in rows]

    def _declare(self, after: int, until: int, limit: int) -> bool:
        """Make messages of the gaps that stand between two places, as far as there is room for them.

        The reserve is for this. Where it was not enough, reads make room: without a gap no receipt ever comes.
        """
        declared = False
        for _ in range(limit):
            if self._next_gap(after, until) is None or not self._make_room(MESSAGE_PAGES):
                break
            gap = self._next_gap(after, until)  # again: reads beside it that were given up became one with it
            if gap is None:
                break
            first, last, last_hash = gap
            chain = self._seal(GapRecord(first, last, last - first + 1, GAP_REASON, last_hash), place=first)
            self._db.execute("UPDATE gap SET declared_seq = ? WHERE first = ?", (chain.next_seq, first))
            declared = True
        return declared

    def _next_gap(self, after: int, until: int) -> tuple[int, int, bytes] | None:
        """first, last, digest of the last"""
        row: tuple[int, int, bytes] | None = self._db.execute(
            "SELECT first, last, last_hash FROM gap"
            " WHERE declared_seq IS NULL AND first > ? AND first < ? ORDER BY first LIMIT 1",
            (after, until),
        ).fetchone()
        return row

    def _kept_messages(self) -> int:
        ((number,),) = self._db.execute(
            "SELECT (SELECT count(*) FROM message) - (SELECT count(*) FROM message WHERE kind = 'r')"
        )
        return int(number)

    def _make_room(self, pages: int) -> bool:
        """Give up reads until so many pages may be filled. On the ballast a message is stored even if they are not."""
        while self._room() < pages:
            if not self._give_up_oldest():
                return self._on_ballast
        return True

    def _give_up_oldest(self) -> bool:
        """Give up one read, but never an epoch's first message: it carries the link to the epoch before."""
        row = self._db.execute(
            "SELECT seq, digest FROM message WHERE kind = 'r' AND seq > 1 ORDER BY seq LIMIT 1"
        ).fetchone()
        if row is None:
            return False
        self._db.execute("DELETE FROM message WHERE seq = ?", (row[0],))
        self._add_gap(*row)
        return True

    def _add_gap(self, seq: int, digest: bytes) -> None:
        """Count `seq` as given up; a gap on either side that is not declared yet becomes one with it."""
        self._db.execute("UPDATE state SET given_up = given_up + 1")
        before = self._db.execute(
            "SELECT first FROM gap WHERE last = ? AND declared_seq IS NULL", (seq - 1,)
        ).fetchone()
        after = self._db.execute(
            "SELECT first, last, last_hash FROM gap WHERE first = ? AND declared_seq IS NULL", (seq + 1,)
        ).fetchone()
        first, last, last_hash = (before[0] if before else seq), seq, digest
        if after:
            last, last_hash = after[1], after[2]
            self._db.execute("DELETE FROM gap WHERE first = ?", (after[0],))
        self._db.execute("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, NULL)", (first, last, last_hash))

    def _digest(self, seq: int) -> bytes | None:
        row: tuple[bytes] | None = self._db.execute(
            "SELECT digest FROM message WHERE seq = ? UNION SELECT last_hash FROM gap WHERE last = ?", (seq, seq)
        ).fetchone()
        return None if row is None else row[0]

    def _forget(self, up_to: int) -> int:
        """Whatever a collector holds needs no keeping and no declaring; a gap it knows of waits for its own turn."""
        run = self._db.execute
        forgotten = run("DELETE FROM message WHERE seq <= ?", (up_to,)).rowcount
        run("UPDATE message SET place = seq WHERE place <= ?", (up_to,))
        run("DELETE FROM gap WHERE declared_seq <= ? OR (declared_seq IS NULL AND last <= ?)", (up_to, up_to))
        run("UPDATE gap SET first = ? WHERE declared_seq IS NULL AND first <= ?", (up_to + 1, up_to))
        return forgotten

    def _room(self) -> int:
        """Pages that may still be filled."""
        (used,), (free,) = (self._db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count"))
        return int(free) if self._on_ballast else self._limits.pages - int(used) + int(free)

    def _prepare(self) -> None:
        db = self._db
        db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA temp_store = MEMORY")  # the daemon may write nowhere but beside this file
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        db.execute(f"PRAGMA max_page_count = {self._limits.pages}")
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        link_file = self._path.with_name(PREVIOUS_EPOCH)
        if version == 0 and not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            previous = _previous_epoch(link_file)
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute(
                "INSERT INTO state VALUES (?, ?, 1, ?, ?, NULL, 0)",
                (
                    self._sealer.lane,
                    str(secrets.randbits(64)),
                    previous and previous.head,
                    previous and str(previous.epoch),
                ),
            )
        elif (version, *db.execute("PRAGMA application_id").fetchone()) != (FORMAT, APPLICATION_ID):
            raise OutboxForeign(f"{self._path} is not an outbox of this version")
        db.execute("COMMIT")
        try:
            link_file.unlink(missing_ok=True)
        except OSError as error:
            raise OutboxUnavailable(f"cannot remove {link_file}: {error.strerror}") from error
        if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise OutboxCorrupt(f"{self._path} is damaged")
        lane, alive_ns = db.execute("SELECT lane, alive_ns FROM state").fetchone()
        if lane != self._sealer.lane:
            raise OutboxForeign(f"{self._path} is of lane {clean(lane)}, not of {self._sealer.lane}")
        self.last_alive_ns = None if alive_ns is None else int(alive_ns)
        visits = db.execute("SELECT * FROM visit ORDER BY rowid")
        self.interrupted = tuple(
            OpenVisit(memoryview(passage).tobytes(), Instant(int(utc), int(mono))) for passage, utc, mono in visits
        )
        (self.checkpointed,) = db.execute("SELECT max(seq) FROM message WHERE kind = 'c'").fetchone()
        self._restore_ballast()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _translated(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @property
    def _on_ballast(self) -> bool:
        return not self._ballast.exists()

    def _release_ballast(self) -> bool:
        """Make room on the file system, and empty the write-ahead log into it; False if there was none to give."""
        if self._on_ballast:
            return False
        try:
            self._ballast.unlink()
        except OSError as error:
            raise OutboxUnavailable(f"cannot remove {self._ballast}: {error.strerror}") from error
        with _translated(self._path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return True

    def _take_ballast(self) -> None:
        with self._lock:
            self._restore_ballast()

    def _restore_ballast(self) -> None:
        """Take the room again once the file system has it; until then the outbox does not grow."""
        if not self._on_ballast:
            return
        part = self._ballast.with_name(self._ballast.name + ".part")
        try:
            with part.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._limits.ballast_bytes)
            part.rename(self._ballast)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise OutboxUnavailable(f"cannot write {self._ballast}: {error.strerror}") from error


def _previous_epoch(path: Path) -> EpochLink | None:
    try:
        with path.open("rb") as file:
            line = file.read(100)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutboxUnavailable(f"cannot read {path}: {error.strerror}") from error
    parts = re.fullmatch(rb"([0-9a-f]{16}) ([0-9a-f]{64})\s*", line)
    if parts is None:
        raise EpochLinkMalformed(f"{path} names no epoch and digest")
    return EpochLink(int(parts[1], 16), bytes.fromhex(parts[2].decode()))


_MAX_SEQ = 2**63 - 1
_SCHEMA = (
    f"PRAGMA user_version = {FORMAT}",
    f"PRAGMA application_id = {APPLICATION_ID}",
    "CREATE TABLE state (lane TEXT NOT NULL, epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, prev BLOB,"
    " link_epoch TEXT, alive_ns INTEGER, given_up INTEGER NOT NULL)",
    "CREATE TABLE message (seq INTEGER PRIMARY KEY, place INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " digest BLOB NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX message_read ON message (seq) WHERE kind = 'r'",
    "CREATE TABLE gap (first INTEGER PRIMARY KEY, last INTEGER NOT NULL UNIQUE, last_hash BLOB NOT NULL,"
    " declared_seq INTEGER)",
    "CREATE TABLE note (what TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE visit (passage_id BLOB PRIMARY KEY, utc_ns INTEGER NOT NULL, monotonic_ns INTEGER NOT NULL)",
)
_ERRORS: dict[int, type[OutboxError]] = {
    sqlite3.SQLITE_FULL: OutboxDiskFull,
    sqlite3.SQLITE_ERROR: OutboxCorrupt,  # of statements that never change: the file lacks what they name
    sqlite3.SQLITE_CORRUPT: OutboxCorrupt,
    sqlite3.SQLITE_NOTADB: OutboxCorrupt,
    sqlite3.SQLITE_BUSY: OutboxLocked,
    sqlite3.SQLITE_LOCKED: OutboxLocked,
}


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """What a damaged file holds may come as any type and any bytes, also in the messages of sqlite3's own errors."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise OutboxUnavailable(f"{path}: closed") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        name = getattr(error, "sqlite_errorname", "a text that is none")
        raise _ERRORS.get(code, OutboxUnavailable)(f"{path}: {name}") from error
    except (MessageMalformed, ValueError, TypeError, OverflowError) as error:
        raise OutboxCorrupt(f"{path} holds what no lane wrote") from error
