"""Which workers are alive: each beats into the table `worker`, and on SQLite also holds a lock on a file.

On PostgreSQL a worker whose beat is five seconds old is dead. On SQLite writes may queue for longer than that, so
there the kernel tells: the lock on a worker's file is free as soon as its process is gone. A frozen process keeps
its lock, so its claims wait for the end of their lease.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock, is_sqlite
from orderrelay_workers.ledger.rows import insert_ignoring

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

#: A worker on PostgreSQL is dead when its last beat is older than this, in seconds.
DEAD_AFTER_SECONDS = 5.0

_worker = schema.worker.c


class LifeSign:
    """This worker's sign of life: its row, and on SQLite the lock on its file."""

    def __init__(self, engine: sa.Engine, boot_id: uuid.UUID, name: str, version: str) -> None:
        self._engine = engine
        self._boot_id = boot_id
        self._name = name
        self._version = version
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Appear among the workers. Called before anything is claimed."""
        if (folder := lock_folder(self._engine)) is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Locked under another name first: under its own name an unlocked file would look like a dead worker's.
            unready = folder / f"{self._boot_id.hex}.new"
            self._file = unready.open("wb")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unready.rename(folder / f"{self._boot_id.hex}.lock")
        self.appear()

    def appear(self) -> None:
        """Appear among the workers, or appear again in a database that has forgotten this one."""
        with self._engine.begin() as connection:
            now = clock(connection)
            connection.execute(
                insert_ignoring(self._engine, schema.worker).values(
                    boot_id=self._boot_id,
                    name=self._name,
                    version=self._version,
                    started_at=now,
                    beat_at=now,
                    state="running",
                )
            )

    def beat(self, state: str, *, made: int = 0) -> bool:
        """Say that this worker is alive, and `running` or `draining`.

        Args:
            state: Which of both.
            made: How many claims it has made so far, at least.

        Returns:
            False if the ledger does not know this worker, or has forgotten claims of it.
        """
        with self._engine.begin() as connection:
            seen = connection.execute(
                sa.update(schema.worker)
                .where(_worker.boot_id == self._boot_id)
                .values(beat_at=clock(connection), state=state)
                .returning(_worker.claims)
            ).scalar_one_or_none()
        return seen is not None and seen >= made

    def end(self) -> None:
        """Disappear, with nothing in progress any more."""
        with contextlib.suppress(exc.SQLAlchemyError):
            self.beat("stopped")
        if self._file is not None:
            with contextlib.suppress(OSError):
                (Path(self._file.name).with_suffix(".lock")).unlink()
            self._file.close()
            self._file = None


def lock_folder(engine: sa.Engine) -> Path | None:
    """Where the lock files of a SQLite ledger's workers are; None on PostgreSQL."""
    if not is_sqlite(engine) or not engine.url.database:
        return None
    return Path(engine.url.database + ".workers")


def find_dead(connection: sa.Connection, engine: sa.Engine, now: datetime) -> list[uuid.UUID]:
    """The workers that the table holds for running and that are gone."""
    alive = _worker.state.in_(["running", "draining"])
    if is_sqlite(engine):
        running = connection.execute(sa.select(_worker.boot_id).where(alive)).scalars()
        return [boot_id for boot_id in running if _is_gone(engine, boot_id)]
    late = _worker.beat_at < now - timedelta(seconds=DEAD_AFTER_SECONDS)
    return list(connection.execute(sa.select(_worker.boot_id).where(alive, late)).scalars())


def _is_gone(engine: sa.Engine, boot_id: uuid.UUID) -> bool:
    folder = lock_folder(engine)
    if folder is None:
        return False
    try:
        descriptor = os.open(folder / f"{boot_id.hex}.lock", os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def forget_file(engine: sa.Engine, boot_id: uuid.UUID) -> None:
    """Remove a dead worker's lock file."""
    if (folder := lock_folder(engine)) is not None:
        with contextlib.suppress(OSError):
            (folder / f"{boot_id.hex}.lock").unlink()
