"""The columns of a table of orders: which property each holds, of the order or of its row."""

from __future__ import annotations

import csv
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final, NamedTuple

from orderrelay_producers.files.cells import reader_of
from orderrelay_producers.files.records import FileUnreadable
from orderrelay_shared.order_problems import vendor_name
from orderrelay_shared.orders import Order, OrderRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderrelay_producers.files.cells import DecimalMark

#: The column that tells which rows are one order; it is not sent.
ORDER_KEY: Final = "OrderKey"

#: What stands before the name of a row's property that orders have too.
ROW_PREFIX: Final = "Row."

_DELIMITERS: Final = ";,\t"

#: What to do about a table whose columns are unknown.
_HOW_TO_NAME: Final = "name each column after its property, as in OrderKey;CustomerNr;InvoiceDate"

#: A longer cell is a sentence rather than the name of a column, in characters.
_LONGEST_NAME: Final = 40

_HEAD_KINDS: Final = {
    vendor_name(name): kind.removesuffix(" | None")
    for name, kind in Order.__annotations__.items()
    if name != "invoice_rows"
}
_ROW_KINDS: Final = {vendor_name(name): kind.removesuffix(" | None") for name, kind in OrderRow.__annotations__.items()}


def _bare(name: str) -> str:
    """A column's name without what people write in different ways."""
    return name.replace(" ", "").replace("_", "").lower()


#: Name made bare -> whether the column is a row's, and the property. What only rows have needs no prefix.
_KNOWN: Final[dict[str, tuple[bool, str]]] = {
    **{_bare(name): (True, name) for name in _ROW_KINDS},
    **{_bare(ROW_PREFIX + name): (True, name) for name in _ROW_KINDS},
    **{_bare(name): (False, name) for name in _HEAD_KINDS},
    _bare(ORDER_KEY): (False, ORDER_KEY),
}


class Column(NamedTuple):
    """One column.

    Attributes:
        at: Which, from 0.
        written: Its name as it stands in the file.
        name: The vendor's name of the property.
        read: How its cells are read.
    """

    at: int
    written: str
    name: str
    read: Callable[[str], object]


class Columns(NamedTuple):
    """The columns of a file.

    Attributes:
        width: How many there are, also those without a name.
        key: The one that tells which rows are one order.
        head: Those with properties of the order.
        row: Those with properties of its row.
        nameless: Positions of those without a name; their cells are empty.
    """

    width: int
    key: Column
    head: tuple[Column, ...]
    row: tuple[Column, ...]
    nameless: tuple[int, ...]

    def written_of(self, name: str, *, of_row: bool) -> str | None:
        """How the column of a property is called in the file; None if there is none."""
        return next((column.written for column in (self.row if of_row else self.head) if column.name == name), None)


def looks_like_header(line: bytes) -> bool:
    """Whether a line has names of columns."""
    # With the line ends of old Macs the first line is the whole file; that it is a table is seen all the same.
    first = line.partition(b"\r")[0].decode("utf-8", "replace")
    try:
        return _best_delimiter(first)[1] > 1 or is_separator_line(line)
    except FileUnreadable:
        return False


def is_separator_line(line: bytes) -> bool:
    """Whether a line only tells Excel the delimiter: `sep=;`."""
    return line.lower().startswith(b"sep=") and len(line.strip()) == 5


def delimiter_of(header: str) -> str:
    """What stands between the cells: a semicolon, a comma or a tab.

    Raises:
        FileUnreadable: There are no known columns, or it is no line of a table.
    """
    delimiter, known = _best_delimiter(header)
    if not known:
        raise FileUnreadable(names_told(header) or f"line 1 has no known column: {_HOW_TO_NAME}")
    return delimiter


def names_told(line: str) -> str | None:
    """What to say of a line whose names are not those of our columns; None if it does not look like names at all."""
    if not all(sign.isprintable() or sign == "\t" for sign in line):
        return None
    names = max(([name.strip() for name in cells_of(line, sign)] for sign in _DELIMITERS), key=len)
    if len(names) < 2 or not all(0 < len(name) <= _LONGEST_NAME for name in names):
        return None
    known = [name for name in names if _bare(name) in _KNOWN]
    others = [
        f"{name} (did you mean {nearest}?)" if (nearest := _nearest(name, alike=0.7)) else name
        for name in names
        if name not in known
    ]
    told = f"; known: {', '.join(known)}" if known else ""
    return f"line 1 seems to name columns. Not known: {', '.join(others)}{told}; {_HOW_TO_NAME}"


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of one line by itself, which is the header.

    Raises:
        FileUnreadable: It is no line of a table.
    """
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise FileUnreadable(f"the header cannot be read as CSV: {error}{advice(str(error))}") from None


def advice(text: str) -> str:
    """What to do about an error of Python's reader of CSV, to be put behind it; empty where nothing is known."""
    if "field limit" in text or "end of data" in text:
        return "; is a quote not closed?"
    return "; save it with line ends of Unix or Windows" if "new-line" in text else ""


def _best_delimiter(header: str) -> tuple[str, int]:
    found = {sign: sum(_bare(name) in _KNOWN for name in cells_of(header, sign)) for sign in _DELIMITERS}
    best = max(found, key=lambda sign: found[sign])
    return best, found[best]


def read_header(line: int, names: Sequence[str], decimal: DecimalMark | None) -> Columns:
    """The columns that a header names.

    Args:
        line: Where the header stands, for messages.
        names: The header's cells.
        decimal: See `cells.Reading`.

    Raises:
        FileUnreadable: A name is unknown or stands twice, or nothing tells which rows are one order.
    """
    problems: list[str] = []
    found: dict[tuple[bool, str], Column] = {}
    nameless = tuple(index for index, name in enumerate(names) if not name.strip())
    for index, written in enumerate(names):
        if index in nameless:
            continue
        known = _KNOWN.get(_bare(written))
        if known is None:
            problems.append(f"column {written.strip()}: {_unknown(written)}")
        elif known in found:
            problems.append(f"column {written.strip()}: is the property of column {found[known].written} again")
        else:
            of_row, name = known
            kind = "Text" if name == ORDER_KEY else (_ROW_KINDS if of_row else _HEAD_KINDS)[name]
            found[known] = Column(index, written.strip(), name, reader_of(kind, decimal))
    key = found.pop((False, ORDER_KEY), None) or found.get((False, "ExternalId"))
    if key is None:
        problems.append(f"there is neither a column {ORDER_KEY} nor ExternalId, to tell which rows are one order")
    if problems or key is None:
        raise FileUnreadable("; ".join(f"line {line}, {problem}" for problem in problems))
    head = tuple(column for (of_row, _), column in found.items() if not of_row)
    row = tuple(column for (of_row, _), column in found.items() if of_row)
    return Columns(len(names), key, head, row, nameless)


def _unknown(written: str) -> str:
    nearest = _nearest(written)
    return f"is unknown: did you mean {nearest}?" if nearest else "is no property of the order API"


def _nearest(written: str, *, alike: float = 0.6) -> str | None:
    close = get_close_matches(_bare(written), _KNOWN, n=1, cutoff=alike)
    if not close:
        return None
    of_row, name = _KNOWN[close[0]]
    return f"{ROW_PREFIX if of_row and name in _HEAD_KINDS else ''}{name}"
