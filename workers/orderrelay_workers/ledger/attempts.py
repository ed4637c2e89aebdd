"""Attempts: one row for each request to the vendor, with its answer verbatim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderrelay_workers.ledger import bulk, schema
from orderrelay_workers.ledger.rows import text

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable
    from datetime import datetime

    import sqlalchemy as sa

    from orderrelay_workers.vendor.exchange import Exchange


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
    first_of: dict[tuple[uuid.UUID, uuid.UUID, str], Attempt] = {}
    for attempt in attempts:  # PostgreSQL takes no row twice in one statement
        first_of.setdefault((attempt.job_id, attempt.token, attempt.kind), attempt)
    rows = [_values(attempt, now) for attempt in first_of.values()]
    if rows:
        each = {name: [row[name] for row in rows] for name in rows[0]}
        bulk.insert(connection, schema.attempt, each, then=_UPSERT)


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


def _upsert() -> str:
    learned = (
        "body_digest", "began_at", "ended_at", "sent", "http_status", "outcome", "reason", "content_type", "answer",
        "answer_complete", "stored_at",
    )  # fmt: skip
    assigned = ", ".join(f"{name} = excluded.{name}" for name in learned)
    first = "attempt.ended_at IS NULL AND excluded.ended_at IS NOT NULL"
    return f"ON CONFLICT (job_id, token, kind) DO UPDATE SET {assigned} WHERE {first}"


_UPSERT = _upsert()
