"""How much there is in the ledger: the one read for people that goes through whole tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  dataclass fields are read at run time by tests and docs
from typing import Any, cast

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import caution, schema
from orderrelay_workers.ledger.engine import clock, reading

_job = schema.job.c
_attempt = schema.attempt.c
_result = schema.operation_result.c
_event = schema.event.c


@dataclass(frozen=True, slots=True)
class Stats:
    """How much there is. `by_state` has all states; ages are in seconds, None if nothing waits or is unknown.

    `cautious_since` is when cautious mode began; None if it is not on.
    """

    by_state: dict[JobState, int]
    attempts: int
    lookups: int
    operation_results: int
    results_not_stored: int
    alarms: int
    set_aside: int
    oldest_waiting_seconds: float | None
    oldest_unknown_seconds: float | None
    cautious_since: datetime | None


def count_all(engine: sa.Engine, company_id: int | None = None) -> Stats:
    """Count everything, of one company or of all. It reads whole tables, so it takes long on a large ledger."""

    def of(column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
        return sa.true() if company_id is None else column == company_id

    # One line of counts each, and no groups, for which SQLite would sort all rows.
    count = sa.func.count()
    of_jobs: list[sa.ColumnElement[Any]] = [
        sa.func.min(_job.booked_at).filter(_job.state == JobState.WAITING),
        sa.func.min(_job.since).filter(_job.state == JobState.UNKNOWN),
        *(count.filter(_job.state == state) for state in JobState),
    ]
    jobs = sa.select(*of_jobs).where(of(_job.company_id))
    kinds = sa.select(count.filter(_attempt.kind == "order"), count.filter(_attempt.kind == "lookup"))
    kinds = kinds.where(of(_attempt.company_id))
    results = sa.select(sa.func.count()).select_from(schema.operation_result).where(of(_result.company_id))
    unstored = sa.select(sa.func.count()).select_from(schema.attempt)
    unstored = unstored.where(_attempt.stored_at.is_(None), of(_attempt.company_id))
    alarms = sa.select(_event.kind, sa.func.count()).where(_event.alarm, of(_event.company_id)).group_by(_event.kind)
    with reading(engine) as connection:
        now = clock(connection)
        waiting_since, unknown_since, *by_state = cast("tuple[Any, ...]", connection.execute(jobs).one())
        attempts, lookups = connection.execute(kinds).one()
        by_alarm = {row[0]: int(row[1]) for row in connection.execute(alarms)}
        return Stats(
            by_state=dict(zip(JobState, by_state, strict=True)),
            attempts=attempts,
            lookups=lookups,
            operation_results=connection.execute(results).scalar_one(),
            results_not_stored=connection.execute(unstored).scalar_one(),
            alarms=sum(by_alarm.values()),
            set_aside=by_alarm.get("set_aside", 0),
            oldest_waiting_seconds=_seconds_since(waiting_since, now),
            oldest_unknown_seconds=_seconds_since(unknown_since, now),
            cautious_since=caution.read_standing(connection).since,
        )


def _seconds_since(instant: datetime | None, now: datetime) -> float | None:
    return None if instant is None else max(0.0, (now - instant).total_seconds())
