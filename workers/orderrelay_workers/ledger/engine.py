"""The database connection: PostgreSQL, or SQLite as one host's embedded default.

On SQLite every transaction that may write begins with BEGIN IMMEDIATE, so that it never fails half-way for want of
the write lock, and a commit is on disk when it returns (WAL, synchronous FULL).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event, exc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

#: How long a SQLite writer waits for another, in seconds; the locking is unfair, so this is generous.
_SQLITE_BUSY_SECONDS = 30

#: It looks so often whether the lock is free, in seconds.
_SQLITE_LOOK_SECONDS = 0.001

#: SQLite writes its log back into the database once it has so many pages of 4 KB: seldom, as orders that come together
#: change the same pages again and again.
_SQLITE_LOG_PAGES = 4000

#: What SQLite may keep in memory of the database: by default, and in a transaction that writes much, in kilobytes.
_SQLITE_CACHE_KB = 2_000
_SQLITE_LARGE_CACHE_KB = 16_000

#: So many prepared statements are kept with each connection. One that writes 50 rows is large, and each number of rows
#: makes another one, so the driver's own 128 took 10 to 15 MB of a worker that drains.
_SQLITE_STATEMENTS = 32

#: How many connections one process may have open to PostgreSQL, and how many of them it keeps.
MOST_CONNECTIONS, _KEPT_CONNECTIONS = 16, 8

#: How long PostgreSQL may take for one statement, by default, and to connect, in seconds.
_STATEMENT_SECONDS = 60
_CONNECT_SECONDS = 5

#: The server ends a statement in time by itself. If not even that is heard so much later, in seconds, it never will be.
_ANSWER_LOST_SECONDS = 5

#: A process that is frozen inside a transaction holds its row locks for so long at most, in seconds.
_IDLE_IN_TRANSACTION_SECONDS = 10

#: A link on which what was sent is not even received for so long is given up, in seconds; keepalives cannot tell then.
_UNHEARD_SECONDS = 15

#: PostgreSQL's code for a write in a read-only transaction.
_READ_ONLY = "25006"


def open_engine(
    database_url: str,
    *,
    application_name: str = "orderrelay",
    statement_seconds: int = _STATEMENT_SECONDS,
    small_statements: bool = False,
) -> sa.Engine:
    """An engine for a normalised database URL (`sqlite:///…` or `postgresql+psycopg://…`). Connects lazily.

    Args:
        database_url: The URL.
        application_name: What PostgreSQL calls its connections.
        statement_seconds: How long PostgreSQL may take for one statement.
        small_statements: None sorts or counts very many rows. SQLite then keeps in memory what it needs to undo one,
            and does not write each page that a statement changes into a file once more.
    """
    url = sa.make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url, small_statements=small_statements)
    return _open_postgres(url, application_name, statement_seconds)


def _open_postgres(url: sa.URL, application_name: str, statement_seconds: int) -> sa.Engine:
    from orderrelay_workers.ledger.bounded_connection import BoundedConnection  # noqa: PLC0415  the driver is not SQLite's

    class Connection(BoundedConnection):
        answer_seconds = statement_seconds + _ANSWER_LOST_SECONDS

    engine = sa.create_engine(
        url,
        pool_size=_KEPT_CONNECTIONS,
        max_overflow=MOST_CONNECTIONS - _KEPT_CONNECTIONS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": application_name,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": _UNHEARD_SECONDS * 1000,
            "options": f"-c statement_timeout={statement_seconds * 1000} -c timezone=UTC -c synchronous_commit=on "
            f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_SECONDS * 1000}",
        },
    )

    def try_timeline(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        """Some hosted PostgreSQLs do not tell their timeline."""
        driver: Any = engine.dialect.dbapi
        cursor = connection.cursor()
        try:
            cursor.execute(f"SELECT {TIMELINE}")
        except driver.OperationalError:  # says nothing about that
            pass
        except driver.Error:
            engine.update_execution_options(tells_timeline=False)
        finally:
            connection.rollback()

    def connect(_: sa.Dialect, __: ConnectionPoolEntry, cargs: Any, cparams: Any) -> Any:
        return Connection.connect(*cargs, **cparams)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "first_connect", try_timeline)
    return engine


def _open_sqlite(url: sa.URL, *, small_statements: bool) -> sa.Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_use_lifo=True,  # what a connection has in memory is used again, and few connections have much
        connect_args={"timeout": _SQLITE_BUSY_SECONDS, "cached_statements": _SQLITE_STATEMENTS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    if small_statements:
        event.listen(engine, "connect", _keep_in_memory)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    raw: Any = connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  for the type checker; SQLAlchemy gives the driver's own
    raw.isolation_level = None  # the driver must not begin transactions by itself
    cursor = raw.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA wal_autocheckpoint={_SQLITE_LOG_PAGES}")
    cursor.execute(f"PRAGMA cache_size=-{_SQLITE_CACHE_KB}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _keep_in_memory(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("reading", False):
        connection.exec_driver_sql("BEGIN")
        return
    raw: Any = connection.connection.driver_connection
    raw.execute("PRAGMA busy_timeout=0")
    try:
        if not _take_write_lock(raw):
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the error, as SQLAlchemy tells it
    finally:
        raw.execute(f"PRAGMA busy_timeout={int(_SQLITE_BUSY_SECONDS * 1000)}")


def _take_write_lock(raw: sqlite3.Connection) -> bool:
    """Begin a transaction that holds the write lock. False if it is not free for very long, or at another error.

    SQLite itself would look for the lock again after up to a tenth of a second, in which it lay free: it is wanted
    some hundred times a second, and held for a few milliseconds.
    """
    until = time.monotonic() + _SQLITE_BUSY_SECONDS
    while time.monotonic() < until:
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:  # of any kind: who waits for the ledger knows SQLAlchemy's errors only
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                return False
        else:
            return True
        time.sleep(_SQLITE_LOOK_SECONDS)
    return False


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for a transaction that only reads, and so waits for no writer."""
    with engine.connect().execution_options(reading=True) as connection, connection.begin():
        yield connection


@contextlib.contextmanager
def writing_much(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for a transaction that changes very many pages, which SQLite then writes only once each."""
    with engine.begin() as connection:
        if not is_sqlite(engine):
            yield connection
            return
        connection.exec_driver_sql(f"PRAGMA cache_size=-{_SQLITE_LARGE_CACHE_KB}")
        yield connection
        # What is too much is freed at the commit, as a worker has several connections.
        connection.exec_driver_sql(f"PRAGMA cache_size=-{_SQLITE_CACHE_KB}")


def is_sqlite(engine: sa.Engine) -> bool:
    """Whether the ledger is one host's SQLite file."""
    return engine.dialect.name == "sqlite"


def tells_timeline(engine: sa.Engine) -> bool:
    """Whether the database is one that `TIMELINE` can be asked of, and is known after its first connection."""
    return not is_sqlite(engine) and engine.get_execution_options().get("tells_timeline", True)


def clock(connection: sa.Connection) -> datetime:
    """Now by the clock that all workers share: the database's; on SQLite this host's. Aware, UTC."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(_CLOCK).scalar_one()
    return now.astimezone(UTC)


_CLOCK = sa.text("SELECT clock_timestamp()")

#: An expression for PostgreSQL's timeline: the first eight hex digits of a log file's name; a standby has none yet.
TIMELINE = "CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END"


def is_away(error: BaseException) -> bool:
    """Whether a database error is about the connection or the server, and so says nothing about the statement."""
    if isinstance(error, exc.TimeoutError):  # no connection became free in the pool
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) == _READ_ONLY:  # a standby, as while a failover is under way
        return True
    return error.connection_invalidated or isinstance(error, (exc.OperationalError, exc.InterfaceError))
