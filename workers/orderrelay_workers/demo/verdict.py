"""What became of the demonstration's orders, by the ledger and by the simulator's own books."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_job = schema.job.c


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a demonstration.

    Attributes:
        states: How many jobs are in each state, under the state's name.
        rejected: How many were rejected for each reason.
        parked: How many were parked for each reason.
        retried: Jobs for which more than one order request left.
        reconciled: Jobs that were unknown for a time and are decided by look-ups.
        examples: Some created orders: ExternalId and order number.
        lost: ExternalIds that were accepted, and are neither created nor kept with a reason.
        doubled: ExternalIds that the vendor holds more than once.
    """

    states: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    parked: dict[str, int] = field(default_factory=dict[str, int])
    retried: int = 0
    reconciled: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])

    @property
    def moving(self) -> int:
        """Jobs that are not settled yet."""
        return sum(count for state, count in self.states.items() if not JobState(state).is_settled)


def count_states(engine: sa.Engine) -> dict[str, int]:
    """How many jobs are in each state; every state is named."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(_job.state, sa.func.count()).group_by(_job.state))
        counted = {state: count for state, count in rows}  # noqa: C416  rows are not pairs to a type checker
    return {str(state): counted.get(str(state), 0) for state in JobState}


def judge(engine: sa.Engine, accepted: Iterable[str], created: Mapping[str, list[int]]) -> Verdict:
    """Compare what was accepted with the ledger and with the vendor's books.

    Args:
        engine: The ledger.
        accepted: The ExternalIds that were accepted.
        created: The simulator's books: ExternalId to vendor ids.
    """
    with reading(engine) as connection:
        query = sa.select(_job.external_id, _job.state, _job.reason, _job.requests, _job.order_number)
        jobs = {row.external_id: row for row in connection.execute(query)}
        attempt = schema.attempt.c
        looked_up = sa.select(sa.func.count(sa.distinct(attempt.job_id))).where(
            attempt.kind == "lookup", attempt.number > 0
        )
        reconciled = connection.execute(looked_up).scalar_one()
    kept = (JobState.REJECTED, JobState.PARKED, JobState.CANCELLED)
    lost = [
        external_id
        for external_id in accepted
        if not created.get(external_id)
        and (external_id not in jobs or JobState(jobs[external_id].state) not in kept)
    ]  # fmt: skip
    return Verdict(
        states=count_states(engine),
        rejected=dict(Counter(j.reason for j in jobs.values() if j.state == JobState.REJECTED)),
        parked=dict(Counter(j.reason for j in jobs.values() if j.state == JobState.PARKED)),
        retried=sum(job.requests > 1 for job in jobs.values()),
        reconciled=reconciled,
        examples=[(j.external_id, j.order_number) for j in jobs.values() if j.order_number][:3],
        lost=lost,
        doubled=[external_id for external_id, ids in created.items() if len(ids) > 1],
    )
