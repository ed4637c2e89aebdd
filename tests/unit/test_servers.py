"""The servers and processes that the other tests stand on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from orderrelay_shared import keys
from tests.conftest import leaked_keys
from tests.servers import RedisServer, wait_until

if TYPE_CHECKING:
    import redis

    from tests.processes import Processes
    from tests.servers import PostgresServer


def test_redis_forgets_without_persistence(tmp_path: Path) -> None:
    """By default a killed Redis comes back empty, on the same port."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    port = server.port
    with server.connect() as client:
        client.set("a", 1)
    server.kill9()
    assert not server.is_running
    server.start()
    with server.connect() as client:
        assert client.dbsize() == 0
    assert server.port == port
    server.stop()


def test_redis_options_win(tmp_path: Path) -> None:
    """With appendonly and fsync at every write, a killed Redis comes back with its keys."""
    server = RedisServer(tmp_path / "redis", options=("--appendonly", "yes", "--appendfsync", "always"))
    server.start()
    with server.connect() as client:
        client.set("a", 1)
    server.kill9()
    server.start()
    with server.connect() as client:
        assert client.get("a") == b"1"
    server.kill9()
    server.wipe()
    server.start()
    with server.connect() as client:
        assert client.dbsize() == 0
    server.restart()
    server.kill9()


def test_redis_url_is_empty(redis_client: redis.Redis) -> None:
    """A test begins with an empty Redis whatever the one before left."""
    assert redis_client.dbsize() == 0
    redis_client.set("left over", 1, ex=60)


def test_leaked_keys(redis_client: redis.Redis) -> None:
    """A key that neither expires nor is listed as permanent is told by its name."""
    redis_client.set(keys.LEDGER_ID, b"1")
    redis_client.set("expires", b"1", ex=60)
    redis_client.set("stays", b"1")
    assert leaked_keys(redis_client) == ["stays"]
    redis_client.delete("stays")


def test_redis_is_started_again(redis_server: RedisServer, redis_url: str) -> None:
    """A test may kill the shared Redis and start it again under the same URL."""
    redis_server.kill9()
    redis_server.start()
    assert redis_server.url == redis_url


def _psycopg_url(url: str) -> str:
    return url.replace("+psycopg", "")


def test_postgres_gives_an_empty_database(postgres_url: str) -> None:
    """A test begins with a PostgreSQL database of its own, without a table."""
    with psycopg.connect(_psycopg_url(postgres_url)) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert found == (0,)
        connection.execute("CREATE TABLE left_over (a int)")


def test_postgres_survives_kill9(postgres_server: PostgresServer, postgres_url: str) -> None:
    """What was committed is there after the postmaster and its backends were killed and started again."""
    with psycopg.connect(_psycopg_url(postgres_url), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a int)")
        connection.execute("INSERT INTO t VALUES (1)")
        postgres_server.kill9()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert not postgres_server.is_running
    postgres_server.start()
    with psycopg.connect(_psycopg_url(postgres_url)) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_postgres_restarts_in_order(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A restart keeps port and databases, though a connection was open."""
    with psycopg.connect(_psycopg_url(postgres_url)):
        postgres_server.restart()
    with psycopg.connect(_psycopg_url(postgres_url)) as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("200",)


def test_database_url(database_url: str) -> None:
    """The same test runs on both databases."""
    assert database_url.startswith(("sqlite:///", "postgresql+psycopg://"))


def test_a_process_is_killed_with_its_children(processes: Processes) -> None:
    """kill9 leaves neither the process nor what it started, and tells -9."""
    process = processes.start(["sh", "-c", "sleep 60 & echo child $!; wait"])
    wait_until(lambda: "child" in process.log, what="the shell has started its child")
    child = int(process.log.split()[1])
    process.kill9()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: not _runs(child), what="the child is gone")


def _runs(pid: int) -> bool:
    # A killed process stays a zombie where nobody reaps orphans, as in some containers.
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_gets_sigterm(processes: Processes) -> None:
    """SIGTERM lets the process end by itself; its code and output are seen."""
    process = processes.start(["sh", "-c", 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.01; done'])
    wait_until(lambda: "ready" in process.log, what="the trap is set")
    process.sigterm()
    assert process.wait() == 3
    assert process.log.endswith("bye\n")


def test_a_process_sees_the_environment_and_our_modules(processes: Processes) -> None:
    """A Python process gets the added environment and can import what this process can."""
    script = "import os, orderrelay_shared.keys as k; print(os.environ['A'], k.INTAKE)"
    process = processes.start_python(["-c", script], {"A": "b"})
    assert process.wait() == 0, process.log
    assert process.log == f"b {keys.INTAKE}\n"


def test_a_frozen_process_does_nothing_more(processes: Processes, tmp_path: Path) -> None:
    """When `freeze` returns, even a thread that was inside a system call stands still."""
    script = f"""
        import os, threading
        def write(number):
            with open({str(tmp_path)!r} + f"/{{number}}", "ab", buffering=0) as file:
                while True:
                    file.write(b".")
                    os.fsync(file)
        for number in range(4):
            threading.Thread(target=write, args=[number]).start()
    """
    written = [tmp_path / str(number) for number in range(4)]
    process = processes.start_python(["-c", textwrap.dedent(script)])
    wait_until(lambda: all(path.exists() and path.stat().st_size for path in written), what="all threads write")
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/stat"))
    for _ in range(50):
        process.freeze()
        states = [thread.read_text() for thread in threads]
        assert {state.rpartition(")")[2].split()[0] for state in states} == {"T"}
        process.thaw()


def test_no_process_outlives_a_killed_run(tmp_path: Path) -> None:
    """Even when the test run itself is killed with SIGKILL, what it started is killed."""
    script = f"""
        import pathlib, sys, time
        sys.path[:0] = {[str(Path(__file__).parents[2]), *sys.path]!r}
        from tests.processes import start_process
        print(start_process(["sleep", "60"], log_path=pathlib.Path({str(tmp_path / "log")!r})).pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert _runs(pid)
        run.kill()
    wait_until(lambda: not _runs(pid), what="the process of the killed run is gone")


def test_wait_until_tells_what() -> None:
    """A condition that never comes is an error that says what was waited for."""
    with pytest.raises(AssertionError, match="the moon is blue"):
        wait_until(lambda: False, timeout=0.01, what="the moon is blue")
