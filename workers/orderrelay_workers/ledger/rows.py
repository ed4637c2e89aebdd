"""Jobs between the table and the decisions: read under a row lock, decided, written back in one statement.

Or not read at all: a job that succeeds by its first request is written on condition that it is as it was claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orderrelay_shared.job_status import JobStatus, content_mark
from orderrelay_shared.states import JobState
from orderrelay_workers import lanes
from orderrelay_workers.decisions import Happening, Job
from orderrelay_workers.ledger import bulk, schema

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

_job = schema.job.c
_FIELDS = Job.__struct_fields__
_COLUMNS = [_job[name] for name in _FIELDS]
_WRITTEN = tuple(name for name in _FIELDS if name not in ("id", "company_id"))
_STATE, _IF_ABSENT = _FIELDS.index("state"), _FIELDS.index("if_absent")
_STATES = {str(state): state for state in JobState}

#: Of these jobs, in the order of their ids, so that nobody deadlocks.
_THESE = (
    sa.select(*_COLUMNS)
    .where(_job.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(_job.id)
    .with_for_update(key_share=True, of=schema.job)
)
#: Of what was enqueued, as conflicts are judged by; a correction does not change it.
_FIRST_REVISION = (schema.revision.c.job_id == _job.id) & (schema.revision.c.number == 1)
_NAMES = (schema.company.c.alias, _job.external_id, schema.revision.c.content_digest)


@dataclass(frozen=True, slots=True)
class Names:
    """What is told of a job, and never changes."""

    company: str
    external_id: str
    content_digest: bytes | None


def _named(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.add_columns(*_NAMES).join_from(schema.job, schema.company).outerjoin(schema.revision, _FIRST_REVISION)


_THESE_NAMED = _named(_THESE)
_TOLD = _named(sa.select(*_COLUMNS).where(_job.id.in_(sa.bindparam("ids", expanding=True))))


def text(value: str | None) -> str | None:
    """Text as both databases can store it: without U+0000 and lone surrogates."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", "").encode("utf-8", "replace").decode()


def json(value: object) -> bytes:
    """Detail of an event as stored."""
    return msgspec.json.encode(value, enc_hook=str)


def insert_ignoring(database: sa.Engine | sa.Connection, table: sa.Table) -> sa.Insert:
    """An INSERT that leaves out rows which are there already."""
    if database.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def _read_job(row: Sequence[Any]) -> Job:
    """The first columns of a row as the decisions take them."""
    values = list(row[: len(_FIELDS)])
    values[_STATE] = _STATES[values[_STATE]]
    if values[_IF_ABSENT]:
        values[_IF_ABSENT] = _STATES[values[_IF_ABSENT]]
    return Job(*values)


def _read_named(row: Sequence[Any]) -> tuple[Job, Names]:
    return _read_job(row), Names(*row[len(_FIELDS) :])


def lock_jobs(connection: sa.Connection, job_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Job]:
    """Read jobs and lock their rows until the transaction ends."""
    jobs = [_read_job(row) for row in connection.execute(_THESE, {"ids": sorted(job_ids)})]
    return {job.id: job for job in jobs}


def lock_named_jobs(
    connection: sa.Connection, job_ids: Iterable[uuid.UUID]
) -> tuple[dict[uuid.UUID, Job], dict[uuid.UUID, Names]]:  # fmt: skip
    """As `lock_jobs`, with the names by which they are told of."""
    read = [_read_named(row) for row in connection.execute(_THESE_NAMED, {"ids": sorted(job_ids)})]
    return {job.id: job for job, _ in read}, {job.id: names for job, names in read}


def lock_jobs_where(
    connection: sa.Connection,
    *conditions: sa.ColumnElement[bool],
    order_by: Sequence[sa.ColumnElement[Any]] = (),
    limit: int,
) -> list[Job]:
    """Read and lock jobs that nobody else has locked."""
    query = (
        sa.select(*_COLUMNS)
        .where(*conditions)
        .order_by(*order_by)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    return [_read_job(row) for row in connection.execute(query)]


def write_jobs(connection: sa.Connection, jobs: Sequence[Job], before: Mapping[uuid.UUID, Job] | None = None) -> None:
    """Write back jobs read under their locks in this transaction.

    Args:
        connection: The transaction.
        jobs: As they shall be.
        before: As they were read; only columns in which one of them changed are written then.
    """
    changed = _WRITTEN
    if before is not None:
        pairs = [(job, before[job.id]) for job in jobs]
        changed = tuple(name for name in _WRITTEN if _differs(name, pairs))
    bulk.update(connection, schema.job, [job.id for job in jobs], {name: _column(name, jobs) for name in changed})


def write_succeeded(connection: sa.Connection, jobs: Sequence[Job], places: Sequence[int | None]) -> bool:
    """Write jobs that have succeeded by the first request, which they were claimed for; in the order of their ids.

    Args:
        connection: The transaction.
        jobs: As they shall be.
        places: As `bulk.update` takes them.

    Returns:
        Whether all of them still were in progress under that claim, and had had no other request. If not, some are
        written nevertheless.

    Raises:
        sqlalchemy.exc.IntegrityError: Another job holds one of the vendor's ids.
    """
    if not jobs:
        return True
    columns = {name: _column(name, jobs) for name in _TOLD_OF_SUCCESS}
    same = {name: values[0] for name, values in columns.items() if name not in _OF_EACH}
    each = {name: columns[name] for name in _OF_EACH}
    claimed: dict[str, Sequence[Any]] = {
        "token": [job.token for job in jobs],
        "state": [str(JobState.IN_PROGRESS)] * len(jobs),
        "attempts": [0] * len(jobs),
        "requests": [0] * len(jobs),
    }
    ids = [job.id for job in jobs]
    return bulk.update(connection, schema.job, ids, each, same, only_if=claimed, places=places) == len(jobs)


#: What a success changes; of a first request all but these is the same for all that are settled at one time.
_OF_EACH: Final = ("vendor_id", "order_number", "reference")
_TOLD_OF_SUCCESS: Final = (
    *_OF_EACH, "state", "since", "attempts", "requests", "owner", "if_absent", "absent_at", "lookup_failing_since",
    "error_number", "reason",
)  # fmt: skip


def _differs(name: str, pairs: Iterable[tuple[Job, Job]]) -> bool:
    get = attrgetter(name)
    # What was not touched is the same object, and most of these are compared by slow code.
    return any(new is not old and new != old for new, old in ((get(job), get(before)) for job, before in pairs))


def _column(name: str, jobs: Sequence[Job]) -> list[Any]:
    values: list[Any] = [getattr(job, name) for job in jobs]
    if name in _ENUMERATIONS:
        return [value and str(value) for value in values]
    return [text(value) for value in values] if name in _TOLD_BY_VENDOR else values


_ENUMERATIONS = frozenset({"state", "if_absent"})
#: These may hold anything that the vendor said.
_TOLD_BY_VENDOR = frozenset({"reason", "order_number", "reference"})


def holders(
    connection: sa.Connection, company_ids: Iterable[int], vendor_ids: Iterable[int]
) -> dict[tuple[int, int], uuid.UUID]:
    """Which jobs already hold these vendor ids: (company id, vendor id) to job id."""
    wanted = set(vendor_ids)
    if not wanted:
        return {}
    rows = connection.execute(_HOLDERS, {"companies": list(set(company_ids)), "vendor_ids": list(wanted)})
    return {(company_id, vendor_id): job_id for company_id, vendor_id, job_id in rows}


_HOLDERS = sa.select(_job.company_id, _job.vendor_id, _job.id).where(
    _job.company_id.in_(sa.bindparam("companies", expanding=True)),
    _job.vendor_id.in_(sa.bindparam("vendor_ids", expanding=True)),
)


def write_events(
    connection: sa.Connection,
    now: datetime,
    actor: str,
    events: Iterable[tuple[int | None, uuid.UUID | None, Happening]],
) -> None:
    """Append events: (company id, job id, what happened)."""
    values = [
        {
            "at": now,
            "kind": happening.kind,
            "alarm": happening.alarm,
            "company_id": company_id,
            "job_id": job_id,
            "actor": actor,
            "detail": json(happening.detail) if happening.detail else None,
        }
        for company_id, job_id, happening in events
    ]
    if values:
        connection.execute(sa.insert(schema.event), values)


def read_statuses(connection: sa.Connection, job_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, JobStatus]:
    """What is told about these jobs outside the ledger."""
    read = [_read_named(row) for row in connection.execute(_TOLD, {"ids": list(job_ids)})]
    return {job.id: status_of(job, names) for job, names in read}


def status_of(job: Job, names: Names) -> JobStatus:
    """What is told about a job outside the ledger."""
    return JobStatus(
        state=job.state,
        company=names.company,
        external_id=names.external_id,
        at=job.since,
        attempts=job.attempts,
        order_number=text(job.order_number),
        vendor_id=job.vendor_id,
        reference=text(job.reference),
        error_number=job.error_number,
        reason=text(job.reason),
        content=None if names.content_digest is None else content_mark(names.content_digest),
        priority=lanes.priority_of(job.lane),
        due_at=job.not_before,
        deadline=job.deadline,
    )
