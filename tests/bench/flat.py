"""Whether an order costs the same however full the ledger is: `python -m tests.bench.flat --help`. One object a line.

The cases, each over a small ledger and over full ones, which are filled once:

drain       By turns, one worker over each ledger drains `--drained` orders against the stub: CPU of the worker and of
            the database's own processes for each order, what each wrote, and the worker's memory.
statements  Each repeated duty once: what its statements cost the database. On PostgreSQL `work` is the pages of 8 KB
            that they touch, on SQLite the steps of its machine in thousands; the clock would say little.
commands    What people run: CPU in seconds of the command, and of PostgreSQL beside it, with what an empty ledger
            costs in the small one.

Servers, worker and this process share the machine, so only CPU and counts are told. A ledger of 1,000,000 waiting and
3,000,000 old orders takes 9 GB in the folder for temporary files (TMPDIR).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psutil
import sqlalchemy as sa

from orderrelay_workers.ledger.engine import is_sqlite
from tests.bench.drain import MAIN
from tests.bench.filling import fill
from tests.bench.load import Meter, load_between
from tests.bench.scale_backlog import duties_of, statements_of
from tests.bench.scale_fleet import COMPANY, a_fleet
from tests.bench.vendor import Vendor, start_vendor
from tests.processes import Processes
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.scale_fleet import Fleet

_CASES: Final = ("statements", "commands", "drain")

#: So many orders are drained before a turn is measured: connections are open and statements prepared then.
_WARM: Final = 400

_LINES: Final = (
    "status {job}", "audit show {job}", "audit show flat-77", "audit list", "audit list --state rejected",
    "audit list --state in_progress", "audit list --state succeeded", "audit list --state waiting",
    "audit list --since 1h", "audit list --alarms", "parked list", "audit stats", "watch --once --json", "rate show",
    "doctor",
)  # fmt: skip

_PAGES: Final = re.compile(r"shared ((?:(?:hit|read|dirtied|written)=\d+ ?)+)")
_STEPS_AT_A_TIME: Final = 100


@dataclass(frozen=True)
class Level:
    """One ledger. `told` names it in what is printed."""

    told: dict[str, object]
    fleet: Fleet
    vendor: Vendor
    database: tuple[int, ...]


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(_CASES)}; all if none is named")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    parser.add_argument(
        "--levels", nargs="+", default=["10000:0", "1000000:0", "1000000:3000000"], metavar="WAITING:OLD"
    )
    parser.add_argument("--drained", type=int, default=3000, help="orders in each turn")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each ledger")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(_CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    for name in arguments.databases:
        for line in _measure(arguments, postgres=name == "postgres"):
            print(json.dumps({"database": name, **line}), flush=True)


def _measure(arguments: argparse.Namespace, *, postgres: bool) -> Iterator[dict[str, object]]:
    cases = arguments.cases or _CASES
    with contextlib.ExitStack() as opened:
        levels = [opened.enter_context(_level(text, postgres=postgres)) for text in arguments.levels]
        if "statements" in cases:
            for level in levels:
                yield from ({**level.told, **line} for line in _statements(level.fleet))
        if "commands" in cases:
            for level in levels:
                yield from ({**level.told, **line} for line in _commands(level))
        if "drain" in cases:
            for _ in range(arguments.rounds):
                for level in levels:
                    yield {**level.told, **_drain(level, arguments.drained)}


@contextlib.contextmanager
def _level(text: str, *, postgres: bool) -> Iterator[Level]:
    waiting, old = (int(number) for number in text.split(":"))
    before = set(_postmasters())
    with a_fleet(postgres=postgres) as fleet:
        fill(fleet.engine, fleet.company_id, waiting=waiting, old=old)
        processes = Processes(fleet.folder)
        vendor = start_vendor(processes)
        try:
            yield Level({"waiting": waiting, "old": old}, fleet, vendor, tuple(set(_postmasters()) - before))
        finally:
            vendor.close()
            processes.end()


def _postmasters() -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.name().startswith("postgres")]


def _drain(level: Level, drained: int) -> dict[str, object]:
    """One turn: CPU from the moment the worker has warmed up until it has sent so many more orders."""
    fleet, vendor = level.fleet, level.vendor
    already = vendor.counts().distinct
    fleet.start_workers(1, vendor.url)
    (worker,) = fleet.workers
    meter = Meter({"worker": [worker.pid], "database": level.database})

    def sent(orders: int) -> int:
        wait_until(lambda: vendor.counts().distinct >= already + orders, 300, what="so many are sent")
        return vendor.counts().distinct

    first, wrote, began = sent(_WARM), _written(fleet), meter.read()
    last, written, ended = sent(_WARM + drained), _written(fleet), meter.read()
    resident = fleet.rss_mb()
    worker.terminate()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 30, what="it ends")
    orders, load = last - first, load_between(began, ended)
    return {
        "case": "drain",
        "orders": orders,
        "seconds": round(load.seconds, 1),
        "worker_cpu_ms": round(1000 * load.groups["worker"] / orders, 3),
        "database_cpu_ms": round(1000 * load.groups["database"] / orders, 3),
        "written_kb": round((written - wrote) / 1000 / orders, 1),
        "rss_mb": resident,
        "duplicates": vendor.counts().duplicates,
    }


def _written(fleet: Fleet) -> int:
    """Bytes to the disk so far: of PostgreSQL's log, or of the workers, which write SQLite's file and log."""
    if is_sqlite(fleet.engine):
        return sum(int(worker.io_counters().write_bytes) for worker in fleet.workers)
    with fleet.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT pg_current_wal_insert_lsn() - '0/0'").scalar_one())


def _statements(fleet: Fleet) -> Iterator[dict[str, object]]:
    for name, duty in duties_of(fleet).items():
        duty()  # once to warm up
        if is_sqlite(fleet.engine):
            work, most = steps_of(fleet.engine, duty), ""
        else:
            seen = statements_of(fleet.engine, duty)
            each = [(_pages(fleet.engine, asked, given), asked) for asked, given, _ in seen]
            work, most = sum(pages for pages, _ in each), max(each, default=(0, ""))[1][:60]
        yield {"case": "statements", "duty": name, "work": work, **({"most": most} if most else {})}


def steps_of(engine: sa.Engine, duty: Callable[[], object]) -> float:
    """Thousands of steps that SQLite's machine takes for a duty."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def begin(connection: Any, *_: object) -> None:
        connection.set_progress_handler(count, _STEPS_AT_A_TIME)

    def end(connection: Any, *_: object) -> None:
        connection.set_progress_handler(None, 0)

    sa.event.listen(engine, "checkout", begin)
    sa.event.listen(engine, "checkin", end)
    try:
        duty()
    finally:
        sa.event.remove(engine, "checkout", begin)
        sa.event.remove(engine, "checkin", end)
    return steps * _STEPS_AT_A_TIME / 1000


def _pages(engine: sa.Engine, statement: str, parameters: Any) -> int:
    """Pages that PostgreSQL touches for a statement, which is rolled back."""
    if statement.split(None, 1)[0] not in ("SELECT", "UPDATE", "WITH", "DELETE"):
        return 0
    with engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters).scalars().all()
        connection.rollback()
    # The first line that tells of pages is the whole statement's.
    found = next((match[1] for line in plan if (match := _PAGES.search(str(line)))), "")
    return sum(int(number) for word, number in re.findall(r"(\w+)=(\d+)", found) if word in ("hit", "read"))


def _commands(level: Level) -> Iterator[dict[str, object]]:
    """Run what people run, beside a worker whose company is paused."""
    fleet = level.fleet
    port = free_port()
    environment = fleet.environment(level.vendor.url) | {"ORDERRELAY_HEALTH_PORT": str(port)}
    with fleet.engine.connect() as connection:
        job = connection.exec_driver_sql("SELECT id FROM job ORDER BY booked_at LIMIT 1").scalar_one()
        job = getattr(job, "hex", job)
    _run(level, environment, "pause", COMPANY, "--reason", "bench")
    fleet.start_workers(1, level.vendor.url, {"ORDERRELAY_HEALTH_PORT": str(port)})
    for line in _LINES:
        yield _run(level, environment, *line.format(job=job).split())
    meter = Meter({"worker": [fleet.workers[0].pid], "database": level.database})
    began = meter.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        answer.read()
    load = load_between(began, meter.read())
    yield {
        "case": "commands",
        "command": "GET /metrics",
        "cpu_s": round(load.groups["worker"], 2),
        "database_cpu_s": round(load.groups["database"], 2),
    }
    fleet.workers[0].terminate()
    _run(level, environment, "resume", COMPANY)


def _run(level: Level, environment: dict[str, str], *words: str) -> dict[str, object]:
    meter = Meter({"database": level.database})
    began = meter.read()
    command = [sys.executable, "-c", MAIN, *words]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    database = load_between(began, meter.read()).groups["database"]
    line = {
        "case": "commands",
        "command": " ".join(words),
        "exit": process.returncode,
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "database_cpu_s": round(database, 2),
    }
    return line if process.returncode < 2 else {**line, "told": told.decode()[-200:]}


if __name__ == "__main__":
    main()
