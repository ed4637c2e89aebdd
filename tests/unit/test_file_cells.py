"""What the cells of a table say, and which are refused because they may say two things."""

from __future__ import annotations

import pytest

from orderrelay_producers.files.cells import DecimalMark, read_moment, read_number, reader_of

COMMA, POINT = DecimalMark.COMMA, DecimalMark.POINT


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("3", "3"),
        (" 3 ", "3"),
        ("-3", "-3"),
        ("+3", "3"),
        ("\u22123,5", "-3.5"),
        ("1,5", "1.5"),
        ("1.50", "1.50"),
        ("1234,5", "1234.5"),
        ("1234,567", "1234.567"),
        ("1,2345", "1.2345"),
        ("0,125", "0.125"),
        ("-0.125", "-0.125"),
        ("1 234,50", "1234.50"),
        ("1\u00a0234\u202f567", None),
        ("1\u00a0234\u00a0567,5", "1234567.5"),
        ("1 234", "1234"),
        ("1'234.5", "1234.5"),
        ("1.234,50", "1234.50"),
        ("1,234.50", "1234.50"),
        ("1.234.567", "1234567"),
        ("1,234,567.8", "1234567.8"),
        ("1 23", None),
        ("1,23,456", None),
        ("1.234.56", None),
        ("0 123", None),
        ("1,234,5", None),
        ("1..5", None),
        (",5", None),
        ("5,", None),
        ("350 kr", None),
        ("25%", None),
        ("1,2E+05", None),
        ("", None),
        ("9" * 70, None),
        ("\u0661", None),
    ],
)
def test_a_number_is_read_only_if_it_can_be_one_alone(cell: str, number: str | None) -> None:
    """Swedish, English and Swiss ways to write one, exact; all else is refused."""
    if number is None:
        with pytest.raises(ValueError, match=r".+"):
            read_number(cell, None)
    else:
        assert read_number(cell, None) == number


@pytest.mark.parametrize("cell", ["1,234", "1.234", "-12.500", "999,000"])
def test_a_thousand_and_more_or_a_little_more_than_one(cell: str) -> None:
    """Three digits behind the only mark may be either, so both are told, and how to decide."""
    whole, part = cell.replace(",", ".").split(".")
    with pytest.raises(ValueError, match=f"may be {whole}{part} or {whole}[.]{part}: tell which with --decimal"):
        read_number(cell, None)


@pytest.mark.parametrize(
    ("cell", "decimal", "number"),
    [
        ("1,234", COMMA, "1.234"),
        ("1,234", POINT, "1234"),
        ("1.234", COMMA, "1234"),
        ("1.234", POINT, "1.234"),
        ("1,5", POINT, None),
        ("1.5", COMMA, None),
        ("1.234,5", COMMA, "1234.5"),
        ("1.234,5", POINT, None),
        ("1,234,567", COMMA, None),
        ("1,234,567", POINT, "1234567"),
        ("1 234", COMMA, "1234"),
        ("0,125", POINT, None),
        ("0,125", COMMA, "0.125"),
    ],
)
def test_the_decimal_mark_decides(cell: str, decimal: DecimalMark, number: str | None) -> None:
    """Where a person has said what it is, the other mark is for thousands only."""
    if number is None:
        with pytest.raises(ValueError, match="is no number"):
            read_number(cell, decimal)
    else:
        assert read_number(cell, decimal) == number


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-01-30", "2026-01-30"),
        (" 20260130 ", "2026-01-30"),
        ("2026-01-30 08:15", "2026-01-30 08:15"),
        ("2026-01-30T08:15:00Z", "2026-01-30T08:15:00Z"),
    ],
)
def test_a_date_begins_with_its_year(cell: str, moment: str) -> None:
    """As Swedes write it, with hyphens or without."""
    assert read_moment(cell) == moment


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("30/1 2026", "did you mean 2026-01-30"),
        ("30.1.2026", "did you mean 2026-01-30"),
        ("1/30/2026", "did you mean 2026-01-30"),
        ("3/1/2026", "may be 2026-01-03 or 2026-03-01"),
        ("3/3/2026", "did you mean 2026-03-03"),
        ("31/31/2026", "is no real date"),
        ("260130", "must be a date such as"),
        ("46052", "a spreadsheet's number of a day"),
        ("30 jan 2026", "must be a date such as"),
    ],
)
def test_other_dates_are_refused_with_what_they_may_mean(cell: str, problem: str) -> None:
    """A day and a month that could be swapped are never guessed."""
    with pytest.raises(ValueError, match=problem):
        read_moment(cell)


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("Text", " 013 ", " 013 "),
        ("Text", "7,35E+12", None),
        ("Text", "Grind 2E", "Grind 2E"),
        ("Integer", "-12", -12),
        ("Integer", "12,0", None),
        ("RowTypeNumber", "2", 2),
        ("RowTypeNumber", "Produkt", "Produkt"),
        ("Flag", "SANT", True),
        ("Flag", "0", False),
        ("Flag", "ja", None),
        ("Integers", "1 2 3", [1, 2, 3]),
        ("Integers", "1;2", None),
    ],
)
def test_other_kinds(kind: str, cell: str, value: object) -> None:
    """Each kind of property has its own way; None: it is refused."""
    read = reader_of(kind, None)
    if value is None:
        with pytest.raises(ValueError, match=r".+"):
            read(cell)
    else:
        assert (read(cell), type(read(cell))) == (value, type(value))
