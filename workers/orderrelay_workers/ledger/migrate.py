"""Bringing the database to this version's layout, under a lock, so that any number of workers may start at once.

Alembic is imported only where there is something to migrate: it takes 10 MB of every process that has it, for good.
"""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_workers.ledger.engine import is_sqlite, open_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config

#: The advisory lock that migrations hold on PostgreSQL; any fixed number that nothing else uses.
_LOCK = 7_236_581_194


#: On PostgreSQL one step of a migration may take so long, in seconds.
_PATIENCE_SECONDS = 3600

#: Where alembic notes the migration that a database is at.
_AT = sa.table("alembic_version", sa.column("version_num", sa.Text))

_SCRIPTS = Path(__file__).with_name("migrations")


def known() -> list[str]:
    """The migrations that this version knows, oldest first: what their files' names begin with."""
    return sorted(script.name.partition("_")[0] for script in _SCRIPTS.glob("versions/[0-9]*_*.py"))


def newest() -> str:
    """The newest migration that this version knows."""
    return known()[-1]


def current(engine: sa.Engine) -> str | None:
    """The migration that the database is at; None if it is empty."""
    with engine.connect().execution_options(reading=True) as connection:
        return _current(connection)


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_AT.name):
        return None
    return connection.execute(sa.select(_AT.c.version_num)).scalar_one_or_none()


def is_current(engine: sa.Engine) -> bool:
    """Whether the database has this version's layout, or a newer one that this version was made to live with."""
    found = current(engine)
    return found is not None and (found == newest() or found not in known())


def migrate(engine: sa.Engine) -> tuple[str | None, str]:
    """Run the pending migrations, each in a transaction of its own.

    So none holds what it has locked while the next waits for its own: of a worker of the version before, which has read
    the one table and waits to write the other, and of the migration, PostgreSQL would end one.

    Returns:
        The migration before, and the one now; of several that migrate at once, each may run some.
    """
    with _lock(engine), _patient(engine) as patient:
        first, now = _step(patient)
        before = first
        while now != before:
            before, now = _step(patient)
    return first, now


def _step(engine: sa.Engine) -> tuple[str | None, str]:
    """Run the next migration, if one is pending: the one before, and the one now."""
    with engine.connect() as connection, connection.begin():
        if not is_sqlite(engine):
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = _current(connection)
        if before == newest():
            return before, newest()
        if before is not None and before not in known():
            return before, before  # a newer version was here; its layout is made so that this one can live with it
        from alembic import command  # noqa: PLC0415  see the module's words

        config = _config()
        config.attributes["connection"] = connection
        following = known()[0 if before is None else known().index(before) + 1]
        command.upgrade(config, following)
    return before, following


@contextmanager
def _patient(engine: sa.Engine) -> Iterator[sa.Engine]:
    """An engine that gives statements the time and the room that an index over very many orders takes."""
    if is_sqlite(engine) and not engine.url.database:  # another engine would have a database of its own
        yield engine
        return
    patient = open_engine(engine.url.render_as_string(hide_password=False), statement_seconds=_PATIENCE_SECONDS)
    try:
        yield patient
    finally:
        patient.dispose()


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415  see the module's words

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


@contextmanager
def _lock(engine: sa.Engine) -> Iterator[None]:
    """On SQLite, a lock on a file beside the database: its own locks do not outlast each of alembic's steps."""
    if not is_sqlite(engine) or not engine.url.database:
        yield
        return
    with Path(engine.url.database + ".migrating").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
