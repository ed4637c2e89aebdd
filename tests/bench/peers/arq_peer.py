"""arq: one job an order on one event loop a process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func

from tests.bench.peers import job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.bench.peers.job import Order

_SETTINGS: Final = RedisSettings.from_dsn(job.REDIS_URL)

#: Its default of half a second would leave the vendor idle between two looks.
_POLL_SECONDS: Final = 0.02


async def submit_order(_context: dict[str, Any], order: Order) -> None:
    """Send and store one order."""
    await job.submit_async(order)


async def _enqueue(
    way: Callable[[Callable[[Order], Awaitable[object]], list[Order]], Awaitable[None]], orders: list[Order]
) -> None:
    pool = await create_pool(_SETTINGS)
    await way(functools.partial(pool.enqueue_job, "submit_order"), orders)
    await pool.aclose()


def _one_by_one(orders: list[Order]) -> None:
    uvloop.run(_enqueue(job.enqueue_each, orders))


def _bulk(orders: list[Order]) -> None:
    uvloop.run(_enqueue(job.enqueue_together, orders))


async def _run(concurrency: int) -> None:
    worker = Worker(
        [func(submit_order, keep_result=0, max_tries=job.RETRIES)],
        redis_settings=_SETTINGS,
        max_jobs=concurrency,
        poll_delay=_POLL_SECONDS,
        handle_signals=False,
    )
    await worker.async_run()


def _work(arguments: list[str]) -> None:
    uvloop.run(_run(int(arguments[0])))


if __name__ == "__main__":
    job.run(_work, _one_by_one, _bulk)
