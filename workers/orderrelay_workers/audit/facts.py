"""What a database says of itself and of its workers, for the doctor; it only reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import liveness, schema
from orderrelay_workers.ledger.engine import clock, is_sqlite, reading

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

_worker = schema.worker.c


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """How a PostgreSQL server keeps what is committed, and what room it has.

    Attributes:
        version: As it calls itself.
        synchronous_commit: Of this connection; workers ask for the same.
        fsync: Of the server.
        full_page_writes: Of the server.
        is_standby: Whether it takes no writes.
        version_number: Such as 160004.
        max_connections: How many it takes in all.
        reserved_connections: How many of them are for its administrators.
        connections: How many clients are connected, this one too.
        size_bytes: How large this database is.
        tls: Whether this connection is over TLS.
    """

    version: str
    synchronous_commit: str
    fsync: str
    full_page_writes: str
    is_standby: bool
    version_number: int = 0
    max_connections: int = 0
    reserved_connections: int = 0
    connections: int = 0
    size_bytes: int = 0
    tls: bool = False


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """The workers that are alive: name and version of each; and how many are held for running but are gone."""

    alive: tuple[tuple[str, str], ...]
    gone: int


def server(engine: sa.Engine) -> ServerFacts:
    """The facts of a PostgreSQL server."""
    with reading(engine) as connection:
        row = connection.execute(
            sa.text(
                "SELECT current_setting('server_version'), current_setting('synchronous_commit'), "
                "current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery(), "
                "current_setting('server_version_num')::int, current_setting('max_connections')::int, "
                "current_setting('superuser_reserved_connections')::int "
                "+ coalesce(current_setting('reserved_connections', true)::int, 0), "
                "(SELECT sum(numbackends)::int FROM pg_stat_database), pg_database_size(current_database()), "
                "coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
            )
        ).one()
        return ServerFacts(*row)


def is_over_tls(engine: sa.Engine) -> bool:
    """Whether the connection to the database is over TLS; False for a file."""
    return not is_sqlite(engine) and server(engine).tls


def journal_mode(engine: sa.Engine) -> str:
    """The journal mode of a SQLite file; it should be `wal`."""
    with reading(engine) as connection:
        return str(connection.execute(sa.text("PRAGMA journal_mode")).scalar_one())


def now(engine: sa.Engine) -> datetime:
    """The clock that all workers share."""
    with reading(engine) as connection:
        return clock(connection)


def ledger_id(engine: sa.Engine) -> uuid.UUID | None:
    """The ledger's id; None if no worker has given it one yet."""
    with reading(engine) as connection:
        return connection.execute(sa.select(schema.ledger.c.id)).scalar_one_or_none()


def workers(engine: sa.Engine) -> WorkerFacts:
    """Which workers are alive."""
    with reading(engine) as connection:
        dead = set(liveness.find_dead(connection, engine, clock(connection)))
        query = sa.select(_worker.boot_id, _worker.name, _worker.version).where(
            _worker.state.in_(["running", "draining"])
        )
        rows = connection.execute(query.order_by(_worker.started_at)).all()
    alive = tuple((row.name, row.version) for row in rows if row.boot_id not in dead)
    return WorkerFacts(alive, len(rows) - len(alive))


def is_file(engine: sa.Engine) -> bool:
    """Whether the ledger is one host's SQLite file."""
    return is_sqlite(engine)


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """What in the ledger waits for a person: counts."""

    parked: int
    alarms: int
    set_aside: int


def content(engine: sa.Engine) -> ContentFacts:
    """Count what waits for a person; partial indexes serve all of it."""
    job, event = schema.job.c, schema.event.c
    parked = sa.select(sa.func.count()).select_from(schema.job)
    parked = parked.where(job.state == sa.literal_column(f"'{JobState.PARKED}'"))
    alarms = sa.select(event.kind, sa.func.count()).where(event.alarm).group_by(event.kind)
    with reading(engine) as connection:
        counts = {row[0]: int(row[1]) for row in connection.execute(alarms)}
        set_aside = counts.pop("set_aside", 0)
        return ContentFacts(connection.execute(parked).scalar_one(), sum(counts.values()), set_aside)
