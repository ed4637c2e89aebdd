"""One row of an order: a product with its quantity and price, or a free text."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self, cast

from pydantic import model_validator

from orderrelay_shared.field_types import (  # noqa: TC001  pydantic reads the annotations at run time
    Flag,
    Integer,
    Integers,
    Moment,
    Number,
    RowTypeNumber,
    Text,
)
from orderrelay_shared.order_problems import RulesBroken, Steps
from orderrelay_shared.plain_orders import MANDATORY, PlainDocument, Unusual
from orderrelay_shared.vendor_document import VendorDocument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from orderrelay_shared.field_types import MomentInput, NumberInput

PRODUCT_ROW: Final = 2
TEXT_ROW: Final = 3

_NOTHING: Final = Decimal(0)
_PRODUCT_ROW_NEEDS: Final = (("product_nr", "ProductNr"), ("quantity", "Quantity"), ("amount", "Amount"))


class OrderRow(VendorDocument):
    """One row of an order, with every property of the vendor's document (2.4, InvoiceRows).

    Mandatory on a product row (`customer_row_type` 2): `product_nr`, `quantity`, `amount`. On a text row (3): `text`;
    the other three are then sent as "", 0 and 0 unless given. `row_nr` is given on all rows of an order or on none.

    Raises:
        OrderInvalid: Something is missing or wrong; all of it is told.
    """

    customer_row_type: RowTypeNumber
    product_nr: Text = ""
    quantity: Number = _NOTHING
    amount: Number = _NOTHING
    row_nr: Integer | None = None
    text: Text | None = None
    account_sie_dim6: Text | None = None
    customer_invoice_row_io_id: Integer | None = None
    customer_invoice_head_io_id: Integer | None = None
    invoice_row_id: Integer | None = None
    invoice_nr: Text | None = None
    actor_company_id: Integer | None = None
    import_: Flag | None = None
    type: Text | None = None
    status: Integer | None = None
    source: Integer | None = None
    batch_id: Text | None = None
    product_id: Integer | None = None
    product_group_id: Integer | None = None
    product_name: Text | None = None
    product_name2: Text | None = None
    unit_price: Number | None = None
    discount: Number | None = None
    unit: Text | None = None
    vat_rate: Number | None = None
    account_nr: Text | None = None
    purchase_price: Number | None = None
    vat_amount: Number | None = None
    sum_amount: Number | None = None
    error_message: Text | None = None
    created: Moment | None = None
    modified: Moment | None = None
    external_id: Text | None = None
    category_ids: Integers | None = None
    is_read_only: Flag | None = None

    if TYPE_CHECKING:  # the constructor takes more types than the attributes have

        def __init__(
            self,
            *,
            customer_row_type: int,
            product_nr: str | None = None,
            quantity: NumberInput | None = None,
            amount: NumberInput | None = None,
            row_nr: int | None = None,
            text: str | None = None,
            account_sie_dim6: str | None = None,
            customer_invoice_row_io_id: int | None = None,
            customer_invoice_head_io_id: int | None = None,
            invoice_row_id: int | None = None,
            invoice_nr: str | None = None,
            actor_company_id: int | None = None,
            import_: bool | None = None,
            type: str | None = None,  # noqa: A002  the vendor's name
            status: int | None = None,
            source: int | None = None,
            batch_id: str | None = None,
            product_id: int | None = None,
            product_group_id: int | None = None,
            product_name: str | None = None,
            product_name2: str | None = None,
            unit_price: NumberInput | None = None,
            discount: NumberInput | None = None,
            unit: str | None = None,
            vat_rate: NumberInput | None = None,
            account_nr: str | None = None,
            purchase_price: NumberInput | None = None,
            vat_amount: NumberInput | None = None,
            sum_amount: NumberInput | None = None,
            error_message: str | None = None,
            created: MomentInput | None = None,
            modified: MomentInput | None = None,
            external_id: str | None = None,
            category_ids: Sequence[int] | None = None,
            is_read_only: bool | None = None,
        ) -> None: ...

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        found = row_rules_broken(self.model_fields_set, self.customer_row_type, self.product_nr, self.text)
        if found:
            raise RulesBroken(found)
        return self

    @classmethod
    def broken_rules(cls, given: Mapping[str, object], refused: AbstractSet[Steps]) -> list[tuple[Steps, str]]:
        """What is broken of the rules between properties, leaving aside what was refused for itself."""
        row_type = None if ("customer_row_type",) in refused else given.get("customer_row_type")
        return row_rules_broken(given.keys(), row_type, given.get("product_nr"), given.get("text"))


#: Keeps the place of a RowNr until the rows are numbered.
_UNNUMBERED: Final = object()
_ALL_UNNUMBERED: Final = {_UNNUMBERED}

_plain_row = PlainDocument(
    OrderRow.__annotations__,
    {
        "customer_row_type": MANDATORY,
        "product_nr": "",
        "quantity": _NOTHING,
        "amount": _NOTHING,
        "row_nr": _UNNUMBERED,
    },
)


def read_plain_rows(value: object) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The properties of an order's rows, numbered, if they are plain.

    Returns:
        These, and what the rows say as `order_content.digest_of` has it.

    Raises:
        ValueError: Something is wrong, or not plain.
    """
    if not (type(value) is list or type(value) is tuple) or not value:
        raise Unusual
    rows: list[dict[str, object]] = []
    canonical: list[dict[str, object]] = []
    numbers: set[object] = set()
    for given in cast("list[object]", value):
        row, said = _read_plain_row(given)
        numbers.add(row["RowNr"])
        rows.append(row)
        canonical.append({**row, **said})
    if numbers == _ALL_UNNUMBERED:
        for number, (row, said) in enumerate(zip(rows, canonical, strict=True), 1):
            row["RowNr"] = said["RowNr"] = number
    elif len(numbers) < len(rows) or _UNNUMBERED in numbers:
        raise Unusual
    return rows, canonical


def _read_plain_row(given: object) -> tuple[dict[str, Any], dict[str, Any]]:
    if type(given) is not dict:
        raise Unusual
    row, said = _plain_row.read(cast("dict[str, object]", given))
    if row["CustomerRowType"] == TEXT_ROW:
        if not row.get("Text", "").strip():
            raise Unusual
    elif row["Quantity"] is _NOTHING or row["Amount"] is _NOTHING or not row["ProductNr"].strip():
        raise Unusual
    return row, said


def plain_rows(given: Any, rows: list[dict[str, object]]) -> tuple[OrderRow, ...]:
    """The rows themselves.

    Args:
        given: What they were read from.
        rows: What `read_plain_rows` made of it.
    """
    names = _plain_row.snake_names
    return tuple(
        OrderRow.of_values(
            {names[name]: value for name, value in row.items()}, _plain_row.given_names(raw) | {"row_nr"}
        )
        for raw, row in zip(given, rows, strict=True)
    )


def row_rules_broken(
    given: AbstractSet[str], row_type: object, product_nr: object, text: object
) -> list[tuple[Steps, str]]:
    """What a row lacks for its type, as steps and words.

    Args:
        given: The snake-case names of the properties that were given.
        row_type: The CustomerRowType, 2 or 3; anything else has no rules.
        product_nr: The ProductNr.
        text: The Text.
    """
    if row_type == TEXT_ROW:
        if isinstance(text, str) and text.strip():
            return []
        return [(("Text",), "is mandatory on a text row (CustomerRowType 3), and must not be only space")]
    if row_type != PRODUCT_ROW:
        return []
    found: list[tuple[Steps, str]] = [
        ((vendor,), "is mandatory on a product row (CustomerRowType 2)")
        for name, vendor in _PRODUCT_ROW_NEEDS
        if name not in given
    ]
    if "product_nr" in given and isinstance(product_nr, str) and not product_nr.strip():
        found.append((("ProductNr",), "must not be empty or only space on a product row (CustomerRowType 2)"))
    return found


def row_numbers_broken(
    numbers: Sequence[int | None], unread: AbstractSet[int] = frozenset(), hidden: AbstractSet[int] = frozenset()
) -> list[tuple[Steps, str]]:
    """What is wrong with the RowNr of an order's rows taken together, as steps from the order and words.

    Args:
        numbers: The RowNr of each row, None where there is none.
        unread: The positions of rows whose RowNr was given but refused for itself.
        hidden: The positions of rows that are no objects, so that nobody knows whether they have one.
    """
    if not unread and all(number is None for number in numbers):
        return []
    found: list[tuple[Steps, str]] = []
    first_at: dict[int, int] = {}
    for position, number in enumerate(numbers):
        if number is None:
            if position not in unread and position not in hidden:
                message = "is given on other rows but not here: give it on all rows, or on none to have them numbered"
                found.append((("InvoiceRows", position, "RowNr"), message))
        elif (first := first_at.setdefault(number, position)) != position:
            message = f"{number} is already the RowNr of InvoiceRows[{first}]: it must be unique within an order"
            found.append((("InvoiceRows", position, "RowNr"), message))
    return found
