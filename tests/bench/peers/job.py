"""The job that every peer does: POST the order, read the answer, keep it verbatim. Runs in the peer's own environment.

The fastest clients that are in common use: http.client with a connection a thread, aiohttp on one event loop. SQLite as
its makers advise for many small writes: WAL, synchronous NORMAL (Orderrelay's ledger is on FULL).
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from tests.bench.enqueueing import time_enqueueing
from tests.bench.peers.results import open_database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Iterable

    import aiohttp

    Order = dict[str, object]

REDIS_URL: Final = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
_VENDOR_URL: Final = os.environ.get("BENCH_VENDOR_URL", "http://127.0.0.1:8901")
_DATABASE: Final = os.environ.get("BENCH_DATABASE", "results.db")

_TARGET: Final = (
    "/Economy/Billing/Orders?companyApiKey=bench-company-key&connectApiKey=bench-connect-key&token=bench-token"
    "&importId=0&specialFunctionalities="
)
_HEADERS: Final = {"Content-Type": "application/json"}
_INSERT: Final = "INSERT INTO result (external_id, order_nr, vendor_id, answer, stored_at) VALUES (?, ?, ?, ?, ?)"

#: An order that fails is tried again so often, by whatever means the peer has.
RETRIES: Final = 8

#: A request may take so long, in seconds.
TIMEOUT: Final = 30.0

#: Where a peer has no call for many orders, so many are enqueued concurrently.
TOGETHER: Final = 100


class NotCreated(Exception):
    """The vendor did not create the order."""


class _Local(threading.local):
    """What belongs to one thread, or greenlet."""

    connection: http.client.HTTPConnection | None = None
    database: sqlite3.Connection | None = None


_local = _Local()
_session: aiohttp.ClientSession | None = None


def _after_fork() -> None:
    # A child must not share its parent's connections.
    global _local  # noqa: PLW0603
    _local = _Local()


os.register_at_fork(after_in_child=_after_fork)


def post(order: Order) -> bytes:
    """Send one order and give the verbatim answer.

    Raises:
        NotCreated: The vendor says so.
    """
    connection = _local.connection
    if connection is None:
        address = urlsplit(_VENDOR_URL)
        connection = _local.connection = http.client.HTTPConnection(str(address.hostname), address.port, TIMEOUT)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection.request("POST", _TARGET, orjson.dumps([order]), _HEADERS)
        answer = connection.getresponse()
        body = answer.read()
    except Exception:
        connection.close()
        _local.connection = None
        raise
    if answer.status != 200:
        raise NotCreated(answer.status)
    return body


async def post_async(order: Order) -> bytes:
    """Send one order and give the verbatim answer, on an event loop.

    Raises:
        NotCreated: The vendor says so.
    """
    global _session  # noqa: PLW0603
    import aiohttp
    from yarl import URL

    if _session is None:
        _session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=TIMEOUT), headers=_HEADERS
        )
    url = URL(_VENDOR_URL + _TARGET, encoded=True)
    async with _session.post(url, data=orjson.dumps([order])) as answer:
        body = await answer.read()
        if answer.status != 200:
            raise NotCreated(answer.status)
        return body


def store(answers: Iterable[tuple[object, bytes]]) -> None:
    """Keep the answers of orders, given by ExternalId, in one transaction.

    Raises:
        NotCreated: One of them says that its order was not created.
    """
    rows: list[tuple[object, ...]] = []
    for external_id, answer in answers:
        result: dict[str, Any] = orjson.loads(answer)
        if not result["Success"]:
            raise NotCreated(result["ErrorMessage"])
        rows.append((external_id, result["Strings"][0], result["Keys"][0], answer, time.time()))
    database = _local.database
    if database is None:
        database = _local.database = open_database(_DATABASE)
    if len(rows) == 1:
        database.execute(_INSERT, rows[0])
        return
    database.execute("BEGIN IMMEDIATE")
    database.executemany(_INSERT, rows)
    database.execute("COMMIT")


def submit(order: Order) -> None:
    """The whole job."""
    store([(order["ExternalId"], post(order))])


async def submit_async(order: Order) -> None:
    """The whole job, on an event loop; a hop to a thread would cost more than the write itself."""
    store([(order["ExternalId"], await post_async(order))])


# The command line of each peer's module -----------------------------------------------------------------------------


def run(
    work: Callable[[list[str]], object],
    one_by_one: Callable[[list[Order]], None] | None = None,
    bulk: Callable[[list[Order]], None] | None = None,
) -> None:
    """Do what the command line says: `work ARGUMENT…`, `enqueue one NUMBER PREFIX` or `enqueue bulk NUMBER PREFIX`.

    Args:
        work: Runs workers until it is ended.
        one_by_one: Enqueues orders, each by a call of its own.
        bulk: Enqueues orders together.
    """
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("work").add_argument("arguments", nargs="*")
    enqueue = commands.add_parser("enqueue")
    enqueue.add_argument("how", choices=["one", "bulk"])
    enqueue.add_argument("number", type=int)
    enqueue.add_argument("prefix")
    chosen = parser.parse_args()
    if chosen.command == "work":
        work(chosen.arguments)
        return
    way = one_by_one if chosen.how == "one" else bulk
    if way is None:
        sys.exit("this peer has no such way to enqueue")
    time_enqueueing(way, chosen.number, chosen.prefix)


async def enqueue_each(enqueue: Callable[[Order], Awaitable[object]], orders: list[Order]) -> None:
    """One after the other."""
    for order in orders:
        await enqueue(order)


async def enqueue_together(enqueue: Callable[[Order], Awaitable[object]], orders: list[Order]) -> None:
    """A hundred at a time."""
    for first in range(0, len(orders), TOGETHER):
        await asyncio.gather(*(enqueue(order) for order in orders[first : first + TOGETHER]))
