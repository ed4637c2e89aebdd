"""The rows of a table: cut by hand where that is all there is to it, and else read by Python's own reader of CSV."""

from __future__ import annotations

import csv
import io
import random
from typing import TYPE_CHECKING, Final

import pytest

from orderrelay_producers.files.cells import Reading
from orderrelay_producers.files.records import FileUnreadable
from orderrelay_producers.files.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER: Final = "OrderKey;CustomerNr;Text\n"

#: What tables are made of here; some of it makes no table at all.
_PIECES: Final = ("a", "7", " ", ";", ";", ";", "\n", "\r\n", "\r", '"', '"b"', '"c;d"', '""', "å", "\x00", "\u2028")

#: To each row its first line, counted from 1, and its cells; or the error, with the line at which its row begins.
_Rows = list[tuple[int, list[str]]] | tuple[int, str]


def _by_python(text: str) -> _Rows:
    """The rows by Python's own reader alone."""
    lines = io.BytesIO(text.encode())
    reader = csv.reader((line.decode() for line in lines), delimiter=";", strict=True)
    rows: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return rows
        except csv.Error as error:
            return line, str(error)
        if any(cells):
            rows.append((line, cells))


def _by_us(text: str) -> _Rows:
    """The rows that `read_table` makes orders of."""
    _, orders = read_table(io.BytesIO(_HEADER.encode() + text.encode()), Reading())
    rows: list[tuple[int, list[str]]] = []
    try:
        for order in orders:
            rows += [(row.line - 1, row.cells) for row in order.rows]
    except FileUnreadable as error:
        begin, _, reason = str(error).removeprefix("line ").partition(" cannot be read as CSV: ")
        return int(begin) - 1, reason.partition(";")[0]
    return rows


def _same(text: str) -> bool:
    expected = _by_python(text)
    if isinstance(expected, tuple):
        line, reason = expected
        expected = (line, reason.partition(";")[0])
    return _by_us(text) == expected


def test_rows_are_those_of_python_s_reader() -> None:
    """Whatever stands in a table: quotes, line ends of all kinds, empty lines, and what is no table."""
    chance = random.Random(5)
    texts = ["".join(chance.choices(_PIECES, k=chance.randrange(1, 40))) for _ in range(5000)]
    assert [text for text in texts if not _same(text)] == []


@pytest.mark.parametrize(
    "make",
    [lambda many: "x" * many, lambda many: "1;" + "x" * many, lambda many: '1;"' + "x" * many + '"'],
    ids=["the only cell", "one of two", "in quotes"],
)
def test_a_cell_may_be_as_long_as_python_s_reader_takes(make: Callable[[int], str]) -> None:
    """One more is refused, whether it is cut by hand or not."""
    longest = csv.field_size_limit()
    assert all(_same(make(longest + more) + ";2\n3;4\n") for more in (0, 1))


def test_an_order_s_lines_are_kept_as_they_stand() -> None:
    """They go into the file of refused orders so, line ends and quotes too."""
    lines = ["1;013;plain\r\n", '1;;"two\nlines"\n', "2;014;last"]
    _, orders = read_table(io.BytesIO((_HEADER + "".join(lines)).encode()), Reading())
    assert [order.raw.decode() for order in orders] == ["".join(lines[:2]), lines[2]]
