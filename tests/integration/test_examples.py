"""The examples of docs/examples as their readers would run them: real processes, a real Redis, a real worker."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from orderrelay_workers.testing import OrderrelayStack
from tests.processes import Processes, RunningProcess
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def shop_order(number: int, **changes: object) -> dict[str, Any]:
    """An order as a shop has it."""
    line = {"product": "100-5t", "quantity": 3, "price": 349.9}
    return {"id": number, "customer": "013", "placed_on": "2026-01-30", "lines": [line], **changes}


@pytest.fixture(scope="module")
def stack() -> Iterator[OrderrelayStack]:
    """One stack for all examples; each has ids of its own."""
    with OrderrelayStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Processes for all tests here."""
    processes = Processes(tmp_path_factory.mktemp("examples"))
    yield processes
    processes.end()


@pytest.fixture(scope="module", params=["fastapi", "django"])
def service(request: pytest.FixtureRequest, stack: OrderrelayStack, running: Processes) -> Iterator[httpx.Client]:
    """A client of each web service, which runs as its first lines say."""
    port = free_port()
    commands = {
        "fastapi": ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port), "fastapi_shop:app"],
        "django": [str(EXAMPLES / "django_shop.py"), "runserver", "--noreload", str(port)],
    }
    command = commands[str(request.param)]
    process = running.start_python(command, {"ORDERRELAY_REDIS_URL": stack.redis_url}, name=str(request.param))
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
        wait_until(lambda: is_up(process, client), 40, what=f"{request.param} answers")
        yield client
    process.kill9()


def is_up(process: RunningProcess, client: httpx.Client) -> bool:
    """Whether the service answers anything."""
    assert process.is_running, process.log
    try:
        client.get("/")
    except httpx.TransportError:
        return False
    return True


@pytest.fixture
def number(request: pytest.FixtureRequest) -> int:
    """A shop's order id of this test alone."""
    return zlib.crc32(request.node.nodeid.encode()) * 10  # each takes at most ten


def settled(service: httpx.Client, path: str) -> dict[str, Any]:
    """The order, as soon as its state does not change any more."""
    found: dict[str, Any] = {}

    def ask() -> bool:
        answer = service.get(path)
        assert answer.status_code == 200, answer.text
        found.update(answer.json())
        return found["state"] not in ("waiting", "in_progress", "unknown")

    wait_until(ask, 30, what=f"{path} is settled")
    return found


def test_an_order_sent_twice_is_created_once(service: httpx.Client, stack: OrderrelayStack, number: int) -> None:
    """Both times it is accepted, as the same job; the status has the vendor's number."""
    first, again = (service.post("/orders", json=shop_order(number)) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    told = settled(service, first.json()["status"])
    assert (told["state"], told["reason"]) == ("succeeded", None)
    assert int(told["order_number"]) >= 200
    stack.vendor.assert_created_once(f"webshop-{number}")


def test_a_rejected_order_tells_the_vendors_reason(service: httpx.Client, stack: OrderrelayStack, number: int) -> None:
    """The shop can show it."""
    stack.vendor.fault("order refused", external_id=f"webshop-{number}")
    told = settled(service, service.post("/orders", json=shop_order(number)).json()["status"])
    assert told["state"] == "rejected"
    assert "Kunden är spärrad" in told["reason"]


def test_a_bad_order_is_answered_with_its_problems(service: httpx.Client, number: int) -> None:
    """422, and where the problem is."""
    answer = service.post("/orders", json=shop_order(number, lines=[]))
    assert answer.status_code == 422
    (problem,) = answer.json()["problems"]
    assert problem["path"] in ("InvoiceRows", "invoice_rows")  # as the service spelled it
    assert problem["message"] == "must have at least one row"


def test_what_is_no_order_is_refused(service: httpx.Client) -> None:
    """Whatever the shop's own fields lack is the client's mistake, and no server error."""
    for body in ("{", "[]", "{}", '{"id": 1}'):
        answer = service.post("/orders", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)


def test_another_order_under_the_same_id_is_a_conflict(service: httpx.Client, number: int) -> None:
    """409; the first stays."""
    service.post("/orders", json=shop_order(number))
    answer = service.post("/orders", json=shop_order(number, customer="014"))
    assert answer.status_code == 409
    assert "the first order stays" in answer.json()["detail"]


def test_an_order_that_nobody_sent_is_not_found(service: httpx.Client) -> None:
    """404."""
    assert service.get("/orders/1").status_code == 404


def test_without_redis_the_client_is_asked_to_come_again(
    service: httpx.Client, stack: OrderrelayStack, number: int
) -> None:
    """503 for orders and for questions; sent again, the order is created once."""
    with stack.without_redis():
        answers = [service.post("/orders", json=shop_order(number)), service.get(f"/orders/{number}")]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert "Enqueueing the order" in answers[0].json()["detail"]
    again = service.post("/orders", json=shop_order(number))
    assert settled(service, again.json()["status"])["state"] == "succeeded"
    stack.vendor.assert_created_once(f"webshop-{number}")


def send(running: Processes, stack: OrderrelayStack, *orders: dict[str, Any]) -> RunningProcess:
    """Run the script over a file of orders; returns when it has ended."""
    file = running.folder / "shop_orders.json"
    file.write_text(json.dumps(orders))
    process = running.start_python(
        [str(EXAMPLES / "send_orders.py"), str(file)], {"ORDERRELAY_REDIS_URL": stack.redis_url}, name="script"
    )
    process.wait(60)
    return process


def test_the_script_may_be_run_again(running: Processes, stack: OrderrelayStack, number: int) -> None:
    """It tells how each order ended, and the second run creates nothing."""
    for _ in range(2):
        process = send(running, stack, shop_order(number), shop_order(number + 1))
        assert process.wait() == 0, process.log
        assert [line.split()[:2] for line in process.log.splitlines()] == [
            [f"webshop-{number}:", "succeeded"],
            [f"webshop-{number + 1}:", "succeeded"],
        ]
    stack.vendor.assert_created_once(f"webshop-{number}", f"webshop-{number + 1}")


def test_the_script_tells_which_order_is_bad(running: Processes, stack: OrderrelayStack, number: int) -> None:
    """And sends the others: exit 1."""
    process = send(running, stack, shop_order(number, lines=[]), shop_order(number + 1))
    assert process.wait() == 1, process.log
    assert f"{number}: InvoiceRows: must have at least one row" in process.log
    stack.vendor.assert_created_once(f"webshop-{number + 1}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "shop_orders.json: cannot be read: [Errno 2] No such file or directory"),
        ('[{"id": 1,', "shop_orders.json: cannot be read: Expecting property name"),
        ('{"id": 1}', "shop_orders.json: must be a JSON array of orders"),
        ('[{"id": 1}]', "shop_orders.json: order 1 is none of the shop's: KeyError: 'customer'"),
        ("[5]", "shop_orders.json: order 1 is none of the shop's: TypeError: 'int' object is not subscriptable"),
    ],
)
def test_the_script_says_what_is_wrong_with_its_file(running: Processes, text: str | None, told: str) -> None:
    """Exit 2, no traceback, and nothing is sent."""
    file = running.folder / "shop_orders.json"
    file.unlink(missing_ok=True)
    if text is not None:
        file.write_text(text)
    process = running.start_python([str(EXAMPLES / "send_orders.py"), str(file)], {}, name="script")
    assert process.wait(60) == 2, process.log
    assert told in process.log
    assert "Traceback" not in process.log


def test_the_script_says_that_it_may_be_run_again(running: Processes, number: int) -> None:
    """Where there is no Redis: exit 3, no traceback."""
    file = running.folder / "shop_orders.json"
    file.write_text(json.dumps([shop_order(number)]))
    nowhere = {"ORDERRELAY_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    process = running.start_python([str(EXAMPLES / "send_orders.py"), str(file)], nowhere, name="script")
    assert process.wait(60) == 3, process.log
    assert "Enqueueing the order of this error" in process.log
    assert "Traceback" not in process.log
