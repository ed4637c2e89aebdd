"""dramatiq: one message an order, threads, its own retries and late acknowledgement."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.cli import main, make_argument_parser

from tests.bench.peers import job

if TYPE_CHECKING:
    from tests.bench.peers.job import Order

dramatiq.set_broker(RedisBroker(url=job.REDIS_URL))


@dramatiq.actor(max_retries=job.RETRIES)
def submit_order(order: Order) -> None:
    """Send and store one order."""
    job.submit(order)


def _one_by_one(orders: list[Order]) -> None:
    for order in orders:
        submit_order.send(order)


def _work(arguments: list[str]) -> None:
    processes, threads = arguments
    chosen = make_argument_parser().parse_args(["tests.bench.peers.dramatiq_peer", "-p", processes, "-t", threads])
    sys.exit(main(chosen))


if __name__ == "__main__":
    job.run(_work, _one_by_one)
