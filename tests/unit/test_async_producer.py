"""What only the asynchronous producer can do, or do wrong; what both do is in `test_producer`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis import asyncio as redis_asyncio

from orderrelay_producers import AsyncOrderProducer, JobState, QueueUnavailable, following, ready
from orderrelay_shared import keys
from orderrelay_shared.settings import SettingsInvalid
from tests.servers import free_port, wait_until
from tests.unit.test_producer import intake, order, publish, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import redis

    from orderrelay_producers import Order
    from tests.servers import RedisServer


def subscriptions(client: redis.Redis) -> list[int]:
    """How many channels each connection listens to, of those that listen."""
    return [int(one["sub"]) for one in client.client_list() if int(one["sub"])]


async def until(predicate: Callable[[], bool]) -> None:
    """As `wait_until`, while the loop goes on."""
    await asyncio.to_thread(wait_until, predicate, what="it is so")


def test_construction_needs_neither_loop_nor_redis() -> None:
    """It can be made where a module is imported; a wrong address is told there."""
    AsyncOrderProducer(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(SettingsInvalid, match="ORDERRELAY_REDIS_URL"):
        AsyncOrderProducer("http://127.0.0.1")


def test_one_producer_serves_loops_one_after_the_other(redis_url: str, redis_client: redis.Redis) -> None:
    """Each `asyncio.run` has connections of its own, and those of a loop that ended are let go of."""
    producer = AsyncOrderProducer(redis_url)

    async def enqueue(number: int) -> None:
        async with producer:
            await producer.enqueue(order(f"A-{number}"))

    for number in range(3):
        asyncio.run(enqueue(number))
    assert redis_client.xlen(keys.INTAKE) == 3
    assert producer._places == {}


def test_very_many_at_once_share_the_connections(redis_url: str, redis_client: redis.Redis) -> None:
    """A thousand calls at once need no thousand connections, and none of them is refused."""

    async def enqueue() -> None:
        async with AsyncOrderProducer(redis_url) as producer:
            await asyncio.gather(*(producer.enqueue(order(f"A-{number}"), timeout=20.0) for number in range(1000)))
            assert len([one for one in redis_client.client_list() if one["name"] == "orderrelay-producer"]) <= 50

    asyncio.run(enqueue())
    assert redis_client.xlen(keys.INTAKE) == 1000


def test_a_cancelled_call_leaves_no_reply_behind(redis_server: RedisServer, redis_url: str) -> None:
    """A call that is cancelled amid its round trip closes the connection: the next call reads its own reply."""

    async def enqueue() -> None:
        async with AsyncOrderProducer(redis_url) as producer:
            await producer.enqueue(order("A-0"))
            redis_server.process.freeze()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(producer.enqueue(order("A-1")), 0.2)
            redis_server.process.thaw()
            with pytest.raises(QueueUnavailable, match="no worker answered"):
                await producer.find(external_id="A-1", timeout=0.2)

    asyncio.run(enqueue())


def test_orders_may_come_asynchronously(redis_url: str, redis_client: redis.Redis) -> None:
    """An asynchronous iterator is read a batch ahead, and its report is in order."""

    async def orders() -> AsyncIterator[Order]:
        for number in range(25):
            await asyncio.sleep(0)
            yield order(f"A-{number}")

    async def enqueue() -> None:
        async with AsyncOrderProducer(redis_url) as producer:
            lines = producer.enqueue_batches(orders(), company="default", timeout=5.0, batch_size=10)
            assert [line.index async for line in lines] == list(range(25))
            assert (await producer.enqueue_many(orders())).all_taken

    asyncio.run(enqueue())
    assert len(intake(redis_client)) == 50


def test_a_large_batch_does_not_hold_up_the_loop(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many orders are checked, others have their turn at least after every fifty."""
    checked, most_at_once = 0, 0
    check = ready.make_ready

    def count(*args: Any) -> ready.ReadyOrder:
        nonlocal checked
        checked += 1
        return check(*args)

    monkeypatch.setattr(ready, "make_ready", count)

    async def others() -> None:
        nonlocal most_at_once
        before = checked
        while True:
            await asyncio.sleep(0)
            most_at_once = max(most_at_once, checked - before)
            before = checked

    async def enqueue() -> None:
        # A client without timeouts of its own has no turns of its own either.
        async with redis_asyncio.Redis.from_url(redis_url, socket_timeout=None) as client:
            producer = AsyncOrderProducer(redis=client)
            task = asyncio.create_task(others())
            assert (await producer.enqueue_many(order(f"A-{number}") for number in range(600))).all_taken
            task.cancel()

    asyncio.run(enqueue())
    assert checked == 600
    assert 0 < most_at_once <= 50


def test_many_waits_share_one_connection(redis_url: str, redis_client: redis.Redis) -> None:
    """All that is waited for in a loop is heard on one connection, which goes when nobody waits."""
    names = [f"A-{number}" for number in range(100)]

    async def wait() -> None:
        async with AsyncOrderProducer(redis_url) as producer:
            jobs = [await producer.enqueue(order(name)) for name in names]
            waits = [asyncio.create_task(job.wait(timeout=20.0)) for job in jobs]
            await until(lambda: sum(subscriptions(redis_client)) == len(names))
            assert len(subscriptions(redis_client)) == 1
            began_at = time.monotonic()
            for name in names:
                publish(redis_client, status(JobState.SUCCEEDED, name))
            assert {one.state for one in await asyncio.gather(*waits)} == {JobState.SUCCEEDED}
            assert time.monotonic() - began_at < following._PRECAUTION_SECONDS - 0.3
            await until(lambda: subscriptions(redis_client) == [])

    asyncio.run(wait())


def test_a_wait_that_is_cancelled_listens_no_longer(redis_url: str, redis_client: redis.Redis) -> None:
    """Cancelling one wait ends its subscription, and leaves the others theirs."""

    async def wait() -> None:
        async with AsyncOrderProducer(redis_url) as producer:
            first, second = [
                asyncio.create_task((await producer.enqueue(order(name))).wait(timeout=20.0)) for name in ("A-1", "A-2")
            ]
            await until(lambda: subscriptions(redis_client) == [2])
            first.cancel()
            await until(lambda: subscriptions(redis_client) == [1])
            publish(redis_client, status(JobState.SUCCEEDED, "A-2"))
            assert (await second).state is JobState.SUCCEEDED

    asyncio.run(wait())


def test_the_board_hears_again_after_a_restart_of_redis(redis_server: RedisServer, redis_url: str) -> None:
    """A connection that breaks under many waits is opened again, once."""

    async def wait() -> None:
        async with AsyncOrderProducer(redis_url) as producer:
            jobs = [await producer.enqueue(order(f"A-{number}")) for number in range(3)]
            waits = [asyncio.create_task(job.wait(timeout=20.0)) for job in jobs]
            with redis_server.connect() as client:
                await until(lambda: subscriptions(client) == [3])
            redis_server.kill9()
            redis_server.start()
            with redis_server.connect() as client:
                await until(lambda: subscriptions(client) == [3])
                for number in range(3):
                    publish(client, status(JobState.SUCCEEDED, f"A-{number}"))
            assert {one.state for one in await asyncio.gather(*waits)} == {JobState.SUCCEEDED}

    asyncio.run(wait())
