"""Many rows in one statement by the driver's own means, where SQLAlchemy's cost several times as much.

SQLite takes some rows a statement; PostgreSQL takes columns, each as one array, in one statement. What is stored is
the same that SQLAlchemy would store. (SQLite could take one row a statement in one call as well, but the interpreter
changes threads at each, and waits for its turn again as long as another thread computes.)
"""

from __future__ import annotations

from functools import cache
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine.interfaces import Dialect

#: SQLite takes so many rows in one statement; each has at most 40 values, and 32,766 are allowed.
ROWS_AT_A_TIME: Final = 50

#: Before the name of a column that must be something.
_WAS: Final = "was_"

#: How SQLite's own number of a row is called here.
_PLACE: Final = "place"


def insert(
    connection: sa.Connection,
    table: sa.Table,
    each: Mapping[str, Sequence[Any]],
    same: Mapping[str, Any] | None = None,
    *,
    then: str = "",
) -> None:
    """Insert rows.

    Args:
        connection: The transaction.
        table: Where.
        each: Column to its values, one for each row.
        same: Column to the one value that all rows have.
        then: What to do where a row is there already, `ON CONFLICT …` as both databases write it.
    """
    count = _rows_in(each)
    if not count:
        return
    same = same or {}
    if connection.dialect.name != "sqlite":
        statement, parameters = _from_arrays(connection, table, each, same)
        connection.exec_driver_sql(f"{statement} {then}", parameters)
        return
    given: dict[str, Iterable[Any]] = {**each, **{name: repeat(value, count) for name, value in same.items()}}
    for values, some in _some_at_a_time(_rows_for_sqlite(connection, table, given)):
        connection.exec_driver_sql(f"{_into(table, given)} {values} {then}", some)


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


def update(
    connection: sa.Connection,
    table: sa.Table,
    ids: Sequence[Any],
    each: Mapping[str, Sequence[Any]],
    same: Mapping[str, Any] | None = None,
    *,
    only_if: Mapping[str, Sequence[Any]] | None = None,
    places: Sequence[int | None] | None = None,
) -> int:
    """Change rows.

    Args:
        connection: The transaction.
        table: Where; its key is the column `id`.
        ids: Which rows, none twice. Where they are not locked already: in their order, so that nobody deadlocks.
        each: Column to its new values, one for each row.
        same: Column to the new value that all rows get.
        only_if: Column to what it must be in each row; a row where it is something else stays as it is.
        places: SQLite's own number of each row when it was read (`rowid`), which spares it the search for a random key
            in an index of all jobs there ever were. A row that has another one now stays as it is.

    Returns:
        How many rows were changed.
    """
    same, only_if = same or {}, only_if or {}
    if not ids or not (each or same):
        return 0
    given = {**each, **{f"{_WAS}{name}": values for name, values in only_if.items()}, "id": ids}
    dialect = connection.dialect
    is_sqlite = dialect.name == "sqlite"
    assigned = [f"{name} = given.{name}" for name in each]
    assigned += [f"{name} = {'?' if is_sqlite else f'%b::{_type(table, name, dialect)}'}" for name in same]
    found = [f"{table.name}.id = given.id", *(f"{table.name}.{name} = given.{_WAS}{name}" for name in only_if)]
    if is_sqlite and places is not None:
        given = {**given, _PLACE: places}
        # The plus keeps it from looking up the key all the same.
        found = [f"{table.name}.rowid = given.{_PLACE}", f"+{found[0]}", *found[1:]]
    change = f"UPDATE {table.name} SET {', '.join(assigned)} FROM"  # noqa: S608  our own names
    where = f"WHERE {' AND '.join(found)}"
    if is_sqlite:
        shared = next(zip(*_columns_for_sqlite(connection, table, {n: [v] for n, v in same.items()}), strict=True), ())
        changed = 0
        for values, some in _some_at_a_time(_rows_for_sqlite(connection, table, given)):
            # The driver counts only the rows of a statement that begins with UPDATE.
            rows = f"(WITH given ({', '.join(given)}) AS ({values}) SELECT * FROM given) AS given"  # noqa: S608  as above
            changed += connection.exec_driver_sql(f"{change} {rows} {where}", (*shared, *some)).rowcount
        return changed
    return connection.exec_driver_sql(
        f"{change} {_given(connection, table, given)} {where}",
        (*same.values(), *(list(values) for values in given.values())),
    ).rowcount


def _rows_in(each: Mapping[str, Sequence[Any]]) -> int:
    return len(next(iter(each.values())))


def _into(table: sa.Table, names: Iterable[str]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)})"


def _rows_for_sqlite(
    connection: sa.Connection, table: sa.Table, given: Mapping[str, Iterable[Any]]
) -> list[tuple[Any, ...]]:  # fmt: skip
    return list(zip(*_columns_for_sqlite(connection, table, given), strict=True))


def _columns_for_sqlite(
    connection: sa.Connection, table: sa.Table, given: Mapping[str, Iterable[Any]]
) -> Iterator[Iterable[Any]]:  # fmt: skip
    for name, values in given.items():
        is_column = name != _PLACE
        yield _for_sqlite(connection.dialect, table.c[name.removeprefix(_WAS)], values) if is_column else values


def _some_at_a_time(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Rows as a VALUES clause and its parameters, so many at a time that statements recur and are kept prepared."""
    for begin in range(0, len(rows), ROWS_AT_A_TIME):
        some = rows[begin : begin + ROWS_AT_A_TIME]
        row = f"({', '.join('?' * len(some[0]))})"
        yield f"VALUES {', '.join([row] * len(some))}", tuple(chain.from_iterable(some))


def _for_sqlite(dialect: Dialect, column: sa.Column[Any], values: Iterable[Any]) -> Iterable[Any]:
    """Values as the column stores them."""
    prepare = column.type.dialect_impl(dialect).bind_processor(dialect)
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
    columns = [f"given.{name}" for name in each]
    columns += [f"%b::{_type(table, name, connection.dialect)}" for name in same]
    statement = (
        f"{_into(table, (*each, *same))} SELECT {', '.join(columns)} "  # noqa: S608  names of our own tables
        f"FROM {_given(connection, table, each)}"
    )
    return statement, (*same.values(), *(list(values) for values in each.values()))


def _given(connection: sa.Connection, table: sa.Table, names: Iterable[str]) -> str:
    """Rows that PostgreSQL makes of one array a column."""
    names = list(names)
    arrays = ", ".join(f"%b::{_type(table, name, connection.dialect)}[]" for name in names)
    return f"unnest({arrays}) AS given ({', '.join(names)})"


@cache
def _type(table: sa.Table, name: str, dialect: Dialect) -> str:
    """How PostgreSQL calls a column's type."""
    return table.c[name.removeprefix(_WAS)].type.compile(dialect)
