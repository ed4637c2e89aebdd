"""Services with an outbox, for tests: each way that a caller may have its own transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg.rows
import sqlalchemy as sa
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from orderrelay_producers.outbox import layout
from orderrelay_producers.outbox_store import database_of, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderrelay_producers.outbox_table import Counts, SetAside


def lay_out(url: str) -> None:
    """Make the table of an outbox, and one of the service itself."""
    with contextlib.closing(open_store(url, create=True)) as store, store.writing() as cursor:
        for statement in (*layout(database_of(url)), "CREATE TABLE purchase (number integer PRIMARY KEY)"):
            cursor.execute(statement)


def counts(url: str) -> Counts:
    """How full the outbox is."""
    with contextlib.closing(open_store(url)) as store, store.reading() as cursor:
        return store.statements.counts(cursor)


def set_aside(url: str) -> list[SetAside]:
    """What waits for a person."""
    with contextlib.closing(open_store(url)) as store, store.reading() as cursor:
        return store.statements.all_set_aside(cursor, at_most=100)


def run_sql(url: str, statement: str) -> list[Any]:
    """Run one statement of the service's own, and commit; gives the rows of a query."""
    with contextlib.closing(open_store(url)) as store, store.writing() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


@dataclass(frozen=True)
class Service:
    """A service that has its data in the same database as its outbox.

    Attributes:
        url: That database.
        begin: Opens a transaction; gives what the service hands to `Outbox.enqueue`, and how to run its own SQL. It is
            committed at the end, and rolled back if anything is raised.
    """

    url: str
    begin: Callable[[], contextlib.AbstractContextManager[tuple[Any, Callable[[str], Any]]]]


def service(kind: str, url: str) -> Service:
    """A service of a kind: `driver`, `dictionaries`, `session`, `scoped`, or `connection`."""
    return Service(url, lambda: _WAYS[kind](url))


@contextlib.contextmanager
def _driver(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with _connect(url) as connection:
        yield connection, connection.execute


@contextlib.contextmanager
def _dictionaries(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with _connect(url) as connection:
        is_sqlite = isinstance(connection, sqlite3.Connection)
        connection.row_factory = sqlite3.Row if is_sqlite else psycopg.rows.dict_row
        yield connection, connection.execute


@contextlib.contextmanager
def _connect(url: str) -> Iterator[Any]:
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            yield file
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            yield connection


@contextlib.contextmanager
def _session(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with _engine(url) as engine, Session(engine) as session, session.begin():
        yield session, lambda statement: session.execute(sa.text(statement))


@contextlib.contextmanager
def _scoped(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with _engine(url) as engine:
        session = scoped_session(sessionmaker(engine))
        try:
            yield session, lambda statement: session.execute(sa.text(statement))
            session.commit()
        finally:
            session.remove()


@contextlib.contextmanager
def _connection(url: str) -> Iterator[tuple[Any, Callable[[str], Any]]]:
    with _engine(url) as engine, engine.begin() as connection:
        yield connection, connection.exec_driver_sql


@contextlib.contextmanager
def _engine(url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


_WAYS = {
    "driver": _driver,
    "dictionaries": _dictionaries,
    "session": _session,
    "scoped": _scoped,
    "connection": _connection,
}
