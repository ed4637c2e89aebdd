"""A stand-in for the vendor that is never what limits a bench: `python -m tests.bench.stub --help`.

It reads HTTP/1.1 by hand on uvloop, creates whatever it is sent, and counts. Unlike the simulator it has no faults,
asks for no credentials, and reads of an order only its ExternalId. Besides the vendor's own addresses it has
`GET /bench/stats`, `POST /bench/reset`, `POST /bench/latency?ms=`, `POST /bench/hold` (orders get no answer …) and
`POST /bench/release` (… until now).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast
from urllib.parse import parse_qs

import msgspec
import uvloop

from orderrelay_workers.simulator import answers

_EXTERNAL_ID: Final = re.compile(rb'"ExternalId"\s*:\s*"([^"]+)"')
_HEAD: Final = b"HTTP/1.1 %b\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length:"

_OK: Final = b"200 OK"
_TOKEN: Final = b'{"Token":"bench-token","Message":"Login successful, use token within 120 seconds"}'

#: Vendor ids look like those of the vendor's document.
_FIRST_ID: Final = 12_000_000

#: Connections that may wait to be taken; a fleet opens all of its own at once.
_BACKLOG: Final = 4096


class Request(NamedTuple):
    """One request, whole."""

    method: bytes
    target: bytes
    body: bytes


class NotUnderstood(Exception):
    """A request whose end cannot be told."""


def read_request(data: bytes, at: int) -> tuple[Request, int] | None:
    """The request that begins at a place in the bytes, and where it ends; None: it is not whole yet.

    Raises:
        NotUnderstood: It has no length that this reader knows.
    """
    head_ends = data.find(b"\r\n\r\n", at)
    if head_ends < 0:
        return None
    head = data[at:head_ends]
    lowered = head.lower()
    if b"\r\ntransfer-encoding:" in lowered:
        raise NotUnderstood("the body has no Content-Length")
    body_begins = head_ends + 4
    ends = body_begins
    found = lowered.find(_LENGTH)
    if found >= 0:
        value_begins = found + len(_LENGTH)
        value_ends = lowered.find(b"\r\n", value_begins)
        ends += int(lowered[value_begins : value_ends if value_ends >= 0 else len(lowered)])
    if len(data) < ends:
        return None
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != 3:
        raise NotUnderstood("the first line has not three words")
    return Request(parts[0], parts[1], data[body_begins:ends]), ends


def response(body: bytes, status: bytes = _OK) -> bytes:
    """A whole answer."""
    return _HEAD % (status, len(body)) + body


@dataclass
class Counts:
    """What arrived; instants by `time.monotonic()`, which all processes of a machine share."""

    requests: int = 0
    orders: int = 0
    distinct: int = 0
    duplicates: int = 0
    look_ups: int = 0
    logins: int = 0
    refused: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    held: int = 0
    first_at: float | None = None
    last_at: float | None = None


@dataclass
class Books:
    """What the stub has created, and what it counts."""

    counts: Counts = field(default_factory=Counts)
    ids: dict[bytes, int] = field(default_factory=dict[bytes, int])
    doubled: dict[bytes, list[int]] = field(default_factory=dict[bytes, list[int]])

    def create(self, body: bytes, now: float) -> bytes:
        """Create every order of a request, and give the answer's body; empty: no order has an ExternalId."""
        counts = self.counts
        external_ids: list[bytes] = _EXTERNAL_ID.findall(body)
        first = _FIRST_ID + counts.orders
        counts.requests += 1
        if not external_ids:
            counts.refused += 1
            return b""
        for number, external_id in enumerate(external_ids, start=first):
            if self.ids.setdefault(external_id, number) != number:
                counts.duplicates += 1
                self.doubled.setdefault(external_id, []).append(number)
        created = range(first, first + len(external_ids))
        counts.orders += len(external_ids)
        counts.distinct = len(self.ids)
        counts.last_at = now
        if counts.first_at is None:
            counts.first_at = now
        # A GUID made from the id: a random one would cost more than all the rest.
        return answers.created(created, created, f"00000000-0000-4000-8000-{first:012d}")

    def look_up(self, target: bytes) -> bytes:
        """The ids under an ExternalId, as the vendor's list."""
        self.counts.look_ups += 1
        names = {name.lower(): values for name, values in parse_qs(target.partition(b"?")[2]).items()}
        external_id = names.get(b"externalid", [b""])[0]
        ids = [self.ids[external_id]] if external_id in self.ids else []
        return msgspec.json.encode([*ids, *self.doubled.get(external_id, [])])


class Stub:
    """All connections share one."""

    def __init__(self, latency_ms: float = 0.0) -> None:
        self.books = Books()
        self.latency_ms = latency_ms
        self._holds = False
        self._held: list[tuple[asyncio.Transport, bytes]] = []

    def take(self, request: Request, transport: asyncio.Transport) -> None:
        """Answer one request, at once or when its time has come."""
        path = request.target.partition(b"?")[0].lower()
        if request.method == b"POST" and path.startswith(b"/economy/billing/order"):
            self._create(request, transport)
        elif path.startswith(b"/economy/billing/invoiceidsfromexternalid"):
            self._later(transport, response(self.books.look_up(request.target)))
        elif path.startswith(b"/login/token"):
            self.books.counts.logins += 1
            self._later(transport, response(_TOKEN))
        elif path.startswith(b"/bench/"):
            transport.write(self._control(path, request.target))
        else:
            transport.write(response(b'"not found"', b"404 Not Found"))

    def _create(self, request: Request, transport: asyncio.Transport) -> None:
        body = self.books.create(request.body, time.monotonic())
        counts = self.books.counts
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        whole = response(body) if body else response(b'"the bench counts by ExternalId"', b"400 Bad Request")
        if self._holds:
            counts.held += 1
            self._held.append((transport, whole))
        elif self.latency_ms:
            asyncio.get_running_loop().call_later(self.latency_ms / 1000, self._answer, transport, whole)
        else:
            self._answer(transport, whole)

    def _answer(self, transport: asyncio.Transport, whole: bytes) -> None:
        self.books.counts.in_flight -= 1
        if not transport.is_closing():
            transport.write(whole)

    def _later(self, transport: asyncio.Transport, whole: bytes) -> None:
        asyncio.get_running_loop().call_later(self.latency_ms / 1000, transport.write, whole)

    def _control(self, path: bytes, target: bytes) -> bytes:
        match path.removeprefix(b"/bench/"):
            case b"stats":
                return response(msgspec.json.encode(self.books.counts))
            case b"reset":
                self.books = Books()
            case b"latency":
                self.latency_ms = float(parse_qs(target.partition(b"?")[2])[b"ms"][0])
            case b"hold":
                self._holds = True
            case b"release":
                self._release()
            case _:
                return response(b'"not found"', b"404 Not Found")
        return response(b'"done"')

    def _release(self) -> None:
        """Answer what is held as if it had arrived just now."""
        self._holds = False
        loop = asyncio.get_running_loop()
        for transport, whole in self._held:
            loop.call_later(self.latency_ms / 1000, self._answer, transport, whole)
        self._held.clear()
        self.books.counts.held = 0


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Those of uvloop are alike, but do not derive from it.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        try:
            while (found := read_request(data, at)) is not None:
                request, at = found
                self._stub.take(request, self._transport)
        except (NotUnderstood, ValueError):
            self._stub.books.counts.refused += 1
            self._transport.close()
        self._rest = data[at:]


async def _serve(port: int, latency_ms: float) -> None:
    stub = Stub(latency_ms)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(stub), "127.0.0.1", port, backlog=_BACKLOG)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8901)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    # Nothing here makes cycles but connections, and they are few.
    gc.disable()
    uvloop.run(_serve(arguments.port, arguments.latency_ms))


if __name__ == "__main__":
    main()
