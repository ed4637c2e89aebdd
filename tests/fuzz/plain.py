"""Generated orders near what most are, sound and just not, of every type that a property may be given by."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from orderrelay_shared.order_problems import vendor_name
from orderrelay_shared.orders import Order, OrderRow

if TYPE_CHECKING:
    import random

_DAY: Final = dt.date(2026, 1, 30)
_TIME: Final = dt.datetime(2026, 1, 30, 8, 15, 0, 999)  # noqa: DTZ001  what callers give too
_ZONED: Final = dt.datetime(2026, 7, 30, 23, 15, tzinfo=dt.UTC)


class _Text(str):
    __slots__ = ()


class _Whole(int):
    pass


#: By the names of the types in `field_types`: values of which about four in five are sound.
_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "Text": (
        *("013", "", " ", "Åsa Öström", "två\nrader\t", "🙂", "a\u2028b", "a\u0308", "\xa0", "\u200b", "\ufeffx"),
        *("\x00", "a\r\n", "\x85", "\x7f", "\x1c", "\ud800", "x" * 300, _Text("013"), 13, b"013"),
    ),
    "ExternalId": ("A-1", "Å-1", "A\u030a-1", "ß", "a" * 64, "a" * 65, " a", "a\xa0", "\u200b", "", _Text("A-1"), 7),
    "Integer": (0, 1, -1, 2**63 - 1, -(2**63), 2**63, True, 1.0, "1", Decimal(1), _Whole(5)),
    "OriginTypeNumber": (6, 6, 6, 6, 5, 6.0, True, "6"),
    "RowTypeNumber": (2, 2, 2, 3, 3, 1, True, 2.0, "2"),
    "Flag": (True, False, 1, 0, "true"),
    "Number": (
        *(3, 0, -4, "3.00", "1.10", "+5", "-0", "1E+2", "1e-3", 0.1, 25.5, -0.0, 1e-7, 1e15, 1e16, 0.1 + 0.2, 100),
        *(Decimal("25.5"), Decimal("25.50"), Decimal("1E+2"), Decimal("1E-10"), Decimal("0E-9"), Decimal("0E+5")),
        *(Decimal("-0.00"), Decimal("1.100000000000000"), Decimal("12345678901234.5"), Decimal("0.000001"), 10**15 - 1),
        *(10**15, "1,5", "", "nan", float("nan"), float("inf"), Decimal("NaN"), Decimal("sNaN"), "1" * 101, True),
        *("1234567890123456", "0.1234567890123456", "٣", " 1", "1_000", Decimal("1E+400"), Decimal("1E-15"), "1e400"),
    ),
    "Integers": ((1, 2), [1, 2], [], (), [True], ["1"], [2**63], "12", {1}),
    "Moment": (
        *(
            "2026-01-30",
            "2026-01-30T08:15:00",
            "2026-01-30 08:15",
            "2026-07-30T08:15:00Z",
            "2026-07-30T08:15:00.9+0200",
        ),
        *(
            _DAY,
            _TIME,
            _ZONED,
            "2026-02-30",
            "20260130",
            "2026-W05-5",
            "2026-1-30",
            "٢٠٢٦-01-30",
            " 2026-01-30",
            20260130,
        ),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "2026-01-30T08:15:00." + "1" * 60, "2026-01-30T24:00"),
    ),
}
_VALUES["FilledText"] = _VALUES["Text"]


def make(chance: random.Random) -> dict[str, Any]:
    """An order of which about half are sound."""
    rows = [_make_row(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
    if chance.random() < 0.3:
        numbers = list(range(1, len(rows) + 1))
        for row, number in zip(rows, numbers, strict=True):
            row[chance.choice(("RowNr", "row_nr"))] = number if chance.random() < 0.9 else chance.choice((None, 1, "1"))
    order: dict[str, Any] = {
        _spelled("customer_nr", chance): "013" if chance.random() < 0.9 else chance.choice(_VALUES["FilledText"]),
        _spelled("invoice_date", chance): "2026-01-30" if chance.random() < 0.8 else chance.choice(_VALUES["Moment"]),
        _spelled("invoice_rows", chance): tuple(rows) if chance.random() < 0.1 else rows,
    }
    _add_some(order, Order.__annotations__, chance)
    return _shuffled(order, chance)


def _make_row(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.2:
        row: dict[str, Any] = {_spelled("customer_row_type", chance): 3, _spelled("text", chance): "Ring innan"}
    else:
        row = {
            _spelled("customer_row_type", chance): 2,
            _spelled("product_nr", chance): "å-1",
            _spelled("quantity", chance): 3 if chance.random() < 0.5 else chance.choice(_VALUES["Number"]),
            _spelled("amount", chance): "350.50" if chance.random() < 0.5 else chance.choice(_VALUES["Number"]),
        }
    _add_some(row, OrderRow.__annotations__, chance)
    return _shuffled(row, chance)


def _add_some(document: dict[str, Any], annotations: dict[str, str], chance: random.Random) -> None:
    names = [name for name, kind in annotations.items() if kind.removesuffix(" | None") in _VALUES and name != "row_nr"]
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        name = chance.choice(names)
        values = _VALUES[annotations[name].removesuffix(" | None")]
        document[_spelled(name, chance)] = None if chance.random() < 0.1 else chance.choice(values)
    if chance.random() < 0.05:  # By both names.
        name = chance.choice(tuple(names))
        document |= {name: chance.choice(("1", 1, None)), vendor_name(name): chance.choice(("1", 1))}
    if document and chance.random() < 0.03:
        del document[chance.choice(tuple(document))]
    if chance.random() < 0.03:
        document[chance.choice(("CustomerNo", "Okänd", "customerNr"))] = chance.choice((None, "1"))


def _spelled(name: str, chance: random.Random) -> str:
    return vendor_name(name) if chance.random() < 0.8 else name


def _shuffled(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    names = list(document)
    if chance.random() < 0.5:
        chance.shuffle(names)
    return {name: document[name] for name in names}
