"""An order as the vendor's list and order pages show it (document, section 4), from what was sent. Pure.

What the API never tells stays None, and what is reckoned here is named in `COMPUTED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Final, cast

from orderrelay_shared import wire
from orderrelay_shared.order_rows import TEXT_ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What is reckoned from the rows, and told by nobody.
COMPUTED: Final = ("Radbelopp", "Totalt belopp", "Belopp inkl. moms")

#: The columns of a row's own, in the order of the vendor's page.
ROW_COLUMNS: Final = ("Artikel", "Benämning", "Antal", "Pris", "Radbelopp")

#: Digits enough for any product of two numbers of an order, and for a sum of as many rows as fit into one.
_DIGITS: Final = 60


@dataclass(frozen=True, slots=True)
class SentOrder:
    """An order as sent.

    Attributes:
        head: Vendor's column names to values, for the order's line in the vendor's list of orders.
        rows: Rad and `ROW_COLUMNS` to values, a row each, by RowNr. A text row has no numbers.
        properties: The header properties as sent, by the vendor's names, without the rows.
    """

    head: dict[str, object]
    rows: tuple[dict[str, object], ...]
    properties: dict[str, object]

    def flat_rows(self) -> list[dict[str, object]]:
        """The rows, each with what the order's head says of it."""
        repeated = {name: self.head[name] for name in ("Ordernr", "Kund", "Orderdatum", "Leveransdatum")}
        return [{**repeated, **row} for row in self.rows]


def read_sent_order(body: bytes, order_number: str | None) -> SentOrder:
    """What the vendor's pages show of an order.

    Args:
        body: The order as one JSON object, as it was accepted.
        order_number: What the vendor called it, if it told.
    """
    try:
        value = wire.loads(body)
    except wire.WireInvalid:  # went around the producer; the vendor refused it
        value = {}
    order = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    raw_rows = order.get("InvoiceRows")
    given = (
        [cast("dict[str, object]", row) for row in cast("list[object]", raw_rows) if isinstance(row, dict)]
        if isinstance(raw_rows, list)
        else []
    )
    with localcontext() as context:
        context.prec = _DIGITS
        rows = sorted((_row(row) for row in given), key=lambda row: _number(row["Rad"]) or 0)
        total = _total(row["Radbelopp"] for row in rows)
        vat = _total(row.get("VatAmount") for row in given if row.get("CustomerRowType") != TEXT_ROW)
        all_vat = all(
            _number(row.get("VatAmount")) is not None for row in given if row.get("CustomerRowType") != TEXT_ROW
        )
        with_vat = total + vat if total is not None and vat is not None and all_vat else None
    customer = [str(order[name]) for name in ("CustomerNr", "CustomerName") if order.get(name)]
    head = {
        "Ordernr": order_number,
        "Kund": " ".join(customer) or None,
        "Orderdatum": order.get("OrderDate"),
        "Leveransdatum": order.get("DeliveryDate"),
        "Totalt belopp": total,
        "Belopp inkl. moms": with_vat,
        "Återstår att fakturera": None,
    }
    return SentOrder(head, tuple(rows), {name: v for name, v in order.items() if name != "InvoiceRows"})


def _row(row: Mapping[str, object]) -> dict[str, object]:
    if row.get("CustomerRowType") == TEXT_ROW:
        return {"Rad": row.get("RowNr"), **dict.fromkeys(ROW_COLUMNS), "Benämning": row.get("Text")}
    quantity = _number(row.get("Quantity"))
    price = _number(row.get("UnitPrice"))
    price = _number(row.get("Amount")) if price is None else price
    return {
        "Rad": row.get("RowNr"),
        "Artikel": row.get("ProductNr"),
        "Benämning": row.get("Text"),
        "Antal": quantity,
        "Pris": price,
        "Radbelopp": _plain(quantity * price) if quantity is not None and price is not None else None,
    }


def _number(value: object) -> Decimal | None:
    return Decimal(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else None


def _plain(number: Decimal) -> Decimal:
    """The number without an exponent, every digit kept."""
    return Decimal(format(number, "f"))


def _total(numbers: Iterable[object]) -> Decimal | None:
    known = [number for value in numbers if (number := _number(value)) is not None]
    return _plain(sum(known, Decimal(0))) if known else None
