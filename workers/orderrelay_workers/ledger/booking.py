"""Intake into the ledger: from an accepted entry to a committed job row. Idempotent.

The idempotency key is (company, ExternalId digest) in `order_key`. Who inserts it first has the job; the same content
again is the same job, other content is a conflict, which is recorded while the first stays.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from orderrelay_shared import ids
from orderrelay_shared.states import JobState
from orderrelay_workers import lanes
from orderrelay_workers.cancelling import LAST_PLACE
from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import bulk, companies, schema
from orderrelay_workers.ledger.engine import clock, is_away, writing_much
from orderrelay_workers.ledger.rows import write_events

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from orderrelay_shared.intake import Envelope

#: So many keys are looked up in one statement at most; older SQLites take no 1,000 values.
_LOOK_UP: Final = 500


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An order from the intake stream.

    Attributes:
        entry_id: The stream's id of the entry, `milliseconds-sequence`.
        envelope: What the entry holds.
    """

    entry_id: str
    envelope: Envelope

    @property
    def accepted_at(self) -> datetime:
        """When the stream took the entry, by Redis' clock."""
        return taken_at(self.entry_id)


def taken_at(entry_id: str) -> datetime:
    """When the stream took an entry, by Redis' clock and the entry's id.

    Of entries of one millisecond each later one is a microsecond later, up to the thousandth: whether a request to
    cancel came before its order or after it must not be lost.
    """
    milliseconds, _, place = entry_id.partition("-")
    try:
        return _instant(milliseconds) + timedelta(microseconds=min(int(place or 0), LAST_PLACE))
    except (ValueError, OverflowError, OSError):
        return datetime.now(UTC)


@lru_cache(64)
def _instant(milliseconds: str) -> datetime:
    """The instant so long after 1970; of one millisecond come several orders."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


class Booked(msgspec.Struct, frozen=True, gc=False):
    """What came of one accepted order."""

    accepted: Accepted
    job_id: uuid.UUID
    result: Literal["new", "already", "conflict", "set_aside"]


def book(engine: sa.Engine, batch: Sequence[Accepted], *, actor: str) -> list[Booked]:
    """Book a batch in one transaction; when this returns, it is committed.

    A batch that fails on its content (not on the connection) is halved until the one bad order is found. Only that one
    is set aside, as an event with its bytes and the reason.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database is away; nothing of what was not returned is booked.
    """
    if not batch:
        return []
    try:
        return _book(engine, batch, actor)
    except (exc.DBAPIError, exc.StatementError, ValueError, OverflowError) as error:
        if is_away(error):
            raise
        if len(batch) == 1:
            reason = type(getattr(error, "orig", None) or error).__name__
            set_aside(engine, batch[0].entry_id, batch[0].envelope.to_fields(), reason, actor=actor)
            return [Booked(batch[0], batch[0].envelope.job_id, "set_aside")]
    middle = len(batch) // 2
    return book(engine, batch[:middle], actor=actor) + book(engine, batch[middle:], actor=actor)


def _book(engine: sa.Engine, batch: Sequence[Accepted], actor: str) -> list[Booked]:
    aliases = {accepted.envelope.company for accepted in batch}
    with writing_much(engine) as connection:
        company_ids = companies.ids_of(connection, aliases)
        if len(company_ids) == len(aliases):
            return _book_for(connection, batch, company_ids, actor)
    companies.ensure(engine, aliases)  # in a transaction of its own, so that nobody waits for the batch
    with writing_much(engine) as connection:
        return _book_for(connection, batch, companies.ids_of(connection, aliases), actor)


def _book_for(
    connection: sa.Connection, batch: Sequence[Accepted], company_ids: dict[str, int], actor: str
) -> list[Booked]:  # fmt: skip
    now = clock(connection)
    job_ids = [accepted.envelope.job_id for accepted in batch]
    first_of: dict[uuid.UUID, Accepted] = {}
    for job_id, accepted in zip(job_ids, batch, strict=True):
        first_of.setdefault(job_id, accepted)
    # In a fixed order, so that two workers cannot deadlock; and in that of the index, which so is gone through once.
    keys = sorted(
        _Key(company_ids[first.envelope.company], ids.external_id_digest(first.envelope.external_id), job_id, first)
        for job_id, first in first_of.items()
    )
    inserted = _insert_keys(connection, keys)
    _insert_jobs(connection, sorted(inserted, key=lambda key: key.job_id.int), now)
    if len(inserted) == len(batch):  # nearly always
        return [Booked(accepted, job_id, "new") for job_id, accepted in zip(job_ids, batch, strict=True)]
    new = {key.job_id for key in inserted}
    known = [key for key in keys if key.job_id not in new]
    content = {key.job_id: key.accepted.envelope.content_digest for key in keys if key.job_id in new}
    content |= dict(_known(connection, known).values())
    booked = [
        _result(accepted, job_id, first_of[job_id] is accepted and job_id in new, content.get(job_id))
        for job_id, accepted in zip(job_ids, batch, strict=True)
    ]
    conflicts = [b for b in booked if b.result == "conflict"]
    write_events(
        connection,
        now,
        actor,
        [(company_ids[b.accepted.envelope.company], b.job_id, _conflict(b)) for b in conflicts],
    )
    return booked


class _Key(NamedTuple):
    """An order by its idempotency key."""

    company_id: int
    external_id_digest: bytes
    job_id: uuid.UUID
    accepted: Accepted


def _insert_keys(connection: sa.Connection, keys: Sequence[_Key]) -> Sequence[_Key]:
    """Insert the keys that are not there yet; those."""
    if connection.dialect.name != "sqlite":
        new = bulk.insert_new(connection, schema.order_key, _rows(keys), "job_id")
        return keys if len(new) == len(keys) else [key for key in keys if key.job_id in new]
    inserted: list[_Key] = []
    for begin in range(0, len(keys), bulk.ROWS_AT_A_TIME):
        some = keys[begin : begin + bulk.ROWS_AT_A_TIME]
        try:
            bulk.insert(connection, schema.order_key, _rows(some))
        except exc.IntegrityError:  # nothing of that statement is left
            # SQLite's write lock is held, so what is not there now nobody else can insert.
            known = _known(connection, some)
            some = [key for key in some if (key.company_id, key.external_id_digest) not in known]
            bulk.insert(connection, schema.order_key, _rows(some))
        inserted += some
    return inserted


def _rows(keys: Sequence[_Key]) -> dict[str, list[Any]]:
    return {
        "company_id": [key.company_id for key in keys],
        "external_id_digest": [key.external_id_digest for key in keys],
        "job_id": [key.job_id for key in keys],
        "content_digest": [key.accepted.envelope.content_digest for key in keys],
    }


def _insert_jobs(connection: sa.Connection, keys: Sequence[_Key], now: datetime) -> None:
    if not keys:
        return
    envelopes = [key.accepted.envelope for key in keys]
    job_ids = [key.job_id for key in keys]
    bulk.insert(
        connection,
        schema.job,
        {
            "id": job_ids,
            "company_id": [key.company_id for key in keys],
            "external_id": [envelope.external_id for envelope in envelopes],
            "body_version": [envelope.body_version for envelope in envelopes],
            "due_at": [now if e.due_at is None else max(now, e.due_at) for e in envelopes],
            "not_before": [envelope.due_at for envelope in envelopes],
            "deadline": [envelope.deadline for envelope in envelopes],
            "lane": [lanes.lane_of(envelope.priority) for envelope in envelopes],
            "accepted_at": [key.accepted.accepted_at for key in keys],
        },
        {
            "revision": 1,
            "state": str(JobState.WAITING),
            "since": now,
            "booked_at": now,
            "attempts": 0,
            "requests": 0,
            "lookups": 0,
        },
    )
    revisions: dict[str, list[Any]] = {
        "job_id": job_ids,
        "body": [envelope.body for envelope in envelopes],
        "body_digest": [hashlib.sha256(envelope.body).digest() for envelope in envelopes],
        "content_digest": [envelope.content_digest for envelope in envelopes],
    }
    traceparents = [envelope.traceparent for envelope in envelopes]
    if any(traceparents):
        revisions["traceparent"] = traceparents
    bulk.insert(connection, schema.revision, revisions, {"number": 1, "created_at": now})


def _known(connection: sa.Connection, keys: Sequence[_Key]) -> dict[tuple[int, bytes], tuple[uuid.UUID, bytes]]:
    """Which keys are there: company and ExternalId digest to the job's id and the digest of its content."""
    table = schema.order_key.c
    found: dict[tuple[int, bytes], tuple[uuid.UUID, bytes]] = {}
    by_company: dict[int, list[bytes]] = {}
    for key in keys:
        by_company.setdefault(key.company_id, []).append(key.external_id_digest)
    for company_id, digests in by_company.items():
        for begin in range(0, len(digests), _LOOK_UP):
            query = sa.select(table.external_id_digest, table.job_id, table.content_digest).where(
                table.company_id == company_id, table.external_id_digest.in_(digests[begin : begin + _LOOK_UP])
            )
            found |= {(company_id, row[0]): (row[1], row[2]) for row in connection.execute(query)}
    return found


def _result(accepted: Accepted, job_id: uuid.UUID, is_new: bool, content: bytes | None) -> Booked:
    if content != accepted.envelope.content_digest:
        return Booked(accepted, job_id, "conflict")
    return Booked(accepted, job_id, "new" if is_new else "already")


def _conflict(booked: Booked) -> Happening:
    body = booked.accepted.envelope.body
    return Happening(
        "conflict",
        detail={
            "entry": booked.accepted.entry_id,
            "external_id": booked.accepted.envelope.external_id,
            "content_digest": booked.accepted.envelope.content_digest.hex(),
            "body_base64": base64.b64encode(body).decode(),
        },
    )


def set_aside(
    engine: sa.Engine, entry_id: str, fields: dict[str, bytes | str], reason: str, *, actor: str
) -> None:  # fmt: skip
    """Keep an entry that cannot be booked, with the reason and all its bytes, for a person."""
    raw = {
        name: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
        for name, value in fields.items()
    }
    happening = Happening(
        "set_aside", alarm=True, detail={"entry": entry_id, "reason": reason, "fields_base64": raw}
    )  # fmt: skip
    with engine.begin() as connection:
        write_events(connection, clock(connection), actor, [(None, None, happening)])
