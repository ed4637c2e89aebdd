"""How long an accepted order is in Redis alone: `python -m tests.bench.intake_window --help`.

Milliseconds from the call of `enqueue` to the return of the commit that books the order, by one machine's clock: idle
(an order now and then), at 100 and at 1,000 a second (by `enqueue_many`, in twenties), and at both while 100,000 orders
wait in the ledger. The workers submit meanwhile, to a vendor that answers after 50 ms; not while the 100,000 wait, as
the company is paused then. Every write of Redis, SQLite and PostgreSQL is synced. All share the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import redis

from orderrelay_producers import Order, OrderProducer
from orderrelay_shared.intake import Envelope
from orderrelay_workers.demo.verdict import count_states
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import booking, companies, migrate
from orderrelay_workers.ledger.booking import Accepted
from orderrelay_workers.ledger.engine import open_engine
from tests.bench.drain import MAIN
from tests.servers import PostgresServer, RedisServer, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

_COMPANY = "default"
_TOKEN = "bench-token"
_TIMED_WORKER = str(Path(__file__).parent / "timed_worker.py")

#: Threads that enqueue.
_PRODUCERS: Final = 4

#: Orders that come together, where many come.
_TOGETHER: Final = 20


@dataclass(frozen=True)
class Fleet:
    """What a case runs against."""

    redis_url: str
    engine: sa.Engine
    commits: Path


def main() -> None:
    """Measure each case, and print a table of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each load lasts")
    parser.add_argument("--backlog", type=int, default=100_000, help="how many orders wait in the last case")
    arguments = parser.parse_args()
    lines: list[dict[str, object]] = []
    for database in arguments.databases:
        for workers in arguments.workers:
            for line in measure(database, workers, arguments.seconds, arguments.backlog):
                lines.append(line)
                print(json.dumps(line), file=sys.stderr, flush=True)
    names = list(lines[0])
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for line in lines:
        print(f"| {' | '.join(str(value) for value in line.values())} |")


def measure(database: str, workers: int, seconds: float, backlog: int) -> Iterator[dict[str, object]]:
    """All cases of one fleet."""
    with _fleet(database, workers) as fleet:
        first = {"database": database, "workers": workers}
        _warm_up(fleet)
        yield {**first, "load": "idle", **_load(fleet, 4.0, seconds * 2)}
        for rate in (100.0, 1000.0):
            yield {**first, "load": f"{rate:,.0f}/s", **_load(fleet, rate, seconds)}
            wait_until(lambda: count_states(fleet.engine)["waiting"] == 0, 120, what="all is submitted")
        _fill(fleet, backlog)
        for rate in (100.0, 1000.0):
            yield {**first, "load": f"{rate:,.0f}/s, {backlog:,} wait", **_load(fleet, rate, seconds)}


def _load(fleet: Fleet, per_second: float, seconds: float) -> dict[str, object]:
    """Enqueue at a rate, at random instants, and tell how long each order took to be booked."""
    together = _TOGETHER if per_second >= 1000 else 1
    calls = int(per_second * seconds) // together
    orders = [[Order.parse(_order()) for _ in range(together)] for _ in range(calls)]
    instants = sorted(random.uniform(0.0, seconds) for _ in range(calls))
    called: dict[str, int] = {}
    begins_at = time.monotonic() + 0.1

    def enqueue(first: int) -> None:
        for number in range(first, calls, _PRODUCERS):
            time.sleep(max(0.0, begins_at + instants[number] - time.monotonic()))
            now_ns = time.time_ns()
            called.update({order.ensure_external_id(): now_ns for order in orders[number]})
            if together == 1:
                producer.enqueue(orders[number][0])
            else:
                assert producer.enqueue_many(orders[number]).all_taken

    with OrderProducer(fleet.redis_url) as producer:
        threads = [threading.Thread(target=enqueue, args=(n,)) for n in range(_PRODUCERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    took = time.monotonic() - begins_at
    wait_until(lambda: called.keys() <= _commits(fleet).keys(), 60, what="all is booked")
    committed = _commits(fleet)
    windows = [(committed[external_id] - called_ns) / 1e6 for external_id, called_ns in called.items()]
    percent = statistics.quantiles(windows, n=100, method="inclusive")
    return {
        "orders/s": round(calls * together / took) if per_second >= 10 else per_second,
        "p50 ms": round(percent[49], 1),
        "p99 ms": round(percent[98], 1),
        "max ms": round(max(windows), 1),
    }


def _commits(fleet: Fleet) -> dict[str, int]:
    """When each order's first commit returned, by its ExternalId."""
    found: dict[str, int] = {}
    for line in fleet.commits.read_text().splitlines():
        external_id, _, at = line.partition(" ")
        found.setdefault(external_id, int(at))
    return found


def _warm_up(fleet: Fleet) -> None:
    with OrderProducer(fleet.redis_url) as producer:
        producer.enqueue_many(_order() for _ in range(200))
    wait_until(lambda: count_states(fleet.engine)["succeeded"] == 200, 60, what="the fleet works")


def _fill(fleet: Fleet, backlog: int) -> None:
    """Pause the company, and book so many orders."""
    companies.pause(fleet.engine, _COMPANY, "benchmark", actor="bench")
    with redis.Redis.from_url(fleet.redis_url) as client:
        Gate(client, uuid.uuid4(), probe_lease_seconds=30).pause(_COMPANY, "benchmark")
    for _ in range(0, backlog, 1000):
        batch: list[Accepted] = []
        for _ in range(1000):
            order = Order.parse(_order())
            envelope = Envelope(_COMPANY, order.ensure_external_id(), order.content_digest(), order.body())
            batch.append(Accepted(f"{time.time_ns() // 1_000_000}-0", envelope))
        booking.book(fleet.engine, batch, actor="bench")


def _order() -> dict[str, object]:
    row = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350, "Text": "Skolbil m väktare, " * 4}
    return {
        "CustomerNr": "013",
        "InvoiceDate": "2026-01-30",
        "ExternalId": str(uuid.uuid4()),
        "ReferenceYour": "Åsa Öström",
        "InvoiceRows": [row] * 3,
    }


@contextlib.contextmanager
def _fleet(database: str, workers: int) -> Iterator[Fleet]:
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer(folder / "redis", options=("--appendonly", "yes", "--appendfsync", "always"))
        opened.callback(server.kill9)
        server.start()
        url = f"sqlite:///{folder / 'ledger.db'}"
        if database == "postgres":
            postgres = PostgresServer(options={"fsync": "on", "full_page_writes": "on"})
            opened.callback(postgres.remove)
            postgres.start()
            url = postgres.url(postgres.create_database())
        engine = open_engine(url)
        opened.callback(engine.dispose)
        migrate.migrate(engine)
        fleet = Fleet(server.url, engine, folder / "commits")
        fleet.commits.touch()
        port = free_port()
        run = ["-c", MAIN, "simulator", "--port", str(port), "--latency-ms", "50", "--token", _TOKEN]
        opened.enter_context(running(folder / "simulator.log", {}, *run))
        environment = {
            **company_settings(),
            "XDG_STATE_HOME": str(folder),
            "ORDERRELAY_REDIS_URL": server.url,
            "ORDERRELAY_DATABASE_URL": url,
            "ORDERRELAY_BASE_URL": f"http://127.0.0.1:{port}",
            "BENCH_COMMITS": str(fleet.commits),
        }
        logs = [folder / f"worker-{number}.log" for number in range(workers)]
        for log in logs:
            opened.enter_context(running(log, environment, _TIMED_WORKER, "worker"))
        wait_until(all_ready(logs), 60, what="the workers are ready")
        yield fleet


def all_ready(logs: list[Path]) -> Callable[[], bool]:
    """Asks whether the workers that write these logs take work."""
    return lambda: all(b" ready." in log.read_bytes() for log in logs)


def company_settings() -> dict[str, str]:
    """The variables of a company that is hardly paced."""
    values = {
        "COMPANY_API_KEY": "bench-company-key",
        "CONNECT_API_KEY": "bench-connect-key",
        "TOKEN": _TOKEN,
        "RATE_PER_SECOND": "10000",
        "BURST": "10000",
        "MAX_IN_FLIGHT": "400",
    }
    return {f"ORDERRELAY_COMPANIES__{_COMPANY.upper()}__{name}": value for name, value in values.items()}


@contextlib.contextmanager
def running(log: Path, environment: dict[str, str], *arguments: str) -> Iterator[None]:
    """A Python process that ends with the context."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=file,
            stderr=file,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main()
