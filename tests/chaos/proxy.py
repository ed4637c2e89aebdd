"""A TCP link that goes wrong on demand: slow, cut, cut short, half-open or refused. Stands between two processes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")

_CHUNK_BYTES = 65536

#: What one connection brought back is kept up to this length, in bytes.
_KEPT_BYTES = 4_000_000


@dataclass(eq=False)
class _Link:
    """One connection of a client, with its own connection to the server."""

    number: int
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    #: A half-open link has lost bytes in one direction or both, so it never works again.
    is_dead: bool = False
    brought: bytearray = field(default_factory=bytearray)

    def reset(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ChaosProxy:
    """Listens on a free port of 127.0.0.1 and carries everything to another port, until told to misbehave.

    What is held back is never delivered late: a delay is short, and a half-open link swallows for good. A request that
    arrived minutes after it was sent would be outside what any client can promise.

    Args:
        port: The server's port on 127.0.0.1; it may be down at any time.
        on_sent: Told every piece that is delivered to the server, with the number of its connection.

    Attributes:
        delay_seconds: Each piece in either direction is delivered so much later.
        is_swallowing: Pieces vanish, and their connections stay open and silent for ever.
        is_refusing: New connections are reset at once.
        is_truncating: The next piece of each connection is delivered by half, and then the connection is closed.
    """

    def __init__(self, port: int, on_sent: Callable[[int, bytes], None] | None = None) -> None:
        self._server_port = port
        self._on_sent = on_sent
        self.delay_seconds = 0.0
        self.is_swallowing = False
        self.is_refusing = False
        self.is_truncating = False
        self._links: set[_Link] = set()
        self._brought: list[bytearray] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def heal(self) -> None:
        """Carry everything again; links that were half-open stay so."""
        self.delay_seconds = 0.0
        self.is_swallowing = self.is_refusing = self.is_truncating = False

    def reset_all(self) -> None:
        """Cut every connection with a TCP reset."""

        def reset() -> None:
            for link in list(self._links):
                link.reset()

        self._loop.call_soon_threadsafe(reset)

    def brought(self) -> list[bytes]:
        """What each connection has brought back from the server so far."""
        return [bytes(one) for one in list(self._brought)]

    def close(self) -> None:
        """Cut everything and stop listening."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            _reset(writer)
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            _reset(writer)
            return
        link = _Link(len(self._brought), writer, to_server)
        self._links.add(link)
        self._brought.append(link.brought)
        there = asyncio.ensure_future(self._carry(reader, to_server, link, self._deliver))
        back = asyncio.ensure_future(self._carry(from_server, writer, link, self._bring))
        try:
            done, _ = await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() is not None for task in done):
                link.reset()
        finally:
            self._links.discard(link)
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            for end in (writer, to_server):
                end.close()

    def _deliver(self, link: _Link, piece: bytes) -> None:
        if self._on_sent is not None:
            self._on_sent(link.number, piece)

    @staticmethod
    def _bring(link: _Link, piece: bytes) -> None:
        if len(link.brought) < _KEPT_BYTES:
            link.brought += piece

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: _Link,
        note: Callable[[_Link, bytes], None],
    ) -> None:
        """Carry one direction until its end. Raises OSError if a side was reset."""
        while piece := await reader.read(_CHUNK_BYTES):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            link.is_dead = link.is_dead or self.is_swallowing
            if link.is_dead:
                continue
            cut_short = self.is_truncating
            if cut_short:
                piece = piece[: len(piece) // 2]
            note(link, piece)
            writer.write(piece)
            await writer.drain()
            if cut_short:
                return
