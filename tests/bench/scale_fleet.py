"""What the benches of scale run: a Redis, a ledger, and worker processes of the product."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from orderrelay_workers.ledger import companies, migrate
from orderrelay_workers.ledger.engine import open_engine
from tests.bench.databases import bench_database
from tests.bench.drain import MAIN
from tests.bench.intake_window import all_ready, company_settings
from tests.servers import RedisServer, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

COMPANY: Final = "default"


@dataclass
class Fleet:
    """Servers, and the workers that were started on them."""

    folder: Path
    redis: RedisServer
    database_url: str
    engine: sa.Engine
    opened: contextlib.ExitStack
    workers: list[psutil.Process] = field(default_factory=list[psutil.Process])

    @property
    def company_id(self) -> int:
        """The company's id in the ledger."""
        return companies.by_alias(self.engine)[COMPANY].id

    def start_process(self, name: str, environment: dict[str, str], *arguments: str) -> psutil.Process:
        """Start a command of the product; it ends with the fleet."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        log = self.opened.enter_context((self.folder / f"{name}.log").open("wb"))
        command = [sys.executable, "-c", MAIN, *arguments]
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path, **environment}, stdout=log, stderr=log
        )
        self.opened.callback(_end, process)
        return psutil.Process(process.pid)

    def environment(self, vendor_url: str) -> dict[str, str]:
        """The settings of a worker, or of a command beside it."""
        return {
            **company_settings(),
            "XDG_STATE_HOME": str(self.folder),
            "ORDERRELAY_REDIS_URL": self.redis.url,
            "ORDERRELAY_DATABASE_URL": self.database_url,
            "ORDERRELAY_BASE_URL": vendor_url,
            "ORDERRELAY_LOG_FORMAT": "json",
        }

    def start_workers(self, count: int, vendor_url: str, more: dict[str, str] | None = None) -> None:
        """Start workers; returns when they take work. `more` are settings of theirs."""
        environment = self.environment(vendor_url) | (more or {})
        names = [f"worker-{number}" for number in range(count)]
        self.workers = [self.start_process(name, environment, "worker") for name in names]
        wait_until(all_ready([self.folder / f"{name}.log" for name in names]), 60, what="the workers are ready")

    def cpu_seconds(self) -> float:
        """What the workers have used so far."""
        return sum(sum(worker.cpu_times()[:2]) for worker in self.workers)

    def rss_mb(self) -> float:
        """What the largest worker has in memory."""
        return round(max(worker.memory_info().rss for worker in self.workers) / 1e6, 1)


@contextlib.contextmanager
def a_fleet(*, postgres: bool) -> Iterator[Fleet]:
    """Servers with an empty ledger that knows the company."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer(folder / "redis")
        opened.callback(server.kill9)
        server.start()
        url = opened.enter_context(bench_database(folder, postgres=postgres))
        engine = open_engine(url)
        opened.callback(engine.dispose)
        migrate.migrate(engine)
        companies.ensure(engine, [COMPANY])
        yield Fleet(folder, server, url, engine, opened)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
