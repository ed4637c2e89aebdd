"""A relay's own connection to the database of an outbox: sqlite3 of Python itself, or psycopg."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from orderrelay_producers.outbox_table import Database, Statements
from orderrelay_shared.settings import SettingsInvalid
from orderrelay_shared.urls import masked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_CONNECT_SECONDS: Final = 5
_STATEMENT_SECONDS: Final = 30

#: A relay that is frozen inside a transaction keeps its rows from the others for so long at most, in seconds.
_IDLE_IN_TRANSACTION_SECONDS: Final = 20

#: PostgreSQL's classes of errors that a person must mend: no such table or column, no permission.
_FOR_A_PERSON: Final = ("42",)
_NO_TABLE: Final = "the table orderrelay_outbox is not there; make it: orderrelay outbox init --apply"


class OutboxUnusable(Exception):
    """The database of the outbox cannot be used.

    Attributes:
        may_pass: Whether waiting may help, as where it does not answer; else a person must do something.
    """

    def __init__(self, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


class Store(Protocol):
    """One connection, which opens when it is needed and again after a failure; not thread-safe.

    Attributes:
        statements: The table's statements for it.
        address: Where it is, fit to be shown.
    """

    statements: Statements
    address: str

    def writing(self) -> AbstractContextManager[Any]:
        """A cursor in a transaction that is committed at the end, and rolled back if anything is raised.

        Raises:
            OutboxUnusable: The database cannot be used; raised in place of what the driver raises.
        """
        ...

    def reading(self) -> AbstractContextManager[Any]:
        """A cursor for statements that only read; otherwise as `writing`."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def open_store(url: str | None, *, lock_seconds: float = 5.0, create: bool = False) -> Store:
    """The store at an address; it connects at the first statement.

    Args:
        url: `postgresql://…`, or `sqlite:///` and an absolute path.
        lock_seconds: How long to wait for SQLite's write lock.
        create: Whether an SQLite file that is not there is made.

    Raises:
        SettingsInvalid: There is no address.
        ModuleNotFoundError: It is PostgreSQL, and psycopg is not installed.
    """
    if url is None:
        allowed = "the address of the service's own database, postgresql://… or sqlite:/// and an absolute path"
        raise SettingsInvalid([f"ORDERRELAY_OUTBOX_URL: is missing (allowed: {allowed})"])
    if database_of(url) is Database.SQLITE:
        return _SqliteStore(url, lock_seconds, create=create)
    return _PostgresStore(url)


def database_of(url: str) -> Database:
    """Which database an address is of."""
    return Database.SQLITE if url.startswith("sqlite:") else Database.POSTGRESQL


class _SqliteStore:
    """SQLite: what writes begins with BEGIN IMMEDIATE, so it never fails half-way for want of the lock."""

    def __init__(self, url: str, lock_seconds: float, *, create: bool) -> None:
        path = Path(url.removeprefix("sqlite:///"))
        self.statements = Statements(Database.SQLITE, "?")
        self.address = str(path)
        # Without the mode a misspelled path would make an empty database, in which nothing ever waits.
        self._file = f"file:{quote(path.as_posix())}?mode={'rwc' if create else 'rw'}"
        self._lock_seconds = lock_seconds
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        with self._telling() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection.cursor()
            except BaseException:
                connection.rollback()
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        with self._telling() as connection, contextlib.closing(connection.cursor()) as cursor:
            yield cursor

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _telling(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._file, uri=True, timeout=self._lock_seconds, isolation_level=None, check_same_thread=False
                )
            yield self._connection
        except sqlite3.Error as error:
            self.close()
            if "no such table" in str(error):
                raise OutboxUnusable(_NO_TABLE, may_pass=False) from error
            raise OutboxUnusable(f"{self.address}: {error}", may_pass=True) from error


class _PostgresStore:
    """PostgreSQL, by psycopg."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg  # noqa: PLC0415  the base install has none
        except ImportError as error:
            raise ModuleNotFoundError(
                "an outbox on PostgreSQL needs psycopg: pip install 'orderrelay[outbox]'", name="psycopg"
            ) from error
        self._psycopg = psycopg
        self._conninfo = f"postgresql://{url.partition('://')[2]}"
        self.statements = Statements(Database.POSTGRESQL, "%s")
        self.address = masked(self._conninfo)
        self._connection: psycopg.Connection[Any] | None = None

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        with self._telling() as connection, connection.transaction(), connection.cursor() as cursor:
            yield cursor

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        with self._telling() as connection, connection.cursor() as cursor:
            yield cursor

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _telling(self) -> Iterator[Any]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except self._psycopg.Error as error:
            self.close()
            if isinstance(error, self._psycopg.errors.UndefinedTable):
                raise OutboxUnusable(_NO_TABLE, may_pass=False) from error
            is_for_a_person = (error.sqlstate or "").startswith(_FOR_A_PERSON)
            told = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OutboxUnusable(f"{self.address}: {told}", may_pass=not is_for_a_person) from error

    def _connect(self) -> Any:
        return self._psycopg.connect(
            self._conninfo,
            autocommit=True,  # transactions are those of `writing`
            connect_timeout=_CONNECT_SECONDS,
            application_name="orderrelay-outbox",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=15_000,
            options=f"-c statement_timeout={_STATEMENT_SECONDS * 1000} "
            f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_SECONDS * 1000}",
        )
