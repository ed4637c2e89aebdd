"""One peer does the job once: its orders are enqueued, its workers started, and the clock runs.

The stub withholds its answers until the workers have warmed up and hold as much as they can. What is on its way by then
counts half, as half of its work is done before the clock starts.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.enqueueing import run_enqueueing
from tests.bench.load import Meter, load_between, resident_mb
from tests.bench.peers.environments import ROOT, python_of
from tests.bench.peers.results import open_database
from tests.bench.vendor import start_vendor
from tests.bench.verdict import problem_of
from tests.processes import Processes
from tests.servers import RedisServer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from tests.bench.peers.catalogue import Peer, Workers
    from tests.bench.vendor import Vendor

#: Workers may take so long until they hold orders, and so long without any progress, in seconds.
_START_SECONDS = 30.0
_STALL_SECONDS = 15.0

#: What is held has not changed for so long: the workers have all they can hold, in seconds.
_STEADY_SECONDS = 1.0

#: Of the workers' logs so much is kept with a record that does not count.
_LOG_CHARACTERS = 2000

#: Results that are stored twice come within so long after the last one, in seconds.
_AFTERWARDS_SECONDS = 0.3


def enqueue_and_drain(peer: Peer, latency_ms: int, how: str, share: float) -> Iterator[dict[str, Any]]:
    """Enqueue with a peer one by one or in bulk, and drain; gives a record of each.

    Args:
        peer: Who.
        latency_ms: How long the vendor takes.
        how: "one" or "bulk".
        share: Of the peer's usual number of orders.
    """
    workers = peer.slow if latency_ms else peer.at_once
    orders = max(100, int(workers.orders * share))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = Processes(folder)
        stack.callback(processes.end)
        server = RedisServer(folder / "redis")
        server.start()
        stack.callback(server.process.kill9)
        vendor = start_vendor(processes, latency_ms)
        stack.callback(vendor.close)
        results = stack.enter_context(contextlib.closing(open_database(folder / "results.db")))
        environment = {
            "PYTHONPATH": str(ROOT),
            "BENCH_REDIS_URL": server.url,
            "BENCH_VENDOR_URL": vendor.url,
            "BENCH_DATABASE": str(folder / "results.db"),
        }
        enqueue = _command(peer, "enqueue", how, str(orders), peer.name)
        enqueued = _first(peer, f"enqueue {how}")
        enqueued |= run_enqueueing(enqueue, environment, Meter({"redis": [server.process.pid]}))
        yield enqueued
        if not enqueued["good"]:
            return
        started = [
            processes.start(_command(peer, "work", *workers.arguments), environment, name="worker")
            for _ in range(workers.processes)
        ]
        pids = [process.pid for process in started]
        meter = Meter({"workers": pids, "redis": [server.process.pid], "stub": [vendor.process.pid]})
        record = _first(peer, f"drain {latency_ms}") | {"latency_ms": latency_ms, "in_flight": workers.in_flight}
        record |= _drain(vendor, results, meter, orders, workers) | {"rss_mb": round(sum(resident_mb(pids)), 1)}
        if not record["good"]:
            record["logs"] = [process.log[-_LOG_CHARACTERS:] for process in started]
        yield record


def _first(peer: Peer, what: str) -> dict[str, Any]:
    return {"name": peer.name, "what": what}


def _command(peer: Peer, *arguments: str) -> list[str]:
    python = python_of(peer.environment, peer.requirements)
    return [str(python), "-m", f"tests.bench.peers.{peer.module}", *arguments]


def _drain(vendor: Vendor, results: sqlite3.Connection, meter: Meter, orders: int, workers: Workers) -> dict[str, Any]:
    vendor.hold()
    _await_workers(vendor, min(workers.in_flight, orders))
    on_their_way = vendor.counts().held
    first = meter.read()
    vendor.release()
    stalled = _await_rows(results, orders)
    load = load_between(first, meter.read())
    time.sleep(_AFTERWARDS_SECONDS)
    counts = vendor.counts()
    problem = "; ".join(filter(None, [stalled, problem_of(orders, counts, _stored(results))]))
    done = orders - on_their_way / 2
    return {
        "good": not problem,
        "problem": problem,
        "orders": orders,
        "on_their_way": on_their_way,
        "seconds": round(load.seconds, 3),
        "per_second": round(done / load.seconds),
        "cpu_s_per_1000": round(load.groups["workers"] * 1000 / done, 4),
        "redis_cpu_s_per_1000": round(load.groups["redis"] * 1000 / done, 4),
        "stub_cores": round(load.groups["stub"] / load.seconds, 2),
        "foreign_cores": round(load.foreign_cores, 2),
        "most_in_flight": counts.most_in_flight,
    }


def _await_workers(vendor: Vendor, expected: int) -> None:
    """Wait until the workers hold what they can, or hold something and no more comes."""
    began = changed_at = time.monotonic()
    held = 0
    while time.monotonic() < began + _START_SECONDS:
        now = vendor.counts().held
        if now != held:
            held, changed_at = now, time.monotonic()
        if held >= expected or (held and time.monotonic() > changed_at + _STEADY_SECONDS):
            return
        time.sleep(0.02)


def _await_rows(results: sqlite3.Connection, orders: int) -> str:
    """Wait until every order has a row; gives what went wrong, if anything."""
    progress, progressed_at = 0, time.monotonic()
    while (stored := _last_row(results)) < orders:
        if stored > progress:
            progress, progressed_at = stored, time.monotonic()
        elif time.monotonic() > progressed_at + _STALL_SECONDS:
            return f"given up after {_STALL_SECONDS:.0f} s without a new row"
        time.sleep(0.005)
    return ""


def _last_row(results: sqlite3.Connection) -> int:
    return int(results.execute("SELECT coalesce(max(id), 0) FROM result").fetchone()[0])


def _stored(results: sqlite3.Connection) -> tuple[int, int]:
    """How many rows there are, and for how many orders."""
    rows, distinct = results.execute("SELECT count(*), count(DISTINCT external_id) FROM result").fetchone()
    return int(rows), int(distinct)
