"""The short way for plain orders: it takes only what `Order` takes, and gives the very same bytes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderrelay_shared import orders, wire
from orderrelay_shared.orders import Order, OrderInvalid, OrderRow, seal
from orderrelay_shared.plain_orders import PlainDocument
from tests.fuzz import orders as odd
from tests.fuzz import plain

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

PLAIN: dict[str, Any] = {
    "CustomerNr": "013",
    "InvoiceDate": "2026-01-30",
    "ExternalId": "Å-1",
    "InvoiceRows": [
        {"CustomerRowType": 2, "ProductNr": "1", "Quantity": "3.00", "Amount": Decimal("350.50")},
        {"CustomerRowType": 3, "Text": "Ring\ninnan"},
    ],
}
SNAKE: dict[str, Any] = {
    "invoice_rows": [
        {
            "amount": 100,
            "quantity": 0.1,
            "product_nr": "å-1",
            "customer_row_type": 2,
            "row_nr": 7,
            "vat_rate": "25",
            "category_ids": [1, 2],
            "created": "2026-07-30T08:15:00Z",
        }
    ],
    "invoice_date": "2026-01-30T08:15:00",
    "customer_nr": "13",
    "note": "🙂",
    "import_": True,
}
TINY: dict[str, Any] = {
    **PLAIN,
    "ExternalId": "a",
    "InvoiceRows": [{"CustomerRowType": 2, "ProductNr": "1", "Quantity": Decimal("1E-10"), "Amount": "-0.000"}],
}


def long_way(value: dict[str, Any]) -> Order | None:
    """The order as pydantic alone makes it, or None if it is refused."""
    try:
        return Order(**{str(name): member for name, member in value.items()})
    except OrderInvalid:
        return None


def short_way(value: dict[str, Any]) -> Order | None:
    """The order as the short way makes it, or None if that leaves it to the long one."""
    return orders._plain_order(value)  # pyright: ignore[reportPrivateUsage]


T = TypeVar("T")


def sealed_or_refused(take: Callable[[], T]) -> tuple[T | None, str]:
    """What comes of an order, or why it is refused."""
    try:
        return take(), ""
    except OrderInvalid as error:
        return None, str(error)


def everything(order: Order) -> tuple[object, ...]:
    """All that can be seen of an order; its body made in the long way."""
    given_names = [order.model_fields_set, *(row.model_fields_set for row in order.invoice_rows)]
    return repr(order), given_names, wire.dumps(order.given_properties()), order.content_digest()


@settings(max_examples=1500, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([plain.make, odd.make]))
def test_both_ways_agree(chance: random.Random, make: Callable[[random.Random], dict[Any, Any]]) -> None:
    """Whatever the short way takes, the long way takes too, as the same order: values, bytes and digest."""
    value = make(chance)
    order = short_way(value)
    if order is None:
        return
    other = long_way(value)
    assert other is not None
    assert everything(order) == everything(other)
    assert order == other
    assert order.body() == wire.dumps(other.given_properties())


@settings(max_examples=1500, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([plain.make, odd.make]))
def test_a_sealed_order_is_the_order(chance: random.Random, make: Callable[[random.Random], dict[Any, Any]]) -> None:
    """What travels of a mapping is what the order made of it says, and what is refused is refused in the same words."""
    value = make(chance)
    sealed, words = sealed_or_refused(lambda: seal(value))
    order, other_words = sealed_or_refused(lambda: Order.parse(value))
    assert words == other_words
    if sealed is None or order is None:
        return
    if order.external_id is None:
        order = order.model_copy(update={"external_id": sealed.external_id})
    assert sealed == (order.external_id, order.content_digest(), wire.dumps(order.given_properties()))


@pytest.mark.parametrize(
    ("value", "digest", "derived"),
    [
        (
            PLAIN,
            "be18561e15eae38301ed0d44ea94787626da40d3de8c56344eaae4e349c334e0",
            "3e8ffcb1d70541a69c07d83f81fe189aa5113783",
        ),
        (
            SNAKE,
            "570a120b8bcc62fbe1a63b4ebdd8d98ee8f2dcbab947a15ff40169dc3c3cc98f",
            "254c98b6bc8fc08f9a58c74d379c15c00f287ad0",
        ),
        (
            TINY,
            "73b20d05021feb4be2fc3115e085ffc4783a5e90c7e99323560a6bea12c0eaa1",
            "159e37c2e64e8a7731ccf92072e4b80bcb162bc3",
        ),
    ],
    ids=["plain", "snake", "tiny"],
)
def test_digests_never_change(value: dict[str, Any], digest: str, derived: str) -> None:
    """Stored digests and derived ids are compared with new ones for ever, so these are version 0.1's."""
    order = Order.parse(value)
    assert order.content_digest().hex() == digest
    assert order.derived_external_id(2, "monday") == derived


def test_the_body_of_a_plain_order() -> None:
    """Properties in the document's order, rows numbered, numbers with the digits that were given."""
    assert seal(PLAIN).body.decode() == (
        '{"CustomerNr":"013","InvoiceDate":"2026-01-30","OriginType":6,"InvoiceRows":[{"CustomerRowType":2,'
        '"ProductNr":"1","Quantity":3.00,"Amount":350.50,"RowNr":1},{"CustomerRowType":3,"ProductNr":"","Quantity":0,'
        '"Amount":0,"RowNr":2,"Text":"Ring\\ninnan"}],"ExternalId":"Å-1"}'
    )


@pytest.mark.parametrize("value", [PLAIN, SNAKE], ids=["plain", "snake"])
def test_what_most_write_goes_the_short_way(value: dict[str, Any]) -> None:
    """An order of plain types by either names needs no pydantic."""
    assert short_way(value) is not None


def test_a_subclass_is_made_by_its_own_rules() -> None:
    """The short way knows `Order` alone."""

    class Ours(Order):
        pass

    assert type(Ours.parse(PLAIN)) is Ours


def test_no_caller_sees_another_ones_numbers() -> None:
    """1.1 and 1.10 are equal to Python, as are 3 and 3.0, and each keeps its digits all the same."""
    for amounts in ([Decimal("1.1"), Decimal("1.10")], [3, 3.0, Decimal("3.00"), "3.000"]):
        sealed = [seal({**PLAIN, "InvoiceRows": [{**PLAIN["InvoiceRows"][0], "Amount": one}]}) for one in amounts]
        assert [f'"Amount":{amount},'.encode() in one.body for amount, one in zip(amounts, sealed, strict=True)] == [
            True
        ] * len(amounts)
        assert len({one.content_digest for one in sealed}) == 1


def test_shapes_are_not_remembered_without_end() -> None:
    """Mappings of ever other shapes do not fill the memory."""
    names = [f"name_{number}" for number in range(8)]
    document = PlainDocument(dict.fromkeys(names, "Integer"), {})
    for shape in range(2000):
        document.read({names[(shape >> step) % 8]: 1 for step in range(0, 12, 2)})
    assert len(document._plans) <= 1000  # pyright: ignore[reportPrivateUsage]


def test_every_property_has_a_check() -> None:
    """The short way knows all properties of both documents, by both names."""
    row = cast("dict[str, object]", {**PLAIN["InvoiceRows"][0], "RowNr": 1})
    for name in set(OrderRow.model_fields) - {"customer_row_type", "product_nr", "quantity", "amount", "row_nr"}:
        kind = OrderRow.__annotations__[name].removesuffix(" | None")
        value: object = {"Integer": 7, "Flag": True, "Number": "7", "Integers": [7], "Moment": "2026-01-30"}.get(
            kind, "x"
        )
        order = short_way({**PLAIN, "InvoiceRows": [{**row, name: value}]})
        assert order is not None, name
        assert getattr(order.invoice_rows[0], name) is not None
