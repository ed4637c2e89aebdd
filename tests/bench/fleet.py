"""Our own side of a bench: a Redis, a database, a vendor, and worker processes whose settings do not limit them."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import redis
import sqlalchemy as sa

from orderrelay_producers import OrderProducer
from orderrelay_workers.demo.verdict import count_states
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import companies, migrate, schema
from orderrelay_workers.ledger.engine import open_engine, reading
from tests.bench.databases import bench_database
from tests.bench.load import Meter
from tests.bench.orders import bench_order
from tests.bench.vendor import Vendor, start_vendor
from tests.processes import Processes
from tests.servers import RedisServer, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.processes import RunningProcess

#: The command as a user's shell would start it.
COMMAND: Final = ("-c", "from orderrelay_shared.command import main; main()")

_COMPANY: Final = "default"

#: The gate keeps a tenth of what may be in flight for look-ups.
_SHARE_OF_ORDERS: Final = 0.9


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        database: "sqlite" or "postgres"; both sync every commit.
        latency_ms: How long the vendor takes.
        in_flight: How many order requests may be unanswered, over all workers.
        orders: How many are drained.
        workers: How many processes.
        simulator: Whether the vendor is the simulator instead of the stub.
        settings: More of the workers' environment.
    """

    database: str
    latency_ms: int
    in_flight: int
    orders: int
    workers: int = 2
    simulator: bool = False
    settings: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Fleet:
    """What a case runs on.

    Attributes:
        redis_url: The intake and the broker.
        engine: The ledger.
        workers: Their processes.
        vendor: The stub; None: it is the simulator.
        meter: Reads the groups "workers", "redis", "database" and "vendor".
    """

    redis_url: str
    engine: sa.Engine
    workers: tuple[RunningProcess, ...]
    vendor: Vendor | None
    meter: Meter

    def enqueue(self, number: int, prefix: str) -> None:
        """Enqueue so many orders."""
        with OrderProducer(self.redis_url) as producer:
            report = producer.enqueue_many((bench_order(n, prefix) for n in range(number)), timeout=600)
        assert report.all_taken, str(report)

    def pause(self) -> None:
        """Stop requests."""
        companies.pause(self.engine, _COMPANY, "benchmark", actor="bench")
        with self._gate() as gate:
            gate.pause(_COMPANY, "benchmark")

    def resume(self) -> None:
        """Let them go on."""
        companies.resume(self.engine, _COMPANY, actor="bench")
        with self._gate() as gate:
            gate.resume(_COMPANY)

    def in_state(self, state: str) -> int:
        """How many jobs are in a state."""
        return count_states(self.engine)[state]

    def typed_results(self) -> int:
        """How many operation results are stored."""
        with reading(self.engine) as connection:
            statement = sa.select(sa.func.count()).select_from(schema.operation_result)
            return int(connection.execute(statement).scalar_one())

    @contextlib.contextmanager
    def _gate(self) -> Iterator[Gate]:
        with redis.Redis.from_url(self.redis_url) as client:
            yield Gate(client, uuid.uuid4(), probe_lease_seconds=30)


@contextlib.contextmanager
def running_fleet(case: Case) -> Iterator[Fleet]:
    """Start all of a case; gives it when every worker takes work."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(bench_database(folder, postgres=case.database == "postgres"))
        processes = Processes(folder)
        stack.callback(processes.end)
        server = RedisServer(folder / "redis")
        server.start()
        stack.callback(server.process.kill9)
        vendor_process, vendor, base_url = _start_vendor(processes, case)
        if vendor is not None:
            stack.callback(vendor.close)
        engine = open_engine(database)
        stack.callback(engine.dispose)
        migrate.migrate(engine)
        environment = {
            **_company(case.in_flight),
            "XDG_STATE_HOME": str(folder),
            "ORDERRELAY_REDIS_URL": server.url,
            "ORDERRELAY_DATABASE_URL": database,
            "ORDERRELAY_BASE_URL": base_url,
            "ORDERRELAY_LOG_FORMAT": "json",
            **(case.settings or {}),
        }
        workers = tuple(
            processes.start_python([*COMMAND, "worker"], environment, name="worker") for _ in range(case.workers)
        )
        wait_until(lambda: all(" ready." in worker.log for worker in workers), 60, what="the workers are ready")
        meter = Meter(
            {
                "workers": [worker.pid for worker in workers],
                "redis": [server.process.pid],
                "database": _postmasters(),
                "vendor": [vendor_process.pid],
            }
        )
        yield Fleet(server.url, engine, workers, vendor, meter)


def _start_vendor(processes: Processes, case: Case) -> tuple[RunningProcess, Vendor | None, str]:
    if not case.simulator:
        vendor = start_vendor(processes, case.latency_ms)
        return vendor.process, vendor, vendor.url
    port = str(free_port())
    arguments = ["simulator", "--port", port, "--latency-ms", str(case.latency_ms), "--token", "bench-token"]
    process = processes.start_python([*COMMAND, *arguments], name="simulator")
    return process, None, f"http://127.0.0.1:{port}"


def _company(in_flight: int) -> dict[str, str]:
    """A company whose rate is the highest there is, and so never the limit here."""
    values = {
        "COMPANY_API_KEY": "bench-company-key",
        "CONNECT_API_KEY": "bench-connect-key",
        "TOKEN": "bench-token",
        "RATE_PER_SECOND": "10000",
        "BURST": "10000",
        "MAX_IN_FLIGHT": str(int(in_flight / _SHARE_OF_ORDERS) + 1),
    }
    return {f"ORDERRELAY_COMPANIES__{_COMPANY.upper()}__{name}": value for name, value in values.items()}


def _postmasters() -> list[int]:
    """PostgreSQL's oldest processes among this one's children; none on SQLite, whose work the workers do."""
    return [child.pid for child in psutil.Process().children() if child.name().startswith("postgres")]
