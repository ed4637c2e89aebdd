"""SQLite's transactions that change very many pages: what they keep in memory, and nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.ledger.engine import open_engine, reading, writing_much

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

#: How `PRAGMA temp_store` tells that nothing temporary is written to a file.
_IN_MEMORY = 2


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty SQLite database."""
    engine = open_engine(f"sqlite:///{tmp_path / 'some.db'}")
    yield engine
    engine.dispose()


def _temporary_store(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA temp_store").scalar_one())


def test_a_large_transaction_writes_no_temporary_file(engine: sa.Engine) -> None:
    """What may have to be undone of a statement is in memory; it took more writes than all the rest."""
    with writing_much(engine) as connection:
        assert _temporary_store(connection) == _IN_MEMORY


def test_who_sorts_very_many_rows_may_write_files(engine: sa.Engine) -> None:
    """On the same connection too, even if the large transaction before has failed."""
    with pytest.raises(RuntimeError), writing_much(engine):
        raise RuntimeError
    with reading(engine) as connection:
        assert _temporary_store(connection) != _IN_MEMORY
