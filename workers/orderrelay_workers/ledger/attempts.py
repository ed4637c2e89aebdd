"""Attempts: one row for each request to the vendor, with its answer verbatim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.bulk import Bulk
from orderrelay_workers.ledger.rows import text

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable
    from datetime import datetime

    from orderrelay_workers.vendor.exchange import Exchange

_table = schema.attempt.c


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request to the vendor, as it shall be recorded."""

    job_id: uuid.UUID
    company_id: int
    kind: str
    token: uuid.UUID
    number: int
    body_digest: bytes | None
    worker: uuid.UUID
    outcome: str
    reason: str | None
    exchange: Exchange | None
    began_at: datetime


def write_attempts(connection: sa.Connection, attempts: Iterable[Attempt], now: datetime) -> None:
    """Record attempts. One that the sweep wrote without an answer gets its answer; another record of it is ignored."""
    _UPSERT.run(connection, [_values(attempt, now) for attempt in attempts])


def _values(attempt: Attempt, now: datetime) -> dict[str, object]:
    exchange = attempt.exchange
    answer = None if exchange is None else exchange.body if exchange.body is not None else exchange.partial or None
    return {
        "job_id": attempt.job_id,
        "company_id": attempt.company_id,
        "kind": attempt.kind,
        "token": attempt.token,
        "number": attempt.number,
        "body_digest": attempt.body_digest,
        "worker": attempt.worker,
        "began_at": exchange.began_at if exchange else attempt.began_at,
        "ended_at": exchange.ended_at if exchange else None,
        "sent": exchange.sent if exchange else None,
        "http_status": exchange.status if exchange else None,
        "outcome": attempt.outcome,
        "reason": text(attempt.reason),
        "content_type": text(exchange.headers.get("content-type")) if exchange else None,
        "answer": answer,
        "answer_complete": exchange.body is not None if exchange else None,
        # Only the answer to an order can be an operation result; nothing else waits for the results task.
        "stored_at": None if attempt.kind == "order" and answer is not None else now,
    }


def _upsert(connection: sa.Connection) -> sa.Insert:
    insert = sqlite.insert(schema.attempt) if connection.dialect.name == "sqlite" else postgresql.insert(schema.attempt)
    insert = insert.values({c.name: sa.bindparam(c.name, type_=c.type) for c in _table if c.name != "id"})
    told = insert.excluded
    learned = (
        "body_digest", "began_at", "ended_at", "sent", "http_status", "outcome", "reason", "content_type", "answer",
        "answer_complete", "stored_at",
    )  # fmt: skip
    return insert.on_conflict_do_update(
        index_elements=["job_id", "token", "kind"],
        set_={name: told[name] for name in learned},
        where=sa.and_(_table.ended_at.is_(None), told.ended_at.is_not(None)),
    )


_UPSERT = Bulk(_upsert)
