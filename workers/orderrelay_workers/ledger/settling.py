"""Settling: what came of requests, into the ledger. State, due time and the verbatim answer in one transaction."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers import decisions
from orderrelay_workers.ledger import attempts, schema
from orderrelay_workers.ledger.engine import clock
from orderrelay_workers.ledger.rows import (
    holders,
    lock_named_jobs,
    status_of,
    write_events,
    write_jobs,
    write_succeeded,
)

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import datetime

    from orderrelay_shared.job_status import JobStatus
    from orderrelay_workers.ledger.claims import Fresh
    from orderrelay_workers.vendor.answers import LookupVerdict, Verdict
    from orderrelay_workers.vendor.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one order request, to be merged into its job.

    Attributes:
        job_id: The job.
        company_id: Its company.
        token: The claim's fencing token.
        number: The request's number within the job.
        body_digest: SHA-256 of the order's body as it was sent.
        worker: Boot id of the worker that sent it.
        exchange: What was seen.
        verdict: What that means for this order.
        place: The order's place in the request, from 0.
        orders: How many orders were in the request.
        fresh: The job as it was claimed, if the claim knows it: a success is then written without reading it again.
    """

    job_id: uuid.UUID
    company_id: int
    token: uuid.UUID
    number: int
    body_digest: bytes
    worker: uuid.UUID
    exchange: Exchange
    verdict: Verdict
    place: int = 0
    orders: int = 1
    fresh: Fresh | None = None


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The end of one look-up. `claim` names it; `control` and `asked_at` are as `decisions.weigh` has them.

    `traceparent` is where the trace of the producer's call goes on, if it has one.
    """

    job_id: uuid.UUID
    company_id: int
    claim: uuid.UUID
    number: int
    worker: uuid.UUID
    exchange: Exchange
    verdict: LookupVerdict
    control: bool
    asked_at: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settled batch has become: statuses to publish, and happenings to log."""

    statuses: dict[uuid.UUID, JobStatus]
    happenings: list[tuple[uuid.UUID, decisions.Happening]]


class _NotAsClaimed(Exception):
    """A job that had been claimed for its first request is no longer as it was then."""


def settle(
    engine: sa.Engine, batch: Sequence[Settlement], policy: decisions.Policy, *, actor: str
) -> Settled:  # fmt: skip
    """Merge a batch of ended order requests into their jobs, in one transaction. Settling again changes nothing.

    Nearly all end well at the first request, within their claim. Those are written on condition that the claim still
    stands, and not read before; if one of them does not, or the vendor's id is that of another job, all are read.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: Nothing was settled; the caller keeps the batch and tries again.
    """
    usual: list[Settlement] = []
    others: list[Settlement] = []
    for s in batch:
        (usual if s.fresh is not None and s.verdict.outcome is Outcome.CREATED else others).append(s)
    if usual:
        try:
            return _settle(engine, usual, others, policy, actor)
        except (_NotAsClaimed, exc.IntegrityError):
            pass
    return _settle(engine, [], batch, policy, actor)


def _settle(
    engine: sa.Engine,
    usual: Sequence[Settlement],
    others: Sequence[Settlement],
    policy: decisions.Policy,
    actor: str,
) -> Settled:
    with engine.begin() as connection:
        now = clock(connection)
        statuses = _succeed(connection, usual, now, policy)
        records = [_attempt(s) for s in usual]
        happenings: list[tuple[int, uuid.UUID, decisions.Happening]] = []
        if others:
            statuses |= _merge(connection, others, now, policy, happenings, records)
        attempts.write_attempts(connection, records, now)
        write_events(connection, now, actor, happenings)
    return Settled(statuses, [(job_id, happening) for _, job_id, happening in happenings])


def _succeed(
    connection: sa.Connection, usual: Sequence[Settlement], now: datetime, policy: decisions.Policy
) -> dict[uuid.UUID, JobStatus]:  # fmt: skip
    """Write orders that were created by their first request, if their claims stand.

    Raises:
        _NotAsClaimed: One of them does not.
    """
    succeeded: list[decisions.Job] = []
    places: list[int | None] = []
    statuses: dict[uuid.UUID, JobStatus] = {}
    for s in sorted(usual, key=_by_job):
        assert s.fresh is not None  # noqa: S101  for the type checker; the caller has looked
        # That no other job holds the vendor's id is left to the table, which would refuse it.
        job = decisions.settle(s.fresh.job, s.token, s.verdict, now, policy, None).job
        succeeded.append(job)
        places.append(s.fresh.place)
        statuses[job.id] = status_of(job, s.fresh.names)
    if not write_succeeded(connection, succeeded, places):
        raise _NotAsClaimed
    return statuses


def _by_job(s: Settlement) -> bytes:
    return s.job_id.bytes


def _merge(
    connection: sa.Connection,
    batch: Sequence[Settlement],
    now: datetime,
    policy: decisions.Policy,
    happenings: list[tuple[int, uuid.UUID, decisions.Happening]],
    records: list[attempts.Attempt],
) -> dict[uuid.UUID, JobStatus]:
    """Read jobs under their locks, decide, and write them; adds to what happened and to the attempts to be recorded."""
    found, names = lock_named_jobs(connection, {s.job_id for s in batch})
    jobs = dict(found)
    created = {s.verdict.vendor_id for s in batch if s.verdict.vendor_id is not None}
    held = holders(connection, {s.company_id for s in batch}, created)
    known = _recorded(connection, [s for s in batch if not _is_awaited(s, jobs.get(s.job_id))])
    for s in batch:
        if s.job_id not in jobs:
            happenings.append((s.company_id, s.job_id, _of_forgotten_job(s)))
            continue
        if (s.job_id, s.token) in known:
            continue
        holder = held.get((s.company_id, s.verdict.vendor_id)) if s.verdict.vendor_id is not None else None
        decision = decisions.settle(jobs[s.job_id], s.token, s.verdict, now, policy, holder)
        jobs[s.job_id] = decision.job
        if decision.job.vendor_id is not None:
            held.setdefault((s.company_id, decision.job.vendor_id), s.job_id)
        happenings += [(s.company_id, s.job_id, h) for h in decision.happenings]
        records.append(_attempt(s))
    write_jobs(connection, list(jobs.values()), found)
    return {job_id: status_of(job, names[job_id]) for job_id, job in jobs.items()}


def _is_awaited(s: Settlement, job: decisions.Job | None) -> bool:
    """Whether a job still waits for this very request to end, which so cannot have been settled already."""
    return job is not None and job.state is JobState.IN_PROGRESS and job.token == s.token


def _of_forgotten_job(s: Settlement) -> decisions.Happening:
    """An answer to an order that the database has forgotten; enqueued again, a look-up finds what was created."""
    detail: dict[str, object] = {
        "outcome": str(s.verdict.outcome),
        "vendor_id": s.verdict.vendor_id,
        "order_number": s.verdict.order_number,
        "http_status": s.exchange.status,
        "answer_base64": base64.b64encode(s.exchange.body or s.exchange.partial).decode(),
    }
    return decisions.Happening("answer_of_forgotten_order", alarm=True, detail=detail)


def _recorded(connection: sa.Connection, batch: Sequence[Settlement]) -> set[tuple[uuid.UUID, uuid.UUID]]:
    """Which of these requests are settled already, as when a spool is replayed or a commit's answer was lost."""
    if not batch:
        return set()
    table = schema.attempt.c
    query = sa.select(table.job_id, table.token).where(
        table.job_id.in_({s.job_id for s in batch}),
        table.token.in_({s.token for s in batch}),
        table.kind == "order",
        table.ended_at.is_not(None),
    )
    return {(row.job_id, row.token) for row in connection.execute(query)}


def _attempt(s: Settlement) -> attempts.Attempt:
    return attempts.Attempt(
        job_id=s.job_id,
        company_id=s.company_id,
        kind="order",
        token=s.token,
        number=s.number,
        body_digest=s.body_digest,
        worker=s.worker,
        outcome=str(s.verdict.outcome),
        reason=s.verdict.reason,
        exchange=s.exchange,
        began_at=s.exchange.began_at,
    )


def settle_lookups(
    engine: sa.Engine, batch: Sequence[LookedUp], policy: decisions.Policy, *, actor: str
) -> Settled:  # fmt: skip
    """Merge a batch of look-ups into their jobs, in one transaction.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: Nothing was settled; the look-ups will be made again.
    """
    with engine.begin() as connection:
        now = clock(connection)
        before, names = lock_named_jobs(connection, {s.job_id for s in batch})
        jobs = dict(before)
        found = {vendor_id for s in batch for vendor_id in s.verdict.vendor_ids}
        held = holders(connection, {s.company_id for s in batch}, found)
        happenings: list[tuple[int, uuid.UUID, decisions.Happening]] = []
        records: list[attempts.Attempt] = []
        for s in batch:
            if s.job_id not in jobs:
                continue
            holder = held.get((s.company_id, s.verdict.vendor_ids[0])) if s.verdict.vendor_ids else None
            decision = decisions.weigh(
                jobs[s.job_id], s.verdict, now, policy, asked_at=s.asked_at, control=s.control, holder=holder
            )
            jobs[s.job_id] = decision.job
            if decision.job.vendor_id is not None:
                held.setdefault((s.company_id, decision.job.vendor_id), s.job_id)
            happenings += [(s.company_id, s.job_id, h) for h in decision.happenings]
            records.append(
                attempts.Attempt(
                    job_id=s.job_id,
                    company_id=s.company_id,
                    kind="lookup",
                    token=s.claim,
                    number=s.number,
                    body_digest=None,
                    worker=s.worker,
                    outcome=s.verdict.kind,
                    reason=s.verdict.reason,
                    exchange=s.exchange,
                    began_at=s.exchange.began_at,
                )
            )
        attempts.write_attempts(connection, records, now)
        write_jobs(connection, list(jobs.values()), before)
        for company_id in {s.company_id for s in batch}:
            _tell_all_unknown(connection, company_id, [s for s in batch if s.company_id == company_id], now)
        write_events(connection, now, actor, happenings)
    statuses = {job_id: status_of(job, names[job_id]) for job_id, job in jobs.items()}
    return Settled(statuses, [(job_id, happening) for _, job_id, happening in happenings])


def _tell_all_unknown(connection: sa.Connection, company_id: int, batch: Sequence[LookedUp], now: datetime) -> None:
    """A look-up that fails, or works again, does so for every unknown job of its company.

    In an outage the gate lets only single probes through, so most jobs would never learn of it by themselves, and
    would wait for ever instead of being parked in time.
    """
    table = schema.job.c
    unknown = sa.and_(table.company_id == company_id, table.state == sa.literal_column(f"'{JobState.UNKNOWN}'"))
    if any(s.verdict.kind == "found" or (s.verdict.kind == "absent" and s.control) for s in batch):
        failing = sa.and_(unknown, table.lookup_failing_since.is_not(None))
        connection.execute(sa.update(schema.job).where(failing).values(lookup_failing_since=None))
    elif any(s.verdict.kind not in ("unauthorized", "throttled") for s in batch):
        waiting = sa.and_(unknown, table.lookup_failing_since.is_(None), table.due_at <= now)
        connection.execute(sa.update(schema.job).where(waiting).values(lookup_failing_since=now))
