"""A worker that lost its way to Redis soon finds it again by itself; one that is deaf does not stay so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan
from tests.chaos.proxy import ChaosProxy
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.processes import RunningProcess
    from tests.servers import RedisServer
    from tests.stack import Stack

_WRONG_WORKER = str(Path(__file__).parent / "wrong_worker.py")

#: A worker hears again within five seconds; the machine that runs this may be busy for as long as the rest.
_HEARS_WITHIN_SECONDS = 7.5

#: Deafness is noticed sooner here, so that nobody waits for it.
_SOON = (
    "orderrelay_workers.sidecar.listening:_QUIET_SECONDS=1 "
    "orderrelay_workers.sidecar.listening:RECONNECT_AFTER_SECONDS=2 "
    "orderrelay_workers.sidecar.listening:GIVE_UP_AFTER_SECONDS=5 "
    "orderrelay_workers.processes:_STUCK_SECONDS=2"
)


@pytest.fixture
def link(redis_server: RedisServer) -> Iterator[ChaosProxy]:
    """What lies between a worker and its Redis."""
    proxy = ChaosProxy(redis_server.port)
    yield proxy
    proxy.close()


def _linked_worker(stack: Stack, link: ChaosProxy) -> RunningProcess:
    worker = stack.worker(ORDERRELAY_REDIS_URL=f"redis://127.0.0.1:{link.port}/0")
    stack.wait_for(stack.enqueue(1, "first"), JobState.SUCCEEDED)
    return worker


def _has_noticed(worker: RunningProcess) -> bool:
    return "duty_fails" in worker.log and "Connection to broker lost" in worker.log


def _gone_for_a_while(worker: RunningProcess, server: RedisServer, _: ChaosProxy) -> None:
    server.kill9()
    # By itself kombu would ask again after 2, 4, 6 … seconds, so after the third time it would be late.
    gone_at = time.monotonic()
    wait_until(lambda: time.monotonic() - gone_at > 7, what="it was asked for in vain")
    server.start()


def _silent_for_a_while(worker: RunningProcess, _: RedisServer, link: ChaosProxy) -> None:
    link.is_swallowing = True
    wait_until(lambda: _has_noticed(worker), 20, what="the worker misses answers")
    link.heal()


def _silent_for_a_moment(worker: RunningProcess, _: RedisServer, link: ChaosProxy) -> None:
    """As when a firewall forgets its connections: all are dead, nobody is told, and new ones work."""
    for one in list(link._links):
        one.is_dead = True


def _frozen_for_a_while(worker: RunningProcess, server: RedisServer, _: ChaosProxy) -> None:
    server.process.freeze()
    wait_until(lambda: _has_noticed(worker), 20, what="the worker misses answers")
    server.process.thaw()


def _reset(_: RunningProcess, __: RedisServer, link: ChaosProxy) -> None:
    link.reset_all()


def _wiped(_: RunningProcess, server: RedisServer, __: ChaosProxy) -> None:
    server.wipe()


@pytest.mark.parametrize(
    "fault", [_gone_for_a_while, _silent_for_a_while, _silent_for_a_moment, _frozen_for_a_while, _reset, _wiped]
)
def test_a_worker_hears_again_soon(
    sqlite_stack: Stack,
    redis_server: RedisServer,
    link: ChaosProxy,
    fault: Callable[[RunningProcess, RedisServer, ChaosProxy], None],
) -> None:
    """A lone worker submits what was enqueued when Redis came back, within seconds, whatever had cut it off."""
    stack = sqlite_stack
    worker = _linked_worker(stack, link)
    fault(worker, redis_server, link)
    orders = stack.enqueue(1, "then")
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=_HEARS_WITHIN_SECONDS)
    stack.assert_all_created_once(["first-0", *orders])


def _wrong_worker(stack: Stack, way: str, *args: str) -> tuple[RunningProcess, Path]:
    """A worker that goes wrong as soon as the file exists that comes with it."""
    go_wrong = stack.folder / "go-wrong"
    environment = {**stack.environment, "GO_WRONG": way, "GO_WRONG_IF": str(go_wrong), "SET": _SOON}
    process = stack.processes.start_python([_WRONG_WORKER, "worker", *args], environment, name="wrong")
    return stack.await_ready(process), go_wrong


def test_a_deaf_worker_connects_anew(sqlite_stack: Stack) -> None:
    """Its canaries do not come round although Redis answers: it connects anew, which helps, and goes on."""
    worker, go_wrong = _wrong_worker(sqlite_stack, "deaf-once")
    go_wrong.touch()
    wait_until(lambda: "worker_is_deaf" in worker.log, 15, what="it has noticed")
    wait_until(lambda: "worker_hears_again" in worker.log, 15, what="it hears again")
    orders = sqlite_stack.enqueue(2)
    sqlite_stack.wait_for(orders, JobState.SUCCEEDED)
    assert worker.is_running
    assert "worker_gives_up" not in worker.log


def test_a_worker_that_stays_deaf_ends_to_be_started_again(sqlite_stack: Stack, redis_server: RedisServer) -> None:
    """A new connection does not help: it says so, and exits 3; the canaries it leaves behind expire."""
    worker, go_wrong = _wrong_worker(sqlite_stack, "deaf")
    go_wrong.touch()
    assert worker.wait(30) == 3
    assert "worker_is_deaf" in worker.log
    assert "worker_gives_up" in worker.log
    assert "worker_stopped" in worker.log
    with redis_server.connect() as client:
        [left] = client.keys(keys.celery_queue("canary.*"))
        assert 0 < client.ttl(left) <= 60


def test_a_deaf_worker_whose_main_thread_hangs_loses_no_answer(sqlite_stack: Stack) -> None:
    """It cannot end as Celery would have it: what is out comes to its end and is settled, then it exits 3 by force."""
    stack = sqlite_stack
    worker, go_wrong = _wrong_worker(stack, "stuck")
    stack.simulator.set_plan(FaultPlan(latency_ms=1500.0))
    orders = stack.enqueue(2)
    wait_until(lambda: stack.requests() == 2, what="both are out")
    go_wrong.touch()
    assert worker.wait(40) == 3
    assert "worker_is_stuck" in worker.log
    assert "worker_stopped" in worker.log
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()


def test_a_worker_for_some_queues_only_hears_its_own_canaries(sqlite_stack: Stack) -> None:
    """With `-Q`, and nothing to do on its queue, it is never taken for deaf."""
    stack = sqlite_stack
    first, _ = _wrong_worker(stack, "deaf", "-Q", "orders.acme")
    second, _ = _wrong_worker(stack, "deaf", "-Q", "results")
    began_at = time.monotonic()
    wait_until(lambda: time.monotonic() - began_at > 7, what="a deaf one would have been given up")
    assert first.is_running
    assert second.is_running
    assert "worker_is_deaf" not in first.log + second.log
