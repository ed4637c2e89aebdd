"""How httpx's requests travel: over connections that are kept, which many requests in flight do not slow down.

httpx's own pool looks at every idle connection for every request, and its transport costs ten times as much CPU. Under
httpx's interface this is what is left when redirects, proxies, cookies and repetitions are not wanted.
"""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import aiohappyeyeballs
import httpx

from orderrelay_workers.vendor.connection import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from orderrelay_workers.vendor.departure import Departure

#: The extension of a request that holds its `Departure`. A request without one is not sent.
DEPARTURE: Final = "orderrelay.departure"

#: The extension of a request that holds its `Target`, if that is made ready.
TARGET: Final = "orderrelay.target"

#: An idle connection is closed after so long: before most servers do it, as a POST into a closing one ends unknown.
KEEPALIVE_SECONDS: Final = 15.0

#: The addresses of a host are asked for again after so long, in seconds.
_ADDRESSES_SECONDS: Final = 10.0

#: An address that does not answer gets so long, in seconds, before the next one is tried beside it.
_NEXT_ADDRESS_SECONDS: Final = 0.25


#: As `socket.getaddrinfo` gives them.
_Addresses: TypeAlias = list[tuple[int, int, int, str, tuple[Any, ...]]]


class Origin(NamedTuple):
    """Where connections lead."""

    is_tls: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, and its head but for the length of its body. The repr is empty: the head has keys."""

    origin: Origin
    head: bytes

    def __repr__(self) -> str:
        return "Target()"


def target_of(request: httpx.Request) -> Target:
    """What a request's address and headers come to on the wire."""
    url = request.url
    is_tls = url.scheme == "https"
    origin = Origin(is_tls, url.raw_host.decode("ascii"), url.port or (443 if is_tls else 80))
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), url.raw_path)]
    # httpx adds Host, and the length of a body that it knows; the length is ours to tell.
    lines += [b"%b: %b" % header for header in request.headers.raw if header[0].lower() != b"content-length"]
    return Target(origin, b"\r\n".join(lines))


class VendorTransport(httpx.AsyncBaseTransport):
    """Sends requests over connections of its own. Sends none twice, follows no redirect, undoes no encoding.

    It has no timeout of its own: whoever sends a request has a deadline for the whole of it. Nor a cap: the gate has.

    Args:
        tls: How to trust the vendor's certificate.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: defaultdict[Origin, deque[tuple[float, Connection]]] = defaultdict(deque)
        self._open: set[Connection] = set()
        self._addresses: dict[Origin, asyncio.Task[_Addresses]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._is_sweeping = False
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; returns when the answer's head is there. The response must be closed.

        Raises:
            LookupError: It has no departure; nothing was sent.
            StartRefused: The departure says no; nothing was sent.
            ClosedEarly, Malformed, OSError: There is no answer. Whether the request was sent, its departure tells.
        """
        departure: Departure = request.extensions[DEPARTURE]
        target = request.extensions.get(TARGET)
        if not isinstance(target, Target):
            target = target_of(request)
        body = request.read()
        ending = b"\r\nContent-Length: %d\r\n\r\n" % len(body) if request.method == "POST" else b"\r\n\r\n"
        content = b"".join((target.head, ending, body))
        connection = self._take(target.origin) or await self._connect(target.origin)
        try:
            connection.send(content, departure)
            status, headers = await connection.head()
        except BaseException:
            self._let_go(target.origin, connection)
            raise
        stream = _Body(connection, lambda: self._let_go(target.origin, connection))
        return httpx.Response(status, headers=headers, stream=stream)

    async def aclose(self) -> None:
        """Close all connections; later requests fail unsent."""
        self._is_closed = True
        for timer in self._timers:
            timer.cancel()
        for task in self._addresses.values():
            task.cancel()
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()

    def _take(self, origin: Origin) -> Connection | None:
        """The idle connection that was used last: the others become old and are closed."""
        idle = self._idle[origin]
        latest = asyncio.get_running_loop().time() - KEEPALIVE_SECONDS
        while idle:
            since, connection = idle.pop()
            if since > latest and connection.is_usable and not connection.has_unread():
                return connection
            self._discard(connection)
        return None

    def _let_go(self, origin: Origin, connection: Connection) -> None:
        if not connection.finish() or self._is_closed:
            self._discard(connection)
            return
        self._idle[origin].append((asyncio.get_running_loop().time(), connection))
        if not self._is_sweeping:
            self._is_sweeping = True
            self._later(KEEPALIVE_SECONDS, self._sweep)

    def _discard(self, connection: Connection) -> None:
        connection.close()
        self._open.discard(connection)

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        loop = asyncio.get_running_loop()
        latest = loop.time() - KEEPALIVE_SECONDS
        for idle in self._idle.values():
            while idle and (idle[0][0] <= latest or not idle[0][1].is_usable):
                self._discard(idle.popleft()[1])
        self._is_sweeping = any(self._idle.values())
        if self._is_sweeping:
            self._later(KEEPALIVE_SECONDS / 4, self._sweep)

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            do()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    async def _connect(self, origin: Origin) -> Connection:
        if self._is_closed:
            raise RuntimeError("the transport is closed")
        loop = asyncio.get_running_loop()
        raw = await aiohappyeyeballs.start_connection(
            await self._find(origin), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
        )
        _, connection = await loop.create_connection(
            Connection,
            sock=raw,
            ssl=self._tls if origin.is_tls else None,
            server_hostname=origin.host if origin.is_tls else None,
        )
        if self._is_closed:  # meanwhile
            connection.close()
            raise RuntimeError("the transport is closed")
        self._open.add(connection)
        return connection

    async def _find(self, origin: Origin) -> _Addresses:
        """The addresses of a host: asked for once, however many requests begin at once."""
        task = self._addresses.get(origin)
        if task is None:
            task = asyncio.create_task(_ask(origin))
            self._addresses[origin] = task
            task.add_done_callback(lambda done: self._found(origin, done))
        return await asyncio.shield(task)  # whoever gives up leaves the others their answer

    def _found(self, origin: Origin, done: asyncio.Task[_Addresses]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._addresses.pop(origin, None)
        else:
            self._later(_ADDRESSES_SECONDS, lambda: self._addresses.pop(origin, None))


async def _ask(origin: Origin) -> _Addresses:
    return [*await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)]


class _Body(httpx.AsyncByteStream):
    """An answer's body, piece by piece as it comes."""

    def __init__(self, connection: Connection, let_go: Callable[[], None]) -> None:
        self._connection = connection
        self._let_go = let_go

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body()

    async def aclose(self) -> None:
        """Let the connection go: to the next request if the answer was read to its end, else it is closed."""
        self._let_go()
