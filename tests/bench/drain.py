"""How fast two workers drain booked orders, and what that costs: `python -m tests.bench.drain --help`.

Orders are booked while the company is paused; then it is resumed, and the clock runs until the last one is settled.
The simulator, Redis, the database and the workers share the machine, so only ratios within one run mean much.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import redis
import sqlalchemy as sa

from orderrelay_producers import OrderProducer
from orderrelay_workers.demo.private_redis import PrivateRedis, find_binary
from orderrelay_workers.demo.verdict import count_states
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import companies, migrate, schema
from orderrelay_workers.ledger.engine import open_engine
from tests.bench.databases import bench_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = "from orderrelay_shared.command import main; main()"


def main() -> None:
    """Run each case once and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5000)
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[0, 200])
    parser.add_argument("--in-flight", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--postgres", action="store_true", help="use PostgreSQL, with every commit synced")
    arguments = parser.parse_args()
    for latency in arguments.latency_ms:
        print(json.dumps(measure(arguments, latency)), flush=True)


def measure(arguments: argparse.Namespace, latency_ms: int) -> dict[str, object]:
    """Drain once."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(PrivateRedis(find_binary(), folder))
        port = 18900 + os.getpid() % 1000
        simulator = stack.enter_context(
            _process(folder / "simulator.log", {}, "simulator", "--port", str(port), "--latency-ms", str(latency_ms))
        )
        database = stack.enter_context(bench_database(folder, postgres=arguments.postgres))
        environment = _environment(folder, server.url, f"http://127.0.0.1:{port}", database, arguments.in_flight)
        engine = open_engine(environment["ORDERRELAY_DATABASE_URL"])
        stack.callback(engine.dispose)
        migrate.migrate(engine)
        workers = [
            stack.enter_context(_process(folder / f"worker-{n}.log", environment, "worker"))
            for n in range(arguments.workers)
        ]
        _wait(lambda: all(b" ready." in (folder / f"worker-{n}.log").read_bytes() for n in range(arguments.workers)))
        gate = Gate(redis.Redis.from_url(server.url), uuid.uuid4(), probe_lease_seconds=30)
        companies.pause(engine, "default", "benchmark", actor="bench")
        gate.pause("default", "benchmark")
        enqueued = time.perf_counter()
        with OrderProducer(server.url) as producer:
            report = producer.enqueue_many((_order(n) for n in range(arguments.orders)), timeout=600)
        enqueued = time.perf_counter() - enqueued
        assert report.all_taken, str(report)
        _wait(lambda: count_states(engine)["waiting"] == arguments.orders)
        cpu = _cpu(workers)
        began = time.perf_counter()
        companies.resume(engine, "default", actor="bench")
        gate.resume("default")
        _wait(lambda: count_states(engine)["succeeded"] == arguments.orders, every=0.05)
        seconds = time.perf_counter() - began
        spent = _cpu(workers) - cpu
        stored = schema.attempt.c.stored_at.is_(None)
        with engine.connect() as connection:
            unstored = connection.execute(sa.select(sa.func.count()).where(stored)).scalar_one()
        return {
            "database": engine.dialect.name,
            "latency_ms": latency_ms,
            "in_flight": arguments.in_flight,
            "workers": arguments.workers,
            "orders": arguments.orders,
            "enqueue_many_per_second": round(arguments.orders / enqueued),
            "drain_per_second": round(arguments.orders / seconds),
            "cap_per_second": round(arguments.in_flight * 1000 / latency_ms) if latency_ms else None,
            "worker_cpu_ms_per_order": round(spent * 1000 / arguments.orders, 3),
            "answers_not_typed_yet": unstored,
            "simulator_cpu_s": round(sum(psutil.Process(simulator.pid).cpu_times()[:2]), 2),
        }


def _order(number: int) -> dict[str, object]:
    rows = [
        {
            "CustomerRowType": 2,
            "ProductNr": f"100-{n}t",
            "Quantity": 3,
            "Amount": 350 + n,
            "Text": "Skolbil m väktare, " * 4,
        }
        for n in range(3)
    ]
    return {
        "CustomerNr": "013",
        "InvoiceDate": "2026-01-30",
        "ExternalId": f"bench-{number:07d}",
        "ReferenceYour": "Åsa Öström",
        "InvoiceRows": rows,
    }


def _environment(folder: Path, redis_url: str, base_url: str, database: str, in_flight: int) -> dict[str, str]:
    company = "ORDERRELAY_COMPANIES__DEFAULT__"
    return {
        "XDG_STATE_HOME": str(folder),
        "ORDERRELAY_REDIS_URL": redis_url,
        "ORDERRELAY_DATABASE_URL": database,
        "ORDERRELAY_BASE_URL": base_url,
        "ORDERRELAY_LOG_FORMAT": "json",
        f"{company}COMPANY_API_KEY": "bench-company-key",
        f"{company}CONNECT_API_KEY": "bench-connect-key",
        f"{company}TOKEN": "bench-token",
        f"{company}RATE_PER_SECOND": "10000",
        f"{company}BURST": "10000",
        f"{company}MAX_IN_FLIGHT": str(in_flight * 10 // 9 + 1),  # a tenth is kept for look-ups
    }


@contextlib.contextmanager
def _process(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    extra = ["--token", "bench-token"] if arguments[0] == "simulator" else []
    with log.open("wb") as file:
        command = [sys.executable, "-c", MAIN, *arguments, *extra]
        process = subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=file)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _cpu(workers: list[subprocess.Popen[bytes]]) -> float:
    return sum(sum(psutil.Process(worker.pid).cpu_times()[:2]) for worker in workers)


def _wait(condition: Callable[[], bool], every: float = 0.1, seconds: float = 600) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError("gave up waiting")
        time.sleep(every)


if __name__ == "__main__":
    main()
