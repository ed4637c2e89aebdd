"""The one HTTP client: every request to the vendor leaves here, and comes back as an `Exchange`.

No other module but its transport imports httpx. Requests go straight to that: `httpx.AsyncClient` would cost half as
much CPU again, and logs every address, keys and all.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from socket import gaierror
from typing import TYPE_CHECKING, Final

import httpx
import msgspec
import structlog

from orderrelay_shared.orders import wire_body
from orderrelay_workers.vendor.addresses import login_address, lookup_address, order_address
from orderrelay_workers.vendor.connection import ClosedEarly, Malformed
from orderrelay_workers.vendor.departure import Departure
from orderrelay_workers.vendor.exchange import ANSWER_MAX_BYTES, PARTIAL_MAX_BYTES, Exchange, Failure
from orderrelay_workers.vendor.transport import DEPARTURE, TARGET, Target, VendorTransport, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import SecretStr

    from orderrelay_workers.settings import CompanySettings, WorkerSettings

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_KEPT_HEADERS: Final = frozenset({b"content-type", b"content-length", b"date", b"retry-after"})


class VendorClient:
    """Sends orders, look-ups and logins; lives on one event loop, and takes any number of requests at once.

    No method raises for what the vendor or the network does: an `Exchange` tells. A cancelled call leaves none, so
    its caller must hold the request for sent. Nothing is ever sent twice, no redirect is followed, and each request
    ends at the latest `settings.request_timeout_seconds` after it began.

    Args:
        settings: Addresses, companies and the deadline. Secrets are read from it with each request.
        tls: How to trust the vendor's certificate; default: the system's authorities.
    """

    def __init__(self, settings: WorkerSettings, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._transport = VendorTransport(tls or ssl.create_default_context())
        # All orders of a company differ in their content alone: what they share is kept, with the token and the
        # settings that it was made of, as these may be replaced by others.
        self._order_frames: dict[str, tuple[str, CompanySettings, _Frame]] = {}
        agent = ("User-Agent", f"orderrelay/{_version()}")
        # A compressed answer could be a bomb, and must be undone before it can be kept: so none is asked for.
        self._asking = [agent, ("Accept", "application/json"), ("Accept-Encoding", "identity")]
        self._posting = [*self._asking, ("Content-Type", "application/json; charset=utf-8")]

    async def post_order(self, company: str, token: str, body: bytes, *, may_start: Callable[[], bool]) -> Exchange:
        """Send one order, or several at once.

        Args:
            company: The company's alias.
            token: A valid access token.
            body: One order as a JSON object, wrapped as `settings.order_body` says; where that is an array, also
                several with commas between them.
            may_start: The start fence. Asked when the connection stands, before the first byte; if it says no, nothing
                is sent and the failure is `Failure.FENCED`.
        """
        departure = Departure(may_start)

        def request() -> httpx.Request:
            content = httpx.ByteStream(wire_body(body, self._settings.order_body))
            frame = self._order_frame(company, token)
            extensions = {TARGET: frame.target, DEPARTURE: departure}
            return httpx.Request("POST", frame.url, headers=frame.headers, stream=content, extensions=extensions)

        return await self._exchange(request, departure)

    async def look_up(self, company: str, token: str, external_id: str) -> Exchange:
        """Ask for the ids of the orders that the vendor has under an ExternalId."""
        departure = Departure(_always)

        def request() -> httpx.Request:
            keys = self._settings.companies[company]
            address = lookup_address(
                self._settings.base_url,
                self._settings.lookup_path,
                company_api_key=_plain(keys.company_api_key),
                connect_api_key=_plain(keys.connect_api_key),
                token=token,
                external_id=external_id,
            )
            return httpx.Request("GET", address, headers=self._asking, extensions={DEPARTURE: departure})

        return await self._exchange(request, departure)

    async def log_in(self, company: str) -> Exchange:
        """Ask for an access token with the company's license, user name and password."""
        departure = Departure(_always)

        def request() -> httpx.Request:
            keys = self._settings.companies[company]
            address = login_address(
                self._settings.base_url,
                self._settings.login_path,
                company_api_key=_plain(keys.company_api_key),
                connect_api_key=_plain(keys.connect_api_key),
            )
            content = msgspec.json.encode(
                {
                    "License": _plain(keys.license),
                    "UserName": _plain(keys.user_name),
                    "Password": _plain(keys.password),
                }
            )
            extensions = {DEPARTURE: departure}
            return httpx.Request("POST", address, headers=self._posting, content=content, extensions=extensions)

        return await self._exchange(request, departure)

    async def aclose(self) -> None:
        """Close all connections; later requests fail unsent."""
        self._order_frames.clear()
        await self._transport.aclose()

    def _order_frame(self, company: str, token: str) -> _Frame:
        keys = self._settings.companies[company]
        known = self._order_frames.get(company)
        if known is not None and known[0] == token and known[1] is keys:
            return known[2]
        address = order_address(
            self._settings.base_url,
            self._settings.order_path,
            company_api_key=_plain(keys.company_api_key),
            connect_api_key=_plain(keys.connect_api_key),
            token=token,
            import_id=keys.import_id,
            special_functionalities=keys.special_functionalities,
        )
        request = httpx.Request("POST", address, headers=self._posting)
        frame = _Frame(request.url, request.headers, target_of(request))
        self._order_frames[company] = (token, keys, frame)
        return frame

    async def _exchange(self, make_request: Callable[[], httpx.Request], departure: Departure) -> Exchange:
        began_at = datetime.now(UTC)
        answer = _Answer()
        failure: Failure | None = None
        deadline = asyncio.timeout(self._settings.request_timeout_seconds)
        try:
            async with deadline:
                await self._receive(make_request(), answer)
        except Exception as error:  # noqa: BLE001  the boundary: texts of foreign exceptions hold addresses with keys
            failure = _failure(error, departure, answer, late=deadline.expired())
        body: bytes | None = None
        if failure is None:
            body, failure = answer.read()
        return Exchange(
            sent=departure.sent,
            status=answer.status,
            headers=answer.headers,
            body=body,
            partial=answer.beginning() if body is None else b"",
            failure=failure,
            began_at=began_at,
            ended_at=datetime.now(UTC),
        )

    async def _receive(self, request: httpx.Request, answer: _Answer) -> None:
        response = await self._transport.handle_async_request(request)
        try:
            answer.begin(response)
            # The transport's stream as it is: httpx's own iterator would undo encodings without a cap.
            if isinstance(response.stream, httpx.AsyncByteStream):
                async for chunk in response.stream:
                    if not answer.add(chunk):
                        break
        finally:
            await response.aclose()


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all orders of a company share, ready to be used."""

    url: httpx.URL
    headers: httpx.Headers
    target: Target


@dataclass(slots=True)
class _Answer:
    """An answer as it comes in."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    encoding: str = ""
    chunks: list[bytes] = field(default_factory=list[bytes])
    size: int = 0

    def begin(self, response: httpx.Response) -> None:
        """Take the head."""
        self.status = response.status_code
        for name, value in response.headers.raw:
            lower = name.lower()
            if lower in _KEPT_HEADERS:
                self.headers[lower.decode("ascii")] = value.decode("latin-1")
            elif lower == b"content-encoding":
                self.encoding = value.decode("latin-1").strip().lower()

    def add(self, chunk: bytes) -> bool:
        """Take a piece of the body; False if it is getting too long."""
        self.chunks.append(chunk)
        self.size += len(chunk)
        return self.size <= ANSWER_MAX_BYTES

    def read(self) -> tuple[bytes | None, Failure | None]:
        """The whole body in clear, or why there is none."""
        if self.size > ANSWER_MAX_BYTES:
            return None, Failure.OVERSIZED
        whole = b"".join(self.chunks)
        if self.encoding in ("", "identity"):
            return whole, None
        if self.encoding not in ("gzip", "x-gzip", "deflate"):
            return None, Failure.ENCODED
        unpacking = zlib.decompressobj(wbits=47)  # 47: gzip or zlib, as its own first bytes say
        try:
            clear = unpacking.decompress(whole, ANSWER_MAX_BYTES + 1)
        except zlib.error:
            return None, Failure.ENCODED
        if len(clear) > ANSWER_MAX_BYTES:
            return None, Failure.OVERSIZED
        return (clear, None) if unpacking.eof else (None, Failure.ENCODED)

    def beginning(self) -> bytes:
        """What came of the body, as it came, at most `PARTIAL_MAX_BYTES`."""
        return b"".join(self.chunks)[:PARTIAL_MAX_BYTES]


def _failure(error: Exception, departure: Departure, answer: _Answer, *, late: bool) -> Failure:
    """The word for an exception. It tells people why; whether anything was sent is not its business."""
    causes = tuple(_causes(error))

    def caused_by(*classes: type[BaseException]) -> bool:
        return any(isinstance(cause, classes) for cause in causes)

    if not departure.sent:
        if departure.refused:
            return Failure.FENCED
        if late:
            return Failure.NO_CONNECTION_IN_TIME
        if caused_by(gaierror):
            return Failure.NO_NAME
        if caused_by(ssl.SSLError, ssl.CertificateError):
            return Failure.TLS
        if caused_by(ConnectionRefusedError):
            return Failure.REFUSED
        if caused_by(OSError):
            return Failure.NO_CONNECTION
        return _unforeseen(error, Failure.NOT_SENT_UNFORESEEN)
    if late:
        return Failure.DEADLINE
    if answer.status is not None:
        return Failure.TRUNCATED
    if caused_by(ClosedEarly):
        return Failure.CLOSED
    if caused_by(Malformed):
        return Failure.MALFORMED
    if caused_by(OSError):
        return Failure.RESET
    return _unforeseen(error, Failure.UNFORESEEN)


def _unforeseen(error: Exception, failure: Failure) -> Failure:
    _log.warning("vendor_request_failed_unforeseen", error_class=type(error).__name__)  # its text may hold keys
    return failure


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(16):  # bounded, as causes can be made to go in a circle
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _plain(value: SecretStr | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return value.get_secret_value()


def _always() -> bool:
    return True


def _version() -> str:
    try:
        return metadata.version("orderrelay")
    except metadata.PackageNotFoundError:
        return "0"
