"""Intake into the ledger: from an accepted entry to a committed job row. Idempotent.

The idempotency key is (company, ExternalId digest) in `order_key`. Who inserts it first has the job; the same content
again is the same job, other content is a conflict, which is recorded while the first stays.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa
from sqlalchemy import exc

from orderrelay_shared import ids
from orderrelay_shared.states import JobState
from orderrelay_workers import lanes
from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import companies, schema
from orderrelay_workers.ledger.engine import clock, is_away
from orderrelay_workers.ledger.rows import insert_ignoring, write_events

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from orderrelay_shared.intake import Envelope


@dataclass(frozen=True, slots=True)
class Accepted:
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
        try:
            return datetime.fromtimestamp(int(self.entry_id.split("-", 1)[0]) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Booked:
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
    company_ids = companies.ensure(engine, {accepted.envelope.company for accepted in batch})
    first_of: dict[uuid.UUID, Accepted] = {}
    for accepted in batch:
        first_of.setdefault(accepted.envelope.job_id, accepted)
    with engine.begin() as connection:
        now = clock(connection)
        new = _insert_keys(engine, connection, first_of, company_ids)
        _insert_jobs(connection, [first_of[job_id] for job_id in sorted(new)], company_ids, now)
        known = [accepted.envelope for job_id, accepted in first_of.items() if job_id not in new]
        content = _content_digests(connection, known, company_ids)
        content |= {job_id: first_of[job_id].envelope.content_digest for job_id in new}
        booked = [_result(accepted, first_of, new, content) for accepted in batch]
        conflicts = [b for b in booked if b.result == "conflict"]
        write_events(
            connection,
            now,
            actor,
            [(company_ids[b.accepted.envelope.company], b.job_id, _conflict(b)) for b in conflicts],
        )
    return booked


def _insert_keys(
    engine: sa.Engine,
    connection: sa.Connection,
    first_of: dict[uuid.UUID, Accepted],
    company_ids: dict[str, int],
) -> set[uuid.UUID]:
    """Insert the keys that are not there yet, in a fixed order so that two workers cannot deadlock."""
    keys = [
        {
            "company_id": company_ids[accepted.envelope.company],
            "external_id_digest": ids.external_id_digest(accepted.envelope.external_id),
            "job_id": job_id,
            "content_digest": accepted.envelope.content_digest,
        }
        for job_id, accepted in sorted(first_of.items())
    ]
    statement = insert_ignoring(engine, schema.order_key).returning(schema.order_key.c.job_id)
    return set(connection.execute(statement, keys).scalars())


def _insert_jobs(
    connection: sa.Connection, batch: Sequence[Accepted], company_ids: dict[str, int], now: datetime
) -> None:  # fmt: skip
    if not batch:
        return
    connection.execute(
        sa.insert(schema.job),
        [
            {
                "id": accepted.envelope.job_id,
                "company_id": company_ids[accepted.envelope.company],
                "external_id": accepted.envelope.external_id,
                "revision": 1,
                "body_version": accepted.envelope.body_version,
                "state": str(JobState.WAITING),
                "since": now,
                "due_at": max(now, accepted.envelope.due_at or now),
                "not_before": accepted.envelope.due_at,
                "deadline": accepted.envelope.deadline,
                "lane": lanes.lane_of(accepted.envelope.priority),
                "accepted_at": accepted.accepted_at,
                "booked_at": now,
                "attempts": 0,
                "requests": 0,
                "lookups": 0,
            }
            for accepted in batch
        ],
    )
    connection.execute(
        sa.insert(schema.revision),
        [
            {
                "job_id": accepted.envelope.job_id,
                "number": 1,
                "body": accepted.envelope.body,
                "body_digest": hashlib.sha256(accepted.envelope.body).digest(),
                "content_digest": accepted.envelope.content_digest,
                "created_at": now,
            }
            for accepted in batch
        ],
    )


def _content_digests(
    connection: sa.Connection, envelopes: Sequence[Envelope], company_ids: dict[str, int]
) -> dict[uuid.UUID, bytes]:
    if not envelopes:
        return {}
    table = schema.order_key.c
    query = sa.select(table.job_id, table.content_digest).where(
        table.company_id.in_({company_ids[e.company] for e in envelopes}),
        table.external_id_digest.in_([ids.external_id_digest(e.external_id) for e in envelopes]),
    )
    return {row.job_id: row.content_digest for row in connection.execute(query)}


def _result(
    accepted: Accepted, first_of: dict[uuid.UUID, Accepted], new: set[uuid.UUID], content: dict[uuid.UUID, bytes]
) -> Booked:
    job_id = accepted.envelope.job_id
    if content.get(job_id) != accepted.envelope.content_digest:
        return Booked(accepted, job_id, "conflict")
    return Booked(accepted, job_id, "new" if job_id in new and first_of[job_id] is accepted else "already")


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
