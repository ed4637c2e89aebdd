"""rq: one job an order, by workers that do not fork for each job (its default forks, and makes about 20 a second)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis import Redis
from rq import Queue, SimpleWorker
from rq.worker_pool import WorkerPool

from tests.bench.peers import job

if TYPE_CHECKING:
    from tests.bench.peers.job import Order

_redis = Redis.from_url(job.REDIS_URL)
_queue = Queue("orders", connection=_redis)

_JOB = "tests.bench.peers.job.submit"


def _one_by_one(orders: list[Order]) -> None:
    for order in orders:
        _queue.enqueue(_JOB, order, result_ttl=0)


def _bulk(orders: list[Order]) -> None:
    _queue.enqueue_many([Queue.prepare_data(_JOB, (order,), result_ttl=0) for order in orders])


def _work(arguments: list[str]) -> None:
    pool = WorkerPool([_queue], connection=_redis, num_workers=int(arguments[0]), worker_class=SimpleWorker)
    pool.start(logging_level="WARNING")


if __name__ == "__main__":
    job.run(_work, _one_by_one, _bulk)
