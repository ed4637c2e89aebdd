"""What people decide about stopped jobs, written into the ledger with who did it and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderrelay_workers.ledger.engine import clock
from orderrelay_workers.ledger.rows import holders, lock_jobs, read_statuses, write_events, write_jobs
from orderrelay_workers.people import NotForPeople

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import sqlalchemy as sa

    from orderrelay_shared.job_status import JobStatus
    from orderrelay_workers.decisions import Decision, Happening, Job

    #: Decides about one job: the job, now, and which job already holds the vendor id that the person named.
    Decide = Callable[[Job, datetime, uuid.UUID | None], Decision]


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of people's decisions: the jobs they changed with their new status, and the others with the reason."""

    statuses: dict[uuid.UUID, JobStatus]
    refused: dict[uuid.UUID, str]


def decide(
    engine: sa.Engine,
    job_ids: Sequence[uuid.UUID],
    decision: Decide,
    *,
    actor: str,
    vendor_id: int | None = None,
    only_try: bool = False,
) -> Decided:
    """Carry a person's decision out on each of these jobs, all in one transaction.

    Args:
        engine: The ledger.
        job_ids: The jobs; one that is not in the ledger is refused.
        decision: One of `orderrelay_workers.people`, with the person's words bound in.
        actor: Who decides.
        vendor_id: The vendor's id that the person named, if any.
        only_try: Write nothing: the statuses are what they were, of those that the decision would change.
    """
    refused: dict[uuid.UUID, str] = {}
    changed: list[Job] = []
    events: list[tuple[int | None, uuid.UUID | None, Happening]] = []
    with engine.begin() as connection:
        now = clock(connection)
        jobs = lock_jobs(connection, set(job_ids))
        held = holders(connection, {job.company_id for job in jobs.values()}, [] if vendor_id is None else [vendor_id])
        for job_id in dict.fromkeys(job_ids):
            job = jobs.get(job_id)
            if job is None:
                refused[job_id] = "the ledger does not have it"
                continue
            holder = None if vendor_id is None else held.get((job.company_id, vendor_id))
            try:
                decided = decision(job, now, holder)
            except NotForPeople as error:
                refused[job_id] = str(error)
                continue
            changed.append(decided.job)
            events += [(job.company_id, job_id, happening) for happening in decided.happenings]
        if not only_try:
            write_jobs(connection, changed)
            write_events(connection, now, actor, events)
        statuses = read_statuses(connection, [job.id for job in changed])
    return Decided(statuses, refused)
