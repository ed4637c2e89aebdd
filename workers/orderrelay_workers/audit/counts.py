"""How much there is in the ledger: the one read for people that goes through whole tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  dataclass fields are read at run time by tests and docs

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

    jobs = (
        sa.select(_job.state, sa.func.count(), sa.func.min(_job.booked_at), sa.func.min(_job.since))
        .where(of(_job.company_id))
        .group_by(_job.state)
    )
    kinds = sa.select(_attempt.kind, sa.func.count()).where(of(_attempt.company_id)).group_by(_attempt.kind)
    results = sa.select(sa.func.count()).select_from(schema.operation_result).where(of(_result.company_id))
    unstored = sa.select(sa.func.count()).select_from(schema.attempt)
    unstored = unstored.where(_attempt.stored_at.is_(None), of(_attempt.company_id))
    alarms = sa.select(_event.kind, sa.func.count()).where(_event.alarm, of(_event.company_id)).group_by(_event.kind)
    with reading(engine) as connection:
        now = clock(connection)
        states = {row[0]: row for row in connection.execute(jobs)}
        by_kind = {row[0]: int(row[1]) for row in connection.execute(kinds)}
        by_alarm = {row[0]: int(row[1]) for row in connection.execute(alarms)}
        waiting, unknown = states.get(JobState.WAITING), states.get(JobState.UNKNOWN)
        return Stats(
            by_state={state: states[state][1] if state in states else 0 for state in JobState},
            attempts=by_kind.get("order", 0),
            lookups=by_kind.get("lookup", 0),
            operation_results=connection.execute(results).scalar_one(),
            results_not_stored=connection.execute(unstored).scalar_one(),
            alarms=sum(by_alarm.values()),
            set_aside=by_alarm.get("set_aside", 0),
            oldest_waiting_seconds=None if waiting is None else max(0.0, (now - waiting[2]).total_seconds()),
            oldest_unknown_seconds=None if unknown is None else max(0.0, (now - unknown[3]).total_seconds()),
            cautious_since=caution.read_standing(connection).since,
        )
