"""Lanes in the ledger: priorities and times are booked, claimed by shares, and kept whatever happens to a job."""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from orderrelay_shared.states import JobState, Priority
from orderrelay_workers.audit import backlog
from orderrelay_workers.ledger import booking, caution, claims, identity, schema
from orderrelay_workers.ledger.booking import Accepted
from orderrelay_workers.ledger.rows import read_statuses
from tests.ledgers import ACME, ACTOR, LEASE_SECONDS, Ledger, an_order, answered, job_id, not_sent

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = timedelta(hours=1)


def now() -> datetime:
    """Now, as the ledger counts it."""
    return datetime.now(UTC)


def book(ledger: Ledger, *numbers: int, **terms: Any) -> list[uuid.UUID]:
    """Book orders that were given terms."""
    orders = [an_order(number) for number in numbers]
    batch = [Accepted(order.entry_id, replace(order.envelope, **terms)) for order in orders]
    return [b.job_id for b in booking.book(ledger.engine, batch, actor=ACTOR)]


def claim(ledger: Ledger, limit: int, *, turn: int = 0, retries: int | None = None) -> list[str]:
    """Claim by turn; gives the ExternalIds as they are claimed."""
    found = claims.claim(
        ledger.engine,
        ledger.company_id,
        limit,
        owner=ledger.owner,
        lease_seconds=LEASE_SECONDS,
        turn=turn,
        retries=retries,
    )
    return [c.external_id for c in found]


@contextmanager
def counted_takes(engine: sa.Engine) -> Iterator[list[str]]:
    """The statements that take jobs while this lasts."""
    takes: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "revision.body" in statement:
            takes.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield takes
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("priority", list(Priority))
def test_what_an_order_is_given_is_booked_and_told(ledger: Ledger, priority: Priority) -> None:
    """Priority, due time and deadline are in the job's row, and in what is told of it."""
    due_at, deadline = now() + HOUR, now() + 2 * HOUR
    [job] = book(ledger, 1, priority=priority, due_at=due_at, deadline=deadline)
    row = ledger.job(job)
    assert (row["lane"] // 2, row["not_before"], row["due_at"]) == (list(Priority).index(priority), due_at, due_at)
    assert row["deadline"] == deadline
    with ledger.engine.connect() as connection:
        status = read_statuses(connection, [job])[job]
    assert (status.priority, status.due_at, status.deadline) == (priority, due_at, deadline)


def test_what_is_given_nothing_is_booked_as_ever(ledger: Ledger) -> None:
    """An order without terms is normal, due at once, and has no deadline."""
    [job] = ledger.book(1)
    row = ledger.job(job)
    assert (row["lane"], row["not_before"], row["deadline"]) == (2, None, None)
    assert row["due_at"] == row["booked_at"]


def test_a_due_time_that_has_passed_is_now(ledger: Ledger) -> None:
    """An order does not jump the queue by a due time in the past."""
    [job] = book(ledger, 1, due_at=now() - HOUR)
    assert ledger.job(job)["due_at"] == ledger.job(job)["booked_at"]


def test_the_first_terms_stay(ledger: Ledger) -> None:
    """The same order with other terms is the same job, as it was first given."""
    [job] = book(ledger, 1, priority=Priority.BULK)
    assert book(ledger, 1, priority=Priority.URGENT, deadline=now() + HOUR) == [job]
    assert (ledger.job(job)["lane"], ledger.job(job)["deadline"]) == (4, None)
    assert ledger.events() == []


def test_urgent_goes_first(ledger: Ledger) -> None:
    """Of what is due, urgent orders are claimed before normal ones and these before bulk, however long those wait."""
    book(ledger, 1, priority=Priority.BULK)
    ledger.pass_time(60)
    book(ledger, 2)
    ledger.pass_time(60)
    book(ledger, 3, priority=Priority.URGENT)
    assert [claim(ledger, 1) for _ in range(4)] == [["order-3"], ["order-2"], ["order-1"], []]


def test_every_priority_has_its_share(ledger: Ledger) -> None:
    """Of 32 turns four are normal's and one is bulk's, though urgent ones wait all the time."""
    for number, priority in enumerate(Priority):
        book(ledger, *range(100 * number, 100 * number + 40), priority=priority)
    taken = [claim(ledger, 1, turn=turn) for turn in range(32)]
    priorities = Counter(int(name.removeprefix("order-")) // 100 for [name] in taken)
    assert priorities == {0: 27, 1: 4, 2: 1}


def test_what_one_lane_lacks_the_others_get(ledger: Ledger) -> None:
    """No permit is wasted while anything is due."""
    book(ledger, 1, 2, priority=Priority.URGENT)
    book(ledger, *range(10, 20))
    book(ledger, *range(20, 60), priority=Priority.BULK)
    assert Counter(len(name) for name in claim(ledger, 40)) == {7: 2, 8: 38}
    assert len(claim(ledger, 40)) == 12


def test_the_usual_case_takes_one_statement(ledger: Ledger) -> None:
    """Where only normal orders wait, one statement takes them, whether there are enough or not."""
    ledger.book(*range(30))
    for wanted, found in ((20, 20), (20, 10)):
        with counted_takes(ledger.engine) as takes:
            assert len(claim(ledger, wanted, turn=7, retries=5)) == found
        assert len(takes) == 1


@pytest.mark.parametrize("allowed", [0, 3])
def test_no_more_retries_than_allowed(ledger: Ledger, allowed: int) -> None:
    """Jobs of which requests have left are claimed only so far as is allowed; fresh ones take the rest."""
    for number in range(10):
        [job] = ledger.book(number)
        ledger.set(job, lane=3, requests=1)
    ledger.book(*range(100, 104))
    taken = claim(ledger, 10, retries=allowed)
    assert sum(len(name) == 7 for name in taken) == allowed
    assert sum(len(name) == 9 for name in taken) == 4


def test_a_time_is_kept_whoever_moves_the_due_time(ledger: Ledger) -> None:
    """A job is not claimed before its time, even if an older worker has made it due."""
    [job] = book(ledger, 1, due_at=now() + HOUR)
    ledger.set(job, due_at=now() - HOUR)
    assert claim(ledger, 10) == []
    assert claims.due_companies(ledger.engine, {ledger.company_id: ACME}) == []


def test_a_deadline_is_kept(ledger: Ledger) -> None:
    """A job whose deadline has passed is not claimed."""
    [job] = book(ledger, 1, deadline=now() + HOUR)
    ledger.set(job, deadline=now() - timedelta(seconds=1))
    assert claim(ledger, 10) == []


def test_given_back_it_keeps_its_lane_and_its_time(ledger: Ledger) -> None:
    """A claim that is given back waits where it came from, and no sooner than it may be sent."""
    fresh, sent = book(ledger, 1, 2, priority=Priority.BULK)
    ledger.set(sent, requests=1)  # by an older worker, which knows no lanes
    given = ledger.claim()
    ledger.set(fresh, not_before=now() + HOUR)  # the clock has been put back since
    assert claims.give_back(ledger.engine, given) == 2
    assert (ledger.job(fresh)["lane"], ledger.job(sent)["lane"]) == (4, 5)
    assert ledger.job(fresh)["due_at"] == ledger.job(fresh)["not_before"]
    assert ledger.job(sent)["due_at"] <= now()


def test_what_was_sent_waits_as_a_retry(ledger: Ledger) -> None:
    """A settled request moves its job into the lane of retries; one of which nothing left does not."""
    book(ledger, 1, 2, priority=Priority.URGENT)
    first, second = ledger.claim()
    ledger.settle((first, answered(429, b"")), (second, not_sent()))
    assert (ledger.job(first.job_id)["lane"], ledger.job(second.job_id)["lane"]) == (1, 0)
    assert backlog.read_backlog(ledger.engine, ledger.company_id).by_lane == {0: 1, 1: 1}


def test_caution_looks_early_and_sends_in_time(ledger: Ledger) -> None:
    """An order that is looked up in cautious mode before its time goes back to wait for it, in its lane."""
    [job] = book(ledger, 1, priority=Priority.BULK, due_at=now() + HOUR)
    identity.ledger_id(ledger.engine)
    assert caution.begin(ledger.engine, "why", actor=ACTOR, lease_seconds=0.0) is not None
    assert caution.doubt_waiting(ledger.engine, [ledger.company_id], lease_seconds=0.0) == {}
    assert list(caution.doubt_waiting(ledger.engine, lease_seconds=0.0)) == [job]
    for _ in range(2):
        ledger.look_up(job, b"[]")
        ledger.set(job, absent_at=now() - HOUR, lease_until=now() - HOUR)
    row = ledger.job(job)
    assert (row["state"], row["lane"], row["due_at"]) == (JobState.WAITING, 4, row["not_before"])


def test_a_lane_of_a_newer_version_is_left(ledger: Ledger) -> None:
    """What a newer version has put into a lane of its own is neither claimed nor promoted, and is counted."""
    [job] = ledger.book(1)
    ledger.set(job, lane=7)
    assert claim(ledger, 10) == []
    assert claims.due_companies(ledger.engine, {ledger.company_id: ACME}) == []
    assert backlog.read_backlog(ledger.engine, ledger.company_id).by_lane == {7: 1}


def _crowd(ledger: Ledger, count: int) -> None:
    """So many jobs: half of them done with, the others waiting and half of these due, some in each lane."""
    usual = {"external_id": "x", "revision": 1, "body_version": 1, "since": now(),
             "accepted_at": now(), "booked_at": now(), "attempts": 0, "requests": 0, "lookups": 0,
             "company_id": ledger.company_id}  # fmt: skip
    begin = now()
    jobs = [
        {"id": uuid.UUID(int=number), "lane": (2, 2, 2, 0, 3, 4)[number % 6], "deadline": begin + 10 * HOUR,
         "due_at": begin + (HOUR if number % 7 < 4 else -HOUR), "not_before": None,
         "state": "succeeded" if number < count / 2 else "waiting", **usual}
        for number in range(count)
    ]  # fmt: skip
    revisions = [
        {"job_id": job["id"], "number": 1, "body": b"{}", "body_digest": b"d", "content_digest": b"d",
         "created_at": begin} for job in jobs
    ]  # fmt: skip
    with ledger.engine.begin() as connection:
        connection.execute(sa.insert(schema.job), jobs)
        connection.execute(sa.insert(schema.revision), revisions)
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def test_a_claim_reads_only_what_it_takes(ledger: Ledger) -> None:
    """Among 10,000 finished and 10,000 waiting jobs each look goes by lane and due time, and sorts nothing."""
    _crowd(ledger, 20_000)
    plans: list[str] = []
    sqlite = ledger.engine.dialect.name == "sqlite"

    def note(_: object, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
        if statement.startswith("SELECT") and " job" in statement:
            cursor.execute(("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ") + statement, parameters)
            plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))

    sa.event.listen(ledger.engine, "before_cursor_execute", note)
    taken = claim(ledger, 20)
    looked = claims.due_companies(ledger.engine, {ledger.company_id: ACME})
    sa.event.remove(ledger.engine, "before_cursor_execute", note)
    assert len(taken) == 20
    assert looked == [ACME]
    by_due_time = "lane=? AND due_at<?" if sqlite else "due_at <="
    for plan in plans:
        assert "ix_job_waiting" in plan, plan
        assert by_due_time in plan, plan
        assert "Sort" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan
        assert "Seq Scan on job" not in plan, plan


def test_ids_are_as_ever(ledger: Ledger) -> None:
    """Terms are no part of what names a job."""
    assert book(ledger, 1, priority=Priority.BULK) == [job_id(1)]
