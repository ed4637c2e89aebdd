"""The main job: what one process enqueues, another creates at the vendor, and everybody can see it."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from orderrelay_producers import QueueUnavailable
from orderrelay_shared.states import JobState
from tests.stack import order

if TYPE_CHECKING:
    from tests.stack import Stack

_PRODUCE = """
import json, sys
from orderrelay_producers import OrderProducer
with OrderProducer(sys.argv[1]) as producer:
    job = producer.enqueue(json.loads(sys.argv[2]), company="acme")
    status = job.wait(30)
heavy = [name for name in ("orderrelay_workers", "celery", "sqlalchemy", "httpx") if name in sys.modules]
print(json.dumps({"state": status.state, "number": status.order_number, "vendor_id": status.vendor_id, "heavy": heavy}))
"""


def test_an_order_enqueued_by_one_process_is_created_by_another(stack: Stack) -> None:
    """A process with only the producers' package enqueues; a worker creates; the result is stored and readable."""
    stack.worker()
    producing = stack.processes.start_python(["-c", _PRODUCE, stack.redis_url, json.dumps(order("A-1"))])
    assert producing.wait(40) == 0, producing.log
    told = json.loads(producing.log)
    [vendor_id] = stack.created()["A-1"]
    [created] = stack.simulator.books.orders()
    assert told == {"state": "succeeded", "number": str(created.number), "vendor_id": vendor_id, "heavy": []}
    stack.wait_for_results(1)
    [result] = stack.rows("SELECT success, keys, strings FROM operation_result")
    assert (bool(result.success), json.loads(result.keys), json.loads(result.strings)) == (
        True, [vendor_id], [str(created.number)],
    )  # fmt: skip
    stack.assert_all_created_once(["A-1"])


def test_booked_returns_only_after_the_commit(stack: Stack) -> None:
    """While the ledger takes no job row, `booked=True` does not return; once it does, the row is there."""
    stack.worker()
    outcome: list[str] = []

    def enqueue() -> None:
        stack.producer.enqueue(order("B-1"), company="acme", booked=True, timeout=30)
        outcome.append(stack.states().get("B-1", "no row"))

    with stack.engine.connect() as blocker:
        if not stack.is_sqlite:  # SQLite's transactions begin with the only write lock there is
            blocker.execute(sa.text("LOCK TABLE job IN EXCLUSIVE MODE"))
        else:
            blocker.execute(sa.text("SELECT 1"))
        thread = threading.Thread(target=enqueue)
        thread.start()
        with pytest.raises(QueueUnavailable) as unavailable:
            stack.producer.enqueue(order("B-2"), company="acme", booked=True, timeout=1.5)
        assert unavailable.value.maybe_taken
        assert outcome == []
        blocker.rollback()
    thread.join(30)
    assert outcome
    assert outcome[0] != "no row"
    stack.wait_for(["B-1", "B-2"], JobState.SUCCEEDED)
    stack.assert_all_created_once(["B-1", "B-2"])


def test_the_same_order_enqueued_again_is_the_same_job(stack: Stack) -> None:
    """However often an ExternalId arrives, one order is created."""
    stack.worker()
    for _ in range(3):
        assert [line.error for line in stack.producer.enqueue_many([order("C-1")] * 5, company="acme")] == [None] * 5
    stack.wait_for(["C-1"], JobState.SUCCEEDED)
    stack.assert_all_created_once(["C-1"])
