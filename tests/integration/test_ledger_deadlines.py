"""Deadlines in the ledger: told once and in time, and parked when they have passed."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from orderrelay_shared.states import JobState, Priority
from orderrelay_workers.deadlines import Pace
from orderrelay_workers.ledger import caution, claims, deadlines, identity, schema
from tests.integration.test_ledger_lanes import HOUR, book, now
from tests.ledgers import ACTOR, Ledger, cut_off, job_id

if TYPE_CHECKING:
    from collections.abc import Callable

TEN_A_SECOND = Pace(10.0)


def within(seconds: float) -> datetime:
    """An instant so many seconds from now."""
    return now() + timedelta(seconds=seconds)


def warn(ledger: Ledger, pace: Pace = TEN_A_SECOND, **more: Any) -> list[uuid.UUID]:
    """Look once; gives the jobs that are told to be at risk."""
    return list(deadlines.warn(ledger.engine, ledger.company_id, pace, actor=ACTOR, **more).happenings)


def park(ledger: Ledger, limit: int = 500) -> list[uuid.UUID]:
    """Park once; gives the parked jobs."""
    return list(deadlines.park_passed(ledger.engine, ledger.company_id, actor=ACTOR, limit=limit).statuses)


def test_what_stands_behind_too_many_is_told_once(ledger: Ledger) -> None:
    """A job behind a backlog that lasts longer than its deadline is at risk; it is an alarm, and told once."""
    ledger.book(*range(300))
    [job] = book(ledger, 1000, deadline=within(20))
    assert warn(ledger) == [job]
    assert warn(ledger) == []
    assert ledger.events() == ["deadline_at_risk!"]
    detail = json.loads(ledger.rows(schema.event)[0]["detail"])
    expected_at = datetime.fromisoformat(detail["expected_at"])
    assert detail["ahead"] == 300
    assert within(25) < expected_at < within(31)


def test_what_will_be_sent_in_time_is_not_told(ledger: Ledger) -> None:
    """Neither a job that stands before the backlog, nor one whose deadline is behind all of it, is at risk."""
    [first] = book(ledger, 1000, deadline=within(20))
    ledger.pass_time(1)
    ledger.book(*range(300))
    book(ledger, 1001, deadline=within(60))
    assert warn(ledger) == []
    assert ledger.job(first)["deadline_warned_at"] is None


@pytest.mark.parametrize(
    ("priority", "is_told"), [(Priority.URGENT, False), (Priority.NORMAL, True), (Priority.BULK, True)]
)
def test_priorities_count(ledger: Ledger, priority: Priority, is_told: bool) -> None:
    """Ahead of a job is what has its turn before it: an urgent one passes the backlog, a bulk one does not."""
    ledger.book(*range(300))
    book(ledger, 1000, deadline=within(20), priority=priority)
    assert bool(warn(ledger)) == is_told


def test_what_is_not_due_till_later_is_not_ahead(ledger: Ledger) -> None:
    """Orders of earlier lanes that are due only after a deadline do not endanger it."""
    book(ledger, *range(300), priority=Priority.URGENT, due_at=within(3600))
    book(ledger, 1000, deadline=within(20))
    assert warn(ledger) == []


def test_a_wait_that_is_longer_than_the_deadline_is_told(ledger: Ledger) -> None:
    """A job that waits after a failure until after its deadline is at risk, with no backlog at all."""
    [job] = book(ledger, 1, deadline=within(600))
    ledger.set(job, due_at=within(700))
    assert warn(ledger) == [job]


def test_a_faster_pace_makes_it_in_time(ledger: Ledger) -> None:
    """The same backlog endangers nothing if orders go faster."""
    ledger.book(*range(300))
    book(ledger, 1000, deadline=within(20))
    assert warn(ledger, Pace(50.0)) == []


def test_each_look_is_bounded_and_goes_on_where_the_last_one_ended(ledger: Ledger) -> None:
    """Many jobs with deadlines are looked at in parts, the next deadline first, and begun anew at the end."""
    ledger.book(*range(100))
    jobs = [book(ledger, 1000 + number, deadline=within(5 + number / 10))[0] for number in range(5)]
    found: list[uuid.UUID] = []
    place = None
    for expected in (2, 2, 1):
        warned = deadlines.warn(
            ledger.engine, ledger.company_id, Pace(1.0), actor=ACTOR, after=place, limit=2
        )  # fmt: skip
        assert len(warned.happenings) == expected
        found += list(warned.happenings)
        place = warned.goes_on
    assert found == jobs
    assert place is None


def test_many_that_are_in_time_hide_none_that_is_not(ledger: Ledger) -> None:
    """What is not at risk is passed by, so that a look gets to those behind it."""
    ledger.book(*range(100))
    for number in range(5):
        book(ledger, 200 + number, deadline=within(20 + number), priority=Priority.URGENT)
    [job] = book(ledger, 300, deadline=within(50))
    found: list[uuid.UUID] = []
    place = None
    for _ in range(3):
        warned = deadlines.warn(ledger.engine, ledger.company_id, Pace(1.0), actor=ACTOR, after=place, limit=2)
        found += list(warned.happenings)
        place = warned.goes_on
    assert found == [job]


def test_a_deadline_that_has_passed_parks(ledger: Ledger) -> None:
    """A waiting job is parked with the reason, and its new status is there to be published."""
    [late] = book(ledger, 1, deadline=within(60))
    book(ledger, 2, deadline=within(600))
    ledger.book(3)
    ledger.set(late, deadline=within(-1))
    settled = deadlines.park_passed(ledger.engine, ledger.company_id, actor=ACTOR)
    assert list(settled.statuses) == [late]
    assert settled.statuses[late].state is JobState.PARKED
    assert "passed before it could be sent" in str(settled.statuses[late].reason)
    assert ledger.states() == {"parked": 1, "waiting": 2}
    assert ledger.events() == ["deadline_passed"]
    assert park(ledger) == []


def test_many_are_parked_in_parts(ledger: Ledger) -> None:
    """However many deadlines have passed, one transaction parks a bounded number, the first deadline first."""
    jobs = book(ledger, *range(5), deadline=within(60))
    for number, job in enumerate(jobs):
        ledger.set(job, deadline=within(number - 100))
    assert [sorted(park(ledger, 2)) for _ in range(4)] == [sorted(jobs[:2]), sorted(jobs[2:4]), jobs[4:], []]


def test_what_is_in_doubt_is_decided_first(ledger: Ledger) -> None:
    """An unknown job is not touched by its deadline; if it proves absent and waits again, it is parked."""
    book(ledger, 1, deadline=within(60))
    [claim] = ledger.claim()
    ledger.settle((claim, cut_off()))
    ledger.set(claim.job_id, deadline=within(-1))
    assert park(ledger) == []
    assert ledger.states() == {"unknown": 1}
    for _ in range(2):
        ledger.look_up(claim.job_id, b"[]")
        ledger.set(claim.job_id, absent_at=now() - HOUR, lease_until=now() - HOUR)
    assert ledger.states() == {"waiting": 1}
    assert park(ledger) == [job_id(1)]


def test_cautious_mode_looks_up_first(ledger: Ledger) -> None:
    """In a database that went back, an order that waits may have been sent: nothing is said of its deadline before."""
    [late] = book(ledger, 1, deadline=within(60))
    ledger.set(late, deadline=within(-1))
    identity.ledger_id(ledger.engine)
    assert caution.begin(ledger.engine, "restored", actor=ACTOR, lease_seconds=0.0) is not None
    assert park(ledger) == []
    ledger.set(late, cleared_at=now())
    assert park(ledger) == [late]


def test_what_could_leave_after_its_deadline_is_not_claimed(ledger: Ledger) -> None:
    """A request may leave for some time after its claim, and that time has to lie before the deadline too."""
    book(ledger, 1, deadline=within(4))

    def claim(start_seconds: float) -> list[claims.Claim]:
        return claims.claim(
            ledger.engine, ledger.company_id, 9, owner=ledger.owner, lease_seconds=40, start_seconds=start_seconds
        )

    assert claim(5.0) == []
    assert len(claim(1.0)) == 1


def test_a_look_reads_only_deadlines_and_counts_only_what_waits(ledger: Ledger) -> None:
    """Among many finished and waiting jobs every statement goes by an index of what waits."""
    usual = {"external_id": "x", "revision": 1, "body_version": 1, "since": now(), "accepted_at": now(),
             "booked_at": now(), "attempts": 0, "requests": 0, "lookups": 0, "company_id": ledger.company_id,
             "due_at": now() - HOUR}  # fmt: skip
    jobs = [
        {"id": uuid.UUID(int=number), "state": "succeeded" if number % 4 else "waiting",
         "deadline": within(number) if number % 40 == 0 else None, **usual} for number in range(20_000)
    ]  # fmt: skip
    with ledger.engine.begin() as connection:
        connection.execute(sa.insert(schema.job), jobs)
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    explain = "EXPLAIN QUERY PLAN " if ledger.engine.dialect.name == "sqlite" else "EXPLAIN "
    plans: list[str] = []

    def look(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
        if statement.startswith("SELECT") and " job" in statement:
            cursor.execute(explain + statement, parameters)
            plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))

    sa.event.listen(ledger.engine, "before_cursor_execute", look)
    told = warn(ledger)
    parked = park(ledger)
    sa.event.remove(ledger.engine, "before_cursor_execute", look)
    assert len(told) > 0
    assert len(parked) > 0
    for plan in plans:
        assert "Seq Scan on job" not in plan, plan
        assert "SCAN job\n" not in f"{plan}\n", plan
    assert sum("ix_job_deadline" in plan for plan in plans) >= 3


def test_two_that_look_at_once_tell_it_once(ledger: Ledger, at_once: Callable[..., list[list[uuid.UUID]]]) -> None:
    """Workers that look at the same time share what is told."""
    ledger.book(*range(50))
    jobs = book(ledger, *range(1000, 1020), deadline=within(1))
    told = at_once(4, lambda: warn(ledger))
    assert sorted(job for part in told for job in part) == sorted(jobs)
    assert len(ledger.events()) == 20


@pytest.fixture
def at_once() -> Callable[..., list[list[uuid.UUID]]]:
    """Runs something in several threads at once; gives what each returns."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    def run(count: int, work: Callable[[], list[uuid.UUID]]) -> list[list[uuid.UUID]]:
        ready = threading.Barrier(count)

        def begin(_: int) -> list[uuid.UUID]:
            ready.wait(timeout=10)
            return work()

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(begin, range(count)))

    return run


def test_nothing_waits_nothing_is_told(ledger: Ledger) -> None:
    """An empty ledger, and one without deadlines, cost one look and tell nothing."""
    assert warn(ledger) == []
    ledger.book(1)
    assert warn(ledger, Pace(0.0)) == []
    assert park(ledger) == []
