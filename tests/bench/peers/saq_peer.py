"""saq: one job an order on one event loop a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvloop
from saq import Queue, Worker

from tests.bench.peers import job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.bench.peers.job import Order


async def submit_order(_context: Any, *, order: Order) -> None:
    """Send and store one order."""
    await job.submit_async(order)


async def _enqueue(
    way: Callable[[Callable[[Order], Awaitable[object]], list[Order]], Awaitable[None]], orders: list[Order]
) -> None:
    queue = Queue.from_url(job.REDIS_URL, name="orders")
    await queue.connect()

    async def enqueue(order: Order) -> object:
        return await queue.enqueue("submit_order", order=order, ttl=-1, retries=job.RETRIES, timeout=60)

    await way(enqueue, orders)
    await queue.disconnect()


def _one_by_one(orders: list[Order]) -> None:
    uvloop.run(_enqueue(job.enqueue_each, orders))


def _bulk(orders: list[Order]) -> None:
    uvloop.run(_enqueue(job.enqueue_together, orders))


async def _run(concurrency: int) -> None:
    queue = Queue.from_url(job.REDIS_URL, name="orders")
    await Worker(queue, [submit_order], concurrency=concurrency).start()


def _work(arguments: list[str]) -> None:
    uvloop.run(_run(int(arguments[0])))


if __name__ == "__main__":
    job.run(_work, _one_by_one, _bulk)
