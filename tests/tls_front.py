"""TLS in front of a server that has none: what it hears inside TLS it passes on, and back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


@contextlib.contextmanager
def tls_front(port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """Serve on 127.0.0.1 over TLS what is served on a port without; gives the port that it listens on."""
    loop = asyncio.new_event_loop()
    passing: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for one in (pass_on(reader, back), pass_on(there, writer)):
            task = asyncio.create_task(one)
            passing.add(task)
            task.add_done_callback(passing.discard)

    async def begin() -> asyncio.Server:
        # Handshakes that fail are what some tests want; asyncio would report each.
        loop.set_exception_handler(lambda *_: None)
        return await asyncio.start_server(visit, "127.0.0.1", 0, ssl=tls)

    server = loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, name="tls-front", daemon=True)
    thread.start()

    async def end() -> None:
        server.close()
        for task in list(passing):
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
