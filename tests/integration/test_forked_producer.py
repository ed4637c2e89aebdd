"""A producer that was made, and used, before a fork: works in parent and child, and never shares a connection."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope, read_entry

if TYPE_CHECKING:
    import redis

_ORDER = """
import asyncio, os, signal, sys, threading
from orderrelay_producers import AsyncOrderProducer, OrderProducer

def order(name):
    row = {"CustomerRowType": 2, "ProductNr": "1", "Quantity": 1, "Amount": 1}
    return {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [row], "ExternalId": name}
"""

_IN_THREADS = (
    _ORDER
    + """
producer = OrderProducer(sys.argv[1])
producer.enqueue(order("before"))
ended = threading.Event()

def busy():  # so that the fork finds the producer at work
    number = 0
    while not ended.is_set():
        number += 1
        producer.enqueue(order(f"busy-{number}"))

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # Ended by it where it waits for ever; the parent sees that.
        try:
            for number in range(20):
                assert producer.enqueue(order(f"child-{child}-{number}"), timeout=5.0).external_id
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
ended.set()
for thread in threads:
    thread.join()
producer.enqueue(order("after"))
sys.exit(any(codes))
"""
)

_IN_A_LOOP = (
    _ORDER
    + """
producer = AsyncOrderProducer(sys.argv[1])

async def some(who):
    async with producer:
        for number in range(20):
            await producer.enqueue(order(f"{who}-{number}"))

asyncio.run(some("before"))
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # Ended by it where it waits for ever; the parent sees that.
        try:
            asyncio.run(some(f"child-{child}"))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
asyncio.run(some("after"))
sys.exit(any(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""
)


@pytest.mark.parametrize("program", [_IN_THREADS, _IN_A_LOOP], ids=["in threads", "in a loop"])
def test_a_producer_outlives_a_fork(program: str, redis_url: str, redis_client: redis.Redis) -> None:
    """As in a server that makes it in the parent and serves in forked children: every order arrives, each once."""
    command = [sys.executable, "-W", "ignore", "-c", program, redis_url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis_client.xrange(keys.INTAKE))
    entries = [read_entry(fields) for _, fields in found]
    names = [entry.external_id for entry in entries if isinstance(entry, Envelope)]
    of_children = [name for name in names if name.startswith("child-")]
    assert len(of_children) == len(set(of_children)) == 80
    assert any(name.startswith("before") for name in names)
    assert any(name.startswith("after") for name in names)
