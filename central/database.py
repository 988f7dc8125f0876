"""The database under a collector's store: SQLite, or PostgreSQL for several collectors. Its tables and transactions."""

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from central.prefix import Epoch
from edge.errors import StoreAddress, StoreFailed, StoreForeign, StoreShared, clean

BUSY_TIMEOUT_S = 10
LONGEST_WHAT = 200

TABLES = sa.MetaData()
META = sa.Table("meta", TABLES, sa.Column("version", sa.Integer, primary_key=True))
MESSAGES = sa.Table(
    "messages",
    TABLES,
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
    sa.Index("messages_prev", "lane", "epoch", "prev"),
    # for two questions: which gap covers a number, and what that is no gap lies beyond one
    sa.Index("messages_gaps", "lane", "epoch", "gap_last", "gap_first", "seq", "gap_hash"),
    sa.Index("messages_kinds", "lane", "epoch", "kind", "seq"),
    sqlite_with_rowid=False,
)
OPENINGS = sa.Table(  # what the first message of each epoch says
    "openings",
    TABLES,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("after", sa.String(16)),  # the epoch that it goes on from, and the end of that
    sa.Column("head", sa.LargeBinary(32)),
    sa.Index("openings_after", "lane", "after", "head"),
)
HEADS = sa.Table(
    "heads",
    TABLES,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("up_to", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary(32)),
)
ALARMS = sa.Table(
    "alarms",
    TABLES,
    sa.Column("lane", sa.String(32), primary_key=True),
    sa.Column("code", sa.String(16), primary_key=True),
    sa.Column("epoch", sa.String(16), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("at_ns", sa.BigInteger, nullable=False),
    sa.Column("what", sa.String(LONGEST_WHAT), nullable=False),
    sa.Column("evidence", sa.LargeBinary),
)


def open_engine(address: str, *, shared: bool, read_only: bool) -> sa.Engine:
    """`address`: a file (SQLite), or an SQLAlchemy address. Raises StoreAddress, StoreShared, StoreFailed."""
    try:
        url = sa.make_url(address if "://" in address else f"sqlite:///{address}")
        if url.drivername not in ("sqlite", "postgresql+psycopg"):
            raise StoreAddress(f"no store of the kind {clean(url.drivername)}")
        is_sqlite = url.drivername == "sqlite"
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S} if is_sqlite else {})
    except (ArgumentError, ValueError) as error:  # ValueError: a port or an option that is no number
        raise StoreAddress("the store's address can't be understood") from error
    if is_sqlite and shared:
        raise StoreShared("several collectors cannot share an SQLite file")
    if is_sqlite and read_only:
        file = Path(url.database or ":memory:")
        try:
            file.stat()
        except OSError as error:
            raise StoreFailed(f"no store at {clean(url.database)}: {error.strerror}") from error
        if os.statvfs(file).f_flag & os.ST_RDONLY and not file.with_name(f"{file.name}-wal").exists():
            # nobody can write there: SQLite would want to make files beside it, for those who write meanwhile
            unchanging = f"{file.absolute().as_uri()}?immutable=1"
            engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(unchanging, uri=True))
    if is_sqlite:
        _prepare_sqlite(engine, read_only)
    return engine


def make_tables(db: sa.Connection) -> Collection[str]:
    """Make what is not there, also what a store was begun without; returns the tables that were there before."""
    before = sa.inspect(db).get_table_names()
    TABLES.create_all(db)
    for index in MESSAGES.indexes:  # create_all adds none to a table that is there
        index.create(db, checkfirst=True)
    return before


@contextmanager
def begin(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction, committed at the end. What goes wrong in the database is a StoreFailed or StoreForeign."""
    try:
        with engine.begin() as db:
            yield db
    except DBAPIError as error:  # its text would quote the statement and its values
        no_database = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB
        failed = StoreForeign if no_database else StoreFailed
        raise failed(f"{engine.dialect.name}: {clean(error.orig)}") from error
    except UnicodeDecodeError as error:  # out of sqlite3, whose own message has bytes of a damaged file
        raise StoreFailed(f"{engine.dialect.name}: the file is damaged") from error


def lock_lanes(db: sa.Connection, lanes: Collection[str]) -> None:
    """Until the commit no other collector adds to these lanes: each end of a fork is judged with the other in
    sight, in whichever epoch that is. With SQLite, any transaction that writes is alone."""
    if db.dialect.name == "postgresql":
        for name in sorted(map(_lock_name, lanes)):  # in one order, or two collectors would deadlock
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.cast(name, sa.BigInteger))))


def insert_new(db: sa.Connection, table: sa.Table, **values: Any) -> None:
    """Insert unless a row with that key is there."""
    insert = sqlite.insert if db.dialect.name == "sqlite" else postgresql.insert
    db.execute(insert(table).values(values).on_conflict_do_nothing())


def fetch(db: sa.Connection, query: sa.Select[Any]) -> Sequence[Any]:
    """What a query of columns brings. StoreFailed if a value is not of its column's type: SQLite keeps any in any."""
    found = db.execute(query).all()
    for row in found:
        for column, value in zip(query.selected_columns, row, strict=True):
            if not isinstance(value, column.type.python_type) and not (value is None and column.nullable):
                raise StoreFailed(f"{column} holds a {type(value).__name__}: somebody else wrote here")
    return found


def of(table: sa.Table, lane: str, epoch: Epoch) -> sa.ColumnElement[bool]:
    """The rows of one chain."""
    return (table.c.lane == lane) & (table.c.epoch == epoch)


def _lock_name(lane: str) -> int:
    """What PostgreSQL calls the lock of a lane: 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(f"sealane {lane}".encode()).digest()[:8], "big", signed=True)


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
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
