"""How connections to the vendor are kept, and which are not used again, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohappyeyeballs
import pytest

from orderrelay_workers.vendor import transport
from orderrelay_workers.vendor.client import VendorClient
from orderrelay_workers.vendor.exchange import Failure
from tests.integration.test_vendor_client import (
    ORDER,
    authority,
    client_tls,
    connections,
    post,
    post_to,
    run,
    server_tls,
    settings,
    yes,
)
from tests.misbehaving_server import MisbehavingServer, Visit, answer_bytes, answering, saying

if TYPE_CHECKING:
    import ssl

    from orderrelay_workers.vendor.exchange import Exchange
    from tests.integration.test_vendor_client import Run

__all__ = ["authority", "client_tls", "run", "server_tls"]  # fixtures


async def one(client: VendorClient, body: bytes = ORDER) -> Exchange:
    """Post an order."""
    return await client.post_order("acme", "t", body, may_start=yes)


def test_orders_follow_each_other_on_one_connection(run: Run[Any]) -> None:
    """A connection is kept from one order to the next."""

    async def story() -> tuple[list[int | None], int]:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            statuses = [(await one(client)).status for _ in range(5)]
            await client.aclose()
            return statuses, server.visits

    assert run(story()) == ([200] * 5, 1)


def test_an_idle_connection_is_closed_in_time(run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask for a connection for it to be closed when it has been idle for too long."""
    monkeypatch.setattr(transport, "KEEPALIVE_SECONDS", 0.05)

    async def story() -> int:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            await asyncio.gather(*(one(client) for _ in range(3)))
            await server.until(lambda: server.ended == server.visits and not connections(client))
            await one(client)
            await client.aclose()
            return server.visits

    assert run(story()) >= 2


def test_what_answered_before_it_had_read_all_is_not_asked_again(run: Run[Any]) -> None:
    """The rest of an order is not delivered behind its answer, and the next order goes out on another connection."""

    async def answer_early(visit: Visit) -> None:
        request_line = await visit.reader.readline()
        while await visit.reader.readline() != b"\r\n":
            pass
        await visit.say(answer_bytes(200, b"early" if visit.number == 1 else request_line[:4]))
        await visit.drain_to_eof()

    async def story() -> tuple[list[bytes | None], int]:
        async with MisbehavingServer(answer_early) as server:
            client = VendorClient(settings(server.url))
            bodies = [(await one(client, b"1" * 30_000_000)).body, (await one(client)).body]
            await client.aclose()
            return bodies, server.visits

    assert run(story()) == ([b"early", b"POST"], 2)


def test_what_came_while_the_loop_was_busy_is_no_answer_to_the_next_order(run: Run[Any]) -> None:
    """A connection on which something waits to be read, though no request is out, is not used again."""

    def serve(listener: socket.socket, is_asked: threading.Event, is_said: threading.Event) -> None:
        first, _ = listener.accept()
        with first:
            first.recv(65_536)
            first.sendall(answer_bytes(200, b"first"))
            is_asked.wait(5)
            first.sendall(answer_bytes(429, b"stray"))
            is_said.set()
            second, _ = listener.accept()
            with second:
                second.recv(65_536)
                second.sendall(answer_bytes(200, b"second"))

    async def story(port: int, is_asked: threading.Event, is_said: threading.Event) -> list[bytes | None]:
        client = VendorClient(settings(f"http://127.0.0.1:{port}"))
        bodies = [(await one(client)).body]
        is_asked.set()
        is_said.wait(5)  # the event loop stands still meanwhile
        bodies.append((await one(client)).body)
        await client.aclose()
        return bodies

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        is_asked, is_said = threading.Event(), threading.Event()
        server = threading.Thread(target=serve, args=(listener, is_asked, is_said))
        server.start()
        bodies = run(story(listener.getsockname()[1], is_asked, is_said))
        if bodies[1] != b"second":
            socket.create_connection(listener.getsockname()).close()
        server.join()
    assert bodies == [b"first", b"second"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}nonsense",
    ],
)
def test_a_connection_that_is_not_kept(run: Run[Any], answer: bytes) -> None:
    """An answer that ends its connection, or that has something behind it, is read; the next order goes elsewhere."""

    async def say(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.say(answer)

    async def story() -> tuple[list[bytes | None], int]:
        async with MisbehavingServer(say) as server:
            client = VendorClient(settings(server.url))
            bodies = [(await one(client)).body for _ in range(3)]
            await client.aclose()
            return bodies, server.visits

    assert run(story()) == ([b"{}"] * 3, 3)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + answer_bytes(200, b"{}"), b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", b"{}"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b""),
    ],
)
def test_every_kind_of_end_is_understood(run: Run[Any], answer: bytes, body: bytes) -> None:
    """Informational answers are passed over, and an answer ends as its head says, or with its connection."""
    exchange = run(post_to(saying(answer)))
    assert (exchange.body, exchange.failure) == (body, None)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_a_length_that_is_in_doubt_is_no_complete_answer(run: Run[Any], answer: bytes) -> None:
    """Where it is not certain where an answer ends, there is none."""
    exchange = run(post_to(saying(answer)))
    assert exchange.sent
    assert exchange.body is None
    assert exchange.failure in (Failure.MALFORMED, Failure.TRUNCATED)


def test_an_answer_without_length_that_tls_does_not_end_is_cut(
    run: Run[Any], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Over TLS only the vendor's own word ends an answer without a length: anybody can cut a connection."""

    async def cut(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n{}")
        visit.reset()

    async def story() -> Exchange:
        async with MisbehavingServer(cut, tls=server_tls) as server:
            return await post(server.url, tls=client_tls)

    exchange = run(story())
    assert (exchange.body, exchange.failure) == (None, Failure.TRUNCATED)


def test_a_client_that_closes_while_a_connection_is_made_sends_nothing(
    run: Run[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose connection only just comes to stand is not sent any more."""

    async def story() -> tuple[Exchange, int]:
        connect = aiohappyeyeballs.start_connection

        async def close_meanwhile(*arguments: Any, **named: Any) -> socket.socket:
            raw = await connect(*arguments, **named)
            await client.aclose()
            return raw

        monkeypatch.setattr(aiohappyeyeballs, "start_connection", close_meanwhile)
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            exchange = await one(client)
            return exchange, len(server.requests)

    exchange, requests = run(story())
    assert (exchange.sent, exchange.status, requests) == (False, None, 0)


class Names:
    """The name server of a test: counts, fails at first if it is told to, and knows an address that is dead."""

    def __init__(self, port: int, *, failures: int = 0) -> None:
        self.asked = 0
        self._failures = failures
        self._port = port

    async def getaddrinfo(self, *_: object, **__: object) -> list[tuple[Any, ...]]:
        """Both addresses, the dead one first."""
        self.asked += 1
        await asyncio.sleep(0)
        if self.asked <= self._failures:
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        dead, alive = ("127.0.0.1", 9), ("127.0.0.1", self._port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (dead, alive)]


class OwnNames(asyncio.SelectorEventLoop):
    """An event loop that asks a test's own name server."""

    names: Names

    def getaddrinfo(self, *arguments: Any, **named: Any) -> Any:
        """Ask it."""
        return self.names.getaddrinfo(*arguments, **named)


def test_a_name_is_asked_for_once_and_each_of_its_addresses_is_tried() -> None:
    """Many requests at once ask for the host's addresses once; an address that refuses leads to the next one."""

    async def story() -> tuple[int, set[int | None]]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, OwnNames)
        async with MisbehavingServer(answering(200, b"{}")) as server:
            loop.names = Names(server.port)
            client = VendorClient(settings("http://vendor.example"))
            statuses = {exchange.status for exchange in await asyncio.gather(*(one(client) for _ in range(20)))}
            await client.aclose()
            asked = loop.names.asked
        return asked, statuses

    with asyncio.Runner(loop_factory=OwnNames) as runner:
        assert runner.run(story()) == (1, {200})


def test_a_name_that_was_not_found_is_asked_for_again() -> None:
    """A failure of the name server is not remembered."""

    async def story() -> list[str | None]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, OwnNames)
        async with MisbehavingServer(answering(200, b"{}")) as server:
            loop.names = Names(server.port, failures=1)
            client = VendorClient(settings("http://vendor.example"))
            failures = [(await one(client)).failure for _ in range(2)]
            await client.aclose()
        return failures

    with asyncio.Runner(loop_factory=OwnNames) as runner:
        assert runner.run(story()) == [Failure.NO_NAME, None]
