"""How many accepted orders are lost when Redis dies in the middle: `python -m tests.bench.power_loss --help`.

Four threads enqueue singly until Redis is killed in the middle. Lost is what `enqueue` returned for and what is then
neither in the stream nor in the ledger. Power loss is simulated: the kill is followed by cutting the append-only file
to the size that it had before the last fsync which succeeded. A failover promotes a replica whose link was cut 0.3 s
before the primary died. "Raw" is without workers; with two workers, most is in the ledger before Redis dies (they live
on, and nothing is submitted). Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import sqlalchemy as sa

from orderrelay_producers import Order, OrderProducer, QueueUnavailable
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope, read_entry
from orderrelay_shared.settings import ProducerSettings
from orderrelay_workers.ledger import companies, migrate, schema
from orderrelay_workers.ledger.engine import open_engine, reading
from tests.bench.drain import MAIN
from tests.bench.intake_window import all_ready, company_settings, running
from tests.servers import RedisServer, free_port, redis_binary, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHIM = Path(__file__).parent / "power_loss.c"
_COMPANY: Final = "default"
_PRODUCERS: Final = 4

#: From the cut of the replica's link to the primary's death, in seconds.
_ALONE_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Case:
    """What is tried.

    Attributes:
        keeps: appendfsync, or "no AOF".
        asks: What the producers ask for: "", "on disk", "WAITAOF alone" (that, and believed under any appendfsync),
            "replica" or "booked".
        fault: "process", "power" or "failover".
    """

    keeps: str
    asks: str
    fault: str


_CASES: Final = (
    Case("no AOF", "", "process"),
    Case("everysec", "", "process"),
    Case("everysec", "", "power"),
    Case("everysec", "WAITAOF alone", "power"),
    Case("everysec", "booked", "power"),
    Case("always", "", "process"),
    Case("always", "", "power"),
    Case("always", "on disk", "power"),
    Case("everysec", "", "failover"),
    Case("everysec", "replica", "failover"),
    Case("everysec", "booked", "failover"),
)


class _Credulous(Safekeeping):
    """Believes WAITAOF, whatever appendfsync is, to show what that is worth."""

    def lacking(self, replies: Sequence[object]) -> str | None:
        """What is missing by the answer to WAITAOF alone."""
        return None if isinstance(replies[0], list) and replies[0][0] == 1 else f"WAITAOF: {replies[0]}"


@dataclass(frozen=True)
class Place:
    """Where a case is tried.

    Attributes:
        binary: Redis' program.
        shim: What is preloaded into it.
        folder: For files.
        port: Where workers look for Redis, if there are any.
        ledger: None: no workers.
    """

    binary: Path
    shim: Path
    folder: Path
    port: int
    ledger: sa.Engine | None


def main() -> None:
    """Try each case, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, default=redis_binary(), help="Redis' program; default: the tests' own")
    parser.add_argument("--rounds", type=int, default=3, help="how often each case is tried")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long orders come before the fault")
    parser.add_argument("--only", choices=["raw", "workers"], help="only without workers, or only with them")
    arguments = parser.parse_args()
    version = subprocess.run([arguments.server, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    print(version)
    print("| appendfsync | producers ask for | fault | workers | accepted | lost |\n|" + " --- |" * 6, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shim = _compiled(folder)
        if arguments.only != "workers":
            _try_all(Place(arguments.server, shim, folder / "raw", free_port(), None), arguments)
        if arguments.only != "raw":
            with _workers(folder) as (port, ledger):
                _try_all(Place(arguments.server, shim, folder / "worked", port, ledger), arguments)


def _try_all(place: Place, arguments: argparse.Namespace) -> None:
    for case in _CASES:
        if case.asks == "booked" and place.ledger is None:
            continue
        counts: list[tuple[int, int]] = []
        try:
            for number in range(arguments.rounds):
                seconds = arguments.seconds * (1 + 0.37 * number)  # at another point of Redis' second each time
                counts.append(_try(place, case, place.folder / f"{time.monotonic_ns()}", seconds))
        except _CannotAsk as error:
            told = str(error)
            lost = "–"
        else:
            told = ", ".join(str(accepted) for accepted, _ in counts)
            lost = ", ".join(str(lost) for _, lost in counts)
        workers = 0 if place.ledger is None else 2
        print(f"| {case.keeps} | {case.asks or '–'} | {case.fault} | {workers} | {told} | {lost} |", flush=True)


class _CannotAsk(Exception):
    """This Redis does not know what the producers ask."""


def _try(place: Place, case: Case, folder: Path, seconds: float) -> tuple[int, int]:
    """One round: how many orders were accepted, and how many of them are lost."""
    folder.mkdir(parents=True)
    fsynced = folder / "fsynced"
    options: tuple[str, ...] = ("--auto-aof-rewrite-percentage", "0")
    if case.keeps != "no AOF":
        options += ("--appendonly", "yes", "--appendfsync", case.keeps)
    env = {"LD_PRELOAD": str(place.shim), "FSYNCED_SIZE": str(fsynced)}
    primary = RedisServer(folder / "primary", port=place.port, options=options, binary=place.binary, env=env)
    replica = RedisServer(folder / "replica", options=options, binary=place.binary, replica_of=primary)
    with contextlib.ExitStack() as stack:
        for server in (primary, replica):
            stack.callback(server.kill9)
        primary.start()
        if case.fault == "failover":
            replica.start()
        if place.ledger is not None:
            with primary.connect() as client:
                wait_until(lambda: client.exists(keys.COMPANIES), 60, what="the workers are back")
        accepted = _enqueue_until_killed(primary, replica, case, seconds)
        if case.fault == "failover":
            left = _in_the_stream(replica)
        else:
            if case.fault == "power":
                _forget_what_was_not_synced(primary, fsynced)
            primary.start()
            left = _in_the_stream(primary)
        if place.ledger is None:
            return len(accepted), len(accepted - left)
        # Where workers find Redis again, what is left in the stream comes into the ledger while it is counted.
        return len(accepted), len(accepted - left - _booked(place.ledger))


def _enqueue_until_killed(primary: RedisServer, replica: RedisServer, case: Case, seconds: float) -> set[str]:
    """Enqueue, kill the primary in the middle, and give the ExternalIds that enqueue returned for."""
    settings = ProducerSettings(accept_replicas=int(case.asks == "replica"), accept_on_disk=case.asks == "on disk")
    accepted: list[str] = []
    refused: list[str] = []
    stop = threading.Event()

    def enqueue() -> None:
        while not stop.is_set():
            order = Order.parse(_order())
            try:
                producer.enqueue(order, booked=case.asks == "booked")
            except QueueUnavailable as error:
                refused.append(error.reason)
                return
            accepted.append(order.ensure_external_id())

    with OrderProducer(primary.url, settings=settings) as producer:
        if case.asks == "WAITAOF alone":
            vars(producer)["_safekeeping"] = _Credulous(on_disk=True)
        threads = [threading.Thread(target=enqueue) for _ in range(_PRODUCERS)]
        for thread in threads:
            thread.start()
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at and not refused:
            time.sleep(0.001)
        if case.fault == "failover":
            replica.promote()
            time.sleep(_ALONE_SECONDS)
        primary.kill9()
        stop.set()
        for thread in threads:
            thread.join()
    if not accepted and refused:
        raise _CannotAsk(refused[0])
    return set(accepted)


def _forget_what_was_not_synced(server: RedisServer, fsynced: Path) -> None:
    (file,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    os.truncate(file, int(fsynced.read_text()) if fsynced.exists() else 0)


def _in_the_stream(server: RedisServer) -> set[str]:
    """The ExternalIds of the intake's orders."""
    found: set[str] = set()
    begin = "-"
    with server.connect() as client:
        while entries := cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.INTAKE, begin, count=5000)):
            for _, fields in entries:
                if isinstance(entry := read_entry(fields), Envelope):
                    found.add(entry.external_id)
            begin = f"({entries[-1][0].decode()}"
    return found


def _booked(ledger: sa.Engine) -> set[str]:
    with reading(ledger) as connection:
        return set(connection.execute(sa.select(schema.job.c.external_id)).scalars())


@contextlib.contextmanager
def _workers(folder: Path) -> Iterator[tuple[int, sa.Engine]]:
    """Two workers that book and do not submit; gives the port where they look for Redis, and their ledger."""
    url = f"sqlite:///{folder / 'ledger.db'}"
    with contextlib.ExitStack() as opened:
        ledger = open_engine(url)
        opened.callback(ledger.dispose)
        migrate.migrate(ledger)
        server = RedisServer(folder / "first")
        opened.callback(server.kill9)
        server.start()
        environment = {
            **company_settings(),
            "XDG_STATE_HOME": str(folder),
            "ORDERRELAY_REDIS_URL": server.url,
            "ORDERRELAY_DATABASE_URL": url,
            "ORDERRELAY_BASE_URL": f"http://127.0.0.1:{free_port()}",
        }
        logs = [folder / f"worker-{number}.log" for number in range(2)]
        for log in logs:
            opened.enter_context(running(log, environment, "-c", MAIN, "worker"))
        wait_until(all_ready(logs), 60, what="the workers are ready")
        companies.pause(ledger, _COMPANY, "only booking", actor="bench")
        server.kill9()
        yield server.port, ledger


def _compiled(folder: Path) -> Path:
    """The shim, made by the machine's own C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        sys.exit(
            "power loss is simulated by a small library that is preloaded into Redis: needs Linux and a C compiler "
            "(cc, gcc or clang on PATH; on Debian and Ubuntu: apt-get install gcc libc6-dev)"
        )
    shim = folder / "power_loss.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", shim, _SHIM, "-ldl", "-lpthread"], check=True)
    return shim


def _order() -> dict[str, object]:
    row = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3, "Amount": 350, "Text": "Väktare"}
    return {
        "CustomerNr": "013",
        "InvoiceDate": "2026-01-30",
        "ExternalId": str(uuid.uuid4()),
        "InvoiceRows": [row],
    }


if __name__ == "__main__":
    main()
