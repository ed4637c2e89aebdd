"""Orders from a table (CSV): a line for each row of an order, the rows of one order together."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final, NamedTuple

from orderrelay_producers.files.columns import (
    Column,
    Columns,
    advice,
    cells_of,
    delimiter_of,
    is_separator_line,
    read_header,
)
from orderrelay_producers.files.keys_seen import KeysSeen
from orderrelay_producers.files.records import BYTE_ORDER_MARK, RECORD_MAX_BYTES, FileUnreadable
from orderrelay_shared.ids import fold_external_id
from orderrelay_shared.order_problems import OrderInvalid, Problem
from orderrelay_shared.orders import Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from orderrelay_producers.files.cells import Reading

#: More do not fit into an order's body. A wrong key column must not make one order of a whole file.
_MOST_ROWS: Final = 20_000


class _Row(NamedTuple):
    """A line of the table, or several, where a cell has line ends.

    Attributes:
        line: Where it begins, counted from 1.
        last_line: Where it ends.
        raw: As it stands in the file.
        cells: Its cells.
    """

    line: int
    last_line: int
    raw: bytes
    cells: list[str]


class TableOrder(NamedTuple):
    """The rows of one order; see `Record`.

    Attributes:
        rows: They, in order; at least one.
        columns: The table's.
        content: The order's properties, or what is wrong with its cells.
    """

    rows: list[_Row]
    columns: Columns
    content: dict[str, object] | OrderInvalid

    @property
    def number(self) -> int:
        """The line at which it begins."""
        return self.rows[0].line

    @property
    def next_number(self) -> int:
        """The line behind its last row."""
        return self.rows[-1].last_line + 1

    @property
    def raw(self) -> bytes:
        """All its lines."""
        return b"".join(row.raw for row in self.rows)

    def place(self, path: str) -> str:
        """The line and the column that hold a property."""
        if path.startswith("line "):  # What the cells themselves have wrong tells its place.
            return path
        row, name = self.rows[0], path
        of_row = path.startswith("InvoiceRows[")
        if of_row:
            index, _, name = path.removeprefix("InvoiceRows[").partition("]")
            row, name = self.rows[int(index)], name.removeprefix(".")
        name = name.partition("[")[0]
        if not name:
            return f"line {row.line}"
        written = self.columns.written_of(name, of_row=of_row)
        return f"line {row.line}, column {written or name}"


def read_table(stream: BinaryIO, reading: Reading) -> tuple[bytes, Iterator[TableOrder]]:
    """The orders of a table.

    Args:
        stream: The file, opened for bytes.
        reading: What is known of it.

    Returns:
        The lines up to and with the header as they stand, and the orders.

    Raises:
        FileUnreadable: The header is no list of known columns; while the orders are read, that a line cannot be.
    """
    header, columns, rows = _begin(stream, reading)
    return header, (_order(gathered, columns, first) for gathered, first in _gathered(rows, columns))


def rows_astray(stream: BinaryIO, reading: Reading) -> Iterator[Problem]:
    """Where rows begin that another order may lack: their key was met before, or they do not surely tell one.

    Args:
        stream: The file, opened for bytes.
        reading: What is known of it.

    Raises:
        FileUnreadable: As of `read_table`, and at once; what stands behind such a place is not known.
    """
    _, columns, rows = _begin(stream, reading)
    for gathered, first in _gathered(rows, columns):
        row, key = gathered[0], columns.key
        if first:
            yield _returned(row, columns, first)
        elif len(row.cells) != columns.width and key.at > 0:
            yield _wrong_width(row, columns)  # Its cells may have moved, and with them the key.
        elif not row.cells[key.at].strip():
            yield _keyless(row, columns)


def _begin(stream: BinaryIO, reading: Reading) -> tuple[bytes, Columns, Iterator[_Row]]:
    """The lines up to and with the header, its columns, and the rows below."""
    lines = _Lines(stream, reading.encoding)
    first = lines.read()
    delimiter = None
    if is_separator_line(first.encode()):
        delimiter = first.strip()[-1]
        first = lines.read()
    delimiter = delimiter or delimiter_of(first)
    header = cells_of(first, delimiter)
    columns = read_header(lines.number, header, reading.decimal)
    return lines.take(), columns, _rows(lines, delimiter)


class _Lines:
    """The lines of the file as text, with what has been read of them since they were last taken.

    Args:
        stream: The file.
        encoding: How its text is encoded.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._raw: list[bytes] = []
        self.number = 0

    def read(self) -> str:
        """The next line; empty at the end of the file."""
        raw = self._stream.readline(RECORD_MAX_BYTES + 1)
        if not raw:
            return ""
        self.number += 1
        if len(raw) > RECORD_MAX_BYTES:
            raise FileUnreadable(f"line {self.number} is longer than {RECORD_MAX_BYTES} bytes")
        self._raw.append(raw)
        if self.number == 1 and raw.startswith(BYTE_ORDER_MARK):
            self._encoding = "utf-8"  # It says so itself.
            raw = raw[len(BYTE_ORDER_MARK) :]
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            raise FileUnreadable(self._not_encoded(raw, error.start)) from None

    def take(self) -> bytes:
        """The lines as they stood in the file."""
        raw = self._raw.pop() if len(self._raw) == 1 else b"".join(self._raw)
        self._raw.clear()
        return raw

    def _not_encoded(self, raw: bytes, position: int) -> str:
        where = f"line {self.number} is not {self._encoding} (byte 0x{raw[position]:02x})"
        if self._encoding == "cp1252":
            return where
        as_windows = raw[max(0, position - 12) : position + 12].decode("cp1252", "replace").strip()
        return (
            f"{where}: if {as_windows!r} reads right, the file comes from Windows, and --encoding cp1252 takes it; "
            "otherwise save it as 'CSV UTF-8'"
        )


def _rows(lines: _Lines, delimiter: str) -> Iterator[_Row]:
    begun: list[str] = []  # the line at which the reader of CSV is to begin
    reader = csv.reader(iter(lambda: begun.pop() if begun else lines.read(), ""), delimiter=delimiter, strict=True)
    longest = csv.field_size_limit()
    while text := lines.read():
        line = lines.number
        bare = text.rstrip("\r\n")
        if '"' in bare or "\r" in bare or len(bare) > longest:
            begun.append(text)
            try:
                cells = next(reader)
            except csv.Error as error:
                raise FileUnreadable(f"line {line} cannot be read as CSV: {error}{advice(str(error))}") from None
        else:
            cells = bare.split(delimiter)  # which is all that the reader would do, in a third of the time
        raw = lines.take()
        if any(cells):  # Spreadsheets leave empty lines behind.
            yield _Row(line, lines.number, raw, cells)


def _gathered(rows: Iterator[_Row], columns: Columns) -> Iterator[tuple[list[_Row], int]]:
    """The rows that have one key and stand together, and the line where that key began before, or 0."""
    seen = KeysSeen()
    key_at = columns.key.at
    fold = columns.key.name == "ExternalId"
    gathered: list[_Row] = []
    key = ""
    for row in rows:
        own = row.cells[key_at].strip() if key_at < len(row.cells) else ""
        if fold:
            own = fold_external_id(own)  # "A-1" and "a-1" are one order.
        if gathered and (own != key or not own):
            yield gathered, _first_line(seen, key, gathered)
            gathered = []
        key = own
        gathered.append(row)
        if len(gathered) > _MOST_ROWS:
            raise FileUnreadable(
                f"line {row.line}: the order that begins at line {gathered[0].line} has more than {_MOST_ROWS} rows: "
                f"is column {columns.key.written} what tells orders apart?"
            )
    if gathered:
        yield gathered, _first_line(seen, key, gathered)


def _first_line(seen: KeysSeen, key: str, rows: list[_Row]) -> int:
    return seen.add(key, rows[0].line) if key else 0  # Rows without a key are no order at all.


def _order(rows: list[_Row], columns: Columns, key_began_at: int) -> TableOrder:
    problems: list[Problem] = []
    first = rows[0]
    if any(len(row.cells) != columns.width for row in rows):
        problems += [_wrong_width(row, columns) for row in rows if len(row.cells) != columns.width]
        return TableOrder(rows, columns, OrderInvalid(problems))
    if not first.cells[columns.key.at].strip():
        problems.append(_keyless(first, columns))
    elif key_began_at:
        problems.append(_returned(first, columns, key_began_at))
    if columns.nameless:
        problems += [
            Problem(f"line {row.line}, column {index + 1}", "has a value but no name in the header")
            for row in rows
            for index in columns.nameless
            if row.cells[index].strip()
        ]
    order = _values(first, columns.head, problems)
    for row in rows[1:]:
        _keep_alike(row, first, columns.head, order, problems)
    order["InvoiceRows"] = [_values(row, columns.row, problems) for row in rows]
    told = TableOrder(rows, columns, order)
    if not problems:
        return told
    is_astray = key_began_at or not first.cells[columns.key.at].strip()
    if not is_astray:  # Else it may lack what stands in other rows.
        problems = sorted([*problems, *_broken_rules(told, order, problems)], key=_line_of)
    return TableOrder(rows, columns, OrderInvalid(problems))


def _broken_rules(told: TableOrder, order: dict[str, object], problems: list[Problem]) -> list[Problem]:
    """What else is wrong with an order of which some cells cannot be read; those are not told as missing."""
    try:
        Order.parse(order)
    except OrderInvalid as error:
        placed = [(problem.path, told.place(problem.path), problem.message) for problem in error.problems]
        places = {problem.path for problem in problems}
        columns = {_column_of(place) for place in places}
        return [
            Problem(place, message)
            for path, place, message in placed
            # What belongs to the order may have been wrong in any of its rows.
            if place not in places and (path.startswith("InvoiceRows[") or _column_of(place) not in columns)
        ]
    return []


def _line_of(problem: Problem) -> int:
    return int(problem.path.removeprefix("line ").partition(",")[0])


def _column_of(place: str) -> str:
    return place.partition(", column ")[2]


def _returned(row: _Row, columns: Columns, key_began_at: int) -> Problem:
    message = f"was the key of the order at line {key_began_at}: the rows of one order must stand together"
    return _problem(row, columns.key, message)


def _keyless(row: _Row, columns: Columns) -> Problem:
    return _problem(row, columns.key, "is empty: it tells in each row which order that belongs to")


def _values(row: _Row, columns: tuple[Column, ...], problems: list[Problem]) -> dict[str, object]:
    cells = row.cells
    values: dict[str, object] = {}
    for column in columns:
        at, _, name, read = column
        if cell := cells[at]:
            try:
                values[name] = read(cell)
            except ValueError as error:
                problems.append(_problem(row, column, str(error)))
    return values


def _keep_alike(
    row: _Row, first: _Row, columns: tuple[Column, ...], order: dict[str, object], problems: list[Problem]
) -> None:
    """See that a further row repeats of the order what its first row says, or leaves it out."""
    for column in columns:
        if not (cell := row.cells[column.at]) or cell == (other := first.cells[column.at]):
            continue
        try:
            value = column.read(cell)
        except ValueError as error:
            problems.append(_problem(row, column, str(error)))
            continue
        if not other:
            message = f"is {cell!r}, but empty in line {first.line}, where this order begins: give it there"
            problems.append(_problem(row, column, message))
        elif column.name in order and value != order[column.name]:
            message = f"is {cell!r}, but {other!r} in line {first.line} of the same order"
            problems.append(_problem(row, column, message))


def _wrong_width(row: _Row, columns: Columns) -> Problem:
    hint = ": a cell that holds the delimiter needs quotes" if len(row.cells) > columns.width else ""
    return Problem(f"line {row.line}", f"has {len(row.cells)} cells, and the header has {columns.width}{hint}")


def _problem(row: _Row, column: Column, message: str) -> Problem:
    return Problem(f"line {row.line}, column {column.written}", message)
