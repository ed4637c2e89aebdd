"""What every test may ask for: real servers, fresh for each test, and processes that do not outlive it."""

from __future__ import annotations

import fnmatch
import uuid
from typing import TYPE_CHECKING

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, settings

from orderrelay_shared import keys
from orderrelay_workers.gate import Gate, Limits
from tests.gates import ACME, LEASE_SECONDS
from tests.processes import Processes, dismiss_guardian
from tests.servers import PostgresServer, RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# How fast this machine is says nothing about the code. (In CI, Hypothesis has a profile of its own that says the same.)
settings.register_profile("any machine", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
settings.load_profile("any machine")


@pytest.fixture(scope="session", autouse=True)
def _no_process_outlives_the_run() -> Iterator[None]:
    yield
    dismiss_guardian()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The real Redis server of this run. A test may kill it: it is started again for the next one."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill9()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """The URL of the real Redis server, empty; afterwards every key must expire or be listed as permanent."""
    redis_server.start()
    redis_server.process.thaw()
    redis_server.wipe()
    yield redis_server.url
    if redis_server.is_running:
        redis_server.process.thaw()
        with redis_server.connect() as client:
            assert leaked_keys(client) == []


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the real Redis server."""
    with redis.Redis.from_url(redis_url, socket_timeout=5.0) as client:
        yield client


@pytest.fixture(params=["fake", "real"])
def fake_or_real_redis(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """A client of fakeredis, then of the real server: what holds on one must hold on the other."""
    if request.param == "real":
        yield request.getfixturevalue("redis_client")
    else:
        with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as client:
            yield client
            assert leaked_keys(client) == []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The real PostgreSQL server of this run. A test may kill it: it is started again for the next one."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    postgres_server.start()
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.start()
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'orderrelay.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, on SQLite and then on PostgreSQL."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Starts processes whose logs go to the test's folder; all are killed when the test ends."""
    started = Processes(tmp_path)
    yield started
    started.end()


@pytest.fixture
def new_gate(fake_or_real_redis: redis.Redis) -> Callable[[], Gate]:
    """Makes the gates of new workers, all on the same Redis: fakeredis, then the real server."""
    return lambda: Gate(fake_or_real_redis, uuid.uuid4(), probe_lease_seconds=LEASE_SECONDS)


@pytest.fixture
def gate(new_gate: Callable[[], Gate]) -> Gate:
    """One worker's gate; "acme" is seeded with 10 requests a second, burst 1, 50 in flight."""
    gate = new_gate()
    assert gate.seed(ACME, Limits(10, 1, 50), None, {})
    return gate


def leaked_keys(client: redis.Redis) -> list[str]:
    """The keys that neither expire nor match `orderrelay_shared.keys.PERMANENT`."""
    leaked: list[str] = []
    for key in client.scan_iter(count=1000):
        name = key.decode(errors="replace")
        # -1: no expiry; -2: gone since the scan.
        if client.ttl(key) == -1 and not any(fnmatch.fnmatchcase(name, pattern) for pattern in keys.PERMANENT):
            leaked.append(name)
    return sorted(leaked)
