"""Redis or the database goes away in the middle of the work, and nothing is lost, doubled or left lying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.servers import wait_until
from tests.stack import company

if TYPE_CHECKING:
    from tests.servers import PostgresServer, RedisServer
    from tests.stack import Stack

#: Answers take so long that some requests are always out.
_SLOW = FaultPlan(latency_ms=400.0)


def _half_done(stack: Stack, orders: list[str]) -> None:
    """Wait until all are booked, and some of them created."""
    wait_until(lambda: len(stack.jobs()) == len(orders), what="all orders are booked")
    wait_until(lambda: len(stack.created()) >= len(orders) // 4, what="a quarter is created")


def _at_rate(stack: Stack, per_second: int) -> None:
    stack.environment |= company("acme", RATE_PER_SECOND=str(per_second))


def test_redis_killed_and_back_empty_in_the_middle_of_the_work(stack: Stack, redis_server: RedisServer) -> None:
    """Answers that come while Redis is away are settled, and workers take up the rest by themselves."""
    _at_rate(stack, 25)
    stack.simulator.set_plan(_SLOW)
    stack.workers(2)
    orders = stack.enqueue(60)
    _half_done(stack, orders)
    redis_server.kill9()
    wait_until(lambda: stack.requests() == len(stack.attempts()), what="what was out is settled without Redis")
    redis_server.start()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()


def test_redis_wiped_in_the_middle_of_the_work(postgres_stack: Stack, redis_server: RedisServer) -> None:
    """Hints, gate, token and group are gone at once; every booked order is created all the same."""
    stack = postgres_stack
    _at_rate(stack, 40)
    stack.simulator.set_plan(_SLOW)
    stack.workers(2)
    orders = stack.enqueue(60)
    _half_done(stack, orders)
    redis_server.wipe()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
    later = stack.enqueue(3, "later")
    stack.wait_for(later, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders + later)
    stack.assert_every_attempt_answered()


def test_what_a_look_up_finds_while_redis_is_away_is_settled(sqlite_stack: Stack, redis_server: RedisServer) -> None:
    """Redis dies between a look-up and its answer; the order it finds is succeeded all the same, without Redis."""
    stack = sqlite_stack
    rules = (Rule(fault="500-after"), Rule(fault="lookup-slow", seconds=1.0))
    stack.simulator.set_plan(FaultPlan(rules=rules))
    stack.worker()
    orders = stack.enqueue(1)
    wait_until(lambda: stack.requests("lookup") == 1, what="the order is being looked up")
    redis_server.kill9()
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=5)
    stack.assert_all_created_once(orders)


def test_answers_that_come_while_the_database_is_away_are_settled(
    postgres_stack: Stack, postgres_server: PostgresServer
) -> None:
    """The worker holds them until the database is back; then the rest goes on."""
    stack = postgres_stack
    _at_rate(stack, 25)
    stack.simulator.set_plan(_SLOW)
    worker = stack.worker()
    orders = stack.enqueue(50)
    _half_done(stack, orders)
    postgres_server.kill9()
    wait_until(lambda: "ledger_away" in worker.log, what="the worker has noticed")
    postgres_server.start()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()


def test_answers_that_cannot_be_settled_before_the_exit_are_replayed(
    postgres_stack: Stack, postgres_server: PostgresServer
) -> None:
    """SIGTERM while the database is away: the worker exits 0, and its spool is settled by the next one."""
    stack = postgres_stack
    _at_rate(stack, 25)
    stack.simulator.set_plan(_SLOW)
    worker = stack.worker()
    orders = stack.enqueue(50)
    _half_done(stack, orders)
    postgres_server.kill9()
    wait_until(lambda: "ledger_away" in worker.log, what="the worker has noticed")
    worker.sigterm()
    assert worker.wait(60) == 0
    assert "settlements_spooled" in worker.log
    postgres_server.start()
    assert "spool_replayed" in stack.worker().log
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders, exact=False)
    answered = [a for a in stack.attempts() if a["ended_at"]]
    assert len(answered) == len(stack.simulator.arrivals())
    assert list((stack.folder / "orderrelay" / "spool").rglob("*.jsonl")) == []


def test_a_worker_stops_in_order_while_redis_is_away(sqlite_stack: Stack, redis_server: RedisServer) -> None:
    """SIGTERM with no Redis to talk to: what is out is settled, the rest waits in the ledger, and the exit is 0."""
    stack = sqlite_stack
    _at_rate(stack, 25)
    stack.simulator.set_plan(_SLOW)
    worker = stack.worker()
    orders = stack.enqueue(30)
    _half_done(stack, orders)
    redis_server.kill9()
    worker.sigterm()
    assert worker.wait(30) == 0
    assert set(stack.states().values()) == {JobState.SUCCEEDED, JobState.WAITING}
    redis_server.start()
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()
