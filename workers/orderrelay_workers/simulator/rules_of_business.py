"""What the vendor demands of an order: the mandatory properties of its document, and a few rules of business."""

from __future__ import annotations

from datetime import datetime
from typing import Final, cast

from orderrelay_workers.simulator.faults import ERROR_MESSAGES

#: An order of a customer whose number begins so is refused (26); a row of a product whose number begins so, too (295).
BLOCKED_CUSTOMER: Final = "BLOCKED"
MISSING_PRODUCT: Final = "MISSING"

_INSUFFICIENT: Final = 8
_INCORRECT: Final = 10
_PRODUCT_ROW: Final = 2
_TEXT_ROW: Final = 3

_Problem = tuple[int, str]


def problem_of(order: dict[str, object]) -> _Problem | None:
    """ErrorNumber and ErrorMessage with which the vendor refuses an order, or None."""
    for name in ("CustomerNr", "InvoiceDate", "OriginType", "InvoiceRows"):
        if order.get(name) in (None, ""):
            return _INSUFFICIENT, f"Obligatoriskt fält saknas: {name}"
    customer_nr = order["CustomerNr"]
    if not isinstance(customer_nr, str):
        return _incorrect("CustomerNr")
    if not _is_date(order["InvoiceDate"]):
        return _incorrect("InvoiceDate")
    if order["OriginType"] != 6 or isinstance(order["OriginType"], bool):
        return _incorrect("OriginType")
    external_id = order.get("ExternalId")
    if external_id is not None and not isinstance(external_id, str):
        return _incorrect("ExternalId")
    rows = order["InvoiceRows"]
    if not isinstance(rows, list):
        return _incorrect("InvoiceRows")
    if not rows:
        return _INSUFFICIENT, "Ordern måste ha minst en rad: InvoiceRows"
    if customer_nr.startswith(BLOCKED_CUSTOMER):
        return 26, ERROR_MESSAGES[26]
    return _problem_of_rows(cast("list[object]", rows))


def _problem_of_rows(rows: list[object]) -> _Problem | None:
    numbers: set[int] = set()
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            return _incorrect(f"InvoiceRows[{index}]")
        problem = _problem_of_row(cast("dict[str, object]", row), f"InvoiceRows[{index}]")
        if problem is not None:
            return problem
        number = cast("dict[str, int]", row)["RowNr"]
        if number in numbers:
            return _INCORRECT, f"Radnumret finns flera gånger: InvoiceRows[{index}].RowNr {number}"
        numbers.add(number)
    return None


def _problem_of_row(row: dict[str, object], place: str) -> _Problem | None:
    for name in ("CustomerRowType", "ProductNr", "Quantity", "Amount", "RowNr"):
        if row.get(name) is None:
            return _INSUFFICIENT, f"Obligatoriskt fält saknas: {place}.{name}"
    kind = row["CustomerRowType"]
    if not isinstance(kind, int) or kind not in (_PRODUCT_ROW, _TEXT_ROW):
        return _incorrect(f"{place}.CustomerRowType")
    product_nr = row["ProductNr"]
    if not isinstance(product_nr, str):
        return _incorrect(f"{place}.ProductNr")
    for name in ("Quantity", "Amount"):
        if not isinstance(row[name], (int, float)) or isinstance(row[name], bool):
            return _incorrect(f"{place}.{name}")
    if not isinstance(row["RowNr"], int) or isinstance(row["RowNr"], bool):
        return _incorrect(f"{place}.RowNr")
    if kind == _TEXT_ROW:
        return None if row.get("Text") else (_INSUFFICIENT, f"Obligatoriskt fält saknas: {place}.Text")
    if not product_nr:
        return _INSUFFICIENT, f"Obligatoriskt fält saknas: {place}.ProductNr"
    if product_nr.startswith(MISSING_PRODUCT):
        return 295, f"{ERROR_MESSAGES[295]}: {product_nr}"
    return None


def _incorrect(place: str) -> _Problem:
    return _INCORRECT, f"{ERROR_MESSAGES[_INCORRECT]}: {place}"


def _is_date(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
