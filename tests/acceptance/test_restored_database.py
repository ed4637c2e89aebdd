"""The database comes back from a backup, and has forgotten what was sent since: nothing is sent again."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import companies
from orderrelay_workers.ledger.engine import open_engine
from tests.servers import PostgresServer, RedisServer, wait_until
from tests.stack import Stack, order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderrelay_workers.simulator import RunningSimulator
    from tests.processes import Processes


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, to be stopped, copied and put back."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


class Backup:
    """A copy of a whole PostgreSQL cluster, as a snapshot of its disk would be."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._cluster = server.folder / "cluster"
        self._copy = server.folder / "backup"
        server.stop()
        self._copy_all(self._cluster, self._copy)
        server.start()

    def put_back(self, *, promoted: bool = False) -> None:
        """Kill the server and put the copy in its place; promoted: as a standby that takes over, on a new timeline."""
        self._server.kill9()
        shutil.rmtree(self._cluster)
        self._copy_all(self._copy, self._cluster)
        if promoted:
            self._copy_all(self._cluster / "PG_VERSION", self._cluster / "standby.signal")  # with the right owner
            (self._cluster / "standby.signal").write_text("")
        self._server.start()
        if promoted:
            with psycopg.connect(host="127.0.0.1", port=self._server.port, user="postgres") as connection:
                connection.execute("SELECT pg_promote()")

    @staticmethod
    def _copy_all(source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def let_all_be_created(stack: Stack) -> None:
    """Resume the company, which is paused in the backup."""
    companies.resume(stack.engine, "acme", actor="test")


def looked_up(stack: Stack) -> set[str]:
    """The orders for which the vendor was asked at least once."""
    return {attempt["external_id"] for attempt in stack.attempts("lookup")}


def assert_nothing_was_doubled(stack: Stack, before: list[str], waiting: list[str], lost: list[str]) -> None:
    """The story of both tests, from the moment on when the restored database answers again."""
    wait_until(lambda: "cautious_began" in stack.alarms(), 30, what="a worker notices that the database went back")
    let_all_be_created(stack)
    stack.wait_for(waiting, JobState.SUCCEEDED, timeout=60)
    assert set(waiting) <= looked_up(stack)
    assert not set(lost) & stack.states().keys()
    again = [stack.producer.enqueue(order(x), company="acme", booked=True) for x in lost]
    assert set(lost) <= stack.states().keys(), "booked is said only of what is in the restored database"
    assert {job.external_id for job in again} == set(lost)
    new = stack.enqueue(3, "new")
    stack.wait_for([*lost, *new], JobState.SUCCEEDED, timeout=60)
    assert stack.simulator.books.doubled() == {}
    assert sorted(stack.created()) == sorted([*before, *waiting, *lost, *new])
    assert {x for x, job in stack.jobs().items() if job["requests"]} == {*before, *new}

    ended = stack.command("resume", "--end-cautious")
    assert ended.wait(20) == 0, ended.log
    after = stack.enqueue(1, "after")
    stack.wait_for(after, JobState.SUCCEEDED)
    assert not set(after) & looked_up(stack)
    assert set(stack.alarms()) == {"cautious_began"}


@pytest.mark.parametrize("failover", [False, True], ids=["backup", "failover"])
def test_postgres_that_went_back_sends_nothing_again(
    failover: bool,
    postgres: PostgresServer,
    redis_server: RedisServer,
    redis_url: str,
    simulator: RunningSimulator,
    processes: Processes,
    tmp_path: Path,
) -> None:
    """Workers run on while the database forgets; after a failover, Redis was lost in the same outage."""
    stack = Stack(processes, redis_url, postgres.url(postgres.create_database()), simulator, tmp_path)
    first, second = stack.workers(2)
    before = stack.enqueue(5, "before")
    stack.wait_for(before)
    companies.pause(stack.engine, "acme", "backup", actor="test")
    wait_until(lambda: "company_is_paused" in first.log + second.log, 10, what="paused")
    waiting = stack.enqueue(20, "waiting")
    stack.wait_for(waiting, JobState.WAITING)
    backup = Backup(postgres)

    stack.engine.dispose()
    let_all_be_created(stack)
    lost = stack.enqueue(10, "lost")
    stack.wait_for([*waiting, *lost], JobState.SUCCEEDED)
    stack.engine.dispose()
    backup.put_back(promoted=failover)
    if failover:
        redis_server.wipe()

    assert_nothing_was_doubled(stack, before, waiting, lost)
    for worker in (first, second):
        worker.sigterm()
        assert worker.wait() == 0
    stack.close()


def test_sqlite_from_a_backup_sends_nothing_again(sqlite_stack: Stack, tmp_path: Path) -> None:
    """Workers are stopped, the file is replaced by a copy, and new workers start."""
    stack = sqlite_stack
    worker = stack.worker()
    before = stack.enqueue(5, "before")
    stack.wait_for(before)
    companies.pause(stack.engine, "acme", "backup", actor="test")
    wait_until(lambda: "company_is_paused" in worker.log, 10, what="paused")
    waiting = stack.enqueue(20, "waiting")
    stack.wait_for(waiting, JobState.WAITING)
    copy = tmp_path / "backup.db"
    with stack.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("VACUUM INTO ?", (str(copy),))

    let_all_be_created(stack)
    lost = stack.enqueue(10, "lost")
    stack.wait_for([*waiting, *lost], JobState.SUCCEEDED)
    worker.sigterm()
    assert worker.wait() == 0
    path = stack.database_url.removeprefix("sqlite:///")
    stack.engine.dispose()
    for suffix in ("-wal", "-shm"):
        (tmp_path / (path + suffix)).unlink(missing_ok=True)
    shutil.copy(copy, path)
    stack.engine = open_engine(stack.database_url)
    stack.worker()

    assert_nothing_was_doubled(stack, before, waiting, lost)
