"""How fast one process hands orders over, and what that costs: `python -m tests.bench.producing --help`.

Each case prints one JSON object: orders a second by the clock, and the CPU time of the producer and of Redis, which is
steadier where other programs run. Plain Celery's `apply_async` of the same order takes turns with `enqueue`, so that
their ratio means something on a machine that is not quiet.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis

from orderrelay_producers import Order, OrderProducer
from orderrelay_shared import keys
from orderrelay_shared.settings import ProducerSettings
from orderrelay_workers.demo.private_redis import PrivateRedis, find_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COMMAND = "from orderrelay_shared.command import main; main()"


def main() -> None:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=20000, help="of each case but the file")
    parser.add_argument("--rounds", type=int, default=3, help="of each case; the best and the median are told")
    parser.add_argument("--lines", type=int, default=100000, help="of the file; 0: no file")
    parser.add_argument("--without-external-id", action="store_true", help="let the file's orders have none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PrivateRedis(find_binary(), Path(folder)) as server:
        with redis.Redis.from_url(server.url) as client:
            bench = _Bench(client, server.url, arguments.orders)
            for measured in bench.all_cases(arguments.rounds):
                print(json.dumps(measured), flush=True)
            client.flushall()
        if arguments.lines:
            file = Path(folder) / "orders.jsonl"
            _write(file, arguments.lines, with_external_id=not arguments.without_external_id)
            for case in ("file", "file again"):
                print(json.dumps(_run_file(case, file, arguments.lines, server.url)), flush=True)


class _Bench:
    """Hands the same number of orders over in each way.

    Args:
        client: The Redis.
        url: Its address.
        count: How many orders.
    """

    def __init__(self, client: redis.Redis, url: str, count: int) -> None:
        self._client = client
        self._url = url
        self._count = count
        self._made = 0
        self._server = psutil.Process(client.info("server")["process_id"])

    def all_cases(self, rounds: int) -> Iterator[dict[str, object]]:
        """Measure each way so many times, in turns."""
        settings = ProducerSettings(redis_url=self._url, max_waiting=10**9)
        with OrderProducer(settings=settings) as producer:
            ways: dict[str, Callable[[list[Any]], object]] = {
                "celery apply_async": self._celery(),
                "enqueue dict": lambda orders: [producer.enqueue(order) for order in orders],
                "enqueue Order": lambda orders: [producer.enqueue(order) for order in orders],
                "enqueue_many": lambda orders: _all_taken(producer, orders),
            }
            measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    measured[name].append(self._measure(way, as_order=name.endswith("Order")))
        celery = _median([rate for rate, _, _ in measured["celery apply_async"]])
        for name, found in measured.items():
            rates = [rate for rate, _, _ in found]
            yield {
                "case": name,
                "orders": self._count,
                "per_second_median": round(_median(rates)),
                "per_second_best": round(max(rates)),
                "times_celery": round(_median(rates) / celery, 2),
                "producer_cpu_us": round(_median([own for _, own, _ in found]), 1),
                "redis_cpu_us": round(_median([server for _, _, server in found]), 1),
            }

    def _measure(self, way: Callable[[list[Any]], object], *, as_order: bool) -> tuple[float, float, float]:
        """Orders a second, and microseconds of CPU an order: of this process and of Redis."""
        self._client.flushall()
        self._client.zadd(keys.COMPANIES, {"default": time.time()})  # As when a worker serves the company.
        orders: list[Any] = [make_order(self._made + number) for number in range(self._count)]
        if as_order:
            orders = list(map(Order.parse, orders))
        self._made += self._count
        way([make_order(-1)])
        server, own, began_at = sum(self._server.cpu_times()[:2]), time.process_time(), time.perf_counter()
        way(orders)
        seconds, own = time.perf_counter() - began_at, time.process_time() - own
        server = sum(self._server.cpu_times()[:2]) - server
        return self._count / seconds, own / self._count * 1e6, server / self._count * 1e6

    def _celery(self) -> Callable[[list[Any]], object]:
        from celery import Celery

        app = Celery("bench", broker=self._url)
        app.conf.update(task_ignore_result=True, task_store_errors_even_if_ignored=False, broker_pool_limit=1)

        @app.task(name="bench.submit")
        def submit(order: dict[str, Any]) -> None:
            """Nothing: only what it costs to enqueue it is measured."""

        return lambda orders: [submit.apply_async((order,)) for order in orders]


def _all_taken(producer: OrderProducer, orders: list[dict[str, Any]]) -> None:
    report = producer.enqueue_many(orders)
    assert report.all_taken, str(report)


def make_order(number: int, *, with_external_id: bool = True) -> dict[str, Any]:
    """An order of about 700 bytes with 3 rows."""
    rows = [
        {
            "CustomerRowType": 2,
            "ProductNr": f"100-{row}t",
            "Quantity": 3,
            "Amount": f"{350 + number % 5000 + row}.50",
            "Text": "Skolbil m väktare, " * 4,
        }
        for row in range(3)
    ]
    order: dict[str, Any] = {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": rows}
    return {
        **order,
        **({"ExternalId": f"bench-{number:07d}"} if with_external_id else {"ReferenceOur": f"{number:07d}"}),
        "ReferenceYour": "Åsa Öström",
    }


def _write(file: Path, lines: int, *, with_external_id: bool) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for number in range(lines):
            order = make_order(number, with_external_id=with_external_id)
            stream.write(json.dumps(order, ensure_ascii=False) + "\n")


def _run_file(case: str, file: Path, lines: int, url: str) -> dict[str, object]:
    """Run the command on a file; its memory is the largest of all children so far."""
    environment = {**os.environ, "ORDERRELAY_REDIS_URL": url, "ORDERRELAY_MAX_WAITING": str(10**9)}
    began_at, spent = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", _COMMAND, "enqueue", str(file), "--json"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, now = time.perf_counter() - began_at, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime
    return {
        "case": case,
        "lines": lines,
        "per_second": round(lines / seconds),
        "command_cpu_us": round(cpu / lines * 1e6, 1),
        "most_memory_mb": round(now.ru_maxrss / 1024),
        "told_bytes": len(done.stderr),
        **json.loads(done.stdout.splitlines()[-1]),
    }


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
