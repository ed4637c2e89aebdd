"""The product under chaos: workers and their supervisor, their servers, and the links between them."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import reading
from tests.chaos.proxy import ChaosProxy
from tests.servers import wait_until
from tests.stack import Stack, company, order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderrelay_workers.simulator import RunningSimulator
    from tests.processes import Processes, RunningProcess
    from tests.servers import PostgresServer, RedisServer

COMPANY: Final = "acme"

#: Words that must be found nowhere afterwards.
SECRETS: Final = {
    "COMPANY_API_KEY": "chaos-company-key-5d1f0a",
    "CONNECT_API_KEY": "chaos-connect-key-81bc77",
    "LICENSE": "chaos-license-7c31e2",
    "USER_NAME": "chaos-user-name-2f90d4",
    "PASSWORD": "chaos-password-e64a19",
}

#: Settling is longer than any creation of the fault plan is late.
_SETTLING_SECONDS = "3"

#: A worker that was told to stop has exited after this time, in seconds; requests that are out take 2 at most.
STOP_SECONDS = 40.0

#: Exit codes of a worker that could not begin because Redis or the database was away.
_UNREACHABLE = 3

_EXTERNAL_ID = re.compile(rb'"ExternalId":\s*"([^"]+)"')
_LONGEST_EXTERNAL_ID_BYTES = 100


@dataclass
class Worker:
    """One worker process, as its supervisor sees it."""

    process: RunningProcess
    number: int
    is_frozen: bool = False
    stopped_at: float | None = None

    def __str__(self) -> str:
        return f"worker {self.number}"

    @property
    def is_ready(self) -> bool:
        """Whether it takes work."""
        return " ready." in self.process.log

    @property
    def boot_id(self) -> str | None:
        """Its boot id, once it has begun."""
        found = re.search(r'"boot_id": ?"([0-9a-f-]+)"', self.process.log)
        return found[1] if found else None


@dataclass
class Waiting:
    """An order that a dead worker held; `decided_at` is when it was in doubt no more."""

    job_id: uuid.UUID
    died_at: float
    decided_at: float | None = None


@dataclass
class Seen:
    """Order requests as they were carried to the vendor, counted by ExternalId."""

    counts: Counter[str] = field(default_factory=Counter[str])
    _tails: dict[int, bytes] = field(default_factory=dict[int, bytes])

    def add(self, link: int, piece: bytes) -> None:
        """Take in what was delivered on one connection."""
        text = self._tails.get(link, b"") + piece
        end = 0
        for found in _EXTERNAL_ID.finditer(text):
            self.counts[found[1].decode()] += 1
            end = found.end()
        self._tails[link] = text[max(end, len(text) - _LONGEST_EXTERNAL_ID_BYTES) :]


class World:
    """Everything of one run. Events happen at once, and what lasts is ended by `tick`.

    Args:
        processes: Starts workers and producers.
        folder: For files.
        redis_server: Runs already.
        postgres_server: Runs already; None: the ledger is SQLite.
        database_url: The empty ledger.
        simulator: The vendor.
        workers: How many there shall always be.
        rate_per_second: The company's.
        has_lookup: Whether workers may look orders up.

    Attributes:
        seen: The order requests that reached the vendor.
        counts: Events by their kind, and what the supervisor had to do.
        violations: What must never be.
        waiting: The orders that dead workers held.
        began_at: When the run began, by the wall clock.
        wiped_at: When Redis was wiped last, in seconds since then.
        tokens: Every token that the vendor gave out, as far as was noticed.
    """

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        redis_server: RedisServer,
        postgres_server: PostgresServer | None,
        database_url: str,
        simulator: RunningSimulator,
        *,
        workers: int,
        rate_per_second: float,
        has_lookup: bool,
    ) -> None:
        self.seen = Seen()
        self.redis_server = redis_server
        self.postgres_server = postgres_server
        self.simulator = simulator
        self.has_lookup = has_lookup
        self.redis_link = ChaosProxy(redis_server.port)
        self.vendor_link = ChaosProxy(int(simulator.url.rsplit(":", 1)[1]), self.seen.add)
        environment = {
            **company(COMPANY, RATE_PER_SECOND=f"{rate_per_second:g}", BURST="5", **SECRETS),
            "ORDERRELAY_SETTLING_SECONDS": _SETTLING_SECONDS,
            "ORDERRELAY_REDIS_URL": f"redis://127.0.0.1:{self.redis_link.port}/0",
            "ORDERRELAY_BASE_URL": f"http://127.0.0.1:{self.vendor_link.port}",
        }
        self.stack = Stack(processes, redis_server.url, database_url, simulator, folder, environment)
        if not has_lookup:
            self.stack.set_empty("LOOKUP_PATH")
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.happened: list[tuple[float, str]] = []
        self.waiting: dict[uuid.UUID, Waiting] = {}
        self.wiped_at = -1.0
        self.workers: list[Worker] = []
        self.leaving: list[Worker] = []
        self._wanted = workers
        self._begun = 0
        self._began_at, self.began_at = time.monotonic(), datetime.now(UTC)
        self._ends: list[tuple[float, Callable[[], None]]] = []
        self.tokens: set[str] = set()

    # Time -----------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the workers; returns when all take work."""
        for _ in range(self._wanted):
            self.start_worker()
        for worker in self.workers:
            self.stack.await_ready(worker.process)
        self._began_at, self.began_at = time.monotonic(), datetime.now(UTC)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_at

    def say(self, text: str) -> None:
        """Note what happened, with its time."""
        self.happened.append((self.now, text))
        print(f"{self.now:7.1f} s  {text}", flush=True)

    def tick(self) -> None:
        """End what has lasted long enough, start workers anew, watch orders of dead ones."""
        for at, end in [entry for entry in self._ends if entry[0] <= self.now]:
            self._ends.remove((at, end))
            end()
        self._supervise()
        self._watch()
        self.tokens |= set(self.simulator._simulator._tokens._alive)

    def calm(self) -> None:
        """End everything that goes wrong."""
        for _, end in self._ends:
            end()
        self._ends.clear()
        self.redis_link.heal()
        self.vendor_link.heal()

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        """Do something after so many seconds, or when calm is restored."""
        self._ends.append((self.now + seconds, end))

    # Workers --------------------------------------------------------------------------------------------------------

    def start_worker(self) -> Worker:
        """Start one; returns at once."""
        self._begun += 1
        worker = Worker(self.stack.command("worker"), self._begun)
        self.workers.append(worker)
        return worker

    def _supervise(self) -> None:
        for worker in [w for w in self.workers if not w.process.is_running]:
            code = worker.process.wait()
            self.workers.remove(worker)
            if code == _UNREACHABLE:
                self.counts["worker could not begin (exit 3), started again"] += 1
            else:
                self.violations.append(f"{worker} ended by itself with {code}: {worker.process.log_path}")
        for worker in list(self.leaving):
            self._see_off(worker)
        while len(self.workers) < self._wanted:
            self.start_worker()

    def _see_off(self, worker: Worker) -> None:
        assert worker.stopped_at is not None
        took = self.now - worker.stopped_at
        if not worker.process.is_running:
            self.leaving.remove(worker)
            if (code := worker.process.wait()) not in (0, _UNREACHABLE):
                self.violations.append(f"{worker} exited {code} on SIGTERM: {worker.process.log_path}")
            self.say(f"{worker} exited {code} after {took:.1f} s")
        elif took > STOP_SECONDS:
            self.leaving.remove(worker)
            self.violations.append(f"{worker} still runs {took:.0f} s after SIGTERM: "
                                   f"{worker.process.log_path}")  # fmt: skip
            self.kill(worker)

    def kill(self, worker: Worker) -> None:
        """SIGKILL to a worker; what it held is watched from now on."""
        if worker in self.workers:
            self.workers.remove(worker)
        boot_id = worker.boot_id
        worker.process.kill9()
        if boot_id is None:
            return
        held = sa.select(schema.job.c.id).where(
            schema.job.c.owner == uuid.UUID(boot_id), schema.job.c.state == str(JobState.IN_PROGRESS)
        )
        for job_id in self._read(held):
            self.waiting.setdefault(job_id, Waiting(job_id, self.now))

    def find_deaf(self) -> list[str]:
        """Let each worker be the only one for a moment: it must book and submit an order. Gives the orders' ids.

        A worker that lost its connection to the broker, and never noticed, would not.
        """
        asked: list[str] = []
        for worker in self.workers:
            self.stack.await_ready(worker.process)
        for worker in self.workers:
            others = [other for other in self.workers if other is not worker]
            for attempt in (1, 2, 3):
                external_id = f"alone-{worker.number}-{attempt}"
                asked.append(external_id)
                if self._is_done_with_frozen(others, external_id):
                    break
                # Perhaps a worker was frozen with the write lock of SQLite in its hand.
                self.say(f"{worker} did not submit an order alone")
                self.stack.wait_for([external_id])
            else:
                self.violations.append(f"{worker} is deaf: {worker.process.log_path}")
        return asked

    def _is_done_with_frozen(self, others: list[Worker], external_id: str) -> bool:
        for other in others:
            other.process.freeze()
        frozen_at = self.now
        try:
            # What Redis would still hand to a frozen worker's blocked command ends after a second.
            wait_until(lambda: self.now > frozen_at + 1.5, what="blocked commands have ended")
            self.stack.producer.enqueue(order(external_id), company=COMPANY)
            self.stack.wait_for([external_id], timeout=15)
        except AssertionError:
            return False
        finally:
            for other in others:
                other.process.thaw()
        return True

    def stop_all(self) -> None:
        """SIGTERM to all workers; returns when they have exited."""
        self._wanted = 0
        while self.workers:
            self.stop(self.workers[0])
        while self.leaving:
            for worker in list(self.leaving):
                self._see_off(worker)
            time.sleep(0.05)

    def stop(self, worker: Worker) -> None:
        """SIGTERM to a worker, which then has `STOP_SECONDS` to exit 0."""
        self.workers.remove(worker)
        worker.stopped_at = self.now
        self.leaving.append(worker)
        worker.process.sigterm()

    # What became of the orders that dead workers held ---------------------------------------------------------------

    def _read(self, query: sa.Select[uuid.UUID]) -> list[uuid.UUID]:
        if self.postgres_server is not None and not self.postgres_server.is_running:
            return []
        with contextlib.suppress(SQLAlchemyError), reading(self.stack.engine) as connection:
            return list(connection.execute(query).scalars())
        return []

    def _watch(self) -> None:
        open_ones = [w.job_id for w in self.waiting.values() if w.decided_at is None]
        if not open_ones:
            return
        doubtful = [str(JobState.IN_PROGRESS), str(JobState.UNKNOWN)]
        table = schema.job.c
        for job_id in self._read(sa.select(table.id).where(table.id.in_(open_ones), table.state.not_in(doubtful))):
            self.waiting[job_id].decided_at = self.now
