"""Orderrelay and its peers on the same job, by turns, in one run: `make bench`, `make bench ARGS=--help`.

Each takes orders of about 700 bytes from Redis, posts them to the stub, and keeps the verbatim answers in SQL. Workers,
stub, Redis, database and this program share the machine, so only the ratios mean much. A run that lost or doubled an
order does not count.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bench import drain, table
from tests.bench.enqueueing import run_enqueueing
from tests.bench.load import Meter
from tests.bench.machine import in_words, machine, our_versions
from tests.bench.peers import race
from tests.bench.peers.catalogue import PEERS, Peer
from tests.bench.peers.environments import FOLDER, ROOT, python_of, versions_in
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_DOCUMENT: Final = ROOT / "docs" / "performance.md"
_RECORDS: Final = FOLDER / "results.jsonl"

_SQLITE, _POSTGRES, _WIDE = "ours-sqlite", "ours-postgres", "ours-wide"
_OURS: Final = (
    table.Contender(_SQLITE, "**Orderrelay**, SQLite", 400, ours=True),
    table.Contender(_POSTGRES, "**Orderrelay**, PostgreSQL", 400, ours=True),
    table.Contender(_WIDE, "**Orderrelay**, SQLite, 2,000 in flight", 2000, ours=True),
)

#: Our drains: name, case, whether a quick run has it.
_DRAINS: Final = (
    (_SQLITE, "sqlite:0:400", True),
    (_SQLITE, "sqlite:200:400", True),
    (_POSTGRES, "postgres:0:400", True),
    (_POSTGRES, "postgres:200:400", False),
    (_WIDE, "sqlite:200:2000", False),
)

#: How many orders are enqueued one by one, and in bulk.
_ENQUEUED: Final = {"one": 4000, "bulk": 12_000}

#: What is left of all numbers of orders in a quick run.
_QUICK_SHARE: Final = 0.3


def main() -> None:
    """Run all, print the tables, and write them where they belong."""
    arguments = _arguments()
    chosen = [peer for peer in PEERS if not arguments.peers or peer.name in arguments.peers]
    chosen = [peer for peer in chosen if _is_made(peer)]
    share = _QUICK_SHARE if arguments.quick else arguments.share
    contenders = [*_OURS, *map(_contender, chosen)]
    began = dt.datetime.now(dt.UTC)
    records: list[dict[str, Any]] = []
    for number in range(1 if arguments.quick else arguments.rounds):
        for record in _round(number, chosen, share, quick=arguments.quick):
            record |= {"run": began.isoformat(timespec="seconds"), "round": number}
            records.append(record)
            _keep(record)
    section = _section(contenders, records, chosen, began)
    print(section)
    if arguments.write or not (arguments.quick or arguments.peers):
        _DOCUMENT.write_text(table.replace_section(_DOCUMENT.read_text(), section))
        print(f"written into {_DOCUMENT.relative_to(ROOT)}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="+", choices=names, metavar="PEER", help=f"only these: {', '.join(names)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual numbers of orders")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one round of fewer orders, and fewer cases of ours")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md also if quick or not of all")
    return parser.parse_args()


def _is_made(peer: Peer) -> bool:
    """Whether the peer's environment is there now."""
    try:
        python_of(peer.environment, peer.requirements)
    except subprocess.CalledProcessError as error:
        print(f"{peer.name} is left out: {error}", file=sys.stderr)
        return False
    return True


def _contender(peer: Peer) -> table.Contender:
    return table.Contender(
        peer.name, peer.label, peer.slow.in_flight, plain_celery=peer.plain_celery, weaker=peer.weaker
    )


def _round(number: int, peers: Sequence[Peer], share: float, *, quick: bool) -> Iterator[dict[str, Any]]:
    """All by turns; each round begins with another, as the machine may be slower for a while."""
    turns: list[Callable[[], Iterator[dict[str, Any]]]] = [
        functools.partial(_ours, share, quick=quick),
        *(functools.partial(_peer, peer, share) for peer in peers),
    ]
    first = number * len(turns) // 2 % len(turns)
    for turn in [*turns[first:], *turns[:first]]:
        yield from turn()


def _ours(share: float, *, quick: bool) -> Iterator[dict[str, Any]]:
    for how, orders in _ENQUEUED.items():
        with tempfile.TemporaryDirectory() as folder:
            server = RedisServer(Path(folder) / "redis")
            server.start()
            try:
                command = [sys.executable, "-m", "tests.bench.enqueueing", how, str(int(orders * share)), "bench"]
                environment = {"BENCH_REDIS_URL": server.url, "PYTHONPATH": str(ROOT)}
                record = run_enqueueing(command, environment, Meter({"redis": [server.process.pid]}))
            finally:
                server.process.kill9()
        yield {"name": _SQLITE, "what": f"enqueue {how}", **record}
    for name, case, in_quick in _DRAINS:
        if in_quick or not quick:
            yield {"name": name, **drain.measure(drain.read_case(case, int(10_000 * share)))}


def _peer(peer: Peer, share: float) -> Iterator[dict[str, Any]]:
    """At 0 ms and at 200 ms; what does not count is told, and tried once more."""
    for latency, how in ((0, peer.ways[0]), (200, peer.ways[-1])):
        for _ in range(2):
            records = list(race.enqueue_and_drain(peer, latency, how, share))
            yield from records
            if all(record["good"] for record in records):
                break


def _keep(record: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with _RECORDS.open("a") as file:
        file.write(json.dumps(record) + "\n")
    told = record["problem"] or (
        f"{record['per_second']:>7,}/s  CPU {record['cpu_s_per_1000']:.2f} s per 1000"
        f"  foreign cores {record['foreign_cores']:.1f}"
    )
    print(f"{record['round'] + 1}  {record['name']:16}{record['what']:14}{told}", file=sys.stderr, flush=True)


def _section(
    contenders: Sequence[table.Contender],
    records: Sequence[dict[str, Any]],
    peers: Sequence[Peer],
    began: dt.datetime,
) -> str:
    versions: dict[str, str] = {}
    for peer in peers:
        versions |= versions_in(python_of(peer.environment, peer.requirements), peer.distributions)
    versions.pop("redis", None)  # each peer has its own
    rounds = max(record["round"] for record in records) + 1
    length = "one round" if rounds == 1 else f"medians of {rounds} rounds"
    return "\n\n".join(
        [
            f"Measured on {began:%Y-%m-%d} by `make bench`, {length}: {machine()}.",
            table.render(contenders, records),
            "Orderrelay in more detail (CPU in seconds per 1000 orders):",
            table.render_ours(contenders, records),
            f"Orderrelay: {in_words(our_versions())}. Peers: {in_words(versions)}.",
        ]
    )


if __name__ == "__main__":
    main()
