"""A worker is killed with SIGKILL at every place where that could lose or double an order."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import redis

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.servers import wait_until
from tests.stack import company

if TYPE_CHECKING:
    from tests.stack import Stack

_PACKAGE = "orderrelay_workers"

#: Where the worker dies, in an order in which what one leaves behind cannot make the next die elsewhere.
_PLACES = {
    "in-settle-before-commit": f"before {_PACKAGE}.ledger.settling:write_events",
    "in-results-before-commit": f"after {_PACKAGE}.audit.results:_insert",
    "settled-before-anything-more": f"before {_PACKAGE}.aftermath:Aftermath._judge_tokens",
    "answered-before-settle": f"before {_PACKAGE}.aftermath:settle_surely",
    "claimed-before-sending": f"after {_PACKAGE}.ledger.claims:claim",
    "read-before-commit": f"before {_PACKAGE}.ledger.booking:book",
    "committed-before-ack": f"before {_PACKAGE}.sidecar.intake:Intake._delete",
    "looked-up-before-settle": f"before {_PACKAGE}.reconciliation:settle_lookups",
}


@pytest.mark.timeout(240)  # nine workers one after the other, on a machine that may be busy
def test_workers_killed_at_every_place_neither_lose_nor_double(stack: Stack) -> None:
    """One worker after the other dies at another place; the last one brings every order to the vendor once."""
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="500-after", external_id_prefix="looked-up"),)))
    orders: list[str] = []
    for number, (place, where) in enumerate(_PLACES.items()):
        worker = stack.crashing_worker(where)
        if number == 0:  # look-ups are believed where they find an order that is known to exist
            orders += stack.enqueue(1, "known")
            stack.wait_for(orders, JobState.SUCCEEDED)
        worker.arm()
        orders += stack.enqueue(4, place)
        worker.wait_for_crash()
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
    stack.assert_all_created_once(orders, exact=False)
    stack.wait_for_results(len([a for a in stack.attempts() if a["http_status"] == 200]))
    with redis.Redis.from_url(stack.redis_url) as client:
        wait_until(lambda: client.xlen(keys.INTAKE) == 0, 15, what="the intake is empty")
        assert client.xpending(keys.INTAKE, keys.INTAKE_GROUP)["pending"] == 0
        wait_until(lambda: client.hlen(keys.gate_in_flight("acme")) == 0, 15, what="nothing is in flight at the gate")


#: Where a worker dies that has requests with several orders in its hands.
_PLACES_OF_SEVERAL = {
    "claimed": f"after {_PACKAGE}.ledger.claims:claim",
    "sent": f"soon-after {_PACKAGE}.vendor.departure:Departure.begin",
    "answered": f"before {_PACKAGE}.aftermath:settle_surely",
    "settling": f"before {_PACKAGE}.ledger.settling:write_events",
    "settled": f"before {_PACKAGE}.aftermath:Aftermath._judge_tokens",
}


@pytest.mark.timeout(240)  # six workers one after the other, on a machine that may be busy
def test_workers_killed_with_several_orders_in_a_request_neither_lose_nor_double(stack: Stack) -> None:
    """Each dies at another place with ten orders in a request; the last one brings every order to the vendor once."""
    stack.environment |= company("acme", RATE_PER_SECOND="20", BURST="1")
    stack.environment["ORDERRELAY_ORDERS_PER_REQUEST"] = "10"
    stack.simulator.set_plan(FaultPlan(latency_ms=50))
    orders: list[str] = []
    for place, where in _PLACES_OF_SEVERAL.items():
        worker = stack.crashing_worker(where)
        grown = stack.enqueue(60, f"before-{place}")  # the groups grow by these
        stack.wait_for(grown, JobState.SUCCEEDED)
        worker.arm()
        orders += grown + stack.enqueue(30, place)
        worker.wait_for_crash()
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=90)
    stack.assert_all_created_once(orders, exact=False)
    largest = Counter(made.body_digest for made in stack.simulator.books.orders()).most_common(1)[0][1]
    assert largest == 10
    assert stack.requests() < len(orders) / 2
    wait_until(lambda: stack.rows("SELECT count(*) FROM attempt WHERE stored_at IS NULL")[0][0] == 0, 15, what="stored")


def test_a_worker_killed_while_the_vendor_thinks_neither_loses_nor_doubles(stack: Stack) -> None:
    """The vendor has the whole request and no answer went back: found by a look-up, or sent again after two misses."""
    worker = stack.worker()
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    hangs = [Rule(fault=f"hang-{when}", times=3, external_id_prefix=when) for when in ("before", "after")]
    stack.simulator.set_plan(FaultPlan(rules=tuple(hangs)))
    absent, present = stack.enqueue(3, "before"), stack.enqueue(3, "after")
    wait_until(lambda: stack.requests() == 7, what="the vendor has all requests")
    worker.kill9()
    assert sorted(stack.created()) == sorted(known + present)
    stack.worker()
    stack.wait_for(absent + present, JobState.SUCCEEDED)
    stack.assert_all_created_once(known + absent + present)
    assert stack.requests() == 10
    attempts = {x: job["attempts"] for x, job in stack.jobs().items()}
    assert attempts == dict.fromkeys(known + present, 1) | dict.fromkeys(absent, 2)
