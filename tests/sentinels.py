"""A Redis as operators run it: a primary, two replicas and three sentinels that choose another when it dies."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import redis

from tests.processes import start_process
from tests.servers import RedisServer, free_port, redis_binary, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import RunningProcess

#: Who producers and workers are at Redis, and at the sentinels.
USER, PASSWORD = "orderrelay", "hunter2/@"
_SENTINEL_USER, SENTINEL_PASSWORD = "asking", "hunter3"

#: Who tests are at the sentinels, and sentinels at each other.
_ADMIN_PASSWORD = "admin"

_NAME = "main"

#: What a sentinel is told. Most of all: how soon it calls a server down, in milliseconds.
_CONFIGURATION = f"""
bind 127.0.0.1
daemonize no
requirepass {_ADMIN_PASSWORD}
sentinel sentinel-pass {_ADMIN_PASSWORD}
user {_SENTINEL_USER} on >{SENTINEL_PASSWORD} -@all +sentinel|masters
sentinel monitor {_NAME} 127.0.0.1 {{primary}} 2
sentinel down-after-milliseconds {_NAME} 500
sentinel failover-timeout {_NAME} 3000
"""

#: Times that no configuration can set, in milliseconds; by them a former primary that lives is one for eight seconds.
_QUICKLY = {"info-period": 500, "publish-period": 300, "ping-period": 200, "ask-period": 200, "tilt-trigger": 10_000}


class Guarded:
    """The servers. Everybody may use Redis without a name as well, as the tests' own helpers do.

    Attributes:
        servers: All of Redis.
        sentinels: All of these, by `ports`.

    Args:
        folder: Where all keep their files.
    """

    def __init__(self, folder: Path) -> None:
        options = ("--user", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
        first = RedisServer(folder / "first", options=options)
        self.servers = [first, *(RedisServer(folder / name, options=options, replica_of=first) for name in "bc")]
        first.start()
        with ThreadPoolExecutor() as threads:
            list(threads.map(RedisServer.start, self.servers[1:]))
        self.ports = [free_port() for _ in range(3)]
        self.sentinels = [self._start_sentinel(folder, port) for port in self.ports]
        wait_until(self._is_complete, 20, what="the sentinels know each other and both replicas")

    def _start_sentinel(self, folder: Path, port: int) -> RunningProcess:
        file = folder / f"sentinel-{port}.conf"
        # What they would find out about each other is said, as that takes them seconds.
        known = [f"sentinel known-replica {_NAME} 127.0.0.1 {server.port}" for server in self.servers[1:]]
        known += [f"sentinel known-sentinel {_NAME} 127.0.0.1 {p} {p:040x}" for p in self.ports if p != port]
        own = f"port {port}\ndir {folder}\nsentinel myid {port:040x}"
        file.write_text("\n".join([own, _CONFIGURATION.format(primary=self.servers[0].port), *known]) + "\n")
        process = start_process(
            [str(redis_binary()), str(file), "--sentinel"], log_path=folder / f"sentinel-{port}.log"
        )
        wait_until(lambda: self._hurry(port), 10, what=f"{process!r} answers; log: {process.log}")
        return process

    def _hurry(self, port: int) -> bool:
        with contextlib.suppress(redis.ConnectionError), _client(port) as client:
            client.execute_command("SENTINEL DEBUG", *[word for pair in _QUICKLY.items() for word in pair])
            return True
        return False

    def url(self) -> str:
        """The address for producers and workers."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        query = f"sentinel_username={_SENTINEL_USER}&sentinel_password={SENTINEL_PASSWORD}"
        return f"sentinel://{USER}:hunter2%2F%40@{hosts}/{_NAME}/0?{query}"

    @property
    def primary(self) -> RedisServer:
        """Whom a majority of the sentinels names."""
        named = sorted(self._named(port) for port in self.ports)[1]
        return next(server for server in self.servers if server.port == named)

    def fail_over(self) -> None:
        """Have a sentinel make a replica the primary, with the one before still alive."""
        with _client(self.ports[0]) as client:
            client.execute_command("SENTINEL FAILOVER", _NAME)

    def wait_for_another(self, than: RedisServer) -> RedisServer:
        """Wait until all sentinels name another primary, and it is one."""
        wait_until(
            lambda: all(self._named(port) != than.port for port in self.ports) and self._role(self.primary) == "master",
            20,
            what="there is another primary",
        )
        return self.primary

    def wait_for_replica(self, server: RedisServer) -> None:
        """Wait until a server follows another."""
        wait_until(lambda: self._role(server) == "slave", 20, what="the former primary is a replica")

    def names_of_clients(self) -> dict[str, set[str]]:
        """Who is connected to the primary: the names of connections by user."""
        found: dict[str, set[str]] = {}
        with self.primary.connect() as client:
            listed: Any = client.client_list()
        for one in listed:
            found.setdefault(one["user"], set()).add(one["name"])
        return found

    def close(self) -> None:
        """End all of it."""
        for sentinel in self.sentinels:
            sentinel.kill9()
        for server in self.servers:
            server.kill9()

    def _named(self, port: int) -> int:
        with _client(port) as client:
            state: Any = client.sentinel_masters()[_NAME]
            return int(state["port"])

    @staticmethod
    def _role(server: RedisServer) -> str:
        # A sentinel closes all connections to a server that it makes a replica.
        with contextlib.suppress(redis.ConnectionError), server.connect() as client:
            return str(client.info("replication")["role"])
        return "unknown"

    def _is_complete(self) -> bool:
        for port in self.ports:
            with _client(port) as client:
                state: Any = client.sentinel_masters()[_NAME]
            if (state["num-slaves"], state["num-other-sentinels"]) != (2, 2) or state["flags"] != "master":
                return False
        return True


def _client(port: int) -> redis.Redis:
    return redis.Redis("127.0.0.1", port, password=_ADMIN_PASSWORD, socket_timeout=5.0)
