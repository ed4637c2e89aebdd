"""The product under chaos: workers and their supervisor, their servers, and the links between them."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers.ledger.engine import reading
from tests.chaos.crew import Crew
from tests.chaos.proxy import ChaosProxy
from tests.chaos.schedule import Link
from tests.chaos.watch import Deaths, Idleness, Outages
from tests.stack import Stack, company

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from orderrelay_workers.simulator import RunningSimulator
    from tests.chaos.disk import SmallDisk
    from tests.processes import Processes
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
SETTLING_SECONDS: Final = 3.0

_EXTERNAL_ID = re.compile(rb'"ExternalId":\s*"([^"]+)"')
_LONGEST_EXTERNAL_ID_BYTES = 100

_NO_WORKER = "no worker"


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


@dataclass(frozen=True)
class Servers:
    """What a run is made of; all of it runs already.

    Attributes:
        redis: Intake, gate and broker.
        postgres: The ledger's server; None: the ledger is SQLite.
        database_url: The empty ledger.
        simulator: The vendor.
        disk: Where the database's files are; None: on no disk of their own.
    """

    redis: RedisServer
    postgres: PostgresServer | None
    database_url: str
    simulator: RunningSimulator
    disk: SmallDisk | None


class World:
    """Everything of one run. Events happen at once, and what lasts is ended by `tick`.

    Args:
        processes: Starts workers and producers.
        folder: For files.
        servers: What runs already.
        workers: How many there shall always be.
        limits: `RATE_PER_SECOND` and the like of the company.
        has_lookup: Whether workers may look orders up.
        orders_per_request: So many orders may share a request.

    Attributes:
        links: The proxies.
        seen: The order requests that reached the vendor.
        counts: Events by their name, and what the supervisor had to do.
        violations: What must never be.
        began_at: When the run began, by the wall clock.
        wiped_at: When Redis was wiped last, in seconds since then.
        tokens: Every token that the vendor gave out, as far as was noticed.
    """

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        servers: Servers,
        *,
        workers: int,
        limits: dict[str, str],
        has_lookup: bool,
        orders_per_request: int = 1,
    ) -> None:
        self.company = COMPANY
        self.seen = Seen()
        self.servers = servers
        self.simulator = servers.simulator
        self.has_lookup = has_lookup
        port = int(self.simulator.url.rsplit(":", 1)[1])
        self.links = {
            Link.REDIS: ChaosProxy(servers.redis.port),
            Link.PRODUCERS: ChaosProxy(servers.redis.port),
            Link.VENDOR: ChaosProxy(port, self.seen.add),
        }
        environment = {
            **company(COMPANY, BURST="5", **limits, **SECRETS),
            "ORDERRELAY_SETTLING_SECONDS": f"{SETTLING_SECONDS:g}",
            "ORDERRELAY_ORDERS_PER_REQUEST": str(orders_per_request),
            "ORDERRELAY_REDIS_URL": f"redis://127.0.0.1:{self.links[Link.REDIS].port}/0",
            "ORDERRELAY_BASE_URL": f"http://127.0.0.1:{self.links[Link.VENDOR].port}",
        }
        if servers.postgres is not None:
            direct = servers.postgres.port
            self.links[Link.DATABASE] = ChaosProxy(direct)
            through = f":{self.links[Link.DATABASE].port}/"
            environment["ORDERRELAY_DATABASE_URL"] = servers.database_url.replace(f":{direct}/", through)
        self.stack = Stack(
            processes, servers.redis.url, servers.database_url, self.simulator, folder, environment
        )  # fmt: skip
        if not has_lookup:
            self.stack.set_empty("LOOKUP_PATH")
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.wiped_at = -1.0
        self.tokens: set[str] = set()
        self._ends: list[tuple[float, Callable[[], None]]] = []
        self._began_at, self.began_at = time.monotonic(), datetime.now(UTC)
        self.outages = Outages()
        self.deaths = Deaths(self)
        self.idleness = Idleness(self, servers.redis.url)
        self.crew = Crew(self, folder, workers)

    def close(self) -> None:
        """Let everything go but the servers."""
        self.crew.end()
        self.idleness.close()
        self.stack.close()
        for link in self.links.values():
            link.close()

    def begin(self) -> None:
        """Start the workers; returns when all take work."""
        self.crew.begin()
        self._began_at, self.began_at = time.monotonic(), datetime.now(UTC)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began_at

    def say(self, text: str) -> None:
        """Tell what happened, with its time."""
        print(f"{self.now:7.1f} s  {text}", flush=True)

    def tick(self) -> None:
        """End what has lasted long enough, start workers anew, and watch."""
        for at, end in [entry for entry in self._ends if entry[0] <= self.now]:
            self._ends.remove((at, end))
            end()
        self.crew.tick()
        if self.crew.is_working():
            self.outages.end(_NO_WORKER, self.now)
        else:
            self.outages.begin(_NO_WORKER, self.now)
        self.deaths.tick()
        self.idleness.tick()
        self.tokens |= set(self.simulator._simulator._tokens._alive)

    def wait(self, predicate: Callable[[], object], timeout: float, *, what: str) -> None:
        """Keep the world going until the predicate is true; asked a few times a second.

        Raises:
            AssertionError: It was not so within `timeout` seconds.
        """
        ends_at = self.now + timeout
        while not predicate():
            if self.now > ends_at:
                raise AssertionError(f"Still not so after {timeout} s: {what}")
            for _ in range(4):
                self.tick()
                time.sleep(0.05)

    def later(self, seconds: float, end: Callable[[], None]) -> None:
        """Do something after so many seconds, or when calm is restored."""
        self._ends.append((self.now + seconds, end))

    def calm(self) -> None:
        """End everything that goes wrong."""
        while self._ends:
            _, end = self._ends.pop(0)
            end()
        self.crew.disarm_all()
        for link in self.links.values():
            link.heal()

    def read(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Rows of the ledger; none while the database is away."""
        if self.servers.postgres is not None and not self.servers.postgres.is_running:
            return []
        with contextlib.suppress(SQLAlchemyError), reading(self.stack.engine) as connection:
            return connection.execute(query).all()
        return []

    def producer_environment(self) -> dict[str, str]:
        """What differs for producers: they reach Redis by a link of their own."""
        return {"ORDERRELAY_REDIS_URL": f"redis://127.0.0.1:{self.links[Link.PRODUCERS].port}/0"}
