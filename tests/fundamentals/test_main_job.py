"""The living tutorial: one idea a test, real processes, nothing but the public surface and the vendor's books."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orderrelay_producers import JobState, OrderConflict, OrderInvalid
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.servers import wait_until
from tests.stack import order

if TYPE_CHECKING:
    from tests.stack import Stack

README = (Path(__file__).parents[2] / "README.md").read_text()


def _enqueue_file(stack: Stack, file: Path, *options: str) -> dict[str, int]:
    command = ["-c", "from orderrelay_shared.command import main; main()", "enqueue", str(file), "--json", *options]
    done = subprocess.run(
        [sys.executable, *command, "--company", "acme"],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_the_readme_shows_how_to_enqueue(sqlite_stack: Stack) -> None:
    """README's own lines of Python enqueue an order that is then created at the vendor."""
    sqlite_stack.worker()
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = code.replace("redis://127.0.0.1:6379/0", sqlite_stack.redis_url).replace(
        "booked=True", 'booked=True, company="acme"'
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=sqlite_stack.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split()[0]
    sqlite_stack.wait_for(["webshop-1001"], JobState.SUCCEEDED)
    sqlite_stack.assert_all_created_once(["webshop-1001"])


def test_the_same_order_again_is_the_same_job(sqlite_stack: Stack) -> None:
    """An ExternalId names one order for ever, however often it is enqueued and however it is written."""
    sqlite_stack.worker()
    first = sqlite_stack.producer.enqueue(order("Web-1"), company="acme", booked=True)
    again = sqlite_stack.producer.enqueue(order("web-1"), company="acme")
    assert first.wait(timeout=20).state is JobState.SUCCEEDED
    assert again.id == first.id
    assert sqlite_stack.created() == {"Web-1": [12614169]}


def test_other_content_under_the_same_external_id_is_a_conflict(sqlite_stack: Stack) -> None:
    """What is accepted is immutable: another order under its ExternalId is refused, and the first stays."""
    sqlite_stack.producer.enqueue(order("web-2"), company="acme")
    with pytest.raises(OrderConflict, match="web-2"):
        sqlite_stack.producer.enqueue(order("web-2", CustomerNr="11"), company="acme")


def test_a_bad_order_is_refused_at_the_door_with_all_its_problems(sqlite_stack: Stack) -> None:
    """`OrderInvalid` tells every problem at once, each with its place, and nothing reaches Redis."""
    bad = order("web-3", InvoiceDate="30/1", InvoiceRows=[{"CustomerRowType": 2, "ProductNr": "1", "Quantity": "tre"}])
    with pytest.raises(OrderInvalid) as caught:
        sqlite_stack.producer.enqueue(bad, company="acme")
    assert [problem.path for problem in caught.value.problems] == [
        "InvoiceDate",
        "InvoiceRows[0].Quantity",
        "InvoiceRows[0].Amount",
    ]


def test_a_lost_answer_is_looked_up_and_not_sent_again(sqlite_stack: Stack) -> None:
    """The vendor creates the order and answers 500: one request, one look-up, one order."""
    sqlite_stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="500-after", times=1),)))
    sqlite_stack.worker()
    job = sqlite_stack.producer.enqueue(order("web-4"), company="acme")
    assert job.wait(timeout=20).state is JobState.SUCCEEDED
    assert (sqlite_stack.requests("order"), sqlite_stack.created()) == (1, {"web-4": [12614169]})


def test_what_the_vendor_refuses_is_kept_with_its_words(sqlite_stack: Stack) -> None:
    """A refusal by a business rule is not retried; the vendor's number and message are there to be read."""
    sqlite_stack.worker()
    status = sqlite_stack.producer.enqueue(order("web-5", CustomerNr="BLOCKED-1"), company="acme").wait(timeout=20)
    assert (status.state, status.error_number) == (JobState.REJECTED, 26)
    assert "Kunden är spärrad" in str(status.reason)


def test_the_same_file_again_adds_nothing(sqlite_stack: Stack, tmp_path: Path) -> None:
    """Orders without ExternalId get one from their content and place among equals, so a file may be sent twice."""
    orders = [{**order(""), "ExternalId": None} for _ in range(3)]
    file = tmp_path / "orders.jsonl"
    file.write_text("".join(json.dumps(o) + "\n" for o in orders))
    first, second = _enqueue_file(sqlite_stack, file), _enqueue_file(sqlite_stack, file)
    assert (first["accepted"], second["accepted"], second["already"]) == (3, 0, 3)
    third = _enqueue_file(sqlite_stack, file, "--batch", "second-delivery")
    assert third["accepted"] == 3
    sqlite_stack.worker()
    wait_until(lambda: len(sqlite_stack.jobs()) == 6, what="all are booked")
    sqlite_stack.wait_for(list(sqlite_stack.jobs()), JobState.SUCCEEDED)
    assert len(sqlite_stack.created()) == 6
