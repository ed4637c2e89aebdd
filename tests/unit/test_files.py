"""Orders from a file: lines, and ExternalIds that are the same at every run."""

from __future__ import annotations

import io
import json

import pytest

from orderrelay_producers.files.lines import Line, read_lines
from orderrelay_producers.files.occurrences import Occurrences
from orderrelay_producers.files.records import FileUnreadable
from orderrelay_shared.orders import Order


def order(*, quantity: object = 3, external_id: str | None = None) -> Order:
    """A small order."""
    row = {"CustomerRowType": 2, "ProductNr": "1", "Quantity": quantity, "Amount": 1}
    return Order.parse(
        {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [row], "ExternalId": external_id}
    )


def lines(text: bytes) -> list[Line]:
    """The lines of a file with that content."""
    return list(read_lines(io.BytesIO(text)))


def identified(batch: str, *orders: Order) -> list[str | None]:
    """The ExternalIds that the orders of one file get."""
    occurrences = Occurrences(batch)
    return [occurrences.identify(each).external_id for each in orders]


def test_blank_lines_are_skipped_and_counted() -> None:
    """A line keeps its number in the file, however many blank ones stand before it."""
    assert [(line.number, line.content) for line in lines(b"{1}\n\n  \t\r\n{2}")] == [(1, b"{1}"), (4, b"{2}")]


def test_a_line_is_kept_as_it_stands() -> None:
    """What is written to the rejects is what was read, byte for byte."""
    text = b"\xef\xbb\xbf {1} \r\n{2}"
    assert b"".join(line.raw for line in lines(text)) == text


def test_a_byte_order_mark_is_no_part_of_the_order() -> None:
    """Files from Windows begin with a mark that JSON does not know."""
    assert lines(b"\xef\xbb\xbf{1}\n")[0].content == b"{1}"


def test_an_endless_line_is_refused() -> None:
    """A file without line ends does not fill the memory."""
    with pytest.raises(FileUnreadable, match="line 2 is longer than 10 bytes"):
        list(read_lines(io.BytesIO(b"{1}\n" + b"x" * 1000), line_max_bytes=10))


def test_a_given_external_id_stays() -> None:
    """An order with its own ExternalId keeps it."""
    given = order(external_id="A-1")
    assert Occurrences().identify(given) is given


def test_the_same_file_gives_the_same_ids() -> None:
    """Reading a file again gives every order the ExternalId that it had."""
    file = (order(quantity=1), order(quantity=2), order(quantity=1))
    assert identified("", *file) == identified("", *file)


def test_identical_orders_of_a_file_are_orders_of_their_own() -> None:
    """The second of two identical orders has another ExternalId, as it is another order."""
    ids = identified("", order(), order(), order())
    assert len(set(ids)) == 3


def test_lines_between_do_not_change_an_id() -> None:
    """An ExternalId depends on the order's content and identical orders before it, not on other lines."""
    one, other = order(quantity=1), order(quantity=2)
    assert identified("", one)[0] == identified("", other, other, one)[2]


def test_numbers_written_otherwise_are_identical() -> None:
    """3 and 3.00 are the same quantity, so these are two identical orders, and not one and another."""
    assert identified("", order(quantity=3), order(quantity=3)) == identified(
        "", Order.from_json(json.dumps(json.loads(order().body()))), order(quantity="3.00")
    )


def test_the_batch_tells_files_apart() -> None:
    """The same content in a file of another batch is another order."""
    assert identified("monday", order()) != identified("tuesday", order())


@pytest.mark.parametrize("spelling", ["ExternalId", "external_id"])
def test_an_order_and_its_properties_get_the_same_id(spelling: str) -> None:
    """Whether an order is read into an `Order` or not, its derived ExternalId is the same, and so is the order."""
    properties: dict[str, object] = {**json.loads(order().body()), spelling: None}
    occurrences, others = Occurrences("monday"), Occurrences("monday")
    for _ in range(2):
        named = Order.parse(occurrences.name(properties))
        assert named.body() == others.identify(order()).body()


def test_an_identified_order_says_so_on_the_wire() -> None:
    """The derived ExternalId goes to the vendor."""
    identified_order = Occurrences().identify(order())
    assert json.loads(identified_order.body())["ExternalId"] == identified_order.external_id
