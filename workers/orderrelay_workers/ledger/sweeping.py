"""The sweep: a claim whose lease is over, or whose worker is gone, becomes unknown within seconds."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers import decisions
from orderrelay_workers.ledger import attempts, liveness, schema
from orderrelay_workers.ledger.engine import clock, is_sqlite, reading
from orderrelay_workers.ledger.rows import lock_jobs_where, read_statuses, write_events, write_jobs

if TYPE_CHECKING:
    from datetime import datetime

    from orderrelay_shared.job_status import JobStatus

#: So many claims are swept in one transaction; a worker that died with more is swept in several.
_BATCH = 1000

_job = schema.job.c
_revision = schema.revision.c
_worker = schema.worker.c


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep found."""

    dead_workers: tuple[uuid.UUID, ...]
    statuses: dict[uuid.UUID, JobStatus]


def sweep(engine: sa.Engine, *, actor: str) -> Swept:
    """Declare workers dead, and their claims and all lapsed ones unknown. Any number of workers may sweep."""
    with reading(engine) as connection:  # nearly always there is nothing to do, and no write lock is taken for that
        now = clock(connection)
        dead = liveness.find_dead(connection, engine, now)
        in_progress = _job.state == sa.literal_column(f"'{JobState.IN_PROGRESS}'")
        lapsed = sa.and_(in_progress, _job.lease_until < now)
        if not dead and not connection.execute(sa.select(sa.exists(sa.select(1).where(lapsed)))).scalar():
            return Swept((), {})
    with engine.begin() as connection:
        now = clock(connection)
        dead = liveness.find_dead(connection, engine, now)
        gone = sa.or_(_job.lease_until < now, _job.owner.in_(dead))
        jobs = lock_jobs_where(connection, in_progress, gone, order_by=[_job.id], limit=_BATCH)
        lapsed_jobs = [decisions.lapse(job, now, _reason(job, dead)) for job in jobs]
        digests = _body_digests(connection, jobs)
        unanswered = [_attempt(job, after, digests[job.id]) for job, after in zip(jobs, lapsed_jobs, strict=True)]
        attempts.write_attempts(connection, unanswered, now)
        write_jobs(connection, lapsed_jobs)
        if len(jobs) < _BATCH:  # else its claims are not all swept yet, and the next sweep goes on
            _bury(connection, dead, now)
            _free_lookups(connection, dead)
            events = [(None, None, decisions.Happening("worker_died", detail={"worker": str(d)})) for d in dead]
            write_events(connection, now, actor, events)
        statuses = read_statuses(connection, [job.id for job in jobs])
    if is_sqlite(engine):
        for boot_id in dead:
            liveness.forget_file(engine, boot_id)
    return Swept(tuple(dead), statuses)


def _bury(connection: sa.Connection, dead: list[uuid.UUID], now: datetime) -> None:
    """It is retired long after now, not after its last beat: where only the clock jumped, it lives, and beats again."""
    if dead:
        buried = sa.update(schema.worker).where(_worker.boot_id.in_(dead))
        connection.execute(buried.values(state="dead", beat_at=now))


def _free_lookups(connection: sa.Connection, dead: list[uuid.UUID]) -> None:
    """Unknown jobs that a dead worker had taken for a look-up are due again at once."""
    if dead:
        taken = sa.and_(_job.state == sa.literal_column(f"'{JobState.UNKNOWN}'"), _job.owner.in_(dead))
        # They have waited longest, so they come before what is due only now.
        connection.execute(sa.update(schema.job).where(taken).values(due_at=_job.since, owner=None))


def _reason(job: decisions.Job, dead: list[uuid.UUID]) -> str:
    gone = "died" if job.owner in dead else "was not heard of before the claim's lease ended"
    return f"the worker {gone} with the request perhaps sent"


def _body_digests(connection: sa.Connection, jobs: list[decisions.Job]) -> dict[uuid.UUID, bytes]:
    live = sa.and_(_revision.job_id == _job.id, _revision.number == _job.revision)
    query = sa.select(_job.id, _revision.body_digest).join_from(schema.job, schema.revision, live)
    return {row.id: row.body_digest for row in connection.execute(query.where(_job.id.in_([job.id for job in jobs])))}


def _attempt(job: decisions.Job, after: decisions.Job, body_digest: bytes) -> attempts.Attempt:
    assert job.token is not None  # noqa: S101  the table's own check
    return attempts.Attempt(
        job_id=job.id,
        company_id=job.company_id,
        kind="order",
        token=job.token,
        number=after.requests,
        body_digest=body_digest,
        worker=job.owner or uuid.UUID(int=0),
        outcome=str(Outcome.UNKNOWN),
        reason=after.reason,
        exchange=None,
        began_at=job.claimed_at or job.since,
    )
