"""How httpx's requests travel: over one aiohttp session, which many requests in flight do not slow down.

httpx's own pool looks at every idle connection for every request; aiohttp's does not. This is the small part of
httpx-aiohttp that is needed here, with two differences: an address and headers that every order shares are made ready
once, and aiohttp's exceptions come through as they are, since no other name would tell more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: The extension of a request that holds its `Target`, if that is made ready.
TARGET: Final = "orderrelay.target"

#: Whoever sends a request has a deadline for the whole of it.
_NO_TIMEOUT: Final = aiohttp.ClientTimeout()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes, and its headers, as aiohttp takes them. The repr is empty: the address has keys."""

    url: URL
    headers: CIMultiDict[str]

    def __repr__(self) -> str:
        return "Target()"


def target_of(request: httpx.Request) -> Target:
    """What aiohttp needs to know of a request."""
    ready = request.extensions.get(TARGET)
    if isinstance(ready, Target):
        return ready
    return Target(URL(str(request.url), encoded=True), CIMultiDict(request.headers.multi_items()))


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests over one aiohttp session. Follows no redirect, undoes no encoding, has no timeout of its own.

    Args:
        open_session: Makes the session, on the running event loop, when the first request is sent.
    """

    def __init__(self, open_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._open_session = open_session
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; returns when the answer's head is there. The response must be closed.

        Raises:
            aiohttp.ClientError, OSError, ssl.SSLError: What aiohttp says of a request that failed.
        """
        if self._session is None:
            self._session = self._open_session()
        target = target_of(request)
        response = await self._session.request(
            request.method,
            target.url,
            headers=target.headers,
            data=request.read() or None,
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
        ).__aenter__()
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

    async def aclose(self) -> None:
        """Close all connections; later requests fail."""
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    """An answer's body, piece by piece as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.content.iter_any():
            yield piece

    async def aclose(self) -> None:
        """Let the connection go: to the next request if the answer was read to its end, else it is closed."""
        await self._response.__aexit__(None, None, None)
