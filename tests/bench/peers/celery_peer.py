"""Celery as most people would write it: one message an order, and a task of its own that stores the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery

from tests.bench.peers import job

if TYPE_CHECKING:
    from celery import Task

    from tests.bench.peers.job import Order

app = Celery("bench", broker=job.REDIS_URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    # kombu's default of 10 makes acknowledgements of more than 10 threads fail.
    broker_transport_options={"max_connections": 1000},
)


@app.task(name="store_result")
def store_result(external_id: str, answer: str) -> None:
    """Keep an answer."""
    job.store([(external_id, answer.encode())])


@app.task(name="submit_order", bind=True, max_retries=job.RETRIES)
def submit_order(self: Task[Any, Any], order: Order) -> None:
    """Send one order."""
    try:
        answer = job.post(order)
    except Exception as error:
        raise self.retry(exc=error, countdown=1) from error
    store_result.delay(order["ExternalId"], answer.decode())


def _one_by_one(orders: list[Order]) -> None:
    for order in orders:
        submit_order.delay(order)


def _bulk(orders: list[Order]) -> None:
    # kombu's own batch, which its type stubs do not know yet: one pipeline for many messages.
    with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=1000):  # type: ignore[attr-defined]
        for order in orders:
            submit_order.apply_async((order,), producer=producer)


def _work(arguments: list[str]) -> None:
    pool, concurrency = arguments
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["worker", f"--pool={pool}", f"--concurrency={concurrency}", *quiet])


if __name__ == "__main__":
    job.run(_work, _one_by_one, _bulk)
