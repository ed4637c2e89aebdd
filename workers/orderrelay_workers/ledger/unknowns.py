"""Unknown jobs on their way to a decision: which are to be looked up now, and whether a look-up can be believed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from msgspec.structs import replace

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers import decisions
from orderrelay_workers.ledger import companies, schema
from orderrelay_workers.ledger.engine import clock, reading
from orderrelay_workers.ledger.rows import lock_jobs_where, read_statuses, write_events, write_jobs
from orderrelay_workers.ledger.settling import Settled

if TYPE_CHECKING:
    from collections.abc import Callable

_job = schema.job.c
_revision = schema.revision.c


@dataclass(frozen=True, slots=True)
class Unknown:
    """A job taken for a look-up. `claim` names this look-up; `number` counts the job's look-ups from 1.

    `traceparent` is where the trace of the producer's call goes on, if it has one.
    """

    job_id: uuid.UUID
    company_id: int
    external_id: str
    claim: uuid.UUID
    number: int
    taken_at: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """An order known to be created by the vendor's own answer, for the positive control."""

    job_id: uuid.UUID
    external_id: str
    vendor_id: int


def _is_unknown(company_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(_job.company_id == company_id, _job.state == sa.literal_column(f"'{JobState.UNKNOWN}'"))


def has_due(engine: sa.Engine, company_id: int) -> bool:
    """Whether a look-up is due for any job of a company."""
    with reading(engine) as connection:
        due = sa.select(1).where(_is_unknown(company_id), _job.due_at <= clock(connection))
        return bool(connection.execute(sa.select(sa.exists(due))).scalar())


def take_due(
    engine: sa.Engine,
    company_id: int,
    limit: int,
    *,
    for_seconds: float,
    owner: uuid.UUID | None = None,
    alias: str | None = None,
) -> list[Unknown]:
    """Take unknown jobs whose look-up is due.

    Args:
        engine: The ledger.
        company_id: The company.
        limit: How many at most.
        for_seconds: Nobody else takes them for so long, unless the owner is found dead first.
        owner: Boot id of the worker that looks them up.
        alias: What that worker takes the company to be; of another one, nothing is taken.
    """
    claim = uuid.uuid4()
    with engine.begin() as connection:
        now = clock(connection)
        if alias is not None and not companies.is_called(connection, company_id, alias):
            return []
        jobs = lock_jobs_where(
            connection, _is_unknown(company_id), _job.due_at <= now, order_by=[_job.due_at], limit=limit
        )
        write_jobs(connection, [replace(job, due_at=now + timedelta(seconds=for_seconds), owner=owner) for job in jobs])
        live = sa.and_(_revision.job_id == _job.id, _revision.number == _job.revision)
        query = sa.select(_job.id, _job.external_id, _revision.traceparent).join_from(
            schema.job, schema.revision, live, isouter=True
        )
        rows = connection.execute(query.where(_job.id.in_([job.id for job in jobs])))
        named = {row.id: (row.external_id, row.traceparent) for row in rows}
    return [
        Unknown(job.id, company_id, external_id, claim, job.lookups + 1, now, traceparent)
        for job in jobs
        for external_id, traceparent in [named[job.id]]
    ]


def park_all(engine: sa.Engine, company_id: int, *, actor: str, limit: int = 500) -> Settled:
    """Park unknown jobs of a company that has no look-up, once no request of theirs can be out any more."""
    return _park(engine, company_id, lambda now: _job.due_at <= now, decisions.without_lookup, actor, limit)


def park_failed(
    engine: sa.Engine, company_id: int, policy: decisions.Policy, *, actor: str, limit: int = 500
) -> Settled:  # fmt: skip
    """Park unknown jobs of a company whose look-up has failed for too long."""
    too_long = timedelta(seconds=policy.lookup_failing_seconds)
    return _park(
        engine,
        company_id,
        lambda now: _job.lookup_failing_since <= now - too_long,
        lambda job, now: decisions.give_up(job, now, policy),
        actor,
        limit,
    )


def _park(
    engine: sa.Engine,
    company_id: int,
    which: Callable[[datetime], sa.ColumnElement[bool]],
    decide: Callable[[decisions.Job, datetime], decisions.Decision],
    actor: str,
    limit: int,
) -> Settled:
    with reading(engine) as connection:  # nearly always there is none, and no write lock is taken for that
        those = sa.select(1).where(_is_unknown(company_id), which(clock(connection)))
        if not connection.execute(sa.select(sa.exists(those))).scalar():
            return Settled({}, [])
    with engine.begin() as connection:
        now = clock(connection)
        jobs = lock_jobs_where(connection, _is_unknown(company_id), which(now), order_by=[_job.due_at], limit=limit)
        decided = [decide(job, now) for job in jobs]
        write_jobs(connection, [decision.job for decision in decided])
        happenings = [(d.job.company_id, d.job.id, h) for d in decided for h in d.happenings]
        write_events(connection, now, actor, happenings)
        statuses = read_statuses(connection, [job.id for job in jobs])
    return Settled(statuses, [(job_id, happening) for _, job_id, happening in happenings])


def known_orders(engine: sa.Engine, company_id: int, settling_seconds: float) -> list[Known]:
    """Orders that the vendor's own answers say were created, the best for a positive control first.

    The latest one that the vendor has had time to settle comes first, then the very latest.
    """
    table = schema.attempt.c
    with reading(engine) as connection:
        settled = clock(connection) - timedelta(seconds=settling_seconds)
        # Walked backwards by an index of created orders only: the first match is at its end, however old the table is.
        latest = (
            sa.select(_job.id, _job.external_id, _job.vendor_id)
            .join_from(schema.attempt, schema.job, table.job_id == _job.id)
            .where(
                table.company_id == company_id,
                table.kind == sa.literal_column("'order'"),
                table.outcome == sa.literal_column(f"'{Outcome.CREATED}'"),
                _job.vendor_id.is_not(None),
            )
            .order_by(table.id.desc())
            .limit(1)
        )
        rows = [connection.execute(latest.where(table.ended_at < settled)).first(), connection.execute(latest).first()]
    return list(dict.fromkeys(Known(row.id, row.external_id, row.vendor_id) for row in rows if row is not None))
