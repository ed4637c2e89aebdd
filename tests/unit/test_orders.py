"""Orders: what is taken, what is refused and how, and what goes out."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_shared import wire
from orderrelay_shared.order_problems import snake_name, vendor_name
from orderrelay_shared.orders import MAX_BODY_BYTES, Order, OrderInvalid, OrderRow, Problem, wire_body
from tests.unit.vendor_document_examples import (
    HEADER_PROPERTIES,
    ORDER_EXAMPLE,
    ORDER_EXAMPLE_BODY,
    ROW_PROPERTIES,
    properties,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = properties(HEADER_PROPERTIES)
ROW = properties(ROW_PROPERTIES)

PRODUCT_ROW = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350}
TEXT_ROW = {"CustomerRowType": 3, "Text": "Tack!"}

#: Per documented type: what is taken and how it goes out, and what is refused.
TAKEN: dict[str, list[tuple[object, str]]] = {
    "string": [("åäö\t\n€😀", '"åäö\\t\\n€😀"')],
    "integer": [(7, "7"), (-(2**63), str(-(2**63))), (2**63 - 1, str(2**63 - 1))],
    "number": [(Decimal("1.10"), "1.10"), (7, "7"), (0.1, "0.1"), ("1.10", "1.10"), (Decimal("1E-7"), "0.0000001")],
    "boolean": [(True, "true"), (False, "false")],
    "date": [
        (date(2026, 1, 30), '"2026-01-30"'),
        ("2026-01-30", '"2026-01-30"'),
        (datetime(2026, 1, 30, 8, 15, 0, 999), '"2026-01-30T08:15:00"'),  # noqa: DTZ001  naive on purpose
        ("2026-07-30T08:15:00.1234567Z", '"2026-07-30T10:15:00"'),
        (datetime(2026, 1, 30, 23, 30, tzinfo=UTC), '"2026-01-31T00:30:00"'),
    ],
    "integers": [([1, 2], "[1,2]"), ((3,), "[3]"), ([], "[]")],
}
REFUSED: dict[str, list[object]] = {
    "string": [13, 1.5, True, b"x", ["x"], "a\rb", "\x00", "\x1f", "\x7f", "\x85", "\ud800"],
    "integer": [True, 1.0, Decimal(1), "1", 2**63, -(2**63) - 1, []],
    "number": [
        *(True, "1,5", " 1", "1_0", "NaN", "", float("nan"), float("inf"), Decimal("sNaN"), b"1", [], {}),
        *("1234567890.123456", Decimal("1E-16"), 10**15, Decimal("1E+15"), Decimal("1E+999999")),
    ],
    "boolean": [0, 1, "true", []],
    "date": [20260130, "20260130", "2026-02-30", "2026-W05-5", "30/1 2026", "2026-01-30T25:00:00", True, []],
    "integers": ["1", 1, ["1"], [1.0], [True], {1}, {"a": 1}],
}
#: Properties whose value is bound further than by its type.
BOUND: dict[str, tuple[object, str]] = {
    "OriginType": (6, "6"),
    "CustomerRowType": (2, "2"),
    "ExternalId": ("A-1 å", '"A-1 å"'),
}


def order_with(**changes: object) -> dict[str, Any]:
    """A sound order in vendor names, with the changes made."""
    return {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [PRODUCT_ROW], **changes}


def problems(value: object) -> dict[str, str]:
    """Path and message of each problem of an order that must be refused."""
    with pytest.raises(OrderInvalid) as caught:
        Order.parse(value)  # type: ignore[arg-type]  # some tests give what is no order on purpose
    assert all(isinstance(problem, Problem) for problem in caught.value.problems)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return {problem.path: problem.message for problem in caught.value.problems}


def cases(table: list[tuple[str, str]], values: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    """Each property of the table with each value of its type."""
    return [(name, value) for name, kind in table for value in values.get(kind, [])]


def test_models_have_the_documents_properties_in_its_order() -> None:
    """No property of 2.4 is missing, none is invented, and each has its vendor name."""
    assert [vendor_name(name) for name in Order.model_fields] == [name for name, _ in HEADER]
    assert [vendor_name(name) for name in OrderRow.model_fields] == [name for name, _ in ROW]
    assert [snake_name(name) for name, _ in HEADER + ROW] == [*Order.model_fields, *OrderRow.model_fields]


@pytest.mark.parametrize(("name", "case"), cases(HEADER, TAKEN))
def test_header_property_is_taken_by_either_name(name: str, case: tuple[object, str]) -> None:
    """A value of the documented type goes out under the vendor's name, whichever name it came by."""
    value, text = BOUND.get(name, case)
    order = order_with()
    order.pop(name, None)
    bodies = {Order.parse({**order, spelling: value}).body() for spelling in (name, snake_name(name))}
    assert len(bodies) == 1
    assert f'"{name}":{text}'.encode() in bodies.pop()


@pytest.mark.parametrize(("name", "case"), cases(ROW, TAKEN))
def test_row_property_is_taken_by_either_name(name: str, case: tuple[object, str]) -> None:
    """As for the header."""
    value, text = BOUND.get(name, case) if name == "CustomerRowType" else case
    row = {given: kept for given, kept in PRODUCT_ROW.items() if given != name}
    bodies = {
        Order.parse(order_with(InvoiceRows=[{**row, spelling: value}])).body() for spelling in (name, snake_name(name))
    }
    assert len(bodies) == 1
    assert f'"{name}":{text}'.encode() in bodies.pop()


@pytest.mark.parametrize(("name", "value"), cases(HEADER, REFUSED))
def test_header_property_of_another_type_is_refused(name: str, value: object) -> None:
    """A value of another type is a problem at that property, and nowhere else."""
    assert [path.split("[")[0] for path in problems(order_with(**{name: value}))] == [name]


@pytest.mark.parametrize(("name", "value"), cases(ROW, REFUSED))
def test_row_property_of_another_type_is_refused(name: str, value: object) -> None:
    """As for the header."""
    found = problems(order_with(InvoiceRows=[TEXT_ROW, {**PRODUCT_ROW, name: value}]))
    # A RowNr that cannot be read was given all the same, so the other row lacks one.
    expected = ["InvoiceRows[1].RowNr", "InvoiceRows[0].RowNr"] if name == "RowNr" else [f"InvoiceRows[1].{name}"]
    assert [path.removesuffix("[0]") for path in found] == expected


def test_a_number_for_text_is_told_to_be_quoted() -> None:
    """13 is not "013", so the caller decides, and is told how."""
    assert problems(order_with(CustomerNr=13)) == {
        "CustomerNr": 'must be text, not the number 13: put it in quotes, "13"'
    }


@pytest.mark.parametrize(
    ("given_name", "message"),
    [
        ("CustomerNo", "is unknown: did you mean `CustomerNr`?"),
        ("customer_no", "is unknown: did you mean `customer_nr`?"),
        ("CUSTOMERORGNR", "is unknown: did you mean `CustomerOrgnr`?"),
        ("Invoiceld", "is unknown: did you mean `InvoiceId`?"),
        ("Rows", "is unknown: did you mean `InvoiceRows`?"),
        ("Xyzzy", "is no property of the order API"),
        ("customer_nr", "is given a second time, as `CustomerNr`: give it once"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_known(given_name: str, message: str) -> None:
    """A misspelt property is told the name that was probably meant, in the caller's own style."""
    assert problems(order_with(**{given_name: "1"})) == {given_name: message}


def test_unknown_name_in_a_row_is_refused_with_the_nearest_known() -> None:
    """As for the header."""
    found = problems(order_with(InvoiceRows=[{**PRODUCT_ROW, "Quantiy": 1, "unit_pris": 1}]))
    assert found == {
        "InvoiceRows[0].Quantiy": "is unknown: did you mean `Quantity`?",
        "InvoiceRows[0].unit_pris": "is unknown: did you mean `unit_price`?",
    }


@pytest.mark.parametrize(
    ("given_type", "hint"),
    [
        ("2", ": write the number 2, without quotes"),
        ("Produktrad", ": did you mean 2?"),
        ("prodct", ": did you mean 2?"),
        ("text row", ": did you mean 3?"),
        ("xyzzy", ""),
        (4, ""),
    ],
)
def test_a_row_type_in_words_is_refused_with_the_number_meant(given_type: object, hint: str) -> None:
    """In English or Swedish, misspelt or not."""
    found = problems(order_with(InvoiceRows=[{**PRODUCT_ROW, "CustomerRowType": given_type}]))
    told = f"the text {given_type!r}" if isinstance(given_type, str) else f"the number {given_type}"
    assert found == {"InvoiceRows[0].CustomerRowType": f"must be 2 (product row) or 3 (text row), not {told}{hint}"}


def test_all_problems_are_told_at_once() -> None:
    """Broken rules between properties are told even where single values are refused as well."""
    rows = [{"CustomerRowType": 2, "RowNr": 1, "Quantity": "many"}, {"customer_row_type": 3, "row_nr": 1}, 7, TEXT_ROW]
    assert list(problems({"InvoiceRows": rows, "OriginType": 7, "Note": "a\rb", "ExternalId": " x"})) == [
        "CustomerNr",
        "InvoiceDate",
        "OriginType",
        "InvoiceRows[0].Quantity",
        "InvoiceRows[1].text",
        "InvoiceRows[2]",
        "Note",
        "ExternalId",
        "InvoiceRows[0].ProductNr",
        "InvoiceRows[0].Amount",
        "InvoiceRows[1].row_nr",
        "InvoiceRows[3].RowNr",
    ]


@pytest.mark.parametrize("missing", ["CustomerNr", "InvoiceDate", "InvoiceRows"])
@pytest.mark.parametrize("as_none", [True, False])
def test_mandatory_header_property_must_be_given(missing: str, as_none: bool) -> None:
    """A mandatory property that is left out or None is told as missing."""
    order = order_with(**{missing: None})
    if not as_none:
        del order[missing]
    assert problems(order) == {missing: "is mandatory"}


@pytest.mark.parametrize("missing", ["ProductNr", "Quantity", "Amount"])
def test_mandatory_property_of_a_product_row_must_be_given(missing: str) -> None:
    """A product row without one of them is refused."""
    row = {name: value for name, value in PRODUCT_ROW.items() if name != missing}
    assert problems(order_with(InvoiceRows=[row])) == {
        f"InvoiceRows[0].{missing}": "is mandatory on a product row (CustomerRowType 2)"
    }


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0"])
def test_mandatory_text_must_not_be_blank(blank: str) -> None:
    """A customer number, or a product row's product number, of nothing but space is refused."""
    row = {**PRODUCT_ROW, "ProductNr": blank}
    assert list(problems(order_with(CustomerNr=blank, InvoiceRows=[row, {**TEXT_ROW, "Text": blank}]))) == [
        "CustomerNr",
        "InvoiceRows[0].ProductNr",
        "InvoiceRows[1].Text",
    ]


def test_order_without_rows_is_refused() -> None:
    """There must be at least one row."""
    assert problems(order_with(InvoiceRows=[])) == {"InvoiceRows": "must have at least one row"}


def test_text_row_is_filled_up() -> None:
    """A text row that leaves them out sends ProductNr "", Quantity 0 and Amount 0."""
    body = Order.parse(order_with(InvoiceRows=[TEXT_ROW])).body()
    assert b'{"CustomerRowType":3,"ProductNr":"","Quantity":0,"Amount":0,"RowNr":1,"Text":"Tack!"}' in body


def test_rows_without_numbers_are_numbered() -> None:
    """Rows are numbered 1 to n, and the caller's own row objects stay as they were."""
    row = OrderRow(customer_row_type=3, text="Tack!")
    order = Order(customer_nr="013", invoice_date="2026-01-30", invoice_rows=[row, row, PRODUCT_ROW])
    assert [numbered.row_nr for numbered in order.invoice_rows] == [1, 2, 3]
    assert row.row_nr is None


def test_row_numbers_are_given_for_all_rows_or_none() -> None:
    """Numbers on some rows only are a problem at each row without."""
    rows = [{**TEXT_ROW, "RowNr": 5}, TEXT_ROW, OrderRow(customer_row_type=3, text="x")]
    assert list(problems(order_with(InvoiceRows=rows))) == ["InvoiceRows[1].RowNr", "InvoiceRows[2].RowNr"]


def test_row_numbers_are_unique() -> None:
    """A number given twice is told at the second row, naming the first."""
    found = problems(order_with(InvoiceRows=[{**TEXT_ROW, "RowNr": 5}, {**TEXT_ROW, "RowNr": 5}]))
    assert found == {
        "InvoiceRows[1].RowNr": "5 is already the RowNr of InvoiceRows[0]: it must be unique within an order"
    }


@pytest.mark.parametrize("row", [5, "text", None])
def test_of_a_row_that_is_no_object_only_that_is_told(row: object) -> None:
    """Nobody knows whether it has a number, so others need none for it; they are still compared with each other."""
    assert list(problems(order_with(InvoiceRows=[TEXT_ROW, row]))) == ["InvoiceRows[1]"]
    rows = [{**TEXT_ROW, "RowNr": 1}, row, TEXT_ROW]
    assert list(problems(order_with(InvoiceRows=rows))) == ["InvoiceRows[1]", "InvoiceRows[2].RowNr"]


def test_the_place_is_told_of_rows_made_before() -> None:
    """By the position in the order, and by the names that the caller uses for the order."""
    rows = [OrderRow(customer_row_type=3, text="x", row_nr=1), OrderRow(customer_row_type=3, text="y", row_nr=1)]
    with pytest.raises(OrderInvalid) as caught:
        Order(customer_nr="013", invoice_date="2026-01-30", invoice_rows=rows)
    assert [problem.path for problem in caught.value.problems] == ["invoice_rows[1].row_nr"]
    assert list(problems(order_with(InvoiceRows=rows))) == ["InvoiceRows[1].RowNr"]


def test_no_document_is_made_unchecked() -> None:
    """Neither by pydantic's `model_construct` nor by changing a copy: an order holds sound rows only."""
    row = OrderRow(customer_row_type=3, text="x")
    order = Order(customer_nr="013", invoice_date="2026-01-30", invoice_rows=[row])
    assert row.model_copy(update={"text": "y"}).text == "y"
    assert row.model_copy(update={"row_nr": None}) == row == row.model_copy()
    assert order.model_copy(update={"external_id": "A-1"}).body() == order.body()[:-1] + b',"ExternalId":"A-1"}'
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: row.model_copy(update={"quantity": "three"}), "quantity: must be a number"),
        (lambda: row.model_copy(update={"text": None}), "text: is mandatory on a text row"),
        (lambda: OrderRow.model_construct(customer_row_type=3), "text: is mandatory on a text row"),
        (lambda: order.model_copy(update={"invoice_rows": [row, {"customer_row_type": 4}]}), "invoice_rows[1]."),
        (lambda: Order.model_construct(customer_nr="013", invoice_rows=[row]), "invoice_date: is mandatory"),
    ]
    for make, message in wrong:
        with pytest.raises(OrderInvalid, match=f"^{re.escape(message)}"):
            make()


def test_direct_construction_raises_the_same_error() -> None:
    """Neither an order nor a row ever raises pydantic's own error, and paths are in the caller's spelling."""
    with pytest.raises(OrderInvalid, match=r"^customer_nr: must be text") as caught:
        Order(customer_nr=13, invoice_rows=[{"customer_row_type": 2}])  # type: ignore[call-arg, arg-type]  # wrong on purpose
    assert [problem.path for problem in caught.value.problems] == [
        "customer_nr",
        "invoice_date",
        "invoice_rows[0].product_nr",
        "invoice_rows[0].quantity",
        "invoice_rows[0].amount",
    ]
    with pytest.raises(OrderInvalid, match=r"^text: is mandatory on a text row"):
        OrderRow(customer_row_type=3)


@pytest.mark.parametrize("data", ["", "[]", "[{}]", "3", '"x"', "null", "{", b"\xff"])
def test_json_that_is_no_order_is_refused(data: bytes | str) -> None:
    """Broken JSON and JSON that is no object are problems of the order as a whole."""
    with pytest.raises(OrderInvalid) as caught:
        Order.from_json(data)
    assert [problem.path for problem in caught.value.problems] == [""]


def test_parse_gives_an_order_back_as_it_is() -> None:
    """An order is not copied, as its ExternalId is set on it."""
    order = Order.parse(order_with())
    assert Order.parse(order) is order


@pytest.mark.parametrize("excess", [0, 1])
def test_largest_body(excess: int) -> None:
    """An order of exactly the largest size is taken, one byte more is refused; the ExternalId to come counts."""
    order = Order.parse(order_with(Note="x"))
    order.ensure_external_id()
    note = "x" * (MAX_BODY_BYTES - len(order.body()) + 1 + excess)
    if excess:
        assert problems(order_with(Note=note)) == {
            "": "the order has 1,000,001 bytes as JSON; at most 1,000,000 are allowed"
        }
    else:
        largest = Order.parse(order_with(Note=note))
        largest.ensure_external_id()
        assert len(largest.body()) == MAX_BODY_BYTES


def test_example_of_the_document_comes_out_exactly() -> None:
    """The data of 3.3.1 makes its body, in the order of table 2.4."""
    order = Order.from_json(ORDER_EXAMPLE)
    assert order.body() == ORDER_EXAMPLE_BODY
    assert wire_body(order.body(), "object") == ORDER_EXAMPLE_BODY
    assert json.loads(wire_body(order.body(), "array")) == [json.loads(ORDER_EXAMPLE)]


def test_example_of_the_document_from_python() -> None:
    """The same order made in Python has the same body."""
    row = OrderRow(
        customer_row_type=2, product_nr="100-5t", quantity=3.0, amount=350, text="Skolbil m väktare", row_nr=1
    )
    assert Order(customer_nr="013", invoice_date=date(2026, 1, 30), invoice_rows=[row]).body() == ORDER_EXAMPLE_BODY


def test_external_id_is_made_once_and_on_the_object() -> None:
    """The made ExternalId stays, goes out last, and is the only addition."""
    order = Order.from_json(ORDER_EXAMPLE)
    made = order.ensure_external_id()
    assert order.ensure_external_id() == order.external_id == made
    assert order.body() == ORDER_EXAMPLE_BODY[:-1] + f',"ExternalId":"{made}"}}'.encode()


def test_given_external_id_is_kept() -> None:
    """The caller's own ExternalId is never replaced."""
    assert Order.parse(order_with(ExternalId="A-1")).ensure_external_id() == "A-1"


@pytest.mark.parametrize("external_id", ["", " a", "a\n", "x" * 65, "a\u200bb"])
def test_unfit_external_id_is_refused(external_id: str) -> None:
    """An ExternalId must be 1-64 printable characters without space at either end."""
    assert list(problems(order_with(ExternalId=external_id))) == ["ExternalId"]


def digest(**changes: object) -> bytes:
    """The content digest of the sound order with the changes made."""
    return Order.parse(order_with(**changes)).content_digest()


def row_digest(**changes: object) -> bytes:
    """The same with changes in its row."""
    return digest(InvoiceRows=[{**PRODUCT_ROW, **changes}])


def test_digest_does_not_see_how_numbers_and_names_are_written() -> None:
    """3, 3.0 and 3.00, given and made row numbers, and ExternalIds that fold alike are the same content."""
    written = [3, "3.0", "3.00", Decimal("0.3E+1"), 3.0]
    assert (
        len({row_digest(Quantity=quantity) for quantity in written} | {row_digest(RowNr=1), digest(OriginType=6)}) == 1
    )
    assert digest(ExternalId="Stra\u00dfe-\u00c5") == digest(ExternalId="STRASSE-A\u030a")


def test_digest_sees_every_other_difference() -> None:
    """Other values, other properties with the same value and other rows are other content."""
    digests = [
        digest(),
        digest(CustomerNr="13"),
        digest(Note="a"),
        digest(Note="a "),
        digest(Currency="a"),
        digest(ExternalId="a"),
        digest(InvoiceDate="2026-01-30T00:00:00"),
        digest(InvoiceRows=[PRODUCT_ROW, PRODUCT_ROW]),
        row_digest(Quantity="3.01"),
        row_digest(Quantity=30),
        row_digest(RowNr=2),
        row_digest(Note=None, Text="a"),
    ]
    assert len(set(digests)) == len(digests)
    assert {len(one) for one in digests} == {32}


def test_digest_never_changes_between_versions() -> None:
    """Digests are compared with those of old orders, so this value is frozen for ever."""
    order = Order.parse({**json.loads(ORDER_EXAMPLE), "ExternalId": "A-1"})
    assert order.content_digest().hex() == "38280613ccedb5907fa77f0a249cd6550f655b86ab772dd868deb5fbfdc2e139"
    assert order.derived_external_id(0, "file") == "bf80d646f41cb3e17565465f37fb8986603175d7"


def test_derived_external_id_is_stable_and_distinct() -> None:
    """Equal content gives equal ids per occurrence and batch, whatever the ExternalId; all else gives others."""
    order = Order.parse(order_with())
    assert order.derived_external_id(0) == Order.parse(order_with(ExternalId="x")).derived_external_id(0, "")
    ids = [order.derived_external_id(occurrence, batch) for occurrence in (0, 1, 10) for batch in ("", "0", "1", "é")]
    ids.append(Order.parse(order_with(Note="x")).derived_external_id(0))
    assert len(set(ids)) == len(ids)
    assert all(Order.parse(order_with(ExternalId=made)).external_id == made for made in ids)


texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
numbers = st.decimals(-(10**9), 10**9, places=4).map(str).map(Decimal)
by_type: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "integer": integers,
    "number": numbers,
    "boolean": st.booleans(),
    "date": st.dates() | st.datetimes(),
    "integers": st.lists(integers, max_size=3),
}


def any_of(table: list[tuple[str, str]], fixed: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Documents with the fixed properties and any of the others."""
    skipped = {*fixed, "RowNr", "OriginType", "ExternalId"}
    return st.fixed_dictionaries(fixed, optional={name: by_type[kind] for name, kind in table if name not in skipped})


filled = texts.filter(lambda text: bool(text.strip()))
rows = any_of(
    ROW, {"CustomerRowType": st.just(2), "ProductNr": filled, "Quantity": numbers, "Amount": numbers}
) | any_of(ROW, {"CustomerRowType": st.just(3), "Text": filled})
orders = any_of(
    HEADER,
    {
        "CustomerNr": filled,
        "InvoiceDate": by_type["date"],
        "InvoiceRows": st.lists(rows, min_size=1, max_size=3),
    },
)


@given(orders)
def test_any_order_comes_back_from_its_body(value: dict[str, Any]) -> None:
    """The body of an order, read as an order, has the same body and the same content."""
    order = Order.parse(value)
    again = Order.from_json(order.body())
    assert again == order
    assert again.body() == order.body()
    assert again.content_digest() == order.content_digest()


@given(st.decimals(-(10**6), 10**6, places=6).map(lambda number: format(number, "f")))
def test_decimals_are_exact_from_json_text_to_wire(number: str) -> None:
    """The digits of a number in JSON go out as they came in."""
    number = number.replace("-0.000000", "0.000000") if Decimal(number) == 0 else number
    text = wire.dumps(order_with()).replace(b'"Amount":350', f'"Amount":{number}'.encode())
    assert f'"Amount":{number},'.encode() in Order.from_json(text).body()


@pytest.mark.parametrize("name", ["CustomerNr", "OriginType", "SeqNr", "Import", "InvoiceRows", "InvoiceDate"])
def test_an_integer_that_python_does_not_write_out_is_refused(name: str) -> None:
    """However many digits it has, it is a problem of the order like any other."""
    with pytest.raises(OrderInvalid, match=name):
        Order.parse(order_with(**{name: 10**5000}))
