"""What a caller may hand in as its transaction, told by its kind and not by importing anybody's package.

Taken are a `Session` or `Connection` of SQLAlchemy, a connection of Django, and plain connections of psycopg 3 and
sqlite3. Everything else is refused, and so is a connection that would commit the order by itself at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orderrelay_producers.outbox_table import NAME, Database, Statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_shared.intake import Envelope

_TAKEN: Final = (
    "hand in the Session or Connection of SQLAlchemy, the connection of Django, or the connection of psycopg or "
    "sqlite3 whose transaction the order belongs to"
)

#: What is easily mistaken for a transaction, and what to do instead.
_MISTAKEN: Final = {
    "sqlalchemy.Engine": "hand in the Session or Connection whose transaction the order belongs to",
    "sqlalchemy.sessionmaker": "hand in a Session that it made",
    "sqlalchemy.AsyncSession": "use `await session.run_sync(lambda s: outbox.enqueue(s, order))`",
    "sqlalchemy.async_scoped_session": "use `await session.run_sync(lambda s: outbox.enqueue(s, order))`",
    "sqlalchemy.AsyncConnection": "use `await connection.run_sync(lambda c: outbox.enqueue(c, order))`",
    "psycopg.AsyncConnection": "only psycopg's Connection can be used, not its AsyncConnection",
    "psycopg.BaseCursor": "hand in its connection",
    "sqlite3.Cursor": "hand in its connection",
}

#: psycopg's word for "no transaction is open".
_IDLE: Final = 0

_PLAIN: Final = {"sqlite3.Connection": (Database.SQLITE, "?"), "psycopg.Connection": (Database.POSTGRESQL, "%s")}
_MARKS: Final = {"qmark": "?", "format": "%s", "pyformat": "%s"}


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller's open transaction, or one that its next statement opens.

    Attributes:
        statements: The table's statements for its database and driver.
        execute: Runs one of them within the transaction, and gives the driver's cursor or result.
    """

    statements: Statements
    execute: Callable[[str, tuple[object, ...]], Any]

    def store(self, envelope: Envelope) -> int:
        """Write an order into the table; gives the row's id. What the driver raises is the caller's to see."""
        try:
            result = self.execute(*self.statements.insert(envelope))
        except Exception as error:
            if NAME in str(error):
                error.add_note(f"If the table {NAME} is missing, make it: orderrelay outbox init")
            raise
        if self.statements.database is Database.SQLITE:
            return int(result.lastrowid)
        return int(result.fetchone()[0])


def caller(given: Any) -> Caller:
    """The transaction that a caller has handed in.

    Raises:
        TypeError: It is nothing that an order can be stored with.
        RuntimeError: It is in autocommit mode, and no transaction is open.
    """
    # By `__class__`, which proxies such as those of tracing libraries answer as what they stand for.
    kinds = [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in given.__class__.__mro__]
    for kind in kinds:
        if kind in _MISTAKEN:
            raise TypeError(f"a transaction is needed, and this is of the type {kind}; {_MISTAKEN[kind]}")
        if kind in {"sqlalchemy.Session", "sqlalchemy.scoped_session"}:
            return _of_sqlalchemy(given.connection())
        if kind == "sqlalchemy.Connection":
            return _of_sqlalchemy(given)
        if kind in _PLAIN:
            return _of_driver(given, Statements(*_PLAIN[kind]))
    if hasattr(given, "vendor") and hasattr(given, "in_atomic_block"):
        return _of_django(given)
    raise TypeError(f"a transaction is needed, and this is of the type {kinds[0]}; {_TAKEN}")


def _of_sqlalchemy(connection: Any) -> Caller:
    name, style = connection.dialect.name, connection.dialect.paramstyle
    if style not in _MARKS:
        raise TypeError(f"SQLAlchemy's driver {connection.dialect.driver!r} cannot be used; psycopg and sqlite3 can")
    if not connection.in_transaction():
        connection.begin()  # As the next statement would; and only then is seen whether the driver has begun one too.
    _refuse_autocommit(connection.connection.driver_connection)
    return Caller(Statements(_database(name), _MARKS[style]), connection.exec_driver_sql)


def _of_django(connection: Any) -> Caller:
    statements = Statements(_database(connection.vendor), "%s")
    if connection.get_autocommit() and not connection.in_atomic_block:
        raise RuntimeError("no transaction is open on this connection of Django; use `with transaction.atomic():`")

    def execute(statement: str, values: tuple[object, ...]) -> Any:
        cursor = connection.cursor()
        cursor.execute(statement, values)
        return cursor

    return Caller(statements, execute)


def _of_driver(connection: Any, statements: Statements) -> Caller:
    _refuse_autocommit(connection)

    def execute(statement: str, values: tuple[object, ...]) -> Any:
        cursor = connection.cursor()
        # The caller's own may give rows as dictionaries or objects; these are read as tuples.
        cursor.row_factory = None if statements.database is Database.SQLITE else _plain_rows
        cursor.execute(statement, values)
        return cursor

    return Caller(statements, execute)


def _plain_rows(_: object) -> type[tuple[Any, ...]]:
    """Rows as tuples, in the words of psycopg."""
    return tuple


def _refuse_autocommit(connection: Any) -> None:
    """Refuse a driver's connection that would commit each statement by itself."""
    if (info := getattr(connection, "info", None)) is not None:
        commits_itself = connection.autocommit is True and info.transaction_status == _IDLE
    else:
        # From Python 3.12 on sqlite3 has `autocommit`, which beats `isolation_level` unless it is the old way.
        mode = getattr(connection, "autocommit", None)
        commits_itself = not getattr(connection, "in_transaction", True) and (
            mode is True or (mode is not False and connection.isolation_level is None)
        )
    if commits_itself:
        raise RuntimeError(
            "this connection is in autocommit mode and no transaction is open, so that the order would be committed by "
            "itself; begin a transaction first"
        )


def _database(name: str) -> Database:
    try:
        return Database(name)
    except ValueError:
        raise TypeError(f"an outbox can be in PostgreSQL or SQLite, and not in {name}") from None
