"""Celery with 100 orders a message, sent concurrently on an event loop and stored in one transaction.

Not the same promise as one message an order: whatever goes wrong with one order repeats the whole chunk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import uvloop
from celery import Celery

from tests.bench.peers import job

if TYPE_CHECKING:
    from celery import Task

    from tests.bench.peers.job import Order

_CHUNK: Final = 100

app = Celery("bench", broker=job.REDIS_URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)

_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this worker process: prefork runs one task at a time in each."""
    if not _loops:
        _loops.append(uvloop.new_event_loop())
    return _loops[0]


async def _send(orders: list[Order]) -> list[bytes]:
    return await asyncio.gather(*map(job.post_async, orders))


@app.task(name="submit_chunk", bind=True, max_retries=job.RETRIES)
def submit_chunk(self: Task[Any, Any], orders: list[Order]) -> None:
    """Send and store a chunk of orders."""
    try:
        answers = _loop().run_until_complete(_send(orders))
    except Exception as error:
        raise self.retry(exc=error, countdown=1) from error
    job.store((order["ExternalId"], answer) for order, answer in zip(orders, answers, strict=True))


def _bulk(orders: list[Order]) -> None:
    for first in range(0, len(orders), _CHUNK):
        submit_chunk.delay(orders[first : first + _CHUNK])


def _work(arguments: list[str]) -> None:
    (concurrency,) = arguments
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={concurrency}", *quiet])


if __name__ == "__main__":
    job.run(_work, bulk=_bulk)
