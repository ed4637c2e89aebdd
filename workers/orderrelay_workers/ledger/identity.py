"""Which ledger this is: two ledgers behind one intake would book, and so create, orders twice."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_shared import keys
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock

if TYPE_CHECKING:
    import redis


class OtherLedger(Exception):
    """The intake in Redis already belongs to another ledger."""


def ledger_id(engine: sa.Engine) -> uuid.UUID:
    """The ledger's id; made when it is asked for the first time."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("LOCK TABLE ledger IN EXCLUSIVE MODE"))
        found = connection.execute(sa.select(schema.ledger.c.id)).scalar_one_or_none()
        if found is None:
            found = uuid.uuid4()
            connection.execute(sa.insert(schema.ledger).values(id=found, created_at=clock(connection)))
        return found


def check(redis: redis.Redis, ours: uuid.UUID) -> None:
    """Mark the intake as this ledger's. A wiped Redis takes the mark of the first worker.

    Raises:
        OtherLedger: It is another ledger's.
        redis.RedisError: Redis is away.
    """
    redis.set(keys.LEDGER_ID, ours.hex, nx=True)
    marked = redis.get(keys.LEDGER_ID)
    theirs = marked.decode() if isinstance(marked, bytes) else ours.hex
    if theirs != ours.hex:
        raise OtherLedger(
            f"this Redis belongs to ledger {theirs}, but the database holds ledger {ours.hex}. Two ledgers behind one "
            f"intake would create orders twice. Use the database or the Redis that belongs to the other; only if that "
            f"ledger is gone for good, delete the key {keys.LEDGER_ID!r}, and run: orderrelay pause --begin-cautious"
        )
