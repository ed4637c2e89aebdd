"""huey on greenlets: one message an order, taken off the queue before the job is done."""

from __future__ import annotations

# Before anything else is imported, or http.client would block every greenlet of the process.
from gevent import monkey

monkey.patch_all()

from typing import TYPE_CHECKING  # noqa: E402

from huey import RedisHuey  # noqa: E402

from tests.bench.peers import job  # noqa: E402

if TYPE_CHECKING:
    from tests.bench.peers.job import Order

huey = RedisHuey("orders", url=job.REDIS_URL, results=False, blocking=True)


@huey.task(retries=job.RETRIES, retry_delay=1)
def submit_order(order: Order) -> None:
    """Send and store one order."""
    job.submit(order)


def _one_by_one(orders: list[Order]) -> None:
    for order in orders:
        submit_order(order)


def _work(arguments: list[str]) -> None:
    huey.create_consumer(
        workers=int(arguments[0]), worker_type="greenlet", periodic=False, check_worker_health=False
    ).run()


if __name__ == "__main__":
    job.run(_work, _one_by_one)
