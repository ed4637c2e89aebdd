"""What all histories share: the database under a steered clock, its backups, and the settings of the product."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event

from orderrelay_workers.decisions import Policy
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import is_sqlite, open_engine
from tests.model.steered_clock import steering
from tests.model.vendor_world import BUSY_NUMBER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.steered_clock import SteeredClock

FENCE_SECONDS: Final = 5
LEASE_SECONDS: Final = 40
SETTLING_SECONDS: Final = 120
LOOK_UP_SECONDS: Final = 38
POLICY: Final = Policy(
    max_attempts=3,
    backoff_first_seconds=5.0,
    backoff_cap_seconds=60.0,
    retryable_error_numbers=frozenset({BUSY_NUMBER}),
    settling_seconds=SETTLING_SECONDS,
    lookup_failing_seconds=600.0,
    chance=lambda: 0.5,
)

#: Every row of every table.
AllRows = dict[str, list[dict[str, Any]]]


@dataclass
class Ground:
    """The database and the clock, and what has been counted on them."""

    engine: sa.Engine
    clock: SteeredClock
    histories: int = 0
    steps: int = 0
    ended: dict[str, int] = field(default_factory=lambda: defaultdict(int))


@contextlib.contextmanager
def a_ground(database_url: str) -> Iterator[Ground]:
    """The ground on an empty database."""
    engine = open_engine(database_url)
    if is_sqlite(engine):  # the histories crash workers, not this machine
        event.listen(engine, "connect", _trust_the_machine)
    try:
        schema.metadata.create_all(engine)
        with steering() as clock:
            yield Ground(engine, clock)
    finally:
        engine.dispose()


def _trust_the_machine(raw: Any, record: object) -> None:
    raw.execute("PRAGMA synchronous=OFF")


def empty(engine: sa.Engine) -> None:
    """Delete every row."""
    with engine.begin() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(sa.delete(table))


def back_up(engine: sa.Engine) -> AllRows:
    """Every row."""
    with engine.connect() as connection:
        tables = schema.metadata.sorted_tables
        return {t.name: [dict(row) for row in connection.execute(sa.select(t)).mappings()] for t in tables}


def restore(engine: sa.Engine, rows: AllRows) -> None:
    """Have the database hold just these rows."""
    empty(engine)
    with engine.begin() as connection:
        for table in schema.metadata.sorted_tables:
            if rows[table.name]:
                connection.execute(sa.insert(table), rows[table.name])
        if is_sqlite(engine):
            return
        for name in ("attempt", "event"):  # a real restore brings the sequences back too
            after = f"1 + coalesce((SELECT max(id) FROM {name}), 0)"
            connection.execute(sa.text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), {after})"))
