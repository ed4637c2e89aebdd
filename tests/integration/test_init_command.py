"""The command `orderrelay init`, on both databases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.ledger import migrate
from orderrelay_workers.ledger.engine import open_engine
from tests.integration.booked_orders import orderrelay
from tests.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, named in the environment."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    return database_url


def test_an_empty_database_gets_its_tables(database: str) -> None:
    """The first run makes the tables, and says from what to what."""
    result = orderrelay("init")
    assert result.exit_code == 0
    assert result.stdout.endswith(f": brought from empty to {migrate.newest()}\n")
    engine = open_engine(database)
    assert migrate.current(engine) == migrate.newest()
    engine.dispose()


def test_a_second_run_changes_nothing(database: str) -> None:
    """An up-to-date database is said to be so."""
    orderrelay("init")
    result = orderrelay("init")
    assert result.exit_code == 0
    assert result.stdout.endswith(f": up to date at {migrate.newest()}\n")


def test_json_tells_from_what_to_what(database: str) -> None:
    """With `--json` the last line is one object."""
    newest = migrate.newest()
    told = [json.loads(orderrelay("init", "--json").stdout.splitlines()[-1]) for _ in range(2)]
    assert [(t["before"], t["now"], t["newest"], t["changed"]) for t in told] == [
        (None, newest, newest, True),
        (newest, newest, newest, False),
    ]


def test_a_database_that_is_away_is_one_masked_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server the command ends with 3 and one line that shows no password."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/orders")
    result = orderrelay("init")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "Connection refused" in result.stderr
    assert "hunter2" not in result.output


def test_a_file_that_is_no_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of something else is left alone, and ends the command with 3 and one line."""
    file = tmp_path / "orders.txt"
    file.write_text("no database\n" * 100)
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"sqlite:///{file}")
    result = orderrelay("init")
    assert result.exit_code == 3
    assert result.stderr == f"the database {file} is not usable: file is not a database\n"
    assert file.read_text().startswith("no database")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file's folder cannot be made, the command ends with 3 and one line."""
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"sqlite:///{tmp_path}/taken/orderrelay.db")
    result = orderrelay("init")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
