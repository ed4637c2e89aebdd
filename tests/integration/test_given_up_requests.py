"""A request that is given up: nothing more of it reaches the vendor, on either event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_workers.vendor.client import VendorClient
from tests.integration.test_vendor_client import authority, client_tls, run, server_tls, settings, yes

if TYPE_CHECKING:
    import ssl

    from tests.integration.test_vendor_client import Run

__all__ = ["authority", "client_tls", "run", "server_tls"]  # fixtures

#: More than the kernel's buffers hold, so that a part of it is still with the client when the deadline passes.
_BODY = b'{"ExternalId":"a-1","Text":"' + b"x" * 900_000 + b'"}'


def _read_all(connection: socket.socket) -> int:
    """How many bytes there are before the end, a reset included."""
    count = 0
    try:
        while chunk := connection.recv(1 << 20):
            count += len(chunk)
    except ConnectionResetError:
        pass
    return count


def test_what_is_given_up_sends_nothing_more(run: Run[Any]) -> None:
    """After the deadline the rest of a request stays unsent, even when the vendor begins to read again."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        async def story() -> int:
            client = VendorClient(settings(url, request_timeout_seconds=1.0))
            exchange = await client.post_order("acme", "token", _BODY, may_start=yes)
            assert exchange.sent
            assert exchange.body is None
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                read = await asyncio.to_thread(_read_all, connection)
            await client.aclose()
            return read

        assert run(story()) < len(_BODY)


@pytest.mark.parametrize("size", [900_000, 60_000])
def test_what_the_vendor_hung_up_on_sends_nothing_more(run: Run[Any], size: int) -> None:
    """Who says that no answer comes gets no more of the request, neither what the client has of it nor the kernel."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        async def story() -> int:
            client = VendorClient(settings(url, request_timeout_seconds=1.0))
            body = _BODY[:size]
            posting = asyncio.create_task(client.post_order("acme", "token", body, may_start=yes))
            connection, _ = await asyncio.to_thread(listener.accept)
            with connection:
                connection.settimeout(5)
                await asyncio.to_thread(connection.recv, 1, socket.MSG_PEEK)  # the request is on its way
                connection.shutdown(socket.SHUT_WR)
                exchange = await posting
                assert exchange.sent
                assert exchange.body is None
                read = await asyncio.to_thread(_read_all, connection)
            await client.aclose()
            return read

        assert run(story()) < size


def test_what_the_vendor_hung_up_on_below_tls_sends_nothing_more(
    run: Run[Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The same where TLS was not told of the end, and so may tell nobody."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(5)
        is_given_up = threading.Event()
        read: list[int] = []

        def serve() -> None:
            connection, _ = listener.accept()
            connection.settimeout(5)
            secure = server_tls.wrap_socket(connection, server_side=True)
            secure.recv(1)
            with socket.socket(fileno=secure.detach()) as raw:
                raw.settimeout(5)
                raw.shutdown(socket.SHUT_WR)
                is_given_up.wait(5)
                read.append(_read_all(raw))

        async def story() -> None:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            client = VendorClient(settings(url, request_timeout_seconds=1.0), tls=client_tls)
            exchange = await client.post_order("acme", "token", _BODY, may_start=yes)
            assert exchange.sent
            await client.aclose()

        server = threading.Thread(target=serve)
        server.start()
        run(story())
        is_given_up.set()
        server.join()
    assert read[0] < len(_BODY) // 2
