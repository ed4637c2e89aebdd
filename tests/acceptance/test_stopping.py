"""Workers are stopped, frozen, added and killed under load, as deployments and machines do it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.servers import wait_until
from tests.stack import company

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.stack import Stack


def _slow_vendor(stack: Stack, per_second: int) -> None:
    """Answers that take a while, so that requests are always out when something happens."""
    stack.environment |= company("acme", RATE_PER_SECOND=str(per_second))
    stack.simulator.set_plan(FaultPlan(latency_ms=300.0))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_wastes_nothing(stack: Stack, number: signal.Signals) -> None:
    """The worker exits 0 in time, settles what is out and hands the rest back, at no attempt's cost; Ctrl-C as well."""
    _slow_vendor(stack, 30)
    worker = stack.worker()
    orders = stack.enqueue(60)
    wait_until(lambda: len(stack.created()) >= 10, what="ten are created")
    worker.signal(number)
    assert worker.wait(15) == 0
    states = stack.states()
    assert set(states.values()) == {JobState.SUCCEEDED, JobState.WAITING}
    assert {job["attempts"] for job in stack.jobs().values() if job["state"] == JobState.WAITING} == {0}
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()
    assert stack.requests() == len(orders)


def test_a_worker_frozen_for_longer_than_its_lease_doubles_nothing(stack: Stack) -> None:
    """Its claims are swept and found out by another; thawed, it sends nothing more under them, and loses no answer."""
    _slow_vendor(stack, 10)
    frozen = stack.worker()
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    orders = stack.enqueue(20)
    wait_until(lambda: stack.requests() >= 4, what="some requests are out")
    wait_until(lambda: _frozen_with_claims(stack, frozen), what="it is frozen, and holds claims")
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
    requests = stack.requests()
    frozen.thaw()
    later = stack.enqueue(2, "later")
    stack.wait_for(later, JobState.SUCCEEDED)
    frozen.sigterm()
    assert frozen.wait(20) == 0
    assert stack.requests() == requests + len(later)
    stack.assert_all_created_once(known + orders + later, exact=False)


def _frozen_with_claims(stack: Stack, worker: RunningProcess) -> bool:
    """Freeze it, but not in the middle of a transaction: the one lock of SQLite would stay with it."""
    worker.freeze()
    if stack.is_writable() and JobState.IN_PROGRESS in stack.states().values():
        return True
    worker.thaw()
    return False


def test_three_workers_share_the_work_while_one_joins_and_one_is_killed(stack: Stack) -> None:
    """Workers may be added and killed at any time: each order is created once, and all of them took part."""
    _slow_vendor(stack, 30)
    # The vendor takes so few at once that no worker can have all: the gate shares them out.
    stack.environment |= company("acme", RATE_PER_SECOND="30", MAX_IN_FLIGHT="20")
    first, *_ = stack.workers(3)
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    orders = stack.enqueue(400)  # so many that a worker which starts late on a busy machine gets its share
    wait_until(lambda: len(_took_part(stack)) == 3, 30, what="all three took part")
    added = stack.command("worker")
    first.kill9()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
    assert added.is_running
    stack.assert_all_created_once(known + orders, exact=False)


def _took_part(stack: Stack) -> set[object]:
    return {attempt["worker"] for attempt in stack.attempts()}


def test_a_killed_worker_does_not_hold_up_a_company_at_the_gate(sqlite_stack: Stack) -> None:
    """All places in flight are a dead worker's: they become free, and the rest is sent.

    Some of the rest may have been claimed for these places already, so nobody can know that it had not left.
    """
    stack = sqlite_stack
    stack.environment |= company("acme", MAX_IN_FLIGHT="5")
    worker = stack.worker()
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="hang-after", times=5),)))
    orders = stack.enqueue(10)
    wait_until(lambda: stack.requests() == 6, what="all places are taken")
    worker.kill9()
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(known + orders, exact=False)
