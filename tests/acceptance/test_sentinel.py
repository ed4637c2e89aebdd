"""A Redis with replicas and sentinels: its primary dies, or is changed, in the middle of the work."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from orderrelay_producers import AsyncOrderProducer, OrderProducer, QueueUnavailable
from orderrelay_shared.settings import ProducerSettings
from orderrelay_shared.states import JobState
from tests.sentinels import PASSWORD, SENTINEL_PASSWORD, USER, Guarded
from tests.servers import wait_until
from tests.stack import Stack, company, order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderrelay_workers.simulator import RunningSimulator
    from tests.processes import Processes


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """A primary, two replicas and three sentinels."""
    servers = Guarded(tmp_path / "redis")
    yield servers
    servers.close()


@pytest.fixture
def stack(
    guarded: Guarded, sqlite_url: str, simulator: RunningSimulator, processes: Processes, tmp_path: Path
) -> Iterator[Stack]:
    """The product on them; an accepted order is at a replica."""
    stack = Stack(processes, guarded.url(), sqlite_url, simulator, tmp_path)
    stack.environment |= company("acme", RATE_PER_SECOND="80")
    stack.producer.close()
    settings = ProducerSettings(redis_url=guarded.url(), accept_replicas=1)
    stack.producer = OrderProducer(settings=settings)
    yield stack
    processes.end()
    stack.close()


def _half_done(stack: Stack, orders: list[str]) -> None:
    wait_until(lambda: len(stack.created()) >= len(orders) // 4, 20, what="a quarter is created")


def _enqueue_patiently(stack: Stack, count: int, prefix: str) -> list[str]:
    """Enqueue as a service does that goes on until its orders are accepted."""
    external_ids = [f"{prefix}-{number}" for number in range(count)]
    waiting = [order(external_id) for external_id in external_ids]
    ends_at = time.monotonic() + 30
    while waiting:
        assert time.monotonic() < ends_at, "orders are accepted again"
        report = stack.producer.enqueue_many(waiting, company="acme", timeout=1.0)
        waiting = [one for one, line in zip(waiting, report, strict=True) if line.error is not None]
    return external_ids


async def _enqueue_in_a_loop(url: str, external_ids: list[str]) -> list[str]:
    """Likewise, in an event loop, one by one."""
    settings = ProducerSettings(redis_url=url, accept_replicas=1)
    async with AsyncOrderProducer(settings=settings) as producer:
        for external_id in external_ids:
            ends_at = time.monotonic() + 30
            while True:
                try:
                    await producer.enqueue(order(external_id), company="acme", timeout=1.0)
                except QueueUnavailable:
                    assert time.monotonic() < ends_at, "orders are accepted again"
                else:
                    break
    return external_ids


def test_the_primary_dies_in_the_middle_of_the_work(stack: Stack, guarded: Guarded) -> None:
    """Nothing is lost or doubled, and workers go on soon after the sentinels have chosen another."""
    workers = stack.workers(2)
    orders = stack.enqueue(200)
    _half_done(stack, orders)
    former = guarded.primary
    former.kill9()
    with ThreadPoolExecutor() as threads:
        in_a_thread = threads.submit(_enqueue_patiently, stack, 40, "B")
        in_a_loop = threads.submit(asyncio.run, _enqueue_in_a_loop(stack.redis_url, [f"C-{i}" for i in range(40)]))
        guarded.wait_for_another(former)
        created = len(stack.created())
        # Some may have been on their way.
        wait_until(lambda: len(stack.created()) >= created + 20, 5, what="workers go on")
        orders += in_a_thread.result() + in_a_loop.result()
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()
    names = guarded.names_of_clients()
    assert {"orderrelay-producer", "orderrelay-worker", "orderrelay-celery", "orderrelay-hints"} <= names[USER]
    told = "".join(worker.log for worker in workers)
    assert [secret for secret in (PASSWORD, "hunter2%2F%40", SENTINEL_PASSWORD) if secret in told] == []


def test_another_primary_is_chosen_while_the_one_before_lives(stack: Stack, guarded: Guarded) -> None:
    """The one before takes orders until sentinels make it a replica; none that was accepted is lost there."""
    stack.workers(2)
    orders = stack.enqueue(150)
    _half_done(stack, orders)
    former = guarded.primary
    guarded.fail_over()
    orders += _enqueue_patiently(stack, 20, "B")
    guarded.wait_for_another(former)
    guarded.wait_for_replica(former)
    orders += _enqueue_patiently(stack, 20, "C")
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()
    assert "orderrelay-celery" in guarded.names_of_clients()[USER]


def test_silent_sentinels_cost_no_more_than_the_timeout(guarded: Guarded) -> None:
    """One that is frozen is passed over; where all are, the call ends in time, and says what it saw."""
    for sentinel in guarded.sentinels[:2]:
        sentinel.freeze()
    with OrderProducer(guarded.url()) as producer:
        producer.enqueue(order("A-1"), company="acme", timeout=2.0)
    asyncio.run(_enqueue_in_a_loop(guarded.url(), ["A-2"]))
    guarded.sentinels[2].freeze()
    began = time.monotonic()
    with OrderProducer(guarded.url()) as producer, pytest.raises(QueueUnavailable, match="no sentinel names") as told:
        producer.enqueue(order("A-3"), company="acme", timeout=2.0)
    assert SENTINEL_PASSWORD not in str(told.value)
    assert time.monotonic() - began < 2.0
    began = time.monotonic()
    with pytest.raises(QueueUnavailable, match="no sentinel names"):
        asyncio.run(_enqueue_once(guarded.url()))
    assert time.monotonic() - began < 2.0


async def _enqueue_once(url: str) -> None:
    async with AsyncOrderProducer(url) as producer:
        await producer.enqueue(order("A-3"), company="acme", timeout=2.0)
