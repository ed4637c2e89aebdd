"""The types of the vendor document's properties, and what each accepts.

pydantic's compiled core checks text, integers and booleans; numbers, dates and ExternalIds have a function here. All
are strict: nothing is turned into another type in silence, as "013" and 13 are two customers.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias, cast
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict, StringConstraints

from orderrelay_shared.ids import external_id_problem

MAX_DIGITS: Final = 15
_INTEGER_LIMIT: Final = 10**MAX_DIGITS
#: Longer texts of a number are refused before anything is computed from them.
_LONGEST_NUMBER_TEXT: Final = 100
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATE_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
#: The API has no time zones: its times are Swedish.
_VENDOR_ZONE: Final = ZoneInfo("Europe/Stockholm")


def exact_number(value: object) -> Decimal:
    """The number as a finite Decimal, exact, without a positive exponent and without a negative zero.

    Args:
        value: An int, a Decimal, a float (taken as it prints, so 0.1 is 0.1), or a number as text, as "1.10".

    Raises:
        ValueError: It is none of these, or has more than 15 significant digits (zeros at either end do not count),
            or more than 15 digits before or after the point.
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")  # noqa: TRY004  pydantic collects ValueErrors
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, int):
        if not -_INTEGER_LIMIT < value < _INTEGER_LIMIT:
            raise ValueError(f"has more than {MAX_DIGITS} digits before the point")
        return Decimal(int(value))
    elif isinstance(value, float):
        # Not repr(): a subclass, as numpy's, prints itself otherwise.
        number = Decimal(float.__repr__(value))
    elif isinstance(value, str):
        number = _read_number(value)
    else:
        raise ValueError(f"must be a number, not {told_type(value)}")  # noqa: TRY004  as above
    return _within_limits(number)


def _read_number(text: str) -> Decimal:
    if len(text) > _LONGEST_NUMBER_TEXT or not _NUMBER.fullmatch(text):
        hint = "; write the point as '.'" if "," in text else ""
        raise ValueError(f"must be a number such as 1.10, not {told(text)}{hint}")
    return Decimal(text)


def _within_limits(number: Decimal) -> Decimal:
    sign, digits, exponent = number.as_tuple()
    if isinstance(exponent, str):
        raise ValueError(f"must be a finite number, not {number}")  # noqa: TRY004  the type is right, the value is not
    if -exponent > MAX_DIGITS:
        raise ValueError(f"has {-exponent} digits after the point; at most {MAX_DIGITS} are allowed")
    if not number:
        return Decimal((0, (0,), min(exponent, 0)))
    if number.adjusted() >= MAX_DIGITS:
        raise ValueError(f"has more than {MAX_DIGITS} digits before the point")
    if len(digits) > MAX_DIGITS:
        significant = len("".join(map(str, digits)).strip("0"))
        if significant > MAX_DIGITS:
            raise ValueError(f"has {significant} significant digits; at most {MAX_DIGITS} are allowed, round it first")
    if exponent > 0:
        return Decimal((sign, digits + (0,) * exponent, 0))
    return number if type(number) is Decimal else Decimal(number)


def vendor_moment(value: object) -> date | datetime:
    """The date or date-time as the API takes it: naive Swedish time, whole seconds.

    Args:
        value: A date, a datetime (an aware one is converted to Europe/Stockholm; parts of a second are dropped), or
            either as ISO 8601 text, also with "Z" or an offset.

    Raises:
        ValueError: It is none of these, or no real date.
    """
    try:
        if isinstance(value, str):
            value = _read_moment(value)
        if isinstance(value, datetime):
            return _swedish(value)
        if isinstance(value, date):
            return date(value.year, value.month, value.day)
    except (OverflowError, TypeError):
        # A date at the very edge of the calendar, or a "not a time" that calls itself a datetime.
        raise ValueError(f"is no real date: {told(value)}") from None
    raise ValueError(f"must be a date such as 2026-01-30 or 2026-01-30T08:15:00, not {told_type(value)}")


def _read_moment(text: str) -> date | datetime:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
        if _DATE_TIME.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is no real date: {told(text)}") from None
    raise ValueError(f"must be a date such as 2026-01-30 or 2026-01-30T08:15:00, not {told(text)}")


def _swedish(moment: datetime) -> datetime:
    local = moment.astimezone(_VENDOR_ZONE) if moment.utcoffset() is not None else moment
    return datetime(local.year, local.month, local.day, local.hour, local.minute, local.second)  # noqa: DTZ001  naive is what the API takes


def _sound_external_id(value: str) -> str:
    problem = external_id_problem(value)
    if problem is not None:
        raise ValueError(problem)
    return value


def _as_tuple(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def told(value: object) -> str:
    """The value as shown in a message: at most 40 characters of it."""
    try:
        shown = repr(value)
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "..."
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def told_type(value: object) -> str:
    """What a value is, in the words of the caller's JSON or Python."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f"the text {told(value)}"
        case int() | float() | Decimal():
            try:
                return f"the number {told(str(value)[:60]).strip(chr(39))}"
            except ValueError:  # as above
                return "a number of thousands of digits"
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return type(value).__name__


#: Any text without control characters but tab and newline. \A and \z are the very ends, in the core's Rust patterns.
Text = Annotated[str, Strict(), StringConstraints(pattern=r"\A[\P{Cc}\t\n]*\z")]
#: The same, and something else than space in it.
FilledText = Annotated[str, Strict(), StringConstraints(pattern=r"\A[\P{Cc}\t\n]*[^\s\p{Cc}][\P{Cc}\t\n]*\z")]
ExternalId = Annotated[str, Strict(), AfterValidator(_sound_external_id)]
Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
OriginTypeNumber = Annotated[int, Strict(), Field(ge=6, le=6)]
RowTypeNumber = Annotated[int, Strict(), Field(ge=2, le=3)]
Flag = Annotated[bool, Strict()]
Number = Annotated[Decimal, PlainValidator(exact_number)]
Moment = Annotated[date | datetime, PlainValidator(vendor_moment)]
Integers = Annotated[tuple[Integer, ...], Strict(), BeforeValidator(_as_tuple)]

#: What a constructor takes for the two types above that are made from others.
NumberInput: TypeAlias = Decimal | int | float | str
MomentInput: TypeAlias = date | datetime | str

#: For a tuple field that shall take a list as well, and nothing else.
ListOrTuple: Any = BeforeValidator(_as_tuple)
