"""How the product scales: `python -m tests.bench.scale --help`. One JSON object a line.

The cases, and what their numbers are:

intake   From a stream that is full already to committed rows, by the worker's own reader in one process and in two.
         `orders_per_second` is wall-clock time from the first read to the last deletion, of all processes together;
         the CPU figures are of the booking processes, of Redis, and of PostgreSQL, each for one order.
latency  One order at a time through one idle worker: milliseconds from the call of `enqueue` to the first byte at the
         vendor, a small server that notes when a request begins to arrive.
redis    Bytes of Redis' memory for one order: accepted, booked, once its published status has expired (a minute), and
         once it is forgotten by the cache of recent orders (a day or two); and Redis' CPU for accepting one.
duties   Each repeated duty once over a ledger with `--waiting` waiting and `--old` succeeded orders: milliseconds in
         all of its statements, and `scans`, the lines of their plans that go through a table that grows.
backlog  One worker over such a ledger: its memory and its CPU while the company is paused, then the CPU that each of
         `--drained` orders costs it. It is done for 10,000 waiting orders too, and told as a ratio.

Servers, workers and this process share the machine. Compare numbers of one run, and CPU rather than wall-clock time.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from tests.bench import scale_backlog, scale_intake, scale_latency, scale_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The backlog that a large one is compared with.
_SMALL_BACKLOG = 10_000

_CASES = ("intake", "latency", "redis", "duties", "backlog")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(_CASES)}; all if none is named")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--orders", type=int, default=60_000, help="of the cases intake and redis")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="of the case intake")
    parser.add_argument("--companies", type=int, nargs="+", default=[1, 10], help="of the case redis")
    parser.add_argument("--samples", type=int, default=100, help="of the case latency")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="orders that wait")
    parser.add_argument("--old", type=int, default=1_000_000, help="orders that succeeded long ago")
    parser.add_argument("--drained", type=int, default=4000, help="orders that are submitted of the backlog")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(_CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    for line in measure(arguments):
        print(json.dumps(line), flush=True)


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """All lines of the cases that were asked for."""
    cases = arguments.cases or _CASES
    if "redis" in cases:
        for companies in arguments.companies:
            yield scale_redis.measure(arguments.orders, companies)
    for postgres in (name == "postgres" for name in arguments.databases):
        if "intake" in cases:
            for workers in arguments.workers:
                yield scale_intake.measure(arguments.orders, workers, postgres=postgres)
        if "latency" in cases:
            yield scale_latency.measure(arguments.samples, postgres=postgres)
        if "duties" in cases:
            yield from scale_backlog.measure_duties(arguments.waiting, arguments.old, postgres=postgres)
        if "backlog" in cases:
            small = scale_backlog.measure_drain(_SMALL_BACKLOG, 0, arguments.drained, postgres=postgres)
            yield small
            large = scale_backlog.measure_drain(arguments.waiting, arguments.old, arguments.drained, postgres=postgres)
            yield large | {"cpu_ratio": _ratio(large, small)}


def _ratio(large: dict[str, object], small: dict[str, object]) -> float:
    return round(float(str(large["worker_cpu_ms_per_order"])) / float(str(small["worker_cpu_ms_per_order"])), 2)


if __name__ == "__main__":
    main()
