"""All that is read from the ledger for people: lists a page at a time, one order's story.

Lists are read by keyset: a page begins behind the last line of the one before, however long the table is.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from orderrelay_shared import ids, wire
from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

_job = schema.job.c
_key = schema.order_key.c
_company = schema.company.c
_attempt = schema.attempt.c
_result = schema.operation_result.c
_event = schema.event.c
_worker = schema.worker.c
_past_worker = schema.past_worker.c
_revision = schema.revision.c

_is_set_aside = _event.kind == "set_aside"


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a list, and in the story of its order: all that the ledger knows of where it is."""

    job: uuid.UUID
    company: str
    external_id: str
    state: JobState
    since: datetime
    due_at: datetime
    accepted_at: datetime
    booked_at: datetime
    revision: int
    attempts: int
    requests: int
    lookups: int
    claimed_at: datetime | None
    lease_until: datetime | None
    if_absent: str | None
    absent_at: datetime | None
    lookup_failing_since: datetime | None
    vendor_id: int | None
    order_number: str | None
    reference: str | None
    error_number: int | None
    reason: str | None
    lane: int
    not_before: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class EventLine:
    """Something that happened. `detail` is what its JSON says; what is none comes as {"bytes": …}."""

    id: int
    at: datetime
    kind: str
    alarm: bool
    company: str | None
    job: uuid.UUID | None
    actor: str
    detail: object


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """A request to the vendor. `worker` is the worker's name if it is known; `answer` is verbatim."""

    id: int
    kind: str
    number: int
    worker: str
    began_at: datetime
    ended_at: datetime | None
    sent: bool | None
    http_status: int | None
    outcome: str
    reason: str | None
    content_type: str | None
    answer: bytes | None
    answer_complete: bool | None
    stored_at: datetime | None


@dataclass(frozen=True, slots=True)
class ResultLine:
    """An operation result: the properties by their snake-case names, JSON columns read."""

    attempt_id: int
    received_at: datetime
    properties: dict[str, object]


@dataclass(frozen=True, slots=True)
class RevisionLine:
    """What was to be sent, from number 1 on; `traceparent` leads to the trace of the call that handed it over."""

    number: int
    body: bytes
    created_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one order. `read_at` is by the shared clock; lists are oldest first."""

    job: JobLine
    paused_reason: str | None
    revisions: tuple[RevisionLine, ...]
    attempts: tuple[AttemptLine, ...]
    results: tuple[ResultLine, ...]
    events: tuple[EventLine, ...]
    read_at: datetime


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs: all conditions that are not None. Instants are of the booking, `until` not included."""

    company_id: int | None = None
    state: JobState | None = None
    since: datetime | None = None
    until: datetime | None = None
    job_ids: tuple[uuid.UUID, ...] | None = None
    order_number: str | None = None


@dataclass(frozen=True, slots=True)
class JobCursor:
    """The place of a job in a list: the instant that the list is sorted by, and the job's id."""

    at: datetime
    job: uuid.UUID

    def __str__(self) -> str:
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}-{self.job.hex}"

    @classmethod
    def parse(cls, text: str) -> JobCursor:
        """The place that a text names.

        Raises:
            ValueError: The text is no cursor of a list of jobs.
        """
        at, _, job = text.rpartition("-")
        return cls(datetime.strptime(at, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC), uuid.UUID(job))


_JOB_COLUMNS = [
    _job.id.label("job"),
    _company.alias.label("company"),
    *(_job[f.name] for f in dataclasses.fields(JobLine) if f.name not in ("job", "company")),
]


def list_jobs(engine: sa.Engine, wanted: JobFilter, limit: int, after: JobCursor | None = None) -> list[JobLine]:
    """Jobs by the time of their booking, newest first."""
    query = sa.select(*_JOB_COLUMNS).join_from(schema.job, schema.company).where(*_conditions(wanted))
    if after is not None:
        query = query.where(sa.tuple_(_job.booked_at, _job.id) < _place(after))
    with reading(engine) as connection:
        if (few := _few(connection, wanted)) is not None:
            query = query.where(_job.id.in_(few))
        query = query.order_by(_job.booked_at.desc(), _job.id.desc()).limit(limit)
        return [_job_line(row) for row in connection.execute(query).mappings()]


#: Of the states that have an index of their own, but not by the time of booking: the order of that index.
_UNDER_WAY: Final[dict[JobState, tuple[sa.ColumnElement[Any], ...]]] = {
    JobState.WAITING: (_job.company_id, _job.lane, _job.due_at),
    JobState.IN_PROGRESS: (_job.owner,),
}

#: So many are looked for in an index of their own. Where there are more, a page is soon full by time of booking.
_FEW: Final = 1000


def _few(connection: sa.Connection, wanted: JobFilter) -> Sequence[uuid.UUID] | None:
    """The jobs in a state or of a company if they are few: by the time of booking, all jobs would be read for them."""
    queries: list[sa.Select[uuid.UUID]] = []
    if wanted.state is not None and wanted.state in _UNDER_WAY:
        queries.append(sa.select(_job.id).where(_is(wanted.state)).order_by(*_UNDER_WAY[wanted.state]))
    if wanted.company_id is not None:
        of_company = sa.select(_key.job_id).where(_key.company_id == wanted.company_id)
        queries.append(of_company.order_by(_key.company_id, _key.external_id_digest))
    for query in queries:
        found = connection.execute(query.limit(_FEW + 1)).scalars().all()
        if len(found) <= _FEW:
            return found
    return None


def list_parked(
    engine: sa.Engine, company_id: int | None, limit: int, after: JobCursor | None = None
) -> list[JobLine]:  # fmt: skip
    """Parked jobs, the longest parked first."""
    query = sa.select(*_JOB_COLUMNS).join_from(schema.job, schema.company).where(_is(JobState.PARKED))
    if company_id is not None:
        query = query.where(_job.company_id == company_id)
    if after is not None:
        query = query.where(sa.tuple_(_job.since, _job.id) > _place(after))
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(_job.since, _job.id).limit(limit)).mappings()
        return [_job_line(row) for row in rows]


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.company_id is not None:
        found.append(_job.company_id == wanted.company_id)
    if wanted.state is not None:
        found.append(_is(wanted.state))
        if wanted.state in schema.STOPPED:
            found.append(schema.IS_STOPPED)  # in the words of the index, or SQLite would not take it
    if wanted.since is not None:
        found.append(_job.booked_at >= wanted.since)
    if wanted.until is not None:
        found.append(_job.booked_at < wanted.until)
    if wanted.job_ids is not None:
        found.append(_job.id.in_(wanted.job_ids))
    if wanted.order_number is not None:
        found.append(_job.order_number == wanted.order_number)
    return found


def _is(state: JobState) -> sa.ColumnElement[bool]:
    return _job.state == sa.literal_column(f"'{state}'")  # a literal, so that the partial index serves


def _place(cursor: JobCursor) -> sa.Tuple:
    return sa.tuple_(sa.literal(cursor.at, schema.UtcDateTime()), sa.literal(cursor.job, sa.Uuid()))


def _job_line(row: sa.RowMapping) -> JobLine:
    values: dict[str, Any] = dict(row)
    values["state"] = JobState(values["state"])
    return JobLine(**values)


def list_alarms(
    engine: sa.Engine,
    *,
    only_set_aside: bool = False,
    company_id: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
    after: int | None = None,
) -> list[EventLine]:
    """Alarms, newest first; or of them only the intake's entries that could not be booked."""
    query = _events().where(_event.alarm)
    if only_set_aside:
        query = query.where(_is_set_aside)
    if company_id is not None:
        query = query.where(_event.company_id == company_id)
    if since is not None:
        query = query.where(_event.at >= since)
    if until is not None:
        query = query.where(_event.at < until)
    if after is not None:
        query = query.where(_event.id < after)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(_event.id.desc()).limit(limit)).mappings()
        return [_event_line(row) for row in rows]


def _events() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(
        _event.id,
        _event.at,
        _event.kind,
        _event.alarm,
        _company.alias.label("company"),
        _event.job_id.label("job"),
        _event.actor,
        _event.detail,
    ).join_from(schema.event, schema.company, _company.id == _event.company_id, isouter=True)


def _event_line(row: sa.RowMapping) -> EventLine:
    values: dict[str, Any] = dict(row)
    raw: bytes | None = values["detail"]
    if raw is not None:
        try:
            values["detail"] = wire.loads(raw)
        except wire.WireInvalid:
            values["detail"] = {"bytes": raw}
    return EventLine(**values)


def ids_of(aliases: Sequence[str], external_id: str) -> tuple[uuid.UUID, ...]:
    """The job ids that an ExternalId has, one in each of these companies."""
    return tuple(ids.job_id(alias, external_id) for alias in aliases)


def find_jobs(
    engine: sa.Engine, reference: str, aliases: Sequence[str], company_id: int | None, *, limit: int = 20
) -> list[JobLine]:  # fmt: skip
    """The jobs that a person may mean: the one of this job id, else those of this ExternalId or order number."""
    try:
        by_id = list_jobs(engine, JobFilter(company_id, job_ids=(uuid.UUID(reference),)), 1)
    except ValueError:
        by_id = []
    if by_id:
        return by_id
    found = list_jobs(engine, JobFilter(company_id, job_ids=ids_of(aliases, reference)), limit)
    found += list_jobs(engine, JobFilter(company_id, order_number=reference), limit)
    return list({line.job: line for line in found}.values())


def read_story(engine: sa.Engine, job_id: uuid.UUID) -> Story | None:
    """Everything about one order, or None if there is no such job."""
    with reading(engine) as connection:
        query = sa.select(*_JOB_COLUMNS, _company.paused_reason).join_from(schema.job, schema.company)
        row = connection.execute(query.where(_job.id == job_id)).mappings().one_or_none()
        if row is None:
            return None
        values = dict(row)
        paused_reason = values.pop("paused_reason")
        revisions = connection.execute(
            sa.select(_revision.number, _revision.body, _revision.created_at, _revision.traceparent)
            .where(_revision.job_id == job_id)
            .order_by(_revision.number)
        ).mappings()
        attempts = connection.execute(
            sa.select(
                *(_attempt[f.name] for f in dataclasses.fields(AttemptLine) if f.name != "worker"),
                _attempt.worker.label("boot_id"),
                sa.func.coalesce(_worker.name, _past_worker.name).label("name"),
            )
            .join_from(schema.attempt, schema.worker, _worker.boot_id == _attempt.worker, isouter=True)
            .join(schema.past_worker, _past_worker.boot_id == _attempt.worker, isouter=True)
            .where(_attempt.job_id == job_id)
            .order_by(_attempt.id)
        ).mappings()
        of_job = sa.select(_attempt.id).where(_attempt.job_id == job_id)
        results = connection.execute(
            sa.select(schema.operation_result).where(_result.attempt_id.in_(of_job)).order_by(_result.attempt_id)
        ).mappings()
        events = connection.execute(_events().where(_event.job_id == job_id).order_by(_event.id)).mappings()
        return Story(
            job=_job_line(values),  # type: ignore[arg-type]  # a mapping as well
            paused_reason=paused_reason,
            revisions=tuple(RevisionLine(**line) for line in revisions),
            attempts=tuple(_attempt_line(line) for line in attempts),
            results=tuple(_result_line(line) for line in results),
            events=tuple(_event_line(line) for line in events),
            read_at=clock(connection),
        )


def _attempt_line(row: sa.RowMapping) -> AttemptLine:
    values: dict[str, Any] = dict(row)
    name, boot_id = values.pop("name"), values.pop("boot_id")
    return AttemptLine(**values, worker=name or str(boot_id))


_JSON_COLUMNS = frozenset(
    column.name for column in schema.operation_result.c if (column.comment or "").startswith("JSON")
)
_NOT_PROPERTIES = frozenset({"attempt_id", "job_id", "company_id", "received_at"})


def _result_line(row: sa.RowMapping) -> ResultLine:
    properties: dict[str, object] = {
        name: wire.loads(value) if name in _JSON_COLUMNS and value is not None else value
        for name, value in row.items()
        if name not in _NOT_PROPERTIES
    }
    return ResultLine(row["attempt_id"], row["received_at"], properties)
