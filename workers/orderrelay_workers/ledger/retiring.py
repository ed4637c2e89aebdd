"""Workers that ended long ago leave the table `worker`, which is read at every claim and beat, for `past_worker`.

Each start of a worker adds a row, and all rows are summed to know how many claims the ledger has counted. What a
retired worker has claimed is added to one row that stays, in the same transaction, so that the sum never changes,
also for workers of the version before.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock
from orderrelay_workers.ledger.rows import insert_ignoring

if TYPE_CHECKING:
    from datetime import datetime

#: A worker is retired when it has ended, and was last heard of, or found dead, before so many days: one that was frozen
#: for so long and goes on is told that the ledger does not know it, which makes it cautious.
AFTER_DAYS: Final = 7

#: The row that keeps the claims of all retired workers.
_KEEPER: Final = uuid.UUID(int=1)

#: So many are retired in one transaction.
_BATCH: Final = 500

_worker = schema.worker.c


def retire(engine: sa.Engine) -> int:
    """Retire all workers that ended long ago; any number of workers may do so at once.

    Returns:
        How many were retired.
    """
    total = 0
    while retired := _retire_some(engine):
        total += retired
        if retired < _BATCH:
            break
    return total


def _retire_some(engine: sa.Engine) -> int:
    with engine.begin() as connection:
        now = clock(connection)
        ended = (
            sa.select(schema.worker)
            .where(
                _worker.state.in_(["stopped", "dead"]),
                _worker.beat_at < now - timedelta(days=AFTER_DAYS),
                _worker.boot_id != _KEEPER,
            )
            .order_by(_worker.boot_id)
            .limit(_BATCH)
            .with_for_update(skip_locked=True)
        )
        rows = [dict(row) for row in connection.execute(ended).mappings()]
        if not rows:
            return 0
        _keep_claims(connection, sum(row.pop("claims") for row in rows), now)
        connection.execute(insert_ignoring(engine, schema.past_worker), rows)
        connection.execute(sa.delete(schema.worker).where(_worker.boot_id.in_([row["boot_id"] for row in rows])))
        return len(rows)


def _keep_claims(connection: sa.Connection, claims: int, now: datetime) -> None:
    keeper = {"boot_id": _KEEPER, "name": "workers that ended long ago", "version": "", "state": "stopped"}
    connection.execute(
        insert_ignoring(connection.engine, schema.worker).values(**keeper, started_at=now, beat_at=now, claims=0)
    )
    connection.execute(
        sa.update(schema.worker).where(_worker.boot_id == _KEEPER).values(claims=_worker.claims + claims)
    )
