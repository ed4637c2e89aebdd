"""A vendor that misbehaves: a small server of raw bytes that can do, one by one, all that a network can do to a client.

It counts what arrives, so that a test can say how many bytes of a request left. Behaviours are coroutines that take a
`Visit`; the ones that several tests need stand below, each made by a function with its name.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    type_of_behaviour = Callable[["Visit"], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Visit:
    """One connection of a client."""

    server: MisbehavingServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def request(self) -> Request:
        """Read one whole request; IncompleteReadError if the client goes away."""
        head = await self._counted(self.reader.readuntil(b"\r\n\r\n"))
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._counted(self.reader.readexactly(int(headers.get("content-length", "0"))))
        method, target, _ = first.split(" ")
        request = Request(method, target, headers, body)
        self.server.requests.append(request)
        return request

    async def drain_to_eof(self) -> None:
        """Count everything that the client still sends."""
        while piece := await self.reader.read(65536):
            self.server.received += len(piece)

    async def say(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        raw: socket.socket = self.writer.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _counted(self, reading: Awaitable[bytes]) -> bytes:
        try:
            data = await reading
        except asyncio.IncompleteReadError as error:
            self.server.received += len(error.partial)
            raise
        self.server.received += len(data)
        return data


@dataclass
class MisbehavingServer:
    """Serves on 127.0.0.1 while entered; each connection is one visit of the behaviour.

    Attributes:
        received: Bytes of requests that arrived (inside TLS), whole requests or not.
        visits: Connections that were made; with TLS, whose handshake was done.
        ended: Visits that are over: the behaviour is done, or the client has gone.
        requests: What arrived whole.
    """

    behave: type_of_behaviour
    tls: ssl.SSLContext | None = None
    received: int = 0
    visits: int = 0
    ended: int = 0
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _last: object = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.tls:  # whoever was given up while it came has to be let in before it can be seen out
            with socket.socket() as last:
                last.bind(("127.0.0.1", 0))
                self._last = last.getsockname()
                last.setblocking(False)
                await asyncio.get_running_loop().sock_connect(last, ("127.0.0.1", self.port))
                await self.until(lambda: self._last is None)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, for at most 5 seconds."""
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110  any condition of a test, not one that could set an event
                await asyncio.sleep(0.005)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("peername") == self._last:
            self._last = None
            writer.close()
            return
        task = asyncio.create_task(self._visit(reader, writer))
        self._tasks.add(task)

        def end(_: object) -> None:
            self._tasks.discard(task)
            self.ended += 1
            if self.tls:
                writer.transport.abort()  # no wait for the client's side of the end
            else:
                writer.close()

        task.add_done_callback(end)  # also of a visit that is over before it began

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self.behave(Visit(self, reader, writer, self.visits))


def answer_bytes(status: int, body: bytes, *headers: str) -> bytes:
    """One whole HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answering(status: int, body: bytes, *headers: str) -> type_of_behaviour:
    """Behave well: answer every request the same, on a connection that stays open."""

    async def behave(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(answer_bytes(status, body, *headers))

    return behave


def saying(data: bytes, *, then_reset: bool = False) -> type_of_behaviour:
    """Read the whole request, send bytes as they are, and close, or reset."""

    async def behave(visit: Visit) -> None:
        await visit.request()
        if data:
            await visit.say(data)
        if then_reset:
            visit.reset()

    return behave


def dripping(beginning: bytes, drop: bytes) -> type_of_behaviour:
    """Read the whole request, then send a beginning and a drop every 20 ms, for ever."""

    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(beginning)
        while True:
            await visit.say(drop)
            await asyncio.sleep(0.02)

    return behave


def flooding(beginning: bytes, flood: bytes) -> type_of_behaviour:
    """Read the whole request, then send without end."""

    async def behave(visit: Visit) -> None:
        await visit.request()
        await visit.say(beginning)
        while True:
            await visit.say(flood)

    return behave


async def keep_silent(visit: Visit) -> None:
    """Read the whole request and never answer."""
    await visit.request()
    await visit.drain_to_eof()


async def only_listen(visit: Visit) -> None:
    """Count what comes, answer nothing."""
    await visit.drain_to_eof()


async def reset_while_receiving(visit: Visit) -> None:
    """Read the first bytes of a request, then reset."""
    visit.server.received += len(await visit.reader.read(10))
    visit.reset()


async def speak_out_of_turn(visit: Visit) -> None:
    """Answer the first request of each connection twice, and every request with its own number."""
    while True:
        await visit.request()
        said = answer_bytes(200, b"%d" % len(visit.server.requests))
        await visit.say(said)
        if len(visit.server.requests) == 1:
            await asyncio.sleep(0.05)
            await visit.say(answer_bytes(200, b"stale"))


def gzipped(body: bytes) -> bytes:
    """An answer that is compressed although nobody asked for it."""
    return answer_bytes(200, gzip.compress(body), "Content-Encoding: gzip")


def full_backlog() -> tuple[socket.socket, list[socket.socket], int]:
    """A listener that takes no further connection: connecting to its port hangs.

    Returns:
        The listener and the connections that fill its queue, to be closed, and the port.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port: int = listener.getsockname()[1]
    filling: list[socket.socket] = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.1", port))
        filling.append(one)
    return listener, filling, port
