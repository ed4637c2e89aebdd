"""Producers' requests to cancel jobs, carried out in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from orderrelay_workers import cancelling
from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import caution, schema
from orderrelay_workers.ledger.engine import clock
from orderrelay_workers.ledger.rows import lock_jobs, write_events, write_jobs

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence
    from datetime import datetime

    from orderrelay_shared.intake import Cancel
    from orderrelay_workers.decisions import Job

#: Who it is that asked, in the events; the request has no other name.
_ACTOR: Final = "producer"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to cancel, from the intake stream.

    Attributes:
        entry_id: The stream's id of the entry.
        asked_at: When the stream took it, by Redis' clock.
        cancel: What the entry holds.
    """

    entry_id: str
    asked_at: datetime
    cancel: Cancel


def cancel(engine: sa.Engine, requests: Sequence[Asked], *, remembered: int | None = None) -> list[Asked]:
    """Carry requests out, all in one transaction. Again changes nothing more.

    Args:
        engine: The ledger.
        requests: What producers asked for.
        remembered: How many claims Redis remembered just before; None: it remembers nothing.

    Returns:
        Those whose job the ledger does not have.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database is away; nothing is carried out.
    """
    if not requests:
        return []
    cancelled: dict[uuid.UUID, Job] = {}
    events: list[tuple[int | None, uuid.UUID | None, Happening]] = []
    with engine.begin() as connection:
        now = clock(connection)
        jobs = lock_jobs(connection, {asked.cancel.job_id for asked in requests})
        accepted_at = _accepted_at(connection, list(jobs))
        standing = caution.read_standing(connection)
        is_cautious = standing.since is not None
        # A database that was put back a moment ago: nobody has noticed yet, and begun cautious mode.
        went_back = standing.went_back(remembered) is not None
        for asked in requests:
            job_id = asked.cancel.job_id
            if job_id not in jobs:
                continue
            job = cancelled.get(job_id, jobs[job_id])
            decision = cancelling.cancel(
                job,
                now,
                asked.cancel.why,
                asked_at=asked.asked_at,
                accepted_at=accepted_at[job_id],
                is_cautious=went_back or (is_cautious and job.cleared_at is None),
            )
            events += [(job.company_id, job_id, happening) for happening in decision.happenings]
            if decision.job is not job:
                cancelled[job_id] = decision.job
        write_jobs(connection, list(cancelled.values()))
        write_events(connection, now, _ACTOR, events)
    return [asked for asked in requests if asked.cancel.job_id not in jobs]


def note_unheard_of(engine: sa.Engine, requests: Sequence[Asked]) -> None:
    """Keep requests for jobs that the ledger does not have and that nobody will bring, so that they can be found."""
    if not requests:
        return
    happenings = [
        (None, asked.cancel.job_id, Happening("cancel_refused", detail={"why": asked.cancel.why, "because": _NO_JOB}))
        for asked in requests
    ]
    with engine.begin() as connection:
        write_events(connection, clock(connection), _ACTOR, happenings)


_NO_JOB: Final = "the ledger does not have it, and it was not under way"


def _accepted_at(connection: sa.Connection, job_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    query = sa.select(schema.job.c.id, schema.job.c.accepted_at).where(schema.job.c.id.in_(job_ids))
    return {row[0]: row[1] for row in connection.execute(query)}
