"""Workers are replaced under load, and meet what a later version wrote: nothing is lost or taken for garbage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import redis
from celery import Celery

from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope
from orderrelay_shared.orders import Order
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan
from tests.acceptance.steady_load import SteadyLoad, assert_nothing_wasted
from tests.servers import wait_until
from tests.stack import company, order

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.stack import Stack

_NEWER_WORKER = str(Path(__file__).parent / "newer_worker.py")


def _newer_worker(stack: Stack) -> RunningProcess:
    process = stack.processes.start_python([_NEWER_WORKER, "worker"], stack.environment, name="newer")
    return stack.await_ready(process)


def _accept(client: redis.Redis, external_id: str, **changes: str) -> None:
    """Put an order into the stream, some of its fields changed."""
    given = Order.parse(order(external_id))
    fields = Envelope("acme", external_id, given.content_digest(), given.body()).to_fields() | changes
    client.xadd(keys.INTAKE, cast("dict[str, bytes]", fields))  # type: ignore[arg-type]  # redis-py wants an invariant dict


def _waiting_for_newer(client: redis.Redis) -> dict[str, int]:
    readers = cast("list[dict[str, object]]", client.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP))
    found = {cast("bytes", reader["name"]).decode(): cast("int", reader["pending"]) for reader in readers}
    return {name: count for name, count in found.items() if name.startswith(keys.INTAKE_NEWER_READER) and count}


@pytest.mark.timeout(240)  # five workers, each two seconds of CPU, on a machine that may be busy
def test_a_rolling_restart_wastes_no_attempt(stack: Stack) -> None:
    """Every worker is replaced by another while orders keep coming; each order costs exactly one request."""
    stack.environment |= company("acme", RATE_PER_SECOND="60", BURST="5", MAX_IN_FLIGHT="50")
    stack.environment["ORDERRELAY_REQUEST_TIMEOUT_SECONDS"] = "20"
    stack.simulator.set_plan(FaultPlan(latency_ms=400.0))
    running = stack.workers(2)
    with SteadyLoad(stack, per_second=30) as load:
        for old in list(running):
            running.append(stack.worker())
            old.sigterm()
            assert old.wait(30) == 0, old.log[-4000:]
    assert_nothing_wasted(stack, load.orders)


def test_entries_for_newer_workers_wait_for_them(stack: Stack) -> None:
    """Workers leave what they do not know, book all else, and a newer worker takes it up within seconds."""
    stack.workers(2)
    with redis.Redis.from_url(stack.redis_url) as client:
        _accept(client, "layout", v="3")
        _accept(client, "kind", k="renamed")
        _accept(client, "body", bv="2")
        _accept(client, "garbage", v="x")
        known = stack.enqueue(20)
        stack.wait_for(known, JobState.SUCCEEDED)
        needs = {f"{keys.INTAKE_NEWER_READER}{needs}": 1 for needs in ("v3", "v1-renamed")}
        wait_until(lambda: _waiting_for_newer(client) == needs, what="two entries wait for newer workers")
        wait_until(lambda: client.xlen(keys.INTAKE) == 2, what="all others are gone from the intake")
        assert stack.states()["body"] == JobState.WAITING
        assert stack.alarms() == ["set_aside"]
        _newer_worker(stack)
        newer = ["layout", "kind", "body"]
        stack.wait_for(newer, JobState.SUCCEEDED, timeout=15)
        wait_until(lambda: client.xlen(keys.INTAKE) == 0, what="the intake is empty")
    stack.assert_all_created_once(known + newer, alarms=["set_aside"])


def test_a_gate_of_a_newer_version_is_left_alone(sqlite_stack: Stack) -> None:
    """Its workers send nothing past a gate that they do not understand, and go on when they do."""
    stack = sqlite_stack
    worker = stack.worker()
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    with redis.Redis.from_url(stack.redis_url) as client:
        wait_until(lambda: client.hlen(keys.gate_in_flight("acme")) == 0, what="nothing is in flight")
        client.hset(keys.gate("acme"), "layout", "2")
        wait_until(lambda: "gate_is_of_a_newer_version" in worker.log, what="it has noticed")
        before = client.hgetall(keys.gate("acme"))
        orders = stack.enqueue(5)
        stack.wait_for(orders, JobState.WAITING)
        wait_until(lambda: client.exists(keys.waiting("acme")), what="duties go on")
        assert client.hgetall(keys.gate("acme")) == before
        assert stack.requests() == 1
        client.delete(keys.gate("acme"))
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(known + orders)


def test_a_hint_of_a_newer_version_does_no_harm(sqlite_stack: Stack) -> None:
    """Celery deletes a task that it does not know; the order is found in the ledger all the same."""
    stack = sqlite_stack
    worker = stack.worker()
    later = Celery(broker=stack.redis_url)
    later.conf.broker_transport_options = {"global_keyprefix": keys.CELERY_PREFIX}
    for queue in ("orders.acme", "results", "reconcile"):
        later.send_task("orderrelay.of_a_later_version", args=("acme", {"more": 1}), queue=queue)
    later.send_task("orderrelay.submit", args=("acme", "an argument of a later version"), queue="orders.acme")
    later.close()
    wait_until(lambda: worker.log.count("unregistered task") == 3, what="Celery has met all three")
    orders = stack.enqueue(5)
    assert worker.is_running
    assert_nothing_wasted(stack, orders)
