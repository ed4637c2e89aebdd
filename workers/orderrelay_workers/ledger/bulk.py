"""One statement for many rows, handed to the driver ready to run.

SQLAlchemy's own way through `Connection.execute` costs more for each row than the database does: it builds the
parameters anew by name. Here a statement is compiled once, and a row is one pass over its columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import sqlalchemy as sa
    from sqlalchemy.engine.interfaces import Dialect

    #: What a column's type does to a value on its way to the driver, if anything.
    _Processor = Callable[[Any], Any] | None


class Bulk:
    """An INSERT or UPDATE for many rows.

    Args:
        build: Makes the statement for a connection's dialect; every value that it takes is a `bindparam` with a type.
    """

    def __init__(self, build: Callable[[sa.Connection], sa.UpdateBase]) -> None:
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run the statement once for each row, a value for each of its parameters; nothing if there are none."""
        if not rows:
            return
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = _Compiled(self._build(connection), dialect)
        connection.exec_driver_sql(compiled.sql, [compiled.parameters(row) for row in rows])


class _Compiled:
    def __init__(self, statement: sa.UpdateBase, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        names: Sequence[str] = compiled.positiontup or list(compiled.binds)
        self._is_positional: bool = compiled.positional
        self._columns: list[tuple[str, _Processor]] = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in names
        ]

    def parameters(self, row: Mapping[str, Any]) -> Any:
        """A row as the driver takes it: a tuple, or a dictionary where the driver knows parameters by name."""
        if self._is_positional:
            return tuple([row[name] if process is None else process(row[name]) for name, process in self._columns])
        return {name: row[name] if process is None else process(row[name]) for name, process in self._columns}
