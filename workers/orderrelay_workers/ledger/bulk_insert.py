"""Many rows into a table in one statement by the driver's own means, where SQLAlchemy's cost several times as much.

SQLite takes rows, one by one in one call; PostgreSQL takes columns, each as one array, in one statement. What is
stored is the same that SQLAlchemy would store.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


def insert(
    connection: sa.Connection, table: sa.Table, each: Mapping[str, Sequence[Any]], same: Mapping[str, Any]
) -> None:  # fmt: skip
    """Insert rows.

    Args:
        connection: The transaction.
        table: Where.
        each: Column to its values, one for each row.
        same: Column to the one value that all rows have.
    """
    count = len(next(iter(each.values())))
    if not count:
        return
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(*_from_arrays(connection, table, each, same))
        return
    given: dict[str, Iterable[Any]] = {**each, **{name: repeat(value, count) for name, value in same.items()}}
    rows = list(zip(*(_for_sqlite(connection, table.c[name], given[name]) for name in given), strict=True))
    connection.exec_driver_sql(f"{_into(table, given)} VALUES ({', '.join('?' * len(given))})", rows)


def insert_new(connection: sa.Connection, table: sa.Table, each: Mapping[str, Sequence[Any]], key: str) -> set[Any]:
    """Insert the rows that are not there yet; PostgreSQL only.

    Args:
        connection: The transaction.
        table: Where.
        each: Column to its values, one for each row.
        key: The column that tells the rows apart.

    Returns:
        The keys of the rows that were inserted.
    """
    statement, parameters = _from_arrays(connection, table, each, {})
    inserted = connection.exec_driver_sql(f"{statement} ON CONFLICT DO NOTHING RETURNING {key}", parameters)
    return set(inserted.scalars())


def _into(table: sa.Table, names: Iterable[str]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)})"


def _for_sqlite(connection: sa.Connection, column: sa.Column[Any], values: Iterable[Any]) -> Iterable[Any]:
    """Values as the column stores them."""
    prepare = column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    if prepare is None or isinstance(column.type, sa.LargeBinary):  # bytes are stored as they are
        return values
    return _prepared(values, prepare)


def _prepared(values: Iterable[Any], prepare: Callable[[Any], Any]) -> Iterator[Any]:
    """Prepare values; one that is the same object as the one before it costs nothing."""
    before = stored = None
    for value in values:
        if value is not before:
            before, stored = value, prepare(value)
        yield stored


def _from_arrays(
    connection: sa.Connection, table: sa.Table, each: Mapping[str, Sequence[Any]], same: Mapping[str, Any]
) -> tuple[str, tuple[Any, ...]]:
    """The statement for PostgreSQL and its parameters."""
    types = {name: table.c[name].type.compile(connection.dialect) for name in (*each, *same)}
    arrays = ", ".join(f"%b::{types[name]}[]" for name in each)
    columns = [f"given.{name}" for name in each] + [f"%b::{types[name]}" for name in same]
    statement = (
        f"{_into(table, (*each, *same))} SELECT {', '.join(columns)} "  # noqa: S608  names of our own tables
        f"FROM unnest({arrays}) AS given ({', '.join(each)})"
    )
    return statement, (*same.values(), *(list(values) for values in each.values()))
