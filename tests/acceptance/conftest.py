"""The stack that acceptance tests work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.simulator import running_simulator
from tests.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderrelay_workers.simulator import RunningSimulator
    from tests.processes import Processes


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """A vendor in good health that takes any credentials; tests set its plan."""
    with running_simulator(login_failure_seconds=0.2) as running:
        yield running


@pytest.fixture
def stack(
    redis_url: str, database_url: str, simulator: RunningSimulator, processes: Processes, tmp_path: Path
) -> Iterator[Stack]:
    """Redis, an empty ledger on SQLite and then on PostgreSQL, a vendor, and no worker yet."""
    yield from _stack(redis_url, database_url, simulator, processes, tmp_path)


@pytest.fixture
def sqlite_stack(
    redis_url: str, sqlite_url: str, simulator: RunningSimulator, processes: Processes, tmp_path: Path
) -> Iterator[Stack]:
    """The same on SQLite only, where the database makes no difference."""
    yield from _stack(redis_url, sqlite_url, simulator, processes, tmp_path)


@pytest.fixture
def postgres_stack(
    redis_url: str, postgres_url: str, simulator: RunningSimulator, processes: Processes, tmp_path: Path
) -> Iterator[Stack]:
    """The same on PostgreSQL only."""
    yield from _stack(redis_url, postgres_url, simulator, processes, tmp_path)


def _stack(
    redis_url: str, database_url: str, simulator: RunningSimulator, processes: Processes, folder: Path
) -> Iterator[Stack]:
    stack = Stack(processes, redis_url, database_url, simulator, folder)
    yield stack
    processes.end()
    stack.close()
