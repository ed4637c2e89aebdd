"""No key, token or password leaves the vendor's client in a log line, an exception or a repr, whatever goes wrong."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from orderrelay_workers.settings import CompanySettings, WorkerSettings
from orderrelay_workers.vendor.answers import read_login_answer, read_lookup_answer, read_order_answer
from orderrelay_workers.vendor.client import VendorClient
from tests.misbehaving_server import (
    MisbehavingServer,
    Visit,
    answer_bytes,
    answering,
    keep_silent,
    reset_while_receiving,
    saying,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

#: Recognisable, and the same when percent-encoded.
SECRETS: dict[str, Any] = {
    "company_api_key": "SECRET-company-key",
    "connect_api_key": "SECRET-connect-key",
    "user_name": "SECRET-user",
    "password": "SECRET-password",
}
TOKEN = "SECRET-token"


def settings(base_url: str) -> WorkerSettings:
    """Settings whose secrets can be recognised."""
    return WorkerSettings(
        base_url=base_url,
        request_timeout_seconds=0.3,
        companies={"acme": CompanySettings(license="licence-1", **SECRETS)},
    )


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All that is logged by anybody at any level, as one text."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=text))
    yield text
    structlog.reset_defaults()
    root.setLevel(level)
    root.removeHandler(handler)


async def echo_the_request(visit: Visit) -> None:
    """Answer 400 with the request's own address, as careless servers do."""
    request = await visit.request()
    await visit.say(answer_bytes(400, f"cannot serve {request.target}".encode()))


MISFORTUNES: dict[str, Callable[[Visit], Awaitable[None]]] = {
    "a good answer": answering(200, b"{}"),
    "a silent server": keep_silent,
    "a reset while receiving": reset_while_receiving,
    "a reset instead of an answer": saying(b"", then_reset=True),
    "a closed connection": saying(b""),
    "no HTTP": saying(b"nonsense\r\n\r\n"),
    "a header too long": saying(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 99999 + b"\r\n\r\n"),
    "a truncated body": saying(answer_bytes(200, b"12345")[:-1]),
    "an address sent back": echo_the_request,
}


async def every_request(base_url: str) -> str:
    """Make each kind of request, and give all that can be seen of what came back."""
    client = VendorClient(settings(base_url))
    order = await client.post_order("acme", TOKEN, b'{"a":1}', may_start=lambda: True)
    fenced = await client.post_order("acme", TOKEN, b'{"a":1}', may_start=lambda: False)
    failing = await client.post_order("acme", TOKEN, b'{"a":1}', may_start=lambda: 1 // 0 == 0)
    look_up = await client.look_up("acme", TOKEN, "a-1")
    login = await client.log_in("acme")
    cancelled = asyncio.create_task(client.post_order("acme", TOKEN, b'{"a":1}', may_start=lambda: True))
    await asyncio.sleep(0)
    cancelled.cancel()
    seen = [repr(client), repr(cancelled)]
    try:
        await cancelled
    except asyncio.CancelledError as error:
        seen.append("".join(traceback.format_exception(error)))
    await client.aclose()
    late = await client.log_in("acme")
    verdicts = [read_order_answer(order), read_lookup_answer(look_up), read_login_answer(login)]
    return "\n".join([*seen, *map(repr, (order, fenced, failing, look_up, login, late, *verdicts))])


def assert_no_secret(text: str) -> None:
    """Fail if a secret, or the query that carries them, is in the text."""
    for secret in ("SECRET", "companyApiKey="):
        assert secret not in text, f"a secret in: {text}"


@pytest.mark.parametrize("misfortune", MISFORTUNES)
def test_nothing_secret_is_shown_when_requests_go_wrong(misfortune: str, everything_logged: io.StringIO) -> None:
    """Logs at DEBUG, reprs, verdicts and tracebacks stay free of secrets, in asyncio's debug mode too."""

    async def story() -> str:
        async with MisbehavingServer(MISFORTUNES[misfortune]) as server:
            return await every_request(server.url)

    with warnings.catch_warnings(record=True) as warned:
        shown = asyncio.run(story(), debug=True)
    assert_no_secret(shown)
    assert_no_secret(everything_logged.getvalue())
    assert_no_secret(" ".join(str(one.message) for one in warned))


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:{port}", "https://127.0.0.1:{port}", "http://no.invalid"])
def test_nothing_secret_is_shown_when_there_is_no_connection(base_url: str, everything_logged: io.StringIO) -> None:
    """A refused connection and an unknown host name no address."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        shown = asyncio.run(every_request(base_url.format(port=closed.getsockname()[1])), debug=True)
    assert_no_secret(shown)
    assert_no_secret(everything_logged.getvalue())


def test_a_token_of_a_login_is_in_no_repr(everything_logged: io.StringIO) -> None:
    """The token that a login brings is hidden in the exchange and in the verdict."""

    async def story() -> str:
        async with MisbehavingServer(answering(200, b'{"Token":"SECRET-new-token","Message":"ok"}')) as server:
            client = VendorClient(settings(server.url))
            login = await client.log_in("acme")
            await client.aclose()
        verdict = read_login_answer(login)
        assert verdict.token is not None
        assert verdict.token.get_secret_value() == "SECRET-new-token"
        return repr(login) + repr(verdict)

    assert_no_secret(asyncio.run(story()))
    assert_no_secret(everything_logged.getvalue())


def test_a_token_that_is_no_text_is_not_shown(everything_logged: io.StringIO) -> None:
    """A token with an unpaired surrogate, which no encoder takes, raises nothing and is shown nowhere."""

    async def story() -> str:
        async with MisbehavingServer(answering(200, b"{}")) as server:
            client = VendorClient(settings(server.url))
            exchange = await client.post_order("acme", TOKEN + "\ud800", b"{}", may_start=lambda: True)
            await client.aclose()
            return repr(exchange)

    assert_no_secret(asyncio.run(story()))
    assert_no_secret(everything_logged.getvalue())
