"""taskiq on a Redis stream: one message an order, acknowledged when it is done."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import uvloop
from taskiq import SimpleRetryMiddleware
from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.run import run_worker
from taskiq_redis import RedisStreamBroker

from tests.bench.peers import job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.bench.peers.job import Order

# A group that is made after the orders came reads them too.
broker = RedisStreamBroker(job.REDIS_URL, consumer_id="0-0").with_middlewares(
    SimpleRetryMiddleware(default_retry_count=job.RETRIES)
)


@broker.task(task_name="submit_order", retry_on_error=True)
async def submit_order(order: dict[str, Any]) -> None:
    """Send and store one order."""
    await job.submit_async(order)


async def _enqueue(
    way: Callable[[Callable[[Order], Awaitable[object]], list[Order]], Awaitable[None]], orders: list[Order]
) -> None:
    await broker.startup()
    await way(submit_order.kiq, orders)
    await broker.shutdown()


def _one_by_one(orders: list[Order]) -> None:
    uvloop.run(_enqueue(job.enqueue_each, orders))


def _bulk(orders: list[Order]) -> None:
    uvloop.run(_enqueue(job.enqueue_together, orders))


def _work(arguments: list[str]) -> None:
    processes, concurrency = arguments
    module = "tests.bench.peers.taskiq_peer"
    command = [f"{module}:broker", module, "--workers", processes, "--max-async-tasks", concurrency]
    sys.exit(run_worker(WorkerArgs.from_cli([*command, "--log-level", "WARNING"])))


if __name__ == "__main__":
    job.run(_work, _one_by_one, _bulk)
