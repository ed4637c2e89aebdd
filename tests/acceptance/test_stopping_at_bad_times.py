"""SIGTERM when it fits worst: while a worker starts, without Redis or the database, twice, in the middle of all."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.acceptance.steady_load import assert_nothing_wasted
from tests.servers import wait_until
from tests.stack import company

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.servers import PostgresServer, RedisServer
    from tests.stack import Stack


def _heeds_sigterm(process: RunningProcess) -> bool:
    """Whether the process has a handler for SIGTERM, by what its kernel says."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _is_in_the_group(process: RunningProcess) -> bool:
    return "worker_started" in process.log


def _has_connected(process: RunningProcess) -> bool:
    return "gate_seeded" in process.log


@pytest.mark.parametrize("moment", [_heeds_sigterm, _has_connected, _is_in_the_group])
def test_sigterm_while_starting(sqlite_stack: Stack, moment: object) -> None:
    """From soon after its first instruction a worker exits 0 in time, and leaves nothing in others' way."""
    stack = sqlite_stack
    assert callable(moment)
    worker = stack.command("worker")
    wait_until(lambda: moment(worker), 30, what=f"{moment}")
    orders = stack.enqueue(3)
    worker.sigterm()
    assert worker.wait(20) == 0, worker.log
    assert "Traceback" not in worker.log
    stack.worker()
    assert_nothing_wasted(stack, orders)


def test_sigterm_through_celerys_own_command(sqlite_stack: Stack) -> None:
    """A worker that was started by `celery worker` stops in the same way, also while it starts."""
    stack = sqlite_stack
    stack.simulator.set_plan(FaultPlan(latency_ms=300.0))
    stack.environment |= company("acme", RATE_PER_SECOND="30")
    command = ["-m", "celery", "-A", "orderrelay_workers.app", "worker", "-P", "threads", "-l", "INFO"]
    starting = stack.processes.start_python(command, stack.environment, name="celery")
    wait_until(lambda: _is_in_the_group(starting), 30, what="it starts")
    starting.sigterm()
    assert starting.wait(20) == 0, starting.log
    worker = stack.await_ready(stack.processes.start_python(command, stack.environment, name="celery"))
    orders = stack.enqueue(60)
    wait_until(lambda: len(stack.created()) >= 10, what="ten are created")
    worker.sigterm()
    assert worker.wait(15) == 0, worker.log
    assert set(stack.states().values()) == {JobState.SUCCEEDED, JobState.WAITING}
    stack.worker()
    assert_nothing_wasted(stack, orders)


def test_sigterm_again_and_again(sqlite_stack: Stack) -> None:
    """Whoever is impatient changes nothing: what is out comes to its end, and the exit code is 0."""
    stack = sqlite_stack
    stack.simulator.set_plan(FaultPlan(latency_ms=500.0))
    stack.environment |= company("acme", RATE_PER_SECOND="30")
    worker = stack.worker()
    orders = stack.enqueue(40)
    wait_until(lambda: stack.requests() >= 5, what="some are out")
    for _ in range(20):
        worker.sigterm()
    assert worker.wait(15) == 0, worker.log
    stack.worker()
    assert_nothing_wasted(stack, orders)


@pytest.mark.parametrize("away", ["killed", "frozen"])
def test_sigterm_while_redis_is_away(sqlite_stack: Stack, redis_server: RedisServer, away: str) -> None:
    """What is out is settled without Redis, what is unsent is handed back, and the worker exits 0 in its time."""
    stack = sqlite_stack
    stack.environment |= company("acme", RATE_PER_SECOND="30")
    stack.simulator.set_plan(FaultPlan(latency_ms=500.0))
    worker = stack.worker()
    orders = stack.enqueue(40)
    wait_until(lambda: stack.requests() >= 5 and len(stack.jobs()) == 40, what="some are out, and all booked")
    if away == "killed":
        redis_server.kill9()
    else:
        redis_server.process.freeze()
    worker.sigterm()
    try:
        assert worker.wait(40) == 0, worker.log  # each call to a Redis that hangs costs its whole time-out
        assert JobState.IN_PROGRESS not in stack.states().values()
    finally:
        redis_server.process.thaw()
        redis_server.start()
    stack.worker()
    assert_nothing_wasted(stack, orders)


def test_sigterm_of_an_idle_worker_without_redis(sqlite_stack: Stack, redis_server: RedisServer) -> None:
    """A worker that lost Redis before it took any work exits 0 as well."""
    worker = sqlite_stack.worker()
    redis_server.kill9()
    wait_until(lambda: "duty_fails" in worker.log, what="it has noticed")
    worker.sigterm()
    assert worker.wait(30) == 0, worker.log


def test_sigterm_while_the_database_is_away(postgres_stack: Stack, postgres_server: PostgresServer) -> None:
    """Answers that the database would not take are kept in a file, in little more than ten seconds, and replayed."""
    stack = postgres_stack
    stack.simulator.set_plan(FaultPlan(latency_ms=500.0))
    stack.environment |= company("acme", RATE_PER_SECOND="30")
    worker = stack.worker()
    orders = stack.enqueue(20)
    wait_until(lambda: stack.requests() >= 5 and len(stack.jobs()) == 20, what="some are out, and all booked")
    postgres_server.kill9()
    wait_until(lambda: "ledger_away" in worker.log, what="answers cannot be settled")
    worker.sigterm()
    began = time.monotonic()
    assert worker.wait(30) == 0, worker.log
    assert time.monotonic() - began < 14
    assert "settlements_spooled" in worker.log
    postgres_server.start()
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders, exact=False)
    assert stack.requests() == len(orders)


def test_sigterm_during_a_login_and_look_ups(sqlite_stack: Stack) -> None:
    """A login that is out, and look-ups that are out, come to their end; what they found is not lost."""
    stack = sqlite_stack
    slow_login = Rule(fault="login-slow", seconds=1.5, times=1)
    slow_lookup = Rule(fault="lookup-slow", seconds=1.5)
    stack.simulator.set_plan(FaultPlan(rules=(slow_login, slow_lookup, Rule(fault="500-after", times=3))))
    orders = stack.enqueue(3)
    worker = stack.worker()
    wait_until(lambda: stack.requests("login") == 1, what="a login is out")
    worker.sigterm()
    assert worker.wait(15) == 0, worker.log
    assert set(stack.states().values()) <= {JobState.WAITING}
    worker = stack.worker()
    wait_until(lambda: stack.requests("lookup") >= 1, what="a look-up is out")
    worker.sigterm()
    assert worker.wait(15) == 0, worker.log
    assert JobState.SUCCEEDED in stack.states().values()
    stack.worker()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)
