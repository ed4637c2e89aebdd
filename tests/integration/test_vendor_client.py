"""The vendor's client against servers that misbehave, over real sockets, on both event loops."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import trustme
import uvloop
from pydantic import SecretStr

from orderrelay_shared.states import Outcome
from orderrelay_workers.settings import CompanySettings, WorkerSettings
from orderrelay_workers.vendor.answers import read_order_answer
from orderrelay_workers.vendor.client import VendorClient
from orderrelay_workers.vendor.departure import Departure, StartRefused
from orderrelay_workers.vendor.exchange import ANSWER_MAX_BYTES, PARTIAL_MAX_BYTES, Exchange, Failure
from orderrelay_workers.vendor.transport import VendorTransport
from tests.misbehaving_server import (
    MisbehavingServer,
    Visit,
    answer_bytes,
    answering,
    dripping,
    flooding,
    full_backlog,
    gzipped,
    keep_silent,
    only_listen,
    reset_while_receiving,
    saying,
    speak_out_of_turn,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from orderrelay_workers.vendor.connection import Connection

    T = TypeVar("T")
    Run = Callable[[Coroutine[Any, Any, T]], T]

ORDER = b'{"ExternalId":"a-1"}'


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run[Any]:
    """Runs a coroutine to its end on one of the event loops."""

    def run_on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(coroutine)

    return run_on_loop


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of these tests' own."""
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of a server on 127.0.0.1 whose certificate is good."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of a client that trusts the tests' authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def settings(base_url: str, **others: Any) -> WorkerSettings:
    """Settings with the company "acme", patient enough for a slow machine."""
    company: dict[str, Any] = {
        "company_api_key": "company-key",
        "connect_api_key": "connect-key",
        "license": "licence-1",
        "user_name": "user-1",
        "password": "password-1",
    }
    company |= others.pop("company", {})
    return WorkerSettings(
        **{
            "base_url": base_url,
            "request_timeout_seconds": 5.0,
            "companies": {"acme": CompanySettings(**company)},
            **others,
        }
    )


def yes() -> bool:
    """A start fence that lets everything through."""
    return True


def fence(answer: bool) -> Callable[[], bool]:
    """A start fence that always says the same."""
    return lambda: answer


def connections(client: VendorClient) -> list[Connection]:
    """The client's open connections."""
    return list(client._transport._open)


async def post(
    base_url: str, *, tls: ssl.SSLContext | None = None, may_start: Callable[[], bool] = yes, **others: Any
) -> Exchange:
    """Post one order with a client of its own."""
    client = VendorClient(settings(base_url, **others), tls=tls)
    try:
        return await client.post_order("acme", "token-1", ORDER, may_start=may_start)
    finally:
        await client.aclose()


async def post_to(behave: Callable[[Visit], Awaitable[None]], **others: Any) -> Exchange:
    """Post one order to a server of its own."""
    async with MisbehavingServer(behave) as server:
        return await post(server.url, **others)


# What goes out


def test_an_order_goes_out_with_exactly_the_five_parameters_and_our_headers(run: Run[Any]) -> None:
    """An order is one POST of a JSON array, with the five parameters and an honest set of headers."""

    async def story() -> MisbehavingServer:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            await post(server.url, company={"import_id": 7})
        return server

    (request,) = run(story()).requests
    assert request.method == "POST"
    assert urlsplit(request.target).path == "/Economy/Billing/Orders"
    assert parse_qsl(urlsplit(request.target).query, keep_blank_values=True) == [
        ("companyApiKey", "company-key"),
        ("connectApiKey", "connect-key"),
        ("token", "token-1"),
        ("importId", "7"),
        ("specialFunctionalities", ""),
    ]
    assert request.body == b"[" + ORDER + b"]"
    agent = request.headers.pop("user-agent")
    assert agent.startswith("orderrelay/")
    assert request.headers == {
        "host": request.headers["host"],
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json; charset=utf-8",
        "content-length": str(len(request.body)),
    }


def test_an_order_goes_out_bare_where_the_settings_say_object(run: Run[Any]) -> None:
    """With ORDER_BODY=object the order is not wrapped."""

    async def story() -> MisbehavingServer:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            await post(server.url, order_body="object", order_path="Economy/Billing/Order")
        return server

    (request,) = run(story()).requests
    assert (urlsplit(request.target).path, request.body) == ("/Economy/Billing/Order", ORDER)


STRANGE = "".join(map(chr, range(33, 127))) + " åäö😀%2B%00"


def test_keys_of_any_characters_arrive_as_they_are(run: Run[Any]) -> None:
    """Every character of a key, token or ExternalId reaches the server unchanged, whatever it means in an address."""

    async def story() -> MisbehavingServer:
        async with MisbehavingServer(answering(200, b"[]")) as server:
            client = VendorClient(
                settings(server.url, company={"company_api_key": STRANGE, "special_functionalities": STRANGE})
            )
            await client.post_order("acme", STRANGE, ORDER, may_start=yes)
            await client.look_up("acme", STRANGE, STRANGE)
            await client.aclose()
        return server

    order, look_up = (parse_qsl(urlsplit(r.target).query, keep_blank_values=True) for r in run(story()).requests)
    assert [value for _, value in order] == [STRANGE, "connect-key", STRANGE, "0", STRANGE]
    assert [value for _, value in look_up] == [STRANGE, "connect-key", STRANGE, "6", STRANGE]


def test_a_look_up_asks_by_external_id(run: Run[Any]) -> None:
    """A look-up is a GET with the three keys, the type of an order and the ExternalId."""

    async def story() -> tuple[Exchange, MisbehavingServer]:
        async with MisbehavingServer(answering(200, b"[12614169]")) as server:
            client = VendorClient(settings(server.url))
            exchange = await client.look_up("acme", "token-1", "a-1")
            await client.aclose()
        return exchange, server

    exchange, server = run(story())
    (request,) = server.requests
    assert (request.method, request.body, exchange.body) == ("GET", b"", b"[12614169]")
    assert urlsplit(request.target).path == "/Economy/Billing/InvoiceIdsFromExternalId/"
    assert dict(parse_qsl(urlsplit(request.target).query)) == {
        "companyApiKey": "company-key",
        "connectApiKey": "connect-key",
        "token": "token-1",
        "type": "6",
        "externalId": "a-1",
    }


def test_a_login_sends_the_credentials_in_its_body(run: Run[Any]) -> None:
    """A login is a POST with two keys in the address and the credentials as JSON."""

    async def story() -> tuple[Exchange, MisbehavingServer]:
        async with MisbehavingServer(answering(200, b'{"Token":"t"}')) as server:
            client = VendorClient(settings(server.url, company={"license": "å"}))
            exchange = await client.log_in("acme")
            await client.aclose()
        return exchange, server

    exchange, server = run(story())
    (request,) = server.requests
    assert (request.method, urlsplit(request.target).path) == ("POST", "/Login/Token/")
    assert json.loads(request.body) == {"License": "å", "UserName": "user-1", "Password": "password-1"}
    assert (exchange.status, exchange.body) == (200, b'{"Token":"t"}')


def test_a_new_token_is_used_at_once(run: Run[Any]) -> None:
    """The prepared address of a company follows its token."""

    async def story() -> MisbehavingServer:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            for token in ("one", "one", "two"):
                await client.post_order("acme", token, ORDER, may_start=yes)
            await client.aclose()
        return server

    server = run(story())
    assert [dict(parse_qsl(urlsplit(r.target).query))["token"] for r in server.requests] == ["one", "one", "two"]
    assert server.visits == 1  # one connection, kept alive


def test_a_changed_key_is_used_at_once_with_the_same_token(run: Run[Any]) -> None:
    """The address that is kept for a token is made anew when the company's settings are replaced."""

    async def story() -> MisbehavingServer:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            known = settings(server.url)
            client = VendorClient(known)
            for key in ("connect-key", "connect-key", "new-key"):
                changed = known.companies["acme"].model_copy(update={"connect_api_key": SecretStr(key)})
                known.companies["acme"] = changed
                await client.post_order("acme", "token-1", ORDER, may_start=yes)
            await client.aclose()
        return server

    targets = [urlsplit(request.target).query for request in run(story()).requests]
    assert [dict(parse_qsl(query))["connectApiKey"] for query in targets] == ["connect-key", "connect-key", "new-key"]


def test_a_proxy_of_the_environment_is_not_used(run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxies and netrc are not heard: keys go to the vendor only."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert run(post_to(answering(200, b"{}"))).status == 200


# What comes back


def test_a_complete_answer_is_kept_with_its_four_headers(run: Run[Any]) -> None:
    """An answer is kept verbatim, with the headers that a decision may need and no other."""
    headers = ("Content-Type: application/json", "DATE: Sun, 22 Nov 2026 12:00:00 GMT", "Retry-After: 7", "X-Y: z")
    exchange = run(post_to(answering(503, b"later", *headers)))
    assert (exchange.sent, exchange.status, exchange.body, exchange.failure) == (True, 503, b"later", None)
    assert exchange.headers == {
        "content-length": "5",
        "content-type": "application/json",
        "date": "Sun, 22 Nov 2026 12:00:00 GMT",
        "retry-after": "7",
    }
    assert exchange.began_at <= exchange.ended_at
    assert exchange.began_at.tzinfo is not None


def test_a_redirect_is_not_followed_and_cookies_are_not_kept(run: Run[Any]) -> None:
    """A 307 is an answer like any other, and its cookie does not come back."""

    async def story() -> MisbehavingServer:
        async with MisbehavingServer(answering(307, b"", "Location: /elsewhere", "Set-Cookie: a=b")) as server:
            client = VendorClient(settings(server.url))
            for _ in range(2):
                assert (await client.post_order("acme", "t", ORDER, may_start=yes)).status == 307
            await client.aclose()
        return server

    server = run(story())
    assert len(server.requests) == 2
    assert "cookie" not in server.requests[1].headers


def test_a_body_that_ends_with_the_connection_is_complete(run: Run[Any]) -> None:
    """An answer without a length ends where the connection ends."""
    assert run(post_to(saying(b"HTTP/1.1 200 OK\r\n\r\n[1]"))).body == b"[1]"


def test_an_answer_compressed_unasked_is_read(run: Run[Any]) -> None:
    """A proxy's gzip is undone."""
    assert run(post_to(saying(gzipped(b'{"Success":true}')))).body == b'{"Success":true}'


def test_a_compressed_bomb_is_oversized(run: Run[Any]) -> None:
    """A small compressed answer that unfolds beyond the cap is not kept."""
    exchange = run(post_to(saying(gzipped(b" " * (ANSWER_MAX_BYTES + 1)))))
    assert (exchange.status, exchange.body, exchange.failure) == (200, None, Failure.OVERSIZED)


@pytest.mark.parametrize("encoding", ["br", "gzip", "deflate", "gzip, gzip"])
def test_an_answer_in_an_unreadable_encoding_is_kept_as_it_came(run: Run[Any], encoding: str) -> None:
    """What cannot be decompressed is no answer, and is kept for people as it came."""
    exchange = run(post_to(saying(answer_bytes(200, b"????", f"Content-Encoding: {encoding}"))))
    assert (exchange.body, exchange.partial, exchange.failure) == (None, b"????", Failure.ENCODED)


def test_a_compressed_answer_cut_short_is_unreadable(run: Run[Any]) -> None:
    """A gzip stream without its end is not a complete answer."""
    half = gzipped(b"0123456789" * 100).partition(b"\r\n\r\n")[2][:-9]
    exchange = run(post_to(saying(answer_bytes(200, half, "Content-Encoding: gzip"))))
    assert (exchange.body, exchange.failure) == (None, Failure.ENCODED)


def test_an_endless_answer_is_cut_at_the_cap(run: Run[Any]) -> None:
    """A flood ends at the cap, long before the deadline, and only its beginning is kept."""
    flood = flooding(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)
    exchange = run(post_to(flood, request_timeout_seconds=60.0))
    assert (exchange.status, exchange.body, exchange.failure) == (200, None, Failure.OVERSIZED)
    assert exchange.partial == b"x" * PARTIAL_MAX_BYTES


# Something was sent: unknown, whatever the exception is called


SENT = {
    "reset after reading it all": (saying(b"", then_reset=True), None, b"", Failure.RESET),
    "reset while receiving": (reset_while_receiving, None, b"", None),
    "closed without an answer": (saying(b""), None, b"", Failure.CLOSED),
    "closed inside the head": (saying(b"HTTP/1.1 200 OK\r\nContent-"), None, b"", Failure.CLOSED),
    "not HTTP": (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), None, b"", Failure.MALFORMED),
    "a header too long": (saying(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 99999 + b"\r\n\r\n"), None, b"", Failure.MALFORMED),
    "shorter than its length": (saying(answer_bytes(200, b"12345")[:-1]), 200, b"1234", Failure.TRUNCATED),
    "reset inside the body": (saying(answer_bytes(200, b"12345")[:-1], then_reset=True), 200, None, Failure.TRUNCATED),
    "a chunk cut": (
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123"),
        200,
        b"123",
        Failure.TRUNCATED,
    ),
    "no last chunk": (
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"),
        200,
        b"123",
        Failure.TRUNCATED,
    ),
}


@pytest.mark.parametrize("case", SENT)
def test_after_the_first_byte_it_may_have_arrived(run: Run[Any], case: str) -> None:
    """However the connection ends after the request began to leave, the order is unknown."""
    behave, status, partial, failure = SENT[case]
    exchange = run(post_to(behave))
    assert (exchange.sent, exchange.status, exchange.body) == (True, status, None)
    assert failure is None or exchange.failure == failure
    assert partial is None or exchange.partial == partial
    assert read_order_answer(exchange).outcome is Outcome.UNKNOWN


SLOW = {
    "silent": keep_silent,
    "drips its head": dripping(b"HTTP/1.1 200 OK\r\nA: ", b"a"),
    "drips its body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"a"),
    "says 100 for ever": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "switches protocols": saying(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
}


@pytest.mark.parametrize("case", SLOW)
def test_the_deadline_is_total(run: Run[Any], case: str) -> None:
    """A server that keeps something coming does not stretch the deadline, and the order is unknown."""
    exchange = run(post_to(SLOW[case], request_timeout_seconds=0.3))
    assert exchange.sent
    assert exchange.body is None or exchange.status == 101
    assert (exchange.ended_at - exchange.began_at).total_seconds() < 2.0
    assert read_order_answer(exchange).outcome is Outcome.UNKNOWN


def test_what_dripped_before_the_deadline_is_kept(run: Run[Any]) -> None:
    """The part of an answer that came before the deadline is kept for people."""
    exchange = run(post_to(SLOW["drips its body"], request_timeout_seconds=0.5))
    assert (exchange.status, exchange.failure) == (200, Failure.DEADLINE)
    assert exchange.partial.startswith(b"aa")


# Nothing was sent


def test_a_refused_connection_sends_nothing(run: Run[Any]) -> None:
    """A closed port is proof that nothing was sent."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else gets the port
        exchange = run(post(f"http://127.0.0.1:{closed.getsockname()[1]}"))
    assert (exchange.sent, exchange.status, exchange.failure) == (False, None, Failure.REFUSED)


def test_an_unknown_host_sends_nothing(run: Run[Any]) -> None:
    """A name that cannot be found is proof that nothing was sent."""
    exchange = run(post("http://no-such-host.invalid"))
    assert (exchange.sent, exchange.failure) == (False, Failure.NO_NAME)


def test_a_connection_that_is_not_taken_sends_nothing(run: Run[Any]) -> None:
    """A server too busy to take connections ends at the deadline, with nothing sent."""
    listener, filling, port = full_backlog()
    try:
        exchange = run(post(f"http://127.0.0.1:{port}", request_timeout_seconds=0.4))
    finally:
        for one in (*filling, listener):
            one.close()
    assert (exchange.sent, exchange.failure) == (False, Failure.NO_CONNECTION_IN_TIME)


def test_an_untrusted_certificate_gets_nothing(run: Run[Any], server_tls: ssl.SSLContext) -> None:
    """A server with a certificate of an unknown authority gets no byte of the request."""

    async def story() -> tuple[Exchange, int]:
        async with MisbehavingServer(only_listen, tls=server_tls) as server:
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's side of the handshake
            return await post(server.url), server.received

    exchange, received = run(story())
    assert (exchange.sent, exchange.failure, received) == (False, Failure.TLS, 0)


def test_a_server_without_tls_gets_nothing_of_an_https_request(run: Run[Any]) -> None:
    """A handshake with a server that does not speak TLS sends nothing of the request."""

    async def speak_plainly(visit: Visit) -> None:
        await visit.reader.read(10)
        await visit.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def story() -> Exchange:
        async with MisbehavingServer(speak_plainly) as server:
            return await post(server.url.replace("http:", "https:"))

    exchange = run(story())
    assert (exchange.sent, exchange.failure) == (False, Failure.TLS)


def test_a_handshake_that_never_ends_sends_nothing(run: Run[Any]) -> None:
    """A deadline inside the TLS handshake is proof that nothing of the request was sent."""

    async def story() -> Exchange:
        async with MisbehavingServer(only_listen) as server:
            return await post(server.url.replace("http:", "https:"), request_timeout_seconds=0.3)

    exchange = run(story())
    assert (exchange.sent, exchange.failure) == (False, Failure.NO_CONNECTION_IN_TIME)


def test_a_closed_client_sends_nothing(run: Run[Any]) -> None:
    """A client that was closed tells so, unsent, instead of raising."""

    async def story() -> Exchange:
        client = VendorClient(settings("http://127.0.0.1:9"))
        await client.log_in("acme")
        await client.aclose()
        return await client.post_order("acme", "t", ORDER, may_start=yes)

    exchange = run(story())
    assert (exchange.sent, exchange.status) == (False, None)


# The start fence


@pytest.mark.parametrize("over_tls", [False, True])
def test_a_passed_start_fence_leaves_the_server_without_a_byte(
    run: Run[Any], over_tls: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The fence is asked when the connection stands, and a no leaves no byte of the request at the server."""

    async def story() -> tuple[Exchange, MisbehavingServer, list[int]]:
        asked_at: list[int] = []
        async with MisbehavingServer(only_listen, tls=server_tls if over_tls else None) as server:

            def may_start() -> bool:
                asked_at.append(1)
                return False

            exchange = await post(server.url, tls=client_tls, may_start=may_start)
            await server.until(lambda: server.ended == 1)
        return exchange, server, asked_at

    exchange, server, asked_at = run(story())
    assert (exchange.sent, exchange.failure, len(asked_at)) == (False, Failure.FENCED, 1)
    assert (server.visits, server.received) == (1, 0)


def test_no_byte_is_written_before_the_fence_is_asked(run: Run[Any]) -> None:
    """When the fence is asked, nothing has been handed to the connection: neither sent nor buffered."""

    async def story() -> tuple[Exchange, list[int]]:
        written: list[int] = []
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))

            def may_start() -> bool:
                (connection,) = connections(client)
                assert connection._transport is not None
                written.append(connection._transport.get_write_buffer_size() + server.received)
                return True

            exchange = await client.post_order("acme", "t", ORDER, may_start=may_start)
            await client.aclose()
        return exchange, written

    exchange, written = run(story())
    assert (exchange.status, written) == (200, [0])


def test_the_fence_is_asked_on_a_kept_connection_too(run: Run[Any]) -> None:
    """A request on a connection that is already there is fenced like the first."""

    async def story() -> tuple[list[Exchange], MisbehavingServer]:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            exchanges = [
                await client.post_order("acme", "t", ORDER, may_start=fence(answer)) for answer in (True, False, True)
            ]
            await client.aclose()
        return exchanges, server

    exchanges, server = run(story())
    assert [exchange.sent for exchange in exchanges] == [True, False, True]
    assert len(server.requests) == 2


def test_a_fence_that_fails_sends_nothing(run: Run[Any]) -> None:
    """An error inside the fence is not a yes."""

    async def story() -> tuple[Exchange, int]:
        async with MisbehavingServer(only_listen) as server:
            exchange = await post(server.url, may_start=lambda: 1 // 0 == 0)
            await server.until(lambda: server.ended == 1)
            return exchange, server.received

    exchange, received = run(story())
    assert (exchange.sent, exchange.failure, received) == (False, Failure.NOT_SENT_UNFORESEEN, 0)


def test_a_request_around_the_proof_is_not_sent(run: Run[Any]) -> None:
    """The transport sends nothing for a request that has no departure to note it in."""

    async def story() -> int:
        async with MisbehavingServer(only_listen) as server:
            transport = VendorTransport(ssl.create_default_context())
            with pytest.raises(LookupError):
                await transport.handle_async_request(httpx.Request("POST", server.url, content=b"x"))
            await transport.aclose()
            return server.received

    assert run(story()) == 0


# One request, one answer


def test_a_second_departure_is_refused() -> None:
    """Should anything ever begin to repeat requests, the second one does not leave."""
    departure = Departure(yes)
    departure.begin()
    with pytest.raises(StartRefused):
        departure.begin()
    assert departure.sent


def test_an_order_is_never_sent_again_by_itself(run: Run[Any]) -> None:
    """A POST into a kept connection that the server closes is sent once, and is unknown."""

    async def answer_once_per_connection(visit: Visit) -> None:
        await visit.request()
        await visit.say(answer_bytes(200, b"{}"))
        await visit.request()
        visit.reset()

    async def story() -> tuple[Exchange, MisbehavingServer]:
        async with MisbehavingServer(answer_once_per_connection) as server:
            client = VendorClient(settings(server.url))
            await client.post_order("acme", "t", ORDER, may_start=yes)
            exchange = await client.post_order("acme", "t", ORDER, may_start=yes)
            await client.aclose()
        return exchange, server

    exchange, server = run(story())
    assert (exchange.sent, exchange.status, len(server.requests), server.visits) == (True, None, 2, 1)


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(run: Run[Any]) -> None:
    """A connection on which something came out of turn is not used again, so no order gets another one's answer."""

    async def story() -> list[bytes | None]:
        async with MisbehavingServer(speak_out_of_turn) as server:
            client = VendorClient(settings(server.url))
            bodies = [(await client.post_order("acme", "t", ORDER, may_start=yes)).body]
            (kept,) = connections(client)
            await server.until(lambda: not kept.is_usable)  # the second answer to the first request is there
            bodies += [(await client.post_order("acme", "t", ORDER, may_start=yes)).body for _ in range(2)]
            await client.aclose()
        return bodies

    assert run(story()) == [b"1", b"2", b"3"]


def test_requests_at_once_keep_their_own_proofs(run: Run[Any]) -> None:
    """Of many requests in flight on one client, those that the fence refuses are unsent and the others are answered."""

    async def echo(visit: Visit) -> None:
        while True:
            request = await visit.request()
            await visit.say(answer_bytes(200, request.body))

    async def story() -> list[Exchange]:
        async with MisbehavingServer(echo) as server:
            client = VendorClient(settings(server.url))
            exchanges = await asyncio.gather(
                *(
                    client.post_order("acme", "t", b"%d" % number, may_start=fence(number % 3 > 0))
                    for number in range(60)
                )
            )
            await client.aclose()
        return exchanges

    for number, exchange in enumerate(run(story())):
        expected = (True, b"[%d]" % number) if number % 3 > 0 else (False, None)
        assert (exchange.sent, exchange.body) == expected


def test_a_cancelled_request_raises_and_its_connection_is_closed(run: Run[Any]) -> None:
    """Cancelling passes through, and leaves no half-used connection behind."""

    async def story() -> bool:
        async with MisbehavingServer(keep_silent) as server:
            client = VendorClient(settings(server.url))
            task = asyncio.create_task(client.post_order("acme", "t", ORDER, may_start=yes))
            await server.until(lambda: len(server.requests) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            empty = not connections(client)
            await client.aclose()
            return empty

    assert run(story())


def test_an_early_refusal_of_a_large_order_is_read(run: Run[Any]) -> None:
    """An answer that comes before all of the order was sent is still the answer."""

    async def refuse_early(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(answer_bytes(413, b"too large"))
        await visit.drain_to_eof()

    async def story() -> Exchange:
        async with MisbehavingServer(refuse_early) as server:
            client = VendorClient(settings(server.url))
            try:
                return await client.post_order("acme", "t", b"1" * 30_000_000, may_start=yes)
            finally:
                await client.aclose()

    exchange = run(story())
    assert (exchange.sent, exchange.status, exchange.body) == (True, 413, b"too large")


def test_closing_the_client_closes_its_connections(run: Run[Any]) -> None:
    """No connection outlives its client."""

    async def story() -> int:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            await asyncio.gather(*(client.post_order("acme", "t", ORDER, may_start=yes) for _ in range(20)))
            await client.aclose()
            await server.until(lambda: server.ended == server.visits)
            return server.visits

    assert run(story()) == 20
