"""Jobs between the table and the decisions: read under a row lock, decided, written back in one statement."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orderrelay_shared.job_status import JobStatus, content_mark
from orderrelay_shared.states import JobState
from orderrelay_workers import lanes
from orderrelay_workers.decisions import Happening, Job
from orderrelay_workers.ledger import schema

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_FIELDS = tuple(f.name for f in dataclasses.fields(Job))
_COLUMNS = [schema.job.c[name] for name in _FIELDS]
_WRITTEN = tuple(name for name in _FIELDS if name not in ("id", "company_id"))

_UPDATE = (
    sa.update(schema.job)
    .where(schema.job.c.id == sa.bindparam("job"))
    .values({name: sa.bindparam(f"new_{name}") for name in _WRITTEN})
)


def text(value: str | None) -> str | None:
    """Text as both databases can store it: without U+0000 and lone surrogates."""
    if value is None:
        return None
    return value.replace("\0", "").encode("utf-8", "replace").decode()


def json(value: object) -> bytes:
    """Detail of an event as stored."""
    return msgspec.json.encode(value, enc_hook=str)


def insert_ignoring(engine: sa.Engine, table: sa.Table) -> sa.Insert:
    """An INSERT that leaves out rows which are there already."""
    if engine.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def read_job(row: sa.RowMapping) -> Job:
    """A row of `job` as the decisions take it."""
    values: dict[str, Any] = {name: row[name] for name in _FIELDS}
    values["state"] = JobState(values["state"])
    values["if_absent"] = JobState(values["if_absent"]) if values["if_absent"] else None
    return Job(**values)


def lock_jobs(connection: sa.Connection, job_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Job]:
    """Read jobs and lock their rows until the transaction ends, in the order of their ids, so that nobody deadlocks."""
    query = (
        sa.select(*_COLUMNS)
        .where(schema.job.c.id.in_(sorted(job_ids)))
        .order_by(schema.job.c.id)
        .with_for_update(key_share=True)
    )
    return {row["id"]: read_job(row) for row in connection.execute(query).mappings()}


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
    return [read_job(row) for row in connection.execute(query).mappings()]


def write_jobs(connection: sa.Connection, jobs: Sequence[Job]) -> None:
    """Write back jobs read under their locks in this transaction."""
    if jobs:
        connection.execute(_UPDATE, [_parameters(job) for job in jobs])


def _parameters(job: Job) -> dict[str, object]:
    values: dict[str, object] = {f"new_{name}": getattr(job, name) for name in _WRITTEN}
    values["new_state"] = str(job.state)
    values["new_if_absent"] = str(job.if_absent) if job.if_absent else None
    values["new_reason"] = text(job.reason)
    values["new_order_number"] = text(job.order_number)
    values["new_reference"] = text(job.reference)
    values["job"] = job.id
    return values


def holders(
    connection: sa.Connection, company_ids: Iterable[int], vendor_ids: Iterable[int]
) -> dict[tuple[int, int], uuid.UUID]:
    """Which jobs already hold these vendor ids: (company id, vendor id) to job id."""
    wanted = set(vendor_ids)
    if not wanted:
        return {}
    table = schema.job.c
    query = sa.select(table.company_id, table.vendor_id, table.id).where(
        table.company_id.in_(set(company_ids)), table.vendor_id.in_(wanted)
    )
    return {(row.company_id, row.vendor_id): row.id for row in connection.execute(query)}


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
    table = schema.job.c
    query = (
        sa.select(
            table.id,
            table.state,
            schema.company.c.alias,
            table.external_id,
            table.since,
            table.attempts,
            table.order_number,
            table.vendor_id,
            table.reference,
            table.error_number,
            table.reason,
            table.lane,
            table.not_before,
            table.deadline,
            schema.revision.c.content_digest,
        )
        .join_from(schema.job, schema.company)
        # Of what was enqueued, as conflicts are judged by; a correction does not change it.
        .outerjoin(schema.revision, (schema.revision.c.job_id == table.id) & (schema.revision.c.number == 1))
        .where(table.id.in_(list(job_ids)))
    )
    return {
        row.id: JobStatus(
            state=JobState(row.state),
            company=row.alias,
            external_id=row.external_id,
            at=row.since,
            attempts=row.attempts,
            order_number=row.order_number,
            vendor_id=row.vendor_id,
            reference=row.reference,
            error_number=row.error_number,
            reason=row.reason,
            content=None if row.content_digest is None else content_mark(row.content_digest),
            priority=lanes.priority_of(row.lane),
            due_at=row.not_before,
            deadline=row.deadline,
        )
        for row in connection.execute(query)
    }
