"""What the pacing benches run: worker processes, a real Redis and database, and the simulator as a process of its own.

All share one machine, and so one monotonic clock: the simulator's arrivals and the bench's instants go together.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psutil
import redis
import sqlalchemy as sa

from orderrelay_shared.intake import Envelope
from orderrelay_shared.orders import Order
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import booking, migrate, schema
from orderrelay_workers.ledger.booking import Accepted
from orderrelay_workers.ledger.engine import open_engine, reading
from tests.bench.databases import bench_database
from tests.processes import Processes
from tests.servers import RedisServer, wait_until
from tests.stack import Stack, company, environment_of, order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from orderrelay_workers.gate import GateState
    from tests.processes import RunningProcess

_COMMAND: Final = ("-c", "from orderrelay_shared.command import main; main()")
_BATCH: Final = 2000
_MARK: Final = "pacing-0000000"

#: The kinds of requests, as the simulator's books call them.
KINDS: Final = ("order", "lookup", "login")


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Requests of one kind as the vendor saw them, oldest first.

    Attributes:
        times: When each came in, in monotonic seconds.
        statuses: What each was answered; 0 while it is at work.
    """

    times: list[float]
    statuses: list[int]

    def answered(self, *statuses: int) -> list[float]:
        """When those came in that were answered so."""
        return [at for at, status in zip(self.times, self.statuses, strict=True) if status in statuses]


class Vendor:
    """The simulator as a process, and its books over HTTP."""

    def __init__(self, process: RunningProcess) -> None:
        wait_until(lambda: not process.is_running or "\n" in process.log, 40, what="the simulator listens")
        assert process.is_running, process.log
        self.url: str = json.loads(process.log.splitlines()[0])["url"]
        # The vendor has a machine of its own; here it shall at least not wait for a core, as it keeps the time.
        with contextlib.suppress(psutil.AccessDenied):
            psutil.Process(process.pid).nice(-10)

    def put_in_force(self, **plan: object) -> float:
        """Put a fault plan in force; gives the instant at which its seconds begin."""
        body = json.dumps({"plan": plan}).encode()
        request = urllib.request.Request(f"{self.url}/control", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30):
            return time.monotonic()

    def arrivals(self, kind: str = "order", alias: str | None = None) -> Arrivals:
        """The requests of one kind, of one company or of all."""
        query = {"kind": kind} | ({} if alias is None else {"companyApiKey": f"{alias}-key"})
        with urllib.request.urlopen(f"{self.url}/arrivals?{urllib.parse.urlencode(query)}", timeout=60) as answer:
            told = json.load(answer)
        return Arrivals(told["monotonic_seconds"], told["statuses"])


class Watch:
    """Asks things again and again in a thread of its own, as long as the block runs.

    Args:
        every: Seconds between two rounds.
        asked: What to ask, by its name; None is left out.

    Attributes:
        series: What was answered: monotonic instants and values, by name.
    """

    def __init__(self, every: float, **asked: Callable[[], float | None]) -> None:
        self.series: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        self._every = every
        self._asked = asked
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._over.wait(self._every):
            for name, ask in self._asked.items():
                if (value := ask()) is not None:
                    self.series[name].append((time.monotonic(), value))

    def since(self, began: float) -> dict[str, list[tuple[float, float]]]:
        """The series with their instants counted from one."""
        return {name: [(at - began, value) for at, value in series] for name, series in self.series.items()}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()


@dataclass
class World:
    """Everything of one run.

    Attributes:
        processes: Starts and kills them.
        vendor: The simulator.
        engine: The ledger.
        environment: Variables of every worker.
        client: Of the Redis.
        workers: Those that were started.
    """

    processes: Processes
    vendor: Vendor
    engine: sa.Engine
    environment: dict[str, str]
    client: redis.Redis
    workers: list[RunningProcess] = field(default_factory=list["RunningProcess"])

    def __post_init__(self) -> None:
        self._gate = Gate(self.client, uuid.uuid4(), probe_lease_seconds=30)

    def start_workers(self, count: int) -> None:
        """Start worker processes; returns when all take work."""
        started = [
            self.processes.start_python([*_COMMAND, "worker"], self.environment, name="worker") for _ in range(count)
        ]
        self.workers += [Stack.await_ready(process) for process in started]

    def book(self, alias: str, count: int, first: int = 0) -> None:
        """Let orders wait in the ledger, as if they had come through the intake, in large batches."""
        model = Order.model_validate(order(_MARK))
        mark, body = _MARK.encode(), model.body()
        for begin in range(first, first + count, _BATCH):
            batch: list[Accepted] = []
            for number in range(begin, min(begin + _BATCH, first + count)):
                external_id = f"pacing-{number:07d}"
                envelope = Envelope(
                    alias,
                    external_id,
                    hashlib.sha256(external_id.encode()).digest(),
                    body.replace(mark, external_id.encode()),
                )
                batch.append(Accepted(f"{time.time_ns() // 1_000_000}-{number}", envelope))
            booking.book(self.engine, batch, actor="bench")

    def gate(self, alias: str) -> GateState | None:
        """A company's gate now; None if it is not seeded, or Redis did not answer."""
        with contextlib.suppress(redis.RedisError):
            return self._gate.state(alias)
        return None

    def rate_now(self, alias: str) -> float | None:
        """The rate in force."""
        state = self.gate(alias)
        return None if state is None else state.rate_now

    def rss_mb(self, number: int) -> float | None:
        """The memory of one worker and its children, in megabytes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.workers[number].pid)
            family = [process, *process.children(recursive=True)]
            return sum(one.memory_info().rss for one in family) / 1_000_000
        return None

    def attempts(self, alias: str) -> Sequence[sa.RowMapping]:
        """A company's order requests: when each began, at which worker, its number of its job, and how it ended."""
        table = schema.attempt.c
        query = (
            sa.select(table.began_at, table.worker, table.number, table.outcome, table.sent)
            .join(schema.company, schema.company.c.id == table.company_id)
            .where(table.kind == "order", schema.company.c.alias == alias)
        )
        with reading(self.engine) as connection:
            return connection.execute(query).mappings().all()

    def states(self, alias: str) -> dict[str, int]:
        """How many orders of a company are in which state."""
        query = (
            sa.select(schema.job.c.state, sa.func.count())
            .join(schema.company, schema.company.c.id == schema.job.c.company_id)
            .where(schema.company.c.alias == alias)
            .group_by(schema.job.c.state)
        )
        with reading(self.engine) as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def by_worker(self, alias: str, begin: float, end: float) -> list[int]:
        """How many order requests each worker made between two monotonic instants, fewest first."""
        first, last = wall(begin), wall(end)
        counted = Counter(a["worker"] for a in self.attempts(alias) if first <= a["began_at"] < last)
        return sorted(counted.values())


def wall(monotonic: float) -> datetime:
    """The wall clock at a monotonic instant."""
    return datetime.now(UTC) - timedelta(seconds=time.monotonic() - monotonic)


@contextlib.contextmanager
def open_world(
    companies: Mapping[str, Mapping[str, str]],
    *,
    postgres: bool,
    latency_ms: str = "50-150",
    **settings: str,
) -> Iterator[World]:
    """Start everything but the workers; all is gone when the block ends.

    Args:
        companies: Alias to settings that differ from the tests' usual ones.
        postgres: Whether the ledger is PostgreSQL with every commit synced; else SQLite, which syncs too.
        latency_ms: The vendor's, fixed or a range.
        settings: Further settings of the workers, without `ORDERRELAY_`.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orderrelay-pacing-")))
        processes = Processes(folder)
        stack.callback(processes.end)
        server = RedisServer(folder / "redis")
        server.start()
        stack.callback(server.kill9)
        database = stack.enter_context(bench_database(folder, postgres=postgres))
        simulator = processes.start_python(
            [*_COMMAND, "simulator", "--port", "0", "--json", "--latency-ms", latency_ms], name="simulator"
        )
        vendor = Vendor(simulator)
        engine = open_engine(database)
        stack.callback(engine.dispose)
        migrate.migrate(engine)
        environment = environment_of(
            *(company(alias, **changes) for alias, changes in companies.items()),
            XDG_STATE_HOME=str(folder),
            ORDERRELAY_REDIS_URL=server.url,
            ORDERRELAY_DATABASE_URL=database,
            ORDERRELAY_BASE_URL=vendor.url,
            ORDERRELAY_LOG_FORMAT="json",
            **{f"ORDERRELAY_{name}": value for name, value in settings.items()},
        )
        client = stack.enter_context(redis.Redis.from_url(server.url, socket_timeout=5.0))
        yield World(processes, vendor, engine, environment, client)


def told(**values: Any) -> dict[str, Any]:
    """A result's row, its names with spaces."""
    return {name.replace("_", " "): value for name, value in values.items()}
