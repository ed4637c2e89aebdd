"""The proof of whether anything of a request was sent (docs/architecture.md, point 5), kept by aiohttp's own tracing.

aiohttp's signal `on_request_headers_sent` fires, its name notwithstanding, in `StreamWriter.write_headers` *before* the
first byte of the request is handed to the socket: the connection stands, a TLS handshake is done, and nothing of the
request has left. That is where `Departure.begin` sets the flag, or raises and so leaves the server with no byte.
Exception classes prove nothing: a reset after the whole request was read may look like one before it was connected.
"""

from __future__ import annotations

import socket
import struct
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import SimpleNamespace

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

#: An idle connection is closed after so long: before most servers do it, as a POST into a closing one ends unknown.
KEEPALIVE_SECONDS: Final = 15.0


class StartRefused(Exception):
    """The request may not start; raised where that leaves nothing of it sent."""


class Departure:
    """The first byte of one request: whether it may leave, and whether it has left.

    Args:
        may_start: Asked when the connection stands, just before the first byte.
        once: Refuse to send the same request again on another connection, whatever aiohttp thinks of it.
    """

    __slots__ = ("_may_start", "_once", "refused", "sent")

    def __init__(self, may_start: Callable[[], bool], *, once: bool) -> None:
        self._may_start = may_start
        self._once = once
        self.sent = False
        self.refused = False

    def begin(self) -> None:
        """Note that the first byte leaves now.

        Raises:
            StartRefused: It may not leave.
        """
        if (self.sent and self._once) or not self._may_start():
            self.refused = True
            raise StartRefused
        self.sent = True


#: The departure of the request that the current task makes; httpx has no other way to hand it through to aiohttp.
current_departure: Final[ContextVar[Departure]] = ContextVar("current_departure")


async def _begin(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    # Without a departure this raises LookupError, and nothing is sent: no request can slip past the proof.
    current_departure.get().begin()


class _Connector(aiohttp.TCPConnector):
    """A connection pool that does not reuse a connection on which something came that nobody had asked for.

    aiohttp would take such bytes for the answer to the next request, and so give every later order the answer of the
    one before it.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        """Let a connection go. One that is given up with a request on it sends nothing more.

        Closing it would first deliver what is still buffered, however long that takes: the rest of a request could
        reach the vendor when its order has long been looked up, not been found, and been sent again.
        """
        departure = current_departure.get(None)
        if protocol.transport is not None and (should_close or protocol.should_close) and departure and departure.sent:
            raw = protocol.transport.get_extra_info("socket")
            if raw is not None:  # what the kernel has of it goes too
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            protocol.transport.abort()
        super()._release(key, protocol, should_close=should_close)


def open_session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """A session on the running event loop: no cookies, no proxies or passwords from the environment, no cap.

    The gate caps the requests in flight. A request made outside of `current_departure` fails unsent.
    """
    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(_begin)
    return aiohttp.ClientSession(
        connector=_Connector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        trace_configs=[tracing],
    )
