"""How fast the intake books: from a stream that is full already to committed rows, by the worker's own reader."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import psutil
import redis
import sqlalchemy as sa
import structlog

from orderrelay_producers import Order
from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope
from orderrelay_workers import memory
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import open_engine
from orderrelay_workers.runtime import Busy
from orderrelay_workers.sidecar.intake import Intake
from tests.bench.scale_fleet import COMPANY, a_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.synchronize import Barrier

    from orderrelay_workers.runtime import Runtime


@dataclass
class Settings:
    """Where the stream is."""

    redis_url: str


@dataclass
class Hints:
    """Sends none."""

    def orders(self, company: str) -> bool:
        """Nobody is to be told."""
        return bool(company)


@dataclass
class BookingWorker:
    """As much of a worker as the intake takes. It serves no company, so nothing is submitted meanwhile."""

    engine: sa.Engine
    settings: Settings
    boot_id: uuid.UUID = field(default_factory=uuid.uuid4)
    actor: str = "bench"
    draining: threading.Event = field(default_factory=threading.Event)
    companies: dict[str, object] = field(default_factory=dict[str, object])
    submitting: Busy = field(default_factory=Busy)
    hints: Hints = field(default_factory=Hints)
    traces: None = None


def envelopes(count: int) -> Iterator[Envelope]:
    """Orders of three rows and about 700 bytes, each of its own ExternalId."""
    body = Order.parse({**AN_ORDER, "ExternalId": "@"}).body().decode()
    for number in range(count):
        external_id = f"scale-{number:08d}"
        yield Envelope(COMPANY, external_id, uuid.uuid4().bytes * 2, body.replace('"@"', f'"{external_id}"').encode())


_ROW = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350, "Text": "Skolbil m väktare, " * 4}
#: An order without ExternalId.
AN_ORDER: dict[str, object] = {
    "CustomerNr": "013",
    "InvoiceDate": "2026-01-30",
    "ReferenceYour": "Åsa Öström",
    "InvoiceRows": [_ROW] * 3,
}


def fill(client: redis.Redis, count: int) -> None:
    """Put so many orders into the stream, as a producer would."""
    pipeline = client.pipeline(transaction=False)
    for number, envelope in enumerate(envelopes(count), start=1):
        pipeline.xadd(keys.INTAKE, cast("dict[Any, Any]", envelope.to_fields()))
        if number % 1000 == 0 or number == count:
            pipeline.execute()


def measure(orders: int, workers: int, *, postgres: bool) -> dict[str, object]:
    """Book so many orders by so many processes, once."""
    with a_fleet(postgres=postgres) as fleet, redis.Redis.from_url(fleet.redis.url) as client:
        fill(client, orders)
        context = multiprocessing.get_context("spawn")
        begin = context.Barrier(workers + 1)
        results: Any = context.Queue()
        processes = [
            context.Process(target=book_all, args=(fleet.redis.url, fleet.database_url, begin, results))
            for _ in range(workers)
        ]
        for process in processes:
            process.start()
        begin.wait(60)
        servers_before = _servers_cpu()
        began = time.perf_counter()
        told = [json.loads(results.get(timeout=600)) for _ in processes]
        seconds = time.perf_counter() - began
        servers = {name: spent - servers_before[name] for name, spent in _servers_cpu().items()}
        for process in processes:
            process.join()
        with fleet.engine.connect() as connection:
            booked = connection.execute(sa.select(sa.func.count()).select_from(schema.job)).scalar_one()
        assert (booked, client.xlen(keys.INTAKE)) == (orders, 0), booked
        return {
            "case": "intake",
            "database": fleet.engine.dialect.name,
            "workers": workers,
            "orders": orders,
            "orders_per_second": round(orders / seconds),
            "worker_cpu_ms_per_order": round(sum(one["cpu"] for one in told) * 1000 / orders, 4),
            "redis_cpu_ms_per_order": round(servers["valkey-server"] * 1000 / orders, 4),
            "postgres_cpu_ms_per_order": round(servers["postgres"] * 1000 / orders, 4),
        }


def book_all(redis_url: str, database_url: str, begin: Barrier, results: Any) -> None:
    """Book until the stream is empty: one process of the measurement."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    engine = open_engine(database_url)
    intake = Intake(cast("Runtime", BookingWorker(engine, Settings(redis_url))))
    intake._make_group()  # before the clock runs
    with engine.connect() as connection:
        connection.execute(sa.select(1))
    memory.look_for_garbage_seldom()  # as a worker does when it is ready
    begin.wait(60)
    cpu, orders = time.process_time(), 0
    with redis.Redis.from_url(redis_url) as client:
        while client.xinfo_groups(keys.INTAKE)[0]["lag"]:
            orders += intake.book_next()
    intake.close()  # ends what it does beside
    results.put(json.dumps({"orders": orders, "cpu": time.process_time() - cpu}))
    engine.dispose()


def _servers_cpu() -> dict[str, float]:
    """What the servers of this process, and children that they had, have used so far, in seconds, by program."""
    spent = {"valkey-server": 0.0, "postgres": 0.0}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() in spent:
                spent[process.name()] += sum(process.cpu_times()[:4])
    return spent
