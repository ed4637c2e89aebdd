"""One connection to the vendor: a request goes out, its answer comes in, then the next one may follow.

The answer is read by llhttp, as in Node.js. What is ours is what the promise rests on: that a request leaves only
through its `Departure`, that one which is given up sends nothing more, and that no answer is taken for another's.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderrelay_workers.vendor.departure import Departure

#: The most that is read of an answer's head, in bytes; a longer one counts as malformed.
HEAD_MAX_BYTES: Final = 64 * 1024

#: Closing a socket that lingers for no time throws away what the kernel still has to send; the usual way delivers it.
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_USUAL: Final = struct.pack("ii", 0, 0)


class ClosedEarly(Exception):
    """The vendor closed the connection before its answer was complete."""


class Malformed(Exception):
    """What came is not an answer in HTTP/1."""


class Connection(asyncio.Protocol):
    """A connection that stands. It carries one request at a time."""

    __slots__ = (
        "_error",
        "_goes_on",
        "_head_bytes",
        "_headers",
        "_is_asked",
        "_is_complete",
        "_is_interim",
        "_parser",
        "_pieces",
        "_status",
        "_transport",
        "_waiter",
    )

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._goes_on = True  # whether another request may follow
        self._waiter: asyncio.Future[None] | None = None
        self._is_asked = False
        self._forget()

    def _forget(self) -> None:
        self._status: int | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._is_interim = False
        self._pieces: deque[bytes] = deque()
        self._is_complete = False
        self._error: Exception | None = None

    # What the caller asks for

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent now."""
        transport = self._transport
        return self._goes_on and not self._is_asked and transport is not None and not transport.is_closing()

    def has_unread(self) -> bool:
        """Whether something has come that the event loop has not read yet, the end included.

        An event loop that is busy tells of it late. Sent now, a request would take it for its answer.
        """
        raw = None if self._transport is None else self._transport.get_extra_info("socket")
        if raw is None:
            return False
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def send(self, request: bytes, departure: Departure) -> None:
        """Send a whole request.

        Args:
            request: Head and body.
            departure: Asked right before the first byte; told that it leaves.

        Raises:
            ConnectionError: The connection does not stand any more; nothing was sent.
            StartRefused: The request may not start; nothing was sent, and the connection can be used for another.
        """
        transport = self._transport
        if transport is None or not self.is_usable:
            raise ConnectionError
        departure.begin()
        self._forget()
        self._is_asked = True
        transport.write(request)

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Wait for the answer's status and headers; those of informational answers are passed over.

        Raises:
            ClosedEarly, Malformed, OSError: It does not come.
        """
        while self._status is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._status, self._headers

    async def body(self) -> AsyncIterator[bytes]:
        """The answer's body, piece by piece as it comes.

        Raises:
            ClosedEarly, Malformed, OSError: It ends before it is complete.
        """
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if self._is_complete:
                return
            if self._error is not None:
                raise self._error
            await self._wait()

    def finish(self) -> bool:
        """Be done with a request, whether or not its answer is complete.

        Returns:
            Whether another request may follow. If not, the connection is closed, and nothing more is sent on it:
            closing it in the usual way would first deliver what is still buffered, however long that takes, and the
            rest of a request could reach the vendor when its order has long been looked up, not been found, and been
            sent again.
        """
        if not self._is_asked:
            return self.is_usable
        self._is_asked = False
        transport = self._transport
        # An answer to a request that has not left as a whole: what is left of it would be taken for the next one.
        if not self._is_complete or transport is None or transport.get_write_buffer_size():
            self.abort()
        elif not self._goes_on:
            self.close()
        return self.is_usable

    def close(self) -> None:
        """Close the connection; a request that is out on it gets no answer, and sends nothing more."""
        self._goes_on = False
        if self._is_asked:
            self.abort()
        elif self._transport is not None:
            self._linger(_USUAL)
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once; nothing that is still buffered is sent."""
        self._goes_on = False
        if self._transport is not None:
            self._linger(_NO_LINGER)  # what the kernel has of it goes too
            self._transport.abort()

    def _linger(self, how: bytes) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            raw = transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._goes_on = False
        if self._is_asked and not self._is_complete and self._error is None:
            self._error = error
            self._wake()

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        # From the beginning, as uvloop closes a connection of TLS that the vendor has closed without telling us before.
        self._linger(_NO_LINGER)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if not self._is_asked:  # they would be taken for the answer to the next request
            self.close()
            return
        if self._status is None:
            if self._head_bytes > HEAD_MAX_BYTES:
                self._fail(Malformed())
                return
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Malformed())
        self._wake()

    def eof_received(self) -> bool:
        """The vendor says that nothing more comes: that is the end of an answer that does not tell its length."""
        if self._status is not None and not self._is_complete and not self._tells_its_end():
            self._is_complete = True
            self._goes_on = False
            self._wake()
        # Closing in the usual way, as the event loop does after this, would first deliver the rest of a request that
        # nobody waits for any more; and once it is closing, `abort` cannot reach the kernel's share of it.
        transport = self._transport
        if self._is_asked and transport and (not self._is_complete or transport.get_write_buffer_size()):
            self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._fail(exc or ClosedEarly())

    # What the parser finds

    def on_message_begin(self) -> None:
        """The first byte of an answer."""
        if self._is_complete:  # a second answer to one request
            self._goes_on = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if self._status is None and not self._is_complete:
            self._headers.append((name, value))
            if len(value) > HEAD_MAX_BYTES:
                raise Malformed

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._is_complete:
            return
        status = self._parser.get_status_code()
        self._is_interim = 100 <= status < 200 and status != 101
        if self._is_interim:
            self._headers = []
        else:
            self._status = status

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if not self._is_complete:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._is_interim or self._is_complete:
            return
        self._is_complete = True
        self._goes_on = self._goes_on and self._parser.should_keep_alive()

    def _tells_its_end(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self._headers)
