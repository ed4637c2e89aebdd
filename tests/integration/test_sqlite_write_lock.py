"""SQLite's write lock: taken within a few milliseconds after it has become free, and not waited for without end."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from orderrelay_workers.ledger import engine as engines
from orderrelay_workers.ledger.engine import open_engine, reading
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A SQLite database with one table."""
    engine = open_engine(f"sqlite:///{tmp_path / 'some.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE thing (number INTEGER)")
    yield engine
    engine.dispose()


def test_writers_take_turns(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer looks again and again while another writes, and a reader does not wait at all."""
    looks: list[float] = []
    monkeypatch.setattr(engines, "time", _Time(looks))
    written = threading.Event()

    def write() -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO thing VALUES (2)")
        written.set()

    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO thing VALUES (1)")
        other = threading.Thread(target=write)
        other.start()
        wait_until(lambda: len(looks) > 2, 10, what="the other writer has looked several times")
        assert _numbers(engine) == []
        assert not written.is_set()
    assert written.wait(10)
    other.join()
    assert _numbers(engine) == [1, 2]
    assert max(looks) <= 0.002, "free again, the lock would lie about"


def test_a_lock_that_is_not_free_for_very_long_is_an_error(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a process was frozen while it wrote; the connection is as good as before."""
    monkeypatch.setattr(engines, "_SQLITE_BUSY_SECONDS", 0.01)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO thing VALUES (1)")
        with pytest.raises(sa.exc.OperationalError, match="locked") as caught, engine.begin():
            pass
        assert engines.is_away(caught.value)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO thing VALUES (2)")
    assert _numbers(engine) == [1, 2]


def test_another_error_than_a_lock_is_told_at_once(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for again then."""
    looks: list[float] = []
    monkeypatch.setattr(engines, "time", _Time(looks))
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("BEGIN")
        with pytest.raises(sa.exc.OperationalError, match="within a transaction"):
            connection.begin()
    assert looks == []


def test_a_broken_file_is_told_as_sqlalchemy_tells_it(engine: sa.Engine) -> None:
    """Whoever holds answers for the ledger keeps them at errors of SQLAlchemy's, and knows no others."""
    file = str(engine.url.database)
    with contextlib.closing(sqlite3.connect(file)) as other:  # so that the open connection reads the file again
        other.execute("INSERT INTO thing VALUES (1)")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    Path(file).write_bytes(b"no database" * 1000)
    with pytest.raises(sa.exc.DatabaseError, match="not a database"), engine.begin():
        pass


def _numbers(engine: sa.Engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.exec_driver_sql("SELECT number FROM thing ORDER BY number").scalars())


class _Time:
    """The time, and what was slept."""

    def __init__(self, looks: list[float]) -> None:
        self._looks = looks
        self.monotonic = time.monotonic

    def sleep(self, seconds: float) -> None:
        self._looks.append(seconds)
        time.sleep(seconds)
