"""How much waits, and who could work on it: what an outlook is made of, in one short read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003  dataclass fields are read at run time by tests and docs

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import caution, liveness, schema
from orderrelay_workers.ledger.engine import clock, reading

_job = schema.job.c
_worker = schema.worker.c


@dataclass(frozen=True, slots=True)
class Backlog:
    """A company's orders that wait.

    Attributes:
        now: By the ledger's clock.
        by_lane: How many wait in which lane: twice the priority, and 1 more for those of which a request has left.
        next_due_at: When the first of them is due, perhaps long ago; None if none waits.
        workers: How many workers run, of all companies.
        is_cautious: Whether every order is looked up before it is sent.
        unknown: How many are unknown, and so looked up.
    """

    now: datetime
    by_lane: dict[int, int] = field(default_factory=dict[int, int])
    next_due_at: datetime | None = None
    workers: int = 0
    is_cautious: bool = False
    unknown: int = 0

    @property
    def waiting(self) -> int:
        """How many wait in all."""
        return sum(self.by_lane.values())

    @property
    def has_due(self) -> bool:
        """Whether any could go now."""
        return self.next_due_at is not None and self.next_due_at <= self.now


def read_backlog(engine: sa.Engine, company_id: int) -> Backlog:
    """What waits of a company right now. It reads an index of all that waits."""
    waiting = (
        sa.select(_job.lane, sa.func.count(), sa.func.min(_job.due_at))
        .where(_job.company_id == company_id, _is(JobState.WAITING))
        .group_by(_job.lane)
    )
    running = sa.select(_worker.boot_id).where(_worker.state == "running")
    with reading(engine) as connection:
        now = clock(connection)
        lanes = [(int(row[0]), int(row[1]), row[2]) for row in connection.execute(waiting)]
        dead = set(liveness.find_dead(connection, engine, now))
        alive = set(connection.execute(running).scalars()) - dead
        is_cautious = caution.read_standing(connection).since is not None
        unknown = connection.execute(_count(company_id, JobState.UNKNOWN)).scalar_one()
    return Backlog(
        now=now,
        by_lane={lane: count for lane, count, _ in lanes},
        next_due_at=min((due_at for _, _, due_at in lanes), default=None),
        workers=len(alive),
        is_cautious=is_cautious,
        unknown=unknown,
    )


def count_stopped(engine: sa.Engine, company_id: int) -> dict[JobState, int]:
    """How many orders of a company are unknown and how many parked."""
    with reading(engine) as connection:
        return {
            state: connection.execute(_count(company_id, state)).scalar_one()
            for state in (JobState.UNKNOWN, JobState.PARKED)
        }


def _count(company_id: int, state: JobState) -> sa.Select[int]:
    return sa.select(sa.func.count()).where(_job.company_id == company_id, _is(state))


def _is(state: JobState) -> sa.ColumnElement[bool]:
    return _job.state == sa.literal_column(f"'{state}'")  # a literal, so that the partial index serves
