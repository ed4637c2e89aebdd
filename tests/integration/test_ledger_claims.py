"""Claims: exclusive, longest due first, given back at no cost; and the indexes that every look at the jobs rests on."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from orderrelay_workers.audit import backlog, results
from orderrelay_workers.ledger import booking, claims, companies, schema, unknowns
from orderrelay_workers.ledger.rows import holders
from tests.ledgers import ACME, ACTOR, LEASE_SECONDS, Ledger, an_order, answered, cut_off, job_id, not_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FEW, _MANY = 40, 20_000


def test_a_claim_is_what_is_sent(ledger: Ledger) -> None:
    """A claim carries the order's body and digest, and its job says who may send it and until when."""
    [claim] = ledger.book_and_claim(1)
    row = ledger.job(claim.job_id)
    assert (claim.external_id, claim.number, claim.body) == ("order-1", 1, an_order(1).envelope.body)
    assert (row["state"], row["token"], row["owner"]) == ("in_progress", claim.token, ledger.owner)
    assert row["lease_until"] - row["claimed_at"] == timedelta(seconds=LEASE_SECONDS)


def test_a_claimed_job_is_not_claimed_again(ledger: Ledger) -> None:
    """Until it is settled, nobody else claims it."""
    assert len(ledger.book_and_claim(1, 2)) == 2
    assert ledger.claim() == []


def test_the_longest_due_come_first(ledger: Ledger) -> None:
    """Claims are taken in the order of their due times, no more than asked for."""
    for number in (3, 1, 2):
        ledger.book(number)
        ledger.pass_time(1)
    assert [c.external_id for c in ledger.claim(1)] == ["order-3"]
    assert [c.external_id for c in ledger.claim(1)] == ["order-1"]


def test_what_is_not_due_is_left(ledger: Ledger) -> None:
    """A job that waits for its time is not claimed before."""
    [job] = ledger.book(1)
    ledger.set(job, due_at=datetime.now(UTC) + timedelta(seconds=60))
    assert ledger.claim() == []
    ledger.pass_time(61)
    assert len(ledger.claim()) == 1


def test_companies_are_apart(ledger: Ledger) -> None:
    """A claim takes only orders of its company."""
    booking.book(ledger.engine, [an_order(1, company="other")], actor=ACTOR)
    assert ledger.claim() == []


def test_a_newer_body_is_left_for_newer_workers(ledger: Ledger) -> None:
    """An order in a body format newer than this version's is booked but neither claimed nor promoted."""
    [job] = ledger.book(1)
    ledger.set(job, body_version=2)
    assert ledger.claim() == []
    assert claims.due_companies(ledger.engine, {ledger.company_id: ACME}) == []
    assert backlog.read_backlog(ledger.engine, ledger.company_id).waiting == 1


def test_given_back_costs_nothing(ledger: Ledger) -> None:
    """A claim given back unsent waits again, due now, with no request and no attempt counted."""
    given = ledger.book_and_claim(1, 2)
    assert claims.give_back(ledger.engine, given, reason="draining") == 2
    row = ledger.job(job_id(1))
    assert (row["state"], row["attempts"], row["requests"], row["token"]) == ("waiting", 0, 0, None)
    assert [c.number for c in ledger.claim()] == [1, 1]


def test_only_ones_own_claim_is_given_back(ledger: Ledger) -> None:
    """A claim whose job another worker has claimed since is not ours to give back."""
    [lapsed] = ledger.book_and_claim(1)
    ledger.set(lapsed.job_id, state="waiting", token=None)
    [again] = ledger.claim()
    assert claims.give_back(ledger.engine, [lapsed]) == 0
    assert ledger.job(again.job_id)["token"] == again.token


def test_given_back_in_doubt_is_looked_up(ledger: Ledger) -> None:
    """A claim given back of a job that an older request perhaps created is looked up, not sent again."""
    [older] = ledger.book_and_claim(1)
    ledger.set(older.job_id, state="waiting", token=None)
    [claim] = ledger.claim()
    ledger.settle((older, cut_off()))
    assert ledger.states() == {"in_progress": 1}
    assert claims.give_back(ledger.engine, [claim]) == 1
    assert ledger.states() == {"unknown": 1}


def test_claims_at_once_share_the_jobs(ledger: Ledger) -> None:
    """Many workers that claim at once get every job exactly once."""
    ledger.book(*range(200))
    ready = threading.Barrier(8)

    def claim_all(_: int) -> list[uuid.UUID]:
        ready.wait(timeout=10)
        taken: list[uuid.UUID] = []
        while some := ledger.claim(7, owner=uuid.uuid4()):
            taken += [claim.job_id for claim in some]
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [job for part in threads.map(claim_all, range(8)) for job in part]
    assert sorted(taken) == sorted(job_id(n) for n in range(200))


def test_what_is_out_is_counted_by_worker(ledger: Ledger) -> None:
    """The gate is seeded with how many claims each worker holds."""
    ledger.book(1, 2, 3)
    other = uuid.uuid4()
    ledger.claim(2)
    ledger.claim(1, owner=other)
    assert claims.in_flight_by_owner(ledger.engine, ledger.company_id) == {ledger.owner.hex: 2, other.hex: 1}


def test_unsent_requests_do_not_grow_the_number(ledger: Ledger) -> None:
    """A request of which nothing left is not counted, so the next one has its number."""
    [claim] = ledger.book_and_claim(1)
    ledger.settle((claim, not_sent()))
    ledger.pass_time(60)
    assert [c.number for c in ledger.claim()] == [1]


def _crowd(ledger: Ledger) -> None:
    """20,000 jobs and attempts that are done with, a few of another company, and a few in each moving state."""
    now = datetime.now(UTC)
    other = companies.ensure(ledger.engine, ["other"])["other"]
    usual = {"external_id": "x", "revision": 1, "body_version": 1, "since": now, "accepted_at": now, "booked_at": now,
             "attempts": 1, "requests": 1, "lookups": 0, "lease_until": now}  # fmt: skip
    jobs: list[dict[str, Any]] = []
    for number in range(_MANY):
        state = ("waiting", "in_progress", "unknown", "parked")[number % 4] if number < _FEW else "succeeded"
        jobs.append({"id": uuid.UUID(int=number), "company_id": other if number % 3 == 0 else ledger.company_id,
                     "state": state, "due_at": now - timedelta(seconds=number), "token": uuid.UUID(int=1),
                     "owner": ledger.owner, **usual})  # fmt: skip
    answers = [
        {"job_id": job["id"], "company_id": job["company_id"], "kind": "order", "token": uuid.UUID(int=1), "number": 1,
         "worker": ledger.owner, "began_at": now, "outcome": "created", "stored_at": None if i % 1000 == 7 else now}
        for i, job in enumerate(jobs)
    ]  # fmt: skip
    with ledger.engine.begin() as connection:
        connection.execute(sa.insert(schema.job), jobs)
        connection.execute(
            sa.insert(schema.revision),
            [{"job_id": job["id"], "number": 1, "body": b"{}", "body_digest": b"d", "content_digest": b"d",
              "created_at": now} for job in jobs],
        )  # fmt: skip
        connection.execute(sa.insert(schema.attempt), answers)
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


@contextmanager
def _plans_of(engine: sa.Engine) -> Iterator[list[str]]:
    """The plans of all statements that read or change jobs or attempts while this lasts."""
    plans: list[str] = []
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "

    def note(_: object, cursor: Any, statement: str, parameters: Any, __: object, executemany: bool) -> None:
        if statement.startswith("SELECT") and not executemany and (" job" in statement or "attempt" in statement):
            cursor.execute(explain + statement, parameters)
            plans.append("\n".join(str(row[-1]) for row in cursor.fetchall()))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield plans
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


_READS: dict[str, tuple[str, Callable[[Ledger], object]]] = {
    "claim": ("ix_job_waiting", lambda ledger: ledger.claim(10)),
    "due companies": (
        "ix_job_waiting",
        lambda ledger: claims.due_companies(ledger.engine, {ledger.company_id: ACME}),
    ),
    "backlog": ("ix_job_waiting", lambda ledger: backlog.read_backlog(ledger.engine, ledger.company_id)),
    "count stopped": ("ix_job_unknown", lambda ledger: backlog.count_stopped(ledger.engine, ledger.company_id)),
    "look-up due": ("ix_job_unknown", lambda ledger: unknowns.has_due(ledger.engine, ledger.company_id)),
    "take due": (
        "ix_job_unknown",
        lambda ledger: unknowns.take_due(ledger.engine, ledger.company_id, 5, for_seconds=1),
    ),
    "park all": ("ix_job_unknown", lambda ledger: unknowns.park_all(ledger.engine, ledger.company_id, actor=ACTOR)),
    "sweep": ("ix_job_in_progress", lambda ledger: ledger.sweep()),
    "in flight": (
        "ix_job_in_progress",
        lambda ledger: claims.in_flight_by_owner(ledger.engine, ledger.company_id),
    ),
    "results wait": ("ix_attempt_unstored", lambda ledger: results.any_waiting(ledger.engine)),
    "store results": ("ix_attempt_unstored", lambda ledger: results.store_all(ledger.engine)),
}


def test_no_look_reads_the_whole_table(ledger: Ledger) -> None:
    """Among 20,000 finished jobs every periodic look uses its partial index, and none scans a table."""
    _crowd(ledger)
    for name, (index, look) in _READS.items():
        with _plans_of(ledger.engine) as plans:
            look(ledger)
        assert plans, name
        assert index in plans[0], f"{name}: {plans[0]}"
        tables = ("job", "revision", "attempt")
        scans = [p for p in plans if any(f"Seq Scan on {t}" in p or f"SCAN {t}\n" in f"{p}\n" for t in tables)]
        assert scans == [], name


def test_a_vendor_ids_holder_is_found_by_its_index(ledger: Ledger) -> None:
    """Settling asks who holds a vendor id, of all jobs ever; the unique index answers."""
    _crowd(ledger)
    with _plans_of(ledger.engine) as plans, ledger.engine.connect() as connection:
        holders(connection, {ledger.company_id}, {77, 78})
    assert "uq_job_vendor_id" in plans[0]


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_than_permitted(ledger: Ledger, limit: int) -> None:
    """A claim takes no more than the gate has granted."""
    ledger.book(*range(5))
    assert len(ledger.claim(limit)) == limit


def test_fresh_orders_may_share_requests(ledger: Ledger) -> None:
    """A permit is worth several orders of which no request has left, and one of which one has."""
    again = ledger.book_and_claim(1, 2, 3)
    ledger.settle(*((claim, answered(429, b"")) for claim in again))
    ledger.pass_time(60)
    ledger.book(*range(10, 30))
    taken = claims.claim(ledger.engine, ledger.company_id, 4, owner=ledger.owner, lease_seconds=40, together=5)
    assert sorted(c.external_id for c in taken if c.alone) == ["order-1", "order-2", "order-3"]
    assert len([c for c in taken if not c.alone]) == 5
    rest = claims.claim(ledger.engine, ledger.company_id, 9, owner=ledger.owner, lease_seconds=40, together=5)
    assert (len(rest), {c.alone for c in rest}) == (15, {False})


def test_an_order_in_doubt_shares_no_request(ledger: Ledger) -> None:
    """If an earlier request of it is in doubt it goes alone, whatever its lane says."""
    [job] = ledger.book(1)
    ledger.set(job, if_absent="waiting")
    [claim] = claims.claim(ledger.engine, ledger.company_id, 1, owner=ledger.owner, lease_seconds=40, together=5)
    assert claim.alone


def test_a_swept_claim_with_another_doubt_is_not_given_back(ledger: Ledger) -> None:
    """If another request of the job is in doubt too, having sent nothing under this claim decides nothing."""
    [older] = ledger.book_and_claim(1)
    ledger.set(older.job_id, state="waiting", token=None)
    [claim] = ledger.claim()
    ledger.pass_time(LEASE_SECONDS + 1)
    ledger.sweep()
    ledger.settle((older, cut_off()))
    assert claims.give_back(ledger.engine, [claim]) == 0
    assert ledger.states() == {"unknown": 1}


def test_what_was_not_sent_is_given_back_even_after_the_sweep(ledger: Ledger) -> None:
    """A frozen worker whose start fence held sent nothing: its swept claim waits again and costs no attempt."""
    [claim] = ledger.book_and_claim(1)
    ledger.pass_time(LEASE_SECONDS + 1)
    ledger.sweep()
    assert claims.give_back(ledger.engine, [claim]) == 1
    row = ledger.job(claim.job_id)
    assert (row["state"], row["attempts"], row["requests"], row["token"]) == ("waiting", 0, 0, None)
    [attempt] = ledger.rows(schema.attempt)
    assert (attempt["outcome"], attempt["sent"]) == ("not_created", False)
