"""What the cells of a table say. Nothing is guessed: what can be read in two ways is refused, with both told.

Each reader takes a cell that is not empty and gives a value that an order takes for it; it raises ValueError, its text
for the person who wrote the cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Prices, quantities and dates repeat from row to row.
_MOST_KEPT: Final = 8192

#: A longer cell is neither a number nor a date.
_LONGEST: Final = 60

#: What Excel shows of a long number: digits are lost for good.
_SHORTENED: Final = re.compile(r"[+-]?[0-9](?:[.,][0-9]+)?E\+?[0-9]+", re.IGNORECASE)

#: Thousands are set apart by a space (also one that breaks no line), an apostrophe, a point or a comma.
_NUMBER: Final = re.compile(r"([+-]?)([0-9]{1,3}([ \u00a0\u202f.,'])[0-9]{3}(?:\3[0-9]{3})*|[0-9]+)(?:([.,])([0-9]+))?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")

_YEAR_FIRST: Final = re.compile(r"((?:19|20|21)[0-9]{2})-([0-9]{2})-([0-9]{2})([T ].+)?")
_EIGHT_DIGITS: Final = re.compile(r"((?:19|20|21)[0-9]{2})([0-9]{2})([0-9]{2})")
_YEAR_LAST: Final = re.compile(r"([0-9]{1,2})[./ -]+([0-9]{1,2})[./ -]+([0-9]{4})")
_DAY_NUMBER: Final = re.compile(r"[3-5][0-9]{4}(?:[.,][0-9]+)?")

_FLAGS: Final = {"true": True, "sant": True, "1": True, "false": False, "falskt": False, "0": False}


class DecimalMark(StrEnum):
    """What stands between the whole and the rest of a number."""

    COMMA = "comma"
    POINT = "point"

    @property
    def sign(self) -> str:
        """The character."""
        return "," if self is DecimalMark.COMMA else "."


@dataclass(frozen=True, slots=True)
class Reading:
    """What a person has said about a table, as it cannot be seen in it.

    Attributes:
        encoding: How its text is encoded: "utf-8" or "cp1252".
        decimal: The decimal mark; None: either is taken where it can be only that.
    """

    encoding: str = "utf-8"
    decimal: DecimalMark | None = None


def reader_of(kind: str, decimal: DecimalMark | None) -> Callable[[str], object]:
    """How cells are read that hold a type of value.

    Args:
        kind: The name of a type in `orderrelay_shared.field_types`.
        decimal: See `Reading`.
    """
    if kind == "Number":
        return lambda cell: read_number(cell, decimal)
    return _READERS[kind]


def read_text(cell: str) -> str:
    """The cell itself."""
    if len(cell) <= _LONGEST and ("E" in cell or "e" in cell) and _SHORTENED.fullmatch(cell):
        raise ValueError(f"{cell!r} is a number that a spreadsheet has shortened: make the column text first")
    return cell


@lru_cache(_MOST_KEPT)
def read_number(cell: str, decimal: DecimalMark | None) -> str:
    """A number as Swedes or others write it, if it can be only one, as JSON writes it: `1 234,50` is `1234.50`.

    Args:
        cell: The text.
        decimal: The decimal mark, if it is known.

    Raises:
        ValueError: It is no number, or may be two.
    """
    text = cell.strip().replace("\u2212", "-")
    if len(text) > _LONGEST or (found := _NUMBER.fullmatch(text)) is None:
        raise ValueError(_no_number(text))
    sign, whole, group, mark, rest = found.groups()
    if decimal is not None:
        other = "." if decimal is DecimalMark.COMMA else ","
        if group == decimal.sign and mark is None and whole.count(group) == 1:
            # What looked like thousands are decimals.
            whole, _, rest = whole.partition(group)
            group, mark = None, decimal.sign
        if group == decimal.sign or mark == other:
            raise ValueError(f"{_told(cell)} is no number whose decimal mark is a {decimal}")
    elif group is not None and group in ".," and mark is None and whole.count(group) == 1 and not whole.startswith("0"):
        joined, point = whole.replace(group, ""), whole.replace(group, ".")
        raise ValueError(
            f"{_told(cell)} may be {sign}{joined} or {sign}{point}: tell which with --decimal comma or --decimal point"
        )
    elif group is not None and group in ".," and mark is None and whole.count(group) == 1:
        # No thousands begin with 0, so these are decimals.
        whole, _, rest = whole.partition(group)
        group, mark = None, group
    if group is not None:
        if group == mark:
            raise ValueError(f"{_told(cell)} is no number: {group!r} stands for thousands and for decimals")
        if whole.startswith("0"):
            raise ValueError(f"{_told(cell)} is no number: no thousands begin with 0")
        whole = whole.replace(group, "")
    minus = sign.removeprefix("+")
    return f"{minus}{whole}.{rest}" if mark else f"{minus}{whole}"


def _no_number(text: str) -> str:
    if len(text) <= _LONGEST and _SHORTENED.fullmatch(text):
        return f"{text!r} is a number that a spreadsheet has shortened: show all its digits before saving"
    return f"must be a number such as 1.10 or 1,10, not {_told(text)}"


def read_integer(cell: str) -> int:
    """A whole number, digits only."""
    if _INTEGER.fullmatch(text := cell.strip()):
        return int(text)
    raise ValueError(f"must be a whole number such as 12, not {_told(cell)}")


@lru_cache(_MOST_KEPT)
def read_row_type(cell: str) -> int | str:
    """2 or 3; anything else is left to the order's own rules, which know what is meant."""
    text = cell.strip()
    return int(text) if _INTEGER.fullmatch(text) else text


def read_flag(cell: str) -> bool:
    """True or false, in English or Swedish, or 1 or 0."""
    found = _FLAGS.get(cell.strip().lower())
    if found is None:
        raise ValueError(f"must be true or false (or sant or falskt, or 1 or 0), not {_told(cell)}")
    return found


def read_integers(cell: str) -> list[int]:
    """Whole numbers with spaces between them."""
    try:
        return [read_integer(part) for part in cell.split()]
    except ValueError:
        raise ValueError(f"must be whole numbers with spaces between them, not {_told(cell)}") from None


@lru_cache(_MOST_KEPT)
def read_moment(cell: str) -> str:
    """A date or time that begins with the year, as ISO 8601 text: `2026-01-30`, `20260130`, `2026-01-30 08:15`.

    Raises:
        ValueError: It is none, or another way to write one; what it seems to mean is told.
    """
    text = cell.strip()
    if len(text) <= _LONGEST:
        found = _YEAR_FIRST.fullmatch(text) or _EIGHT_DIGITS.fullmatch(text)
        if found is not None:
            time = text[10:] if "-" in text[:5] else ""
            return f"{found[1]}-{found[2]}-{found[3]}{time}"
        if (last := _YEAR_LAST.fullmatch(text)) is not None:
            raise ValueError(_year_last(text, int(last[1]), int(last[2]), int(last[3])))
        if _DAY_NUMBER.fullmatch(text):
            raise ValueError(f"{text!r} is a spreadsheet's number of a day: format the column as 2026-01-30")
    raise ValueError(f"must be a date such as 2026-01-30 or 2026-01-30 08:15, not {_told(cell)}")


def _year_last(text: str, one: int, other: int, year: int) -> str:
    readings: list[str] = []
    for day, month in ((one, other), (other, one)):
        try:
            reading = date(year, month, day).isoformat()
        except ValueError:
            continue
        if reading not in readings:
            readings.append(reading)
    if not readings:
        return f"{text!r} is no real date"
    if len(readings) == 1:
        return f"{text!r} must begin with the year: did you mean {readings[0]}?"
    return f"{text!r} may be {readings[0]} or {readings[1]}: begin with the year"


def _told(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:37]}...")


_READERS: Final[dict[str, Callable[[str], object]]] = {
    "Text": read_text,
    "FilledText": read_text,
    "ExternalId": read_text,
    "Integer": read_integer,
    "OriginTypeNumber": read_integer,
    "RowTypeNumber": read_row_type,
    "Flag": read_flag,
    "Integers": read_integers,
    "Moment": read_moment,
}
