"""The vendor fails or misleads: every order ends created once, rejected, or with a person, and by evidence only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule

if TYPE_CHECKING:
    from tests.stack import Stack

#: Faults after which the order is at the vendor, or not and may be sent again.
_CREATED = (
    "500-after",
    "hang-after",
    "reset-after",
    "truncated-after",
    "html-200-after",
    "no-keys-after",
    "error-9-after",
)
_SENT_AGAIN = ("500-before", "reset-before", "html-200-before")
_PARKED = ("no-keys-before",)
_REJECTED = ("business-rejection", "error-12-before", "422")


def _striking_once(*faults: str) -> FaultPlan:
    """A plan in which each fault strikes the first request of the order that is named for it."""
    return FaultPlan(rules=tuple(Rule(fault=fault, times=1, external_id_prefix=f"{fault}-0") for fault in faults))


def _with_known_order(stack: Stack) -> list[str]:
    """An order created while the vendor was well, so that look-ups can be believed."""
    stack.worker()
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    return known


def test_what_each_fault_means_is_found_out(stack: Stack) -> None:
    """Created ones are found and not sent again; absent ones are sent again, parked or rejected by their answer."""
    known = _with_known_order(stack)
    stack.simulator.set_plan(_striking_once(*_CREATED, *_SENT_AGAIN, *_PARKED, *_REJECTED))
    orders = {fault: stack.enqueue(1, fault)[0] for fault in (*_CREATED, *_SENT_AGAIN, *_PARKED, *_REJECTED)}
    stack.wait_for(list(orders.values()))
    created = [orders[fault] for fault in (*_CREATED, *_SENT_AGAIN)]
    parked, rejected = [orders[fault] for fault in _PARKED], [orders[fault] for fault in _REJECTED]
    stack.assert_all_created_once(known + created)
    stack.assert_kept_with_evidence(parked, JobState.PARKED)
    stack.assert_kept_with_evidence(rejected, JobState.REJECTED)
    sent = {x: job["requests"] for x, job in stack.jobs().items() if x in created}
    assert {x for x, requests in sent.items() if requests > 1} <= {orders[fault] for fault in _SENT_AGAIN}
    assert stack.requests() == len(known) + len(orders) + len(_SENT_AGAIN)
    assert stack.requests("lookup") == len(stack.attempts("lookup"))


def test_without_a_look_up_every_ambiguous_order_is_parked(postgres_stack: Stack) -> None:
    """Where nobody can find out, nothing is sent again: a person decides."""
    stack = postgres_stack
    stack.set_empty("LOOKUP_PATH")
    known = _with_known_order(stack)
    faults = ("500-before", "500-after", "reset-before", "reset-after", "hang-after")
    stack.simulator.set_plan(_striking_once(*faults))
    orders = [stack.enqueue(1, fault)[0] for fault in faults]
    stack.wait_for(orders, JobState.PARKED)
    stack.assert_kept_with_evidence(orders, JobState.PARKED)
    assert stack.requests() == len(known) + len(orders)
    assert stack.simulator.books.doubled() == {}
    assert stack.requests("lookup") == 0


def test_an_order_stays_unknown_while_the_look_up_fails_then_is_parked(sqlite_stack: Stack) -> None:
    """A failing look-up decides nothing; after LOOKUP_FAILING_SECONDS a person is asked."""
    stack = sqlite_stack
    stack.environment["ORDERRELAY_LOOKUP_FAILING_SECONDS"] = "4"
    _with_known_order(stack)
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="500-before"), Rule(fault="lookup-500"))))
    orders = stack.enqueue(1)
    stack.wait_for(orders, JobState.UNKNOWN)
    stack.wait_for(orders, JobState.PARKED)
    stack.assert_kept_with_evidence(orders, JobState.PARKED)
    assert all(job["lookups"] >= 2 for x, job in stack.jobs().items() if x in orders)
    assert stack.requests() == 2


def test_an_empty_list_of_a_blind_look_up_is_not_believed(sqlite_stack: Stack) -> None:
    """A look-up that does not even find a known order proves nothing: nothing is sent again."""
    stack = sqlite_stack
    stack.environment["ORDERRELAY_LOOKUP_FAILING_SECONDS"] = "4"
    known = _with_known_order(stack)
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="500-after"), Rule(fault="lookup-blind"))))
    orders = stack.enqueue(3)
    stack.wait_for(orders, JobState.PARKED)
    stack.assert_kept_with_evidence(orders, JobState.PARKED)
    assert stack.requests() == 4
    assert sorted(stack.created()) == sorted(known + orders)
    assert stack.simulator.books.doubled() == {}


def test_a_lagging_look_up_does_not_double(sqlite_stack: Stack) -> None:
    """An order that the look-up shows only after a while is found by the second one, and not sent again."""
    stack = sqlite_stack
    stack.environment["ORDERRELAY_SETTLING_SECONDS"] = "3"
    known = _with_known_order(stack)
    rules = (Rule(fault="500-after", external_id_prefix="A-"),)
    stack.simulator.set_plan(FaultPlan(rules=rules, lookup_lag_seconds=2.5))
    orders = stack.enqueue(3)
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(known + orders)
    assert stack.requests() == 4
