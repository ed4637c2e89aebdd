"""Migrations: what alembic makes is what the tables say, however many start at once."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from orderrelay_workers.ledger import companies, migrate, schema
from orderrelay_workers.ledger.engine import clock, open_engine, reading
from orderrelay_workers.ledger.migrate import newest
from tests.ledgers import ACME, Ledger
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alembic.config import Config


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An empty database."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


def test_an_empty_database_is_brought_up_to_date(engine: sa.Engine) -> None:
    """Migrating tells where it began and where it ended; again, it does nothing."""
    assert migrate.current(engine) is None
    assert not migrate.is_current(engine)
    assert migrate.migrate(engine) == (None, newest())
    assert migrate.migrate(engine) == (newest(), newest())
    assert migrate.is_current(engine)


def test_the_migrations_are_told_without_alembic() -> None:
    """The names of the scripts' files tell what alembic finds in them."""
    found = ScriptDirectory.from_config(migrate._config()).walk_revisions()
    assert migrate.known() == [script.revision for script in found][::-1]


def test_the_migrations_make_these_tables(engine: sa.Engine) -> None:
    """The migrated database has the tables, columns and indexes that the code is written for."""
    migrate.migrate(engine)
    with reading(engine) as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    assert differences == []


def test_the_migrations_make_these_constraints(engine: sa.Engine) -> None:
    """Checks and the conditions of partial indexes, which alembic does not compare, are the same too."""
    migrate.migrate(engine)
    migrated = _constraints(engine)
    with engine.begin() as connection:
        schema.metadata.drop_all(connection)
        schema.metadata.create_all(connection)
    assert migrated == _constraints(engine)


def _constraints(engine: sa.Engine) -> list[str]:
    found: list[str] = []
    inspector = sa.inspect(engine)
    for table in schema.metadata.sorted_tables:
        found += [f"{table.name} {c['name']}: {c['sqltext']}" for c in inspector.get_check_constraints(table.name)]
        for index in inspector.get_indexes(table.name):
            conditions = [str(condition) for condition in index.get("dialect_options", {}).values()]
            found.append(f"{table.name} {index['name']}: {conditions}")
    assert any("ix_job_waiting" in line and "waiting'" in line for line in found), found
    return sorted(found)


def test_many_may_migrate_at_once(engine: sa.Engine) -> None:
    """Workers that start at once on an empty database make the tables once, and none fails."""
    ready = threading.Barrier(4)

    def start(_: int) -> tuple[str | None, str]:
        ready.wait(timeout=10)
        return migrate.migrate(engine)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(start, range(4)))
    assert {now for _, now in results} == {newest()}
    assert [before for before, _ in results].count(None) == 1


def test_a_migration_may_take_long(engine: sa.Engine) -> None:
    """An index over very many orders takes longer than anything else may on PostgreSQL; SQLite sorts in a file."""
    is_sqlite = engine.dialect.name == "sqlite"
    asked, told = ("PRAGMA temp_store", 0) if is_sqlite else ("SHOW statement_timeout", "1h")
    with migrate._patient(engine) as patient, reading(patient) as connection:
        assert connection.execute(sa.text(asked)).scalar_one() == told


def test_a_newer_layout_is_lived_with(engine: sa.Engine) -> None:
    """A database that a newer version has migrated is left as it is, and is good enough."""
    migrate.migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    assert migrate.migrate(engine) == ("9999", "9999")
    assert migrate.is_current(engine)


def test_a_migration_that_is_undone_leaves_nothing(engine: sa.Engine) -> None:
    """The way back drops every table."""
    migrate.migrate(engine)
    _move(engine, command.downgrade, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]


def test_what_waits_finds_its_lane(engine: sa.Engine) -> None:
    """Jobs of the version before keep all they have; what had been sent and waits again is a retry, all else is not."""
    _move(engine, command.upgrade, "0002")
    now = datetime.now(UTC)
    company = {"id": 1, "alias": "acme", "rate_per_second": 5.0, "burst": 1, "max_in_flight": 9, "created_at": now}
    usual = {"company_id": 1, "external_id": "x", "revision": 1, "body_version": 1, "since": now, "due_at": now,
             "accepted_at": now, "booked_at": now, "attempts": 0, "lookups": 0}  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.company), [company])
        for number, (state, requests) in enumerate((("waiting", 0), ("waiting", 2), ("succeeded", 1))):
            job = {"id": uuid.UUID(int=number), "state": state, "requests": requests, **usual}
            connection.execute(sa.insert(schema.job), [job])
    migrate.migrate(engine)
    with reading(engine) as connection:
        lanes = connection.execute(sa.select(schema.job.c.lane).order_by(schema.job.c.id)).scalars().all()
        [row] = connection.execute(sa.select(schema.company)).mappings().all()
    assert lanes == [2, 3, 2]
    assert (row["rate_per_second"], row["set_rate_per_second"], row["retry_share"]) == (5.0, None, 0.2)
    assert (row["lookup_weight"], row["login_weight"], row["time_zone"], row["closed_hours"]) == (1.0, 1.0, "UTC", "")
    _move(engine, command.downgrade, "0002")
    with reading(engine) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM job")).scalar() == 3


def test_a_worker_of_the_version_before_goes_on_meanwhile(postgres_url: str) -> None:
    """Its claim has read revisions and waits to write jobs: neither it nor the migration is ended for the other."""
    engine = open_engine(postgres_url)
    _move(engine, command.upgrade, "0003")
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'revision'::regclass")
    with ThreadPoolExecutor(1) as threads:
        with engine.begin() as claim:
            claim.execute(sa.text("SELECT 1 FROM job JOIN revision ON revision.job_id = job.id FOR UPDATE OF job"))
            migration = threads.submit(migrate.migrate, engine)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
                wait_until(lambda: looking.execute(waits).scalar() == 1, what="the migration wants the revisions")
            claim.execute(sa.text("UPDATE job SET since = since"))
        assert migration.result(60) == ("0003", newest())
    assert migrate.is_current(engine)
    engine.dispose()


def test_what_was_booked_before_traces_has_none(engine: sa.Engine) -> None:
    """Orders of the version before stay as they are, and keep all else on the way back."""
    migrate.migrate(engine)
    ledger = Ledger(engine, companies.ensure(engine, [ACME])[ACME])
    ledger.book(1)
    _move(engine, command.downgrade, "0004")
    assert "traceparent" not in {column["name"] for column in sa.inspect(engine).get_columns("revision")}
    migrate.migrate(engine)
    [claim] = ledger.claim()
    assert claim.traceparent is None


def _move(engine: sa.Engine, move: Callable[[Config, str], None], to: str) -> None:
    with engine.connect() as connection, connection.begin():
        config = migrate._config()
        config.attributes["connection"] = connection
        move(config, to)


def test_a_commit_on_sqlite_is_on_disk(sqlite_url: str) -> None:
    """The SQLite ledger runs in WAL with every commit synced."""
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert found == ["wal", 2]


def test_only_small_statements_are_undone_from_memory(sqlite_url: str) -> None:
    """A worker's; its migrations sort in a file, as an index over very many orders would take a gigabyte."""
    asked: list[int] = []

    def ask(connection: sa.Connection) -> None:
        asked.append(int(connection.exec_driver_sql("PRAGMA temp_store").scalar_one()))

    small, usual = open_engine(sqlite_url, small_statements=True), open_engine(sqlite_url)
    sa.event.listen(sa.Engine, "begin", ask)
    try:
        migrate.migrate(small)
        migrating, asked = set(asked), []
        for engine in (small, usual):
            with engine.begin():
                pass
            engine.dispose()
    finally:
        sa.event.remove(sa.Engine, "begin", ask)
    assert (migrating, asked) == ({0}, [2, 0])


def test_readers_do_not_wait_for_a_writer(sqlite_url: str) -> None:
    """On SQLite a transaction that only reads goes on while another holds the write lock."""
    engine = open_engine(sqlite_url)
    with engine.begin(), reading(engine) as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_the_clock_goes_on_within_a_transaction(engine: sa.Engine) -> None:
    """The shared clock tells the instant it is asked, aware and in UTC, not the transaction's beginning."""
    with reading(engine) as connection:
        first, second = clock(connection), clock(connection)
    assert first < second
    assert first.utcoffset() is not None
