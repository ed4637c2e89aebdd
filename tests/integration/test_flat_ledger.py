"""What is done again and again, and what people look at, costs the same however many orders wait or are old.

SQLite counts the steps that it takes, which the clock would not do as well. PostgreSQL runs the same statements over
the same indexes; `python -m tests.bench.flat` counts the pages that it touches.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.audit import counts, facts, queries, watched
from orderrelay_workers.ledger import companies, schema
from orderrelay_workers.ledger.engine import reading
from tests.bench.filling import fill
from tests.bench.flat import steps_of
from tests.bench.scale_backlog import duties_of, statements_of
from tests.bench.scale_fleet import COMPANY, Fleet, a_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What waits is counted, for the producers' outlook: the one duty that reads all of it, and rests accordingly.
_COUNTS_WHAT_WAITS: Final = "read_backlog (every 5 s)"

_FEW, _MANY = 600, 6000


@pytest.fixture(scope="module")
def ledgers() -> Iterator[tuple[Fleet, Fleet]]:
    """A small ledger, and one ten times as full."""
    with a_fleet(postgres=False) as small, a_fleet(postgres=False) as full:
        for fleet, orders in ((small, _FEW), (full, _MANY)):
            companies.ensure(fleet.engine, ["idle"])
            fill(fleet.engine, fleet.company_id, waiting=orders, old=orders)
        yield small, full


def looks_of(fleet: Fleet) -> dict[str, Callable[[], object]]:
    """What people and Prometheus look at."""
    engine, idle = fleet.engine, companies.by_alias(fleet.engine)["idle"].id
    with engine.connect() as connection:
        old = connection.execute(sa.select(schema.attempt.c.job_id).limit(1)).scalar_one()
    lists: dict[str, Callable[[], object]] = {
        f"list {state}": partial(queries.list_jobs, engine, queries.JobFilter(None, state), 50)
        for state in JobState
        if state is not JobState.SUCCEEDED  # behind all that waits here
    }
    return {
        **lists,
        "list": lambda: queries.list_jobs(engine, queries.JobFilter(), 50),
        "list of a company that has none": lambda: queries.list_jobs(engine, queries.JobFilter(idle), 50),
        "list parked": lambda: queries.list_parked(engine, fleet.company_id, 50),
        "list alarms": lambda: queries.list_alarms(engine, limit=50),
        "one order": lambda: queries.read_story(engine, old),
        "by order number": lambda: queries.find_jobs(engine, "7", [COMPANY], None),
        "metrics": lambda: watched.read_watched(engine, {COMPANY: fleet.company_id}),
        "doctor": lambda: facts.content(engine),
    }


def test_nothing_grows(ledgers: tuple[Fleet, Fleet]) -> None:
    """Over a ledger that is ten times as full no duty and no look takes noticeably more steps."""
    small, full = (
        {name: steps_of(fleet.engine, work) for name, work in (duties_of(fleet) | looks_of(fleet)).items()}
        for fleet in ledgers
    )
    assert full.pop(_COUNTS_WHAT_WAITS) > 5 * small.pop(_COUNTS_WHAT_WAITS), "the steps are not counted"
    grown = {name: (small[name], steps) for name, steps in full.items() if steps > small[name] * 1.3 + 1}
    assert not grown


def test_counting_all_sorts_no_table(ledgers: tuple[Fleet, Fleet]) -> None:
    """SQLite would sort all rows for groups, in a file that is as large as what is counted; alarms are few."""
    engine = ledgers[0].engine
    plans: list[str] = []
    for asked, given, _ in statements_of(engine, lambda: counts.count_all(engine)):
        with reading(engine) as connection:
            plan = [str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}", given)]
        plans += [step for step in plan if "FROM event" not in asked]
    assert any("SCAN job" in step for step in plans), "nothing is counted"
    assert not [step for step in plans if "TEMP B-TREE" in step]
