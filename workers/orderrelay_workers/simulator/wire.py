"""What happens on the connection itself: right answers, wrong ones, none, and true TCP resets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

from orderrelay_workers.simulator.faults import JSON, Act, Fault

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

HUGE_BYTES: Final = 50 * 1024 * 1024
_CHUNK: Final = b" " * (256 * 1024)
_JSON_HEADERS: Final = {"Content-Type": JSON}

#: Looked at this often whether the client of a request that is never answered has gone, in seconds.
_GONE_CHECK_SECONDS: Final = 0.25

#: A response, and the status to be booked: 0 where no whole answer goes out.
Answered = tuple[web.StreamResponse, int]


class _Broken(web.Response):
    """No answer at all: aiohttp takes the error for a client that has gone, and closes the connection quietly."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002  the name is aiohttp's
        raise ConnectionResetError


class _ClosesUntold(web.Response):
    """An answer that promises a connection kept alive, which is then closed."""

    def __init__(self, request: web.BaseRequest, body: bytes) -> None:
        super().__init__(body=body, headers=_JSON_HEADERS)
        self._closes = request.transport

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        if self._closes is not None:
            self._closes.close()


def json_answer(body: bytes) -> Answered:
    """200 with a JSON body."""
    return web.Response(body=body, headers=_JSON_HEADERS), 200


def text_answer(status: int, text: str, headers: dict[str, str] | None = None) -> Answered:
    """A status with a short text."""
    return web.Response(status=status, text=text, headers=headers), status


def nothing() -> Answered:
    """No answer; the connection ends."""
    return _Broken(), 0


def reset(request: web.BaseRequest) -> Answered:
    """End the connection by a TCP reset, whatever was or was not read."""
    transport = request.transport
    if transport is not None:
        connection = cast("socket.socket | None", transport.get_extra_info("socket"))
        if connection is not None:
            # Lingering for no time makes the kernel send RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return nothing()


async def pause(seconds: float, closing: asyncio.Event) -> None:
    """Wait, but not longer than the simulator runs."""
    if seconds > 0 and not closing.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), seconds)


async def hang(request: web.BaseRequest, closing: asyncio.Event) -> Answered:
    """Answer nothing until the client gives up or the simulator stops."""
    while not closing.is_set() and (transport := request.transport) is not None and not transport.is_closing():
        await pause(_GONE_CHECK_SECONDS, closing)
    return nothing()


def retry_after(form: str, seconds: float) -> dict[str, str]:
    """The header that asks to come back after so long: in "seconds", as a "date", or none in any other form."""
    if form == "seconds":
        return {"Retry-After": f"{seconds:.0f}"}
    if form == "date":
        return {"Retry-After": formatdate(time.time() + seconds, usegmt=True)}
    return {}


async def own_answer(fault: Fault, seconds: float) -> Answered:
    """The status, headers and body that the fault itself has."""
    headers = {**fault.headers, "Content-Type": fault.content_type, **retry_after(fault.retry_after, seconds)}
    return web.Response(status=fault.status, body=fault.body, headers=headers), fault.status


async def perform(
    request: web.BaseRequest, fault: Fault, seconds: float, right: bytes, closing: asyncio.Event
) -> Answered:
    """Do to the request what the fault says.

    Args:
        request: The request, read.
        fault: The fault; those that concern only what the vendor books or says are done by the caller.
        seconds: The fault's time.
        right: The body of the right answer.
        closing: Set when the simulator stops.
    """
    match fault.act:
        case Act.HANG:
            return await hang(request, closing)
        case Act.RESET | Act.RESET_UNREAD:
            return reset(request)
        case Act.CLOSE:
            return nothing()
        case Act.HALF_HEAD:
            return _raw(request, b"HTTP/1.1 200 OK\r\nContent-Type: applic")
        case Act.TRUNCATED:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: {len(right) + 8}\r\n\r\n"
            return _raw(request, head.encode() + right[: max(1, len(right) // 2)])
        case Act.TRUNCATED_CHUNKED:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n{len(right):x}\r\n"
            return _raw(request, head.encode() + right + b"\r\n")
        case Act.HUGE:
            return await _huge(request, right)
        case Act.DRIP:
            return await _drip(request, right, seconds, closing)
        case Act.CLOSING:
            response, status = json_answer(right)
            response.force_close()
            return response, status
        case Act.CLOSING_UNTOLD:
            return _ClosesUntold(request, right), 200
        case Act.SLOW:
            await pause(seconds, closing)
            return json_answer(right)
        case _:
            return json_answer(right)


def _raw(request: web.BaseRequest, data: bytes) -> Answered:
    """Bytes as they are, then an orderly close."""
    if (transport := request.transport) is not None:
        transport.write(data)
    return nothing()


async def _huge(request: web.BaseRequest, right: bytes) -> Answered:
    """The right answer with 50 MB of spaces before its last brace: still the same JSON."""
    response = web.StreamResponse(headers=_JSON_HEADERS)
    response.content_length = HUGE_BYTES
    await response.prepare(request)
    await response.write(right[:-1])
    left = HUGE_BYTES - len(right)
    while left > 0:
        await response.write(_CHUNK[:left])
        left -= len(_CHUNK)
    await response.write(right[-1:])
    return response, 200


async def _drip(request: web.BaseRequest, right: bytes, seconds: float, closing: asyncio.Event) -> Answered:
    response = web.StreamResponse(headers=_JSON_HEADERS)
    response.content_length = len(right)
    await response.prepare(request)
    for index in range(len(right)):
        if closing.is_set():
            return nothing()
        await response.write(right[index : index + 1])
        await pause(seconds, closing)
    return response, 200
