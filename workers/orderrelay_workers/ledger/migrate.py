"""Bringing the database to this version's layout, under a lock, so that any number of workers may start at once."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from orderrelay_workers.ledger.engine import is_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The advisory lock that migrations hold on PostgreSQL; any fixed number that nothing else uses.
_LOCK = 7_236_581_194


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


def newest() -> str:
    """The newest migration that this version knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101  the package ships at least one
    return head


def current(engine: sa.Engine) -> str | None:
    """The migration that the database is at; None if it is empty."""
    with engine.connect().execution_options(reading=True) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_current(engine: sa.Engine) -> bool:
    """Whether the database has this version's layout, or a newer one that this version was made to live with."""
    found = current(engine)
    if found is None:
        return False
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    return found == newest() or found not in known


def migrate(engine: sa.Engine) -> tuple[str | None, str]:
    """Run the pending migrations.

    Returns:
        The migration before, and the one now.
    """
    with _lock(engine), engine.connect() as connection, connection.begin():
        if not is_sqlite(engine):
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
        if before is not None and before not in known:
            return before, before  # a newer version was here; its layout is made so that this one can live with it
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, newest()


@contextmanager
def _lock(engine: sa.Engine) -> Iterator[None]:
    """On SQLite, a lock on a file beside the database: its own locks do not outlast each of alembic's steps."""
    if not is_sqlite(engine) or not engine.url.database:
        yield
        return
    with Path(engine.url.database + ".migrating").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
