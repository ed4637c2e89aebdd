"""Migrations: what alembic makes is what the tables say, however many start at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from orderrelay_workers.ledger import migrate, schema
from orderrelay_workers.ledger.engine import clock, open_engine, reading
from orderrelay_workers.ledger.migrate import newest

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    assert sorted(results, key=str) == sorted([(None, newest()), *[(newest(), newest())] * 3], key=str)


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
    with engine.connect() as connection, connection.begin():
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]


def test_a_commit_on_sqlite_is_on_disk(sqlite_url: str) -> None:
    """The SQLite ledger runs in WAL with every commit synced."""
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert found == ["wal", 2]


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
