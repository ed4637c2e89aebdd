"""Enqueueing orders against the clock, alike for us and for the peers.

`python -m tests.bench.enqueueing` is our own side. Each way runs in a process of its own, and prints what it took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.bench.orders import bench_order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.load import Meter

    Order = dict[str, object]


def time_enqueueing(way: Callable[[list[Order]], object], number: int, prefix: str) -> None:
    """Enqueue so many orders, made beforehand, and print what it took; the first is not timed, as it connects."""
    first, *orders = [bench_order(n, prefix) for n in range(number)]
    way([first])
    used, began = time.process_time(), time.perf_counter()
    way(orders)
    seconds, used = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"orders": len(orders), "seconds": seconds, "cpu_seconds": used}), flush=True)


def run_enqueueing(command: list[str], environment: Mapping[str, str], meter: Meter) -> dict[str, Any]:
    """Run a process that does so, and give its part of the record.

    Args:
        command: The process.
        environment: Added to this process' own.
        meter: Knows the Redis that it enqueues into.
    """
    from tests.bench.load import load_between  # psutil is not in the peers' environments

    first = meter.read()
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        return {"good": False, "problem": f"enqueueing failed: {done.stderr[-500:]}"}
    told = json.loads(done.stdout.splitlines()[-1])
    return {
        "good": True,
        "problem": "",
        "orders": told["orders"],
        "seconds": round(told["seconds"], 3),
        "per_second": round(told["orders"] / told["seconds"]),
        "cpu_s_per_1000": round(told["cpu_seconds"] * 1000 / told["orders"], 4),
        "foreign_cores": round(load_between(first, meter.read()).foreign_cores, 2),
    }


def main() -> None:
    """Enqueue as a service would: `one|bulk NUMBER PREFIX`, into BENCH_REDIS_URL."""
    from orderrelay_producers import OrderProducer

    how, number, prefix = sys.argv[1:]
    with OrderProducer(os.environ["BENCH_REDIS_URL"]) as producer:

        def one_by_one(orders: list[Order]) -> None:
            for order in orders:
                producer.enqueue(order)

        def bulk(orders: list[Order]) -> None:
            report = producer.enqueue_many(orders)
            assert report.all_taken, str(report)

        time_enqueueing(one_by_one if how == "one" else bulk, int(number), prefix)


if __name__ == "__main__":
    main()
