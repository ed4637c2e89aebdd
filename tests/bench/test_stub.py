"""The stub of the benches: what it reads, what it creates, and what it counts."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.operation_results import OperationResult
from tests.bench.orders import bench_order
from tests.bench.stub import Books, NotUnderstood, read_request
from tests.bench.vendor import Vendor, start_vendor
from tests.processes import Processes
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDERS = "/Economy/Billing/Orders?companyApiKey=a&token=b"


def test_a_request_is_read_with_its_end() -> None:
    """Method, target and body, and where the next request begins."""
    data = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
    first = read_request(data, 0)
    assert first is not None
    assert first[0] == (b"POST", b"/a?b=c", b"abc")
    assert read_request(data, first[1]) == ((b"GET", b"/", b""), len(data))


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length", b"CONTENT-LENGTH"])
def test_the_case_of_a_header_is_no_matter(name: bytes) -> None:
    """Clients differ in how they write it."""
    read = read_request(b"POST / HTTP/1.1\r\n" + name + b":  2\r\nA: b\r\n\r\n[]", 0)
    assert read is not None
    assert read[0].body == b"[]"


def test_half_a_request_is_waited_for() -> None:
    """Wherever it is cut, there is no request before its last byte."""
    data = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n[{}]"
    assert [read_request(data[:length], 0) for length in range(len(data))] == [None] * len(data)


@pytest.mark.parametrize("head", [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", b"POST /"])
def test_a_request_without_a_known_end_is_refused(head: bytes) -> None:
    """It would be counted wrongly."""
    with pytest.raises(NotUnderstood):
        read_request(head + b"\r\n\r\n", 0)


@pytest.mark.parametrize("number", [1, 3])
def test_the_answer_has_every_property_and_an_entry_an_order(number: int) -> None:
    """It is an operation result like the vendor's, however many orders were in the request."""
    body = json.dumps([bench_order(n) for n in range(number)]).encode()
    answer = json.loads(Books().create(body, 1.0))
    assert len(answer) == 29
    assert set(answer) <= {field.alias for field in OperationResult.model_fields.values()}
    assert answer["Success"] is True
    assert [str(key) for key in answer["Keys"]] == answer["Strings"]
    assert len(set(answer["Keys"])) == number


def test_books_count_orders_and_duplicates() -> None:
    """An ExternalId that comes again is a duplicate, in whichever request; its look-up tells both ids."""
    books = Books()
    books.create(b'[{"ExternalId":"a"},{"ExternalId": "b"}]', 1.0)
    books.create(b'[{"ExternalId":"a"}]', 2.0)
    counts = books.counts
    assert (counts.requests, counts.orders, counts.distinct, counts.duplicates) == (2, 3, 2, 1)
    assert (counts.first_at, counts.last_at) == (1.0, 2.0)
    assert len(json.loads(books.look_up(b"/x?type=6&externalId=a"))) == 2
    assert json.loads(books.look_up(b"/x?externalId=c")) == []


def test_an_order_without_external_id_is_refused() -> None:
    """It could not be counted."""
    books = Books()
    assert books.create(b"[{}]", 1.0) == b""
    assert (books.counts.refused, books.counts.orders) == (1, 0)


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    """A running stub."""
    processes = Processes(tmp_path)
    running = start_vendor(processes)
    yield running
    running.close()
    processes.end()


def ask(vendor: Vendor, method: str, target: str, body: bytes | None = None) -> object:
    """One request on a connection of its own; gives the JSON of its answer."""
    connection = http.client.HTTPConnection(vendor.url.removeprefix("http://"), timeout=10)
    connection.request(method, target, body)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def test_it_answers_over_http(vendor: Vendor) -> None:
    """Orders, look-ups and logins are answered and counted, under names in any case."""
    assert isinstance(ask(vendor, "POST", "/login/token/?companyApiKey=a", b"{}"), dict)
    ask(vendor, "POST", ORDERS, json.dumps([bench_order(7)]).encode())
    found = ask(vendor, "GET", "/Economy/Billing/InvoiceIdsFromExternalId/?type=6&externalId=bench-0000007")
    assert found == [12_000_000]
    counts = vendor.counts()
    assert (counts.logins, counts.orders, counts.look_ups, counts.in_flight) == (1, 1, 1, 0)


def test_held_orders_are_answered_when_released(vendor: Vendor) -> None:
    """While it holds, orders arrive and get no answer; then all do."""
    vendor.hold()
    answers: list[object] = []

    def send(number: int) -> None:
        answers.append(ask(vendor, "POST", ORDERS, json.dumps([bench_order(number)]).encode()))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: vendor.counts().held == 3, what="all are held")
    assert answers == []
    vendor.release()
    for thread in threads:
        thread.join()
    counts = vendor.counts()
    assert (len(answers), counts.held, counts.in_flight, counts.most_in_flight) == (3, 0, 0, 3)
