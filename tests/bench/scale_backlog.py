"""What a backlog costs: a worker's memory and CPU, and how each repeated duty reads a large ledger."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from orderrelay_shared.intake import Envelope
from orderrelay_workers.audit import backlog, results
from orderrelay_workers.deadlines import Pace
from orderrelay_workers.decisions import Policy
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import booking, caution, claims, companies, deadlines, schema, sweeping, unknowns
from orderrelay_workers.ledger.booking import Accepted
from orderrelay_workers.ledger.engine import is_sqlite
from tests.bench.filling import fill
from tests.bench.scale_fleet import COMPANY, a_fleet
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.scale_fleet import Fleet

#: The tables that grow.
_TABLES: Final = "job|attempt|revision|order_key|operation_result|event"

#: Where SQLite goes through a whole table or a whole index, and PostgreSQL through a whole table; an index of what is
#: under way, or is yet to be stored, is short.
_SCAN: Final = re.compile(
    rf"SCAN ({_TABLES})\b(?! USING (COVERING )?INDEX ix_(job_in_progress|attempt_unstored)).*"
    rf"|Seq Scan on ({_TABLES})\b.*"
)


def measure_duties(waiting: int, old: int, *, postgres: bool) -> Iterator[dict[str, object]]:
    """Do each repeated duty once on a large ledger: how long its statements take, and which go through a table."""
    with a_fleet(postgres=postgres) as fleet:
        fill(fleet.engine, fleet.company_id, waiting=waiting, old=old)
        for name, duty in duties_of(fleet).items():
            duty()  # once to warm up
            seen = statements_of(fleet.engine, duty)
            scans = sorted({scan for asked, given, _ in seen for scan in _scans(fleet.engine, asked, given)})
            yield {
                "case": "duty",
                "database": fleet.engine.dialect.name,
                "waiting": waiting,
                "old": old,
                "duty": name,
                "statements": len(seen),
                "ms": round(sum(took for _, _, took in seen) * 1000, 2),
                "slowest": max(seen, key=lambda one: one[2])[0][:80] if seen else "",
                "scans": scans,
            }


def duties_of(fleet: Fleet) -> dict[str, Callable[[], object]]:
    """The repeated duties of a worker by their names, to be done over a fleet's ledger."""
    engine, company, owner = fleet.engine, fleet.company_id, uuid.uuid4()
    pace = Pace(10.0, None)

    def claim() -> None:
        claims.give_back(engine, claims.claim(engine, company, 250, owner=owner, lease_seconds=60))

    def book() -> None:
        booking.book(engine, [_accepted() for _ in range(500)], actor="bench")

    return {
        "due_companies": lambda: claims.due_companies(engine, {company: COMPANY}),
        "claim 250 and give back": claim,
        "book 500": book,
        "sweep": lambda: sweeping.sweep(engine, actor="bench"),
        "has_due (look-ups)": lambda: unknowns.has_due(engine, company),
        "park_failed": lambda: unknowns.park_failed(engine, company, Policy(), actor="bench"),
        "park_all": lambda: unknowns.park_all(engine, company, actor="bench"),
        "any_waiting (results)": lambda: results.any_waiting(engine),
        "store_all (results)": lambda: results.store_all(engine),
        "park_passed (deadlines)": lambda: deadlines.park_passed(engine, company, actor="bench"),
        "warn (deadlines)": lambda: deadlines.warn(engine, company, pace, actor="bench"),
        "doubt_waiting": lambda: caution.doubt_waiting(engine, [company], lease_seconds=60),
        "in_flight_by_owner": lambda: claims.in_flight_by_owner(engine, company),
        "by_alias (mirror)": lambda: companies.by_alias(engine),
        "read_backlog (every 5 s)": lambda: backlog.read_backlog(engine, company),
        "count_stopped (metrics)": lambda: backlog.count_stopped(engine, company),
    }


def _accepted() -> Accepted:
    external_id = str(uuid.uuid4())
    return Accepted("1700000000000-0", Envelope(COMPANY, external_id, b"d" * 32, external_id.encode()))


def statements_of(engine: sa.Engine, duty: Callable[[], object]) -> list[tuple[str, Any, float]]:
    """What a duty asks: statement, parameters (the first of many), and how long it took in seconds."""
    seen: list[tuple[str, Any, float]] = []
    began: list[float] = []

    def before(*_: object) -> None:
        began.append(time.perf_counter())

    def after(_: object, __: object, statement: str, parameters: Any, ___: object, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters, time.perf_counter() - began.pop()))

    sa.event.listen(engine, "before_cursor_execute", before)
    sa.event.listen(engine, "after_cursor_execute", after)
    try:
        duty()
    finally:
        sa.event.remove(engine, "before_cursor_execute", before)
        sa.event.remove(engine, "after_cursor_execute", after)
    return seen


def _scans(engine: sa.Engine, statement: str, parameters: Any) -> list[str]:
    """The lines of the statement's plan that go through a whole table or index of those that grow."""
    if statement.split(None, 1)[0] not in ("SELECT", "UPDATE", "WITH", "DELETE"):
        return []
    explain = "EXPLAIN QUERY PLAN" if is_sqlite(engine) else "EXPLAIN"
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
        connection.rollback()
    return [str(row[-1]).strip() for row in rows if _SCAN.search(str(row[-1]))]


def measure_drain(waiting: int, old: int, drained: int, *, postgres: bool) -> dict[str, object]:
    """Submit some orders of a backlog: a worker's memory before and after, and its CPU for each order."""
    with a_fleet(postgres=postgres) as fleet:
        fill(fleet.engine, fleet.company_id, waiting=waiting, old=old)
        companies.pause(fleet.engine, COMPANY, "bench", actor="bench")
        port = free_port()
        fleet.start_process("simulator", {}, "simulator", "--port", str(port), "--token", "bench-token")
        fleet.start_workers(1, f"http://127.0.0.1:{port}")
        idle_cpu, idle_began = fleet.cpu_seconds(), time.monotonic()
        wait_until(lambda: time.monotonic() - idle_began > 6, 10, what="the worker has idled for a while")
        idle = (fleet.cpu_seconds() - idle_cpu) / (time.monotonic() - idle_began)
        before_mb, already = fleet.rss_mb(), _attempts(fleet.engine)
        gate = Gate(fleet.redis.connect(), uuid.uuid4(), probe_lease_seconds=30)
        cpu, began = fleet.cpu_seconds(), time.monotonic()
        companies.resume(fleet.engine, COMPANY, actor="bench")
        gate.resume(COMPANY)
        wait_until(lambda: _attempts(fleet.engine) - already >= drained, 300, what="so many are submitted")
        done = _attempts(fleet.engine) - already
        return {
            "case": "backlog",
            "database": fleet.engine.dialect.name,
            "waiting": waiting,
            "old": old,
            "orders": done,
            "worker_cpu_ms_per_order": round((fleet.cpu_seconds() - cpu) * 1000 / done, 3),
            "orders_per_second": round(done / (time.monotonic() - began)),
            "idle_cpu_percent": round(idle * 100, 1),
            "rss_mb_before": before_mb,
            "rss_mb_after": fleet.rss_mb(),
        }


def _attempts(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(schema.attempt.c.id), 0))).scalar_one())
