"""Waiting jobs and their deadlines: told in time that they are at risk, and parked when they have passed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers import deadlines, lanes
from orderrelay_workers.ledger import caution, schema
from orderrelay_workers.ledger.engine import clock, reading
from orderrelay_workers.ledger.rows import lock_jobs_where, read_statuses, write_events, write_jobs
from orderrelay_workers.ledger.settling import Settled

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from orderrelay_workers.decisions import Happening

#: A job whose wait after a failure ends after its deadline is told of, if that is no further ahead than this.
_FAR_AHEAD: Final = timedelta(hours=1)

_job = schema.job.c


@dataclass(frozen=True, slots=True)
class Place:
    """Where a look at the deadlines has come to; the next one goes on behind it."""

    deadline: datetime
    job_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Warned:
    """What one look has told: job to happening; and where the next look goes on, None: at the beginning."""

    happenings: dict[uuid.UUID, Happening]
    goes_on: Place | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    job_id: uuid.UUID
    lane: int
    due_at: datetime
    deadline: datetime


def park_passed(engine: sa.Engine, company_id: int, *, actor: str, limit: int = 500) -> Settled:
    """Park waiting jobs of a company whose deadline has passed; so many at once."""
    with reading(engine) as connection:  # nearly always there is none, and no write lock is taken for that
        passed = sa.select(1).where(_may_be_parked(connection, company_id), _job.deadline <= clock(connection))
        if not connection.execute(sa.select(sa.exists(passed))).scalar():
            return Settled({}, [])
    with engine.begin() as connection:
        now = clock(connection)
        late = _job.deadline <= now
        which = _may_be_parked(connection, company_id)
        jobs = lock_jobs_where(connection, which, late, order_by=[_job.deadline], limit=limit)
        decided = [deadlines.missed(job, now) for job in jobs]
        write_jobs(connection, [decision.job for decision in decided])
        happenings = [(d.job.company_id, d.job.id, h) for d in decided for h in d.happenings]
        write_events(connection, now, actor, happenings)
        statuses = read_statuses(connection, [job.id for job in jobs])
    return Settled(statuses, [(job_id, happening) for _, job_id, happening in happenings])


def _may_be_parked(connection: sa.Connection, company_id: int) -> sa.ColumnElement[bool]:
    """In cautious mode an order that waits may have been sent: it is looked up before anything is said of it."""
    if caution.read_standing(connection).since is None:
        return _is_waiting(company_id)
    return sa.and_(_is_waiting(company_id), caution.is_cleared())


def warn(
    engine: sa.Engine,
    company_id: int,
    pace: deadlines.Pace,
    *,
    actor: str,
    after: Place | None = None,
    limit: int = 100,
) -> Warned:
    """Tell, once for each, which jobs of a company will hardly be sent before their deadlines.

    What is due at the same instant may be ahead or behind, and counts as ahead.

    Args:
        engine: The ledger.
        company_id: The company.
        pace: How fast its orders go.
        actor: Who looks.
        after: Where the look before has come to.
        limit: How many jobs to look at; a deadline that is later than the end of all that waits is not looked at.
    """
    with reading(engine) as connection:
        now = clock(connection)
        if not connection.execute(sa.select(sa.exists(sa.select(1).where(_may_be_warned(company_id))))).scalar():
            return Warned({}, None)
        backlog_ends_at = pace.done_at(now, sum(_count_by_lane(connection, company_id).values()))
        candidates = _candidates(connection, company_id, now, backlog_ends_at, after, limit)
        ahead = _ahead_of(connection, company_id, candidates)
    told = {
        candidate.job_id: happening
        for candidate in candidates
        if (
            happening := deadlines.warning(
                deadlines.Waiter(candidate.due_at, candidate.deadline, ahead[candidate.job_id]), now, pace
            )
        )
    }
    last = candidates[-1] if len(candidates) == limit else None
    goes_on = None if last is None else Place(last.deadline, last.job_id)
    return Warned(_write(engine, company_id, told, actor) if told else {}, goes_on)


def _is_waiting(company_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(_job.company_id == company_id, _job.state == sa.literal_column(f"'{JobState.WAITING}'"))


def _may_be_warned(company_id: int) -> sa.ColumnElement[bool]:
    return sa.and_(_is_waiting(company_id), _job.deadline.is_not(None), _job.deadline_warned_at.is_(None))


def _count_by_lane(
    connection: sa.Connection, company_id: int, *, due_by: datetime | None = None
) -> dict[int, int]:  # fmt: skip
    query = sa.select(_job.lane, sa.func.count().label("jobs")).where(
        _is_waiting(company_id), _job.lane.in_(lanes.LANES)
    )
    if due_by is not None:
        query = query.where(_job.due_at <= due_by)
    return {row.lane: row.jobs for row in connection.execute(query.group_by(_job.lane))}


def _candidates(
    connection: sa.Connection,
    company_id: int,
    now: datetime,
    backlog_ends_at: datetime | None,
    after: Place | None,
    limit: int,
) -> list[_Candidate]:
    """The next jobs by deadline that could miss it: within the backlog, or as they wait for something longer."""
    query = sa.select(_job.id, _job.lane, _job.due_at, _job.deadline)
    query = query.where(_may_be_warned(company_id), _job.deadline > now)
    if backlog_ends_at is not None:
        waits_longer = sa.and_(_job.deadline <= now + _FAR_AHEAD, _job.due_at >= _job.deadline)
        query = query.where(
            _job.deadline <= max(backlog_ends_at, now + _FAR_AHEAD),
            sa.or_(_job.deadline <= backlog_ends_at, waits_longer),
        )
    if after is not None:
        place = sa.tuple_(sa.literal(after.deadline, schema.UtcDateTime()), sa.literal(after.job_id, sa.Uuid()))
        query = query.where(_job.deadline >= after.deadline, sa.tuple_(_job.deadline, _job.id) > place)
    rows = connection.execute(query.order_by(_job.deadline, _job.id).limit(limit))
    return [_Candidate(row.id, row.lane, row.due_at, row.deadline) for row in rows]


def _ahead_of(connection: sa.Connection, company_id: int, candidates: Sequence[_Candidate]) -> dict[uuid.UUID, int]:
    """How many jobs have their turn before each: those of the lanes before its own, and those due before it in it."""
    if not candidates:
        return {}
    by_lane = _count_by_lane(connection, company_id, due_by=max(c.deadline for c in candidates))
    places = sorted({(c.lane, c.due_at) for c in candidates})
    # Between one place and the next, so that all of it is counted once.
    between = [
        sa.select(sa.func.count())
        .where(
            _is_waiting(company_id),
            _job.lane == lane,
            _job.due_at <= due_at,
            *([_job.due_at > before[1]] if before is not None and before[0] == lane else []),
        )
        .scalar_subquery()
        .label(f"place_{number}")
        for number, ((lane, due_at), before) in enumerate(zip(places, [None, *places], strict=False))
    ]
    counts = connection.execute(sa.select(*between)).one()
    found: dict[tuple[int, datetime], int] = {}
    for (lane, due_at), before, count in zip(places, [None, *places], counts, strict=False):
        found[lane, due_at] = count + (found[before] if before is not None and before[0] == lane else 0)
    in_lanes_before = {c.lane: sum(by_lane.get(lane, 0) for lane in lanes.before(c.lane)) for c in candidates}
    return {c.job_id: max(found[c.lane, c.due_at] - 1, 0) + in_lanes_before[c.lane] for c in candidates}


def _write(
    engine: sa.Engine, company_id: int, told: dict[uuid.UUID, Happening], actor: str
) -> dict[uuid.UUID, Happening]:  # fmt: skip
    """Note that these are told, and tell those that another worker has not told meanwhile."""
    with engine.begin() as connection:
        now = clock(connection)
        statement = (
            sa.update(schema.job)
            .where(_job.id.in_(list(told)), _may_be_warned(company_id))
            .values(deadline_warned_at=now)
            .returning(_job.id)
        )
        warned = set(connection.execute(statement).scalars())
        happenings = {job_id: happening for job_id, happening in told.items() if job_id in warned}
        write_events(connection, now, actor, [(company_id, job_id, h) for job_id, h in happenings.items()])
    return happenings
