"""The order that producers hand over: every property of the vendor's document, checked, and its body on the wire."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self, cast

from pydantic import Field, Strict, ValidationError, model_validator

from orderrelay_shared import ids, order_content, wire
from orderrelay_shared.field_types import (
    ExternalId,
    FilledText,
    Flag,
    Integer,
    ListOrTuple,
    Moment,
    OriginTypeNumber,
    Text,
)
from orderrelay_shared.order_problems import OrderInvalid, Problem, RulesBroken, Steps
from orderrelay_shared.order_rows import OrderRow, plain_rows, read_plain_rows, row_numbers_broken
from orderrelay_shared.plain_orders import MANDATORY, PlainDocument
from orderrelay_shared.vendor_document import VendorDocument, rough_size, snake_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from orderrelay_shared.field_types import MomentInput

__all__ = ["MAX_BODY_BYTES", "Order", "OrderInvalid", "OrderRow", "Problem", "Sealed", "seal", "wire_body"]

#: The largest body of one order, in bytes, its ExternalId included.
MAX_BODY_BYTES: Final = 1_000_000

#: What an ExternalId made by `Order.ensure_external_id` adds to a body: `,"ExternalId":"<36 characters>"`.
_MADE_EXTERNAL_ID_BYTES: Final = 52

_external_id_lock = threading.Lock()


class Order(VendorDocument):
    """One order for the ERP, with every property of the vendor's document (2.4).

    Mandatory: `customer_nr`, `invoice_date` and at least one of `invoice_rows`; `origin_type` is always 6. Properties
    are taken by either name, `customer_nr` or `CustomerNr`, and None counts as left out. Rows without any `row_nr` are
    numbered 1 to n. An order never changes, but for `ensure_external_id`.

    Raises:
        OrderInvalid: Something is missing or wrong; all of it is told.
    """

    customer_nr: FilledText
    invoice_date: Moment
    origin_type: OriginTypeNumber = 6
    invoice_rows: Annotated[tuple[OrderRow, ...], Strict(), Field(min_length=1), ListOrTuple]
    customer_invoice_head_io_id: Integer | None = None
    invoice_id: Integer | None = None
    customer_invoice_nr: Text | None = None
    seq_nr: Integer | None = None
    ocr: Text | None = None
    actor_company_id: Integer | None = None
    import_: Flag | None = None
    type: Integer | None = None
    status: Integer | None = None
    source: Integer | None = None
    origin_status: Integer | None = None
    batch_id: Text | None = None
    price_list_type_id: Integer | None = None
    payment_condition: Text | None = None
    payment_condition_id: Integer | None = None
    delivery_condition: Text | None = None
    delivery_condition_id: Integer | None = None
    delivery_type: Text | None = None
    delivery_type_id: Integer | None = None
    auto_create_customer: Flag | None = None
    customer_id: Integer | None = None
    customer_external_nr: Text | None = None
    customer_name: Text | None = None
    customer_orgnr: Text | None = None
    registration_type: Integer | None = None
    due_date: Moment | None = None
    delivery_date: Moment | None = None
    voucher_date: Moment | None = None
    reference_our: Text | None = None
    reference_your: Text | None = None
    order_date: Moment | None = None
    currency: Text | None = None
    note: Text | None = None
    error_message: Text | None = None
    created: Moment | None = None
    created_by: Text | None = None
    modified: Moment | None = None
    modified_by: Text | None = None
    external_id: ExternalId | None = None
    order_nr: Text | None = None
    order_type: Integer | None = None

    if TYPE_CHECKING:  # the constructor takes more types than the attributes have

        def __init__(
            self,
            *,
            customer_nr: str,
            invoice_date: MomentInput,
            invoice_rows: Sequence[OrderRow | Mapping[str, object]],
            origin_type: int | None = None,
            customer_invoice_head_io_id: int | None = None,
            invoice_id: int | None = None,
            customer_invoice_nr: str | None = None,
            seq_nr: int | None = None,
            ocr: str | None = None,
            actor_company_id: int | None = None,
            import_: bool | None = None,
            type: int | None = None,  # noqa: A002  the vendor's name
            status: int | None = None,
            source: int | None = None,
            origin_status: int | None = None,
            batch_id: str | None = None,
            price_list_type_id: int | None = None,
            payment_condition: str | None = None,
            payment_condition_id: int | None = None,
            delivery_condition: str | None = None,
            delivery_condition_id: int | None = None,
            delivery_type: str | None = None,
            delivery_type_id: int | None = None,
            auto_create_customer: bool | None = None,
            customer_id: int | None = None,
            customer_external_nr: str | None = None,
            customer_name: str | None = None,
            customer_orgnr: str | None = None,
            registration_type: int | None = None,
            due_date: MomentInput | None = None,
            delivery_date: MomentInput | None = None,
            voucher_date: MomentInput | None = None,
            reference_our: str | None = None,
            reference_your: str | None = None,
            order_date: MomentInput | None = None,
            currency: str | None = None,
            note: str | None = None,
            error_message: str | None = None,
            created: MomentInput | None = None,
            created_by: str | None = None,
            modified: MomentInput | None = None,
            modified_by: str | None = None,
            external_id: str | None = None,
            order_nr: str | None = None,
            order_type: int | None = None,
        ) -> None: ...

    @classmethod
    def parse(cls, value: Order | Mapping[str, object]) -> Order:
        """The order itself, or one made of a mapping of names (either spelling) to values.

        Raises:
            OrderInvalid: Something is missing or wrong; all of it is told.
        """
        if isinstance(value, Order):
            return value
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may be untyped
            raise OrderInvalid([Problem("", f"an order must be an object, not {type(value).__name__}")])
        if cls is Order and (order := _plain_order(value)) is not None:
            return order
        try:
            return cast("Order", cls._validator().validate_python(value))
        except ValidationError as error:
            cls._refuse(error, value)

    @classmethod
    def from_json(cls, data: bytes | str) -> Order:
        """The order of a JSON object, its numbers exact.

        Raises:
            OrderInvalid: The data is not JSON, not one object, or something in it is missing or wrong.
        """
        try:
            value = wire.loads(data)
        except wire.WireInvalid as error:
            raise OrderInvalid([Problem("", str(error))]) from None
        if isinstance(value, list):
            raise OrderInvalid([Problem("", "an order must be one object, not a list: give its orders one by one")])
        return cls.parse(cast("Mapping[str, object]", value))

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **_: Any) -> Self:
        """As `from_json`: pydantic's own reading of JSON would send every number through binary floating point."""
        return cast("Self", cls.from_json(json_data if isinstance(json_data, str) else bytes(json_data)))

    def ensure_external_id(self) -> str:
        """The order's ExternalId, made and set on this object if it has none.

        This is the only change that an order allows. It must be on the object itself: whoever enqueues the same object
        again, not knowing whether the first time worked, must send the same key.
        """
        if self.external_id is None:
            with _external_id_lock:
                if self.external_id is None:
                    object.__setattr__(self, "external_id", ids.new_external_id())
                    self.__pydantic_fields_set__.add("external_id")
        return cast("str", self.external_id)

    def body(self) -> bytes:
        """The order as one JSON object: vendor names in the document's order, what was given and what is mandatory."""
        return order_content.body(self.given_properties())

    def content_digest(self) -> bytes:
        """SHA-256 of what the order says, 32 bytes: equal for 3, 3.0 and 3.00, and for ExternalIds that fold alike."""
        return order_content.content_digest(self.given_properties(), self.external_id)

    def derived_external_id(self, occurrence: int, batch: str = "") -> str:
        """An ExternalId made of what the order says, for orders that come in files: 40 hexadecimal digits.

        Reading the same file again gives the same ids, so nothing is created twice.

        Args:
            occurrence: Which of the orders of equal content in its batch this is, so that two of them are two orders.
            batch: What sets this batch apart from others with equal orders; empty for none.
        """
        return order_content.derived_external_id(self.given_properties(), occurrence, batch)

    def given_properties(self) -> dict[str, object]:
        """What has a value, by vendor name, in the order of the vendor's document; rows likewise."""
        properties = super().given_properties()
        properties["InvoiceRows"] = [row.given_properties() for row in self.invoice_rows]
        return properties

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        numbers = [row.row_nr for row in self.invoice_rows]
        found = row_numbers_broken(numbers)
        if numbers[0] is None and not found:
            # Copies, as a row object that the caller keeps may stand elsewhere in another order.
            rows = enumerate(self.invoice_rows, 1)
            numbered = tuple(row.with_sound("row_nr", number) for number, row in rows)
            object.__setattr__(self, "invoice_rows", numbered)
        if not found:
            found = _too_large(len(self.body()) + (_MADE_EXTERNAL_ID_BYTES if self.external_id is None else 0))
        if found:
            raise RulesBroken(found)
        return self

    @classmethod
    def broken_rules(cls, given: Mapping[str, object], refused: AbstractSet[Steps]) -> list[tuple[Steps, str]]:
        """What is broken of the rules between properties, leaving aside what was refused for itself."""
        rows = given.get("invoice_rows")
        if not isinstance(rows, (list, tuple)):
            return []
        found: list[tuple[Steps, str]] = []
        numbers: list[int | None] = []
        unread, hidden = set[int](), set[int]()
        refused_within: dict[Steps, set[Steps]] = {}
        for steps in refused:
            refused_within.setdefault(steps[:2], set()).add(steps[2:])
        for position, row in enumerate(cast("Iterable[object]", rows)):
            here: Steps = ("invoice_rows", position)
            if isinstance(row, OrderRow):
                numbers.append(row.row_nr)
                continue
            properties = snake_named(row)
            within = refused_within.get(here, set())
            found += [
                (("InvoiceRows", position, *steps), message)
                for steps, message in OrderRow.broken_rules(properties, within)
            ]
            number = properties.get("row_nr")
            if () in within:
                hidden.add(position)
            elif ("row_nr",) in within:
                unread.add(position)
                number = None
            numbers.append(cast("int | None", number))
        return found + row_numbers_broken(numbers, unread, hidden) + _too_large(rough_size(given))

    @classmethod
    def _names_at(cls, steps: Steps) -> Iterable[str]:
        return OrderRow.model_fields if steps else cls.model_fields


#: Keeps the place of an ExternalId until it is made.
_NOT_GIVEN: Final = object()

_plain_head = PlainDocument(
    {**Order.__annotations__, "invoice_rows": "InvoiceRows"},
    {
        "customer_nr": MANDATORY,
        "invoice_date": MANDATORY,
        "origin_type": 6,
        "invoice_rows": MANDATORY,
        "external_id": _NOT_GIVEN,
    },
    {"InvoiceRows": read_plain_rows},
)


class Sealed(NamedTuple):
    """A sound order as it travels.

    Attributes:
        external_id: Its ExternalId, made if it had none.
        content_digest: As of `Order.content_digest`.
        body: As of `Order.body`.
    """

    external_id: str
    content_digest: bytes
    body: bytes


def seal(value: Order | Mapping[str, object]) -> Sealed:
    """What travels of an order, which gets an ExternalId if it has none; of an `Order` on that object.

    Most mappings are sealed without an `Order` being made; `Order.from_json` makes one of the body.

    Raises:
        OrderInvalid: Something is missing or wrong; all of it is told.
    """
    if (sealed := _seal_plain(value)) is not None:
        return sealed
    order = Order.parse(value)
    external_id = order.ensure_external_id()
    properties = order.given_properties()
    return Sealed(external_id, order_content.content_digest(properties, external_id), order_content.body(properties))


def sound_properties(value: Mapping[str, object]) -> dict[str, object]:
    """The properties of an order without ExternalId, as `order_content` takes them.

    Raises:
        OrderInvalid: Something is missing or wrong; all of it is told.
    """
    if (read := _read_plain(value)) is not None:
        properties, _ = read
        del properties["ExternalId"]
        return properties
    return Order.parse(value).given_properties()


def wire_body(body: bytes, shape: Literal["array", "object"]) -> bytes:
    """The body of a request that carries one order: the order itself, or an array of it alone."""
    return b"[%s]" % body if shape == "array" else body


def _too_large(size: int) -> list[tuple[Steps, str]]:
    if size <= MAX_BODY_BYTES:
        return []
    return [((), f"the order has {size:,} bytes as JSON; at most {MAX_BODY_BYTES:,} are allowed")]


def _read_plain(value: object) -> tuple[dict[str, object], dict[str, object]] | None:
    """As `PlainDocument.read`, of an order that is plain and sound; its ExternalId is given or `_NOT_GIVEN`."""
    if type(value) is not dict:
        return None
    try:
        return _plain_head.read(cast("dict[str, object]", value))
    except ValueError:
        return None


def _seal_plain(value: object) -> Sealed | None:
    if (read := _read_plain(value)) is None:
        return None
    properties, said = read
    if properties["ExternalId"] is _NOT_GIVEN:
        properties["ExternalId"] = ids.new_external_id()
    external_id = cast("str", properties["ExternalId"])
    body = wire.dumps_plain(properties)
    if len(body) > MAX_BODY_BYTES:
        return None
    canonical = {**properties, **said, "ExternalId": ids.fold_external_id(external_id)}
    return Sealed(external_id, order_content.digest_of(canonical), body)


def _plain_order(value: object) -> Order | None:
    if (read := _read_plain(value)) is None:
        return None
    properties, _ = read
    size = 0
    if properties["ExternalId"] is _NOT_GIVEN:
        del properties["ExternalId"]
        size = _MADE_EXTERNAL_ID_BYTES
    if size + len(wire.dumps_plain(properties)) > MAX_BODY_BYTES:
        return None
    given = cast("dict[str, object]", value)
    names = _plain_head.given_names(given)
    values = {_plain_head.snake_names[name]: value for name, value in properties.items()}
    raw = given["InvoiceRows"] if "InvoiceRows" in given else given["invoice_rows"]
    values["invoice_rows"] = plain_rows(raw, cast("list[dict[str, object]]", properties["InvoiceRows"]))
    return Order.of_values(values, names)
