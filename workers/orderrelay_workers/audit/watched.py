"""What of the ledger is watched all the time: a few counts and ages, read from indexes of what is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers import lanes
from orderrelay_workers.ledger import caution, liveness, schema
from orderrelay_workers.ledger.engine import clock, reading

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_job = schema.job.c
_event = schema.event.c


@dataclass(frozen=True, slots=True)
class CompanyWatched:
    """One company's orders that wait or have stopped.

    Attributes:
        unknown: Orders that are unknown.
        parked: Orders that are parked.
        oldest_due_seconds: How long the waiting order that has been due longest has been due; 0: none is due.
        oldest_unknown_seconds: How long the order that has been unknown longest has been so; 0: none is.
    """

    unknown: int = 0
    parked: int = 0
    oldest_due_seconds: float = 0.0
    oldest_unknown_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Watched:
    """The ledger at one moment.

    Attributes:
        now: By the ledger's clock.
        is_cautious: Whether cautious mode is on.
        workers: How many workers are alive.
        results_unstored: Answers that are settled, and not stored as operation results yet.
        alarms: How many alarms the ledger holds, by kind; kinds of which there are none are left out.
        companies: By alias.
    """

    now: datetime
    is_cautious: bool
    workers: int
    results_unstored: int
    alarms: dict[str, int] = field(default_factory=dict[str, int])
    companies: dict[str, CompanyWatched] = field(default_factory=dict[str, CompanyWatched])


def read_watched(engine: sa.Engine, companies: Mapping[str, int]) -> Watched:
    """Read it all in one short transaction.

    Args:
        engine: The ledger.
        companies: The ids of the companies to tell of, by alias.
    """
    running = sa.select(schema.worker.c.boot_id).where(schema.worker.c.state.in_(["running", "draining"]))
    unstored = sa.select(sa.func.count()).select_from(schema.attempt).where(schema.attempt.c.stored_at.is_(None))
    alarms = sa.select(_event.kind, sa.func.count()).where(_event.alarm).group_by(_event.kind)
    with reading(engine) as connection:
        now = clock(connection)
        alive = set(connection.execute(running).scalars()) - set(liveness.find_dead(connection, engine, now))
        return Watched(
            now=now,
            is_cautious=caution.read_standing(connection).since is not None,
            workers=len(alive),
            results_unstored=connection.execute(unstored).scalar_one(),
            alarms={kind: int(number) for kind, number in connection.execute(alarms)},
            companies={alias: _of(connection, company_id, now) for alias, company_id in companies.items()},
        )


def _of(connection: sa.Connection, company_id: int, now: datetime) -> CompanyWatched:
    # One look into the index for each lane; the least of all lanes at once would read all that waits.
    firsts = [
        sa.select(sa.func.min(_job.due_at))
        .where(_is(JobState.WAITING), _job.company_id == company_id, _job.lane == lane)
        .scalar_subquery()
        for lane in lanes.LANES
    ]
    due: list[datetime] = [at for at in connection.execute(sa.select(*firsts)).one() if at is not None]
    unknown, unknown_since = connection.execute(_stopped(company_id, JobState.UNKNOWN)).one()
    parked, _ = connection.execute(_stopped(company_id, JobState.PARKED)).one()
    return CompanyWatched(
        unknown=unknown,
        parked=parked,
        oldest_due_seconds=_age(min(due, default=None), now),
        oldest_unknown_seconds=_age(unknown_since, now),
    )


def _stopped(company_id: int, state: JobState) -> sa.Select[Any, Any]:
    return sa.select(sa.func.count(), sa.func.min(_job.since)).where(_is(state), _job.company_id == company_id)


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _is(state: JobState) -> sa.ColumnElement[bool]:
    return _job.state == sa.literal_column(f"'{state}'")  # a literal, so that the partial index serves
