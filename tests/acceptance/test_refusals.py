"""The vendor says "not now" or "not you": nothing is lost, no attempt is spent, and nobody else suffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.simulator import Credentials, FaultPlan, Rule, running_simulator
from tests.servers import free_port, wait_until
from tests.stack import company

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.stack import Stack


def _attempts_spent(stack: Stack, external_ids: Iterable[str]) -> set[int]:
    jobs = stack.jobs()
    return {jobs[external_id]["attempts"] for external_id in external_ids}


def test_wrong_credentials_pause_their_company_only(sqlite_stack: Stack) -> None:
    """A refused login stops that company with the reason, without thousands of tries; another company goes on."""
    stack = sqlite_stack
    stack.environment |= company("other")
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="login-failed", company_key="acme-key", seconds=0.1),)))
    stack.workers(2)
    waiting, served = stack.enqueue(10), stack.enqueue(10, "O", company="other")
    stack.wait_for(served, JobState.SUCCEEDED)
    paused = "SELECT alias, paused_reason FROM company WHERE paused_reason IS NOT NULL"
    wait_until(lambda: [tuple(row) for row in stack.rows(paused)] == [("acme", "credentials")], what="acme is paused")
    logins = stack.requests("login")
    later = stack.enqueue(5, "later", company="other")
    stack.wait_for(later, JobState.SUCCEEDED)
    assert {stack.states()[x] for x in waiting} == {JobState.WAITING}
    assert _attempts_spent(stack, waiting) == {0}
    assert stack.requests("login") == logins <= 4
    assert stack.alarms() == ["company_paused"]


def test_a_vendor_that_takes_no_connection_is_waited_for(sqlite_stack: Stack) -> None:
    """Nothing can be sent, so no attempt is spent and few connections are tried; once it is back, all are created."""
    stack = sqlite_stack
    port = free_port()
    stack.environment |= company("acme", TOKEN="fixed-token", MAX_IN_FLIGHT="5")
    stack.environment["ORDERRELAY_BASE_URL"] = f"http://127.0.0.1:{port}"
    stack.workers(2)
    orders = stack.enqueue(30)
    wait_until(lambda: len(stack.attempts()) >= 5, what="connections were tried")
    with running_simulator(port=port, credentials=Credentials(token="fixed-token")) as back:
        stack.simulator = back
        stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
        failed = [a for a in stack.attempts() if a["outcome"] == Outcome.NOT_CREATED]
        assert {a["sent"] for a in failed} == {False}
        assert len(failed) <= 15
        assert _attempts_spent(stack, orders) == {1}
        stack.assert_all_created_once(orders)


def test_all_workers_heed_a_retry_after(sqlite_stack: Stack) -> None:
    """After a 429 only what was already on its way arrives, and then nothing before the vendor's time is over."""
    stack = sqlite_stack
    stack.environment |= company("acme", RATE_PER_SECOND="20")
    stack.workers(2)
    known = stack.enqueue(5, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="429-retry-after", times=1, seconds=4),)))
    orders = stack.enqueue(50)
    stack.wait_for(orders, JobState.SUCCEEDED)
    requests = [request for request in stack.simulator.books.requests() if request.kind == "order"]
    [told_at] = [request.arrived_monotonic for request in requests if request.status == 429]
    after = [request.arrived_monotonic - told_at for request in requests]
    assert [seconds for seconds in after if 1.5 < seconds < 3.9] == []
    assert max(after) > 3.9
    assert _attempts_spent(stack, orders) == {1}
    stack.assert_all_created_once(known + orders)


def test_ended_sessions_cost_one_login(sqlite_stack: Stack) -> None:
    """Every token is refused at once: the workers log in once more between them, and all orders are created."""
    stack = sqlite_stack
    stack.environment |= company("acme", RATE_PER_SECOND="40")
    stack.workers(2)
    orders = stack.enqueue(60)
    wait_until(lambda: len(stack.created()) >= 15, what="some are created")
    stack.simulator.end_sessions()
    stack.wait_for(orders, JobState.SUCCEEDED)
    assert stack.requests("login") == 2
    assert any(a["outcome"] == Outcome.UNAUTHORIZED for a in stack.attempts())
    assert _attempts_spent(stack, orders) == {1}
    stack.assert_all_created_once(orders)


def test_the_rate_is_kept_by_all_workers_together(sqlite_stack: Stack) -> None:
    """Two workers send no faster than the company's one rate."""
    stack = sqlite_stack
    stack.environment |= company("acme", RATE_PER_SECOND="20", BURST="1")
    stack.workers(2)
    orders = stack.enqueue(60)
    stack.wait_for(orders, JobState.SUCCEEDED)
    arrivals = stack.simulator.arrivals()
    # A loaded machine may bunch what was spaced, so it is counted over seconds and not between neighbours.
    in_any_second = max(sum(1 for a in arrivals if 0 <= a - start < 1.0) for start in arrivals)
    assert in_any_second <= 30
    assert arrivals[-1] - arrivals[0] >= 2.5
    stack.assert_all_created_once(orders)
