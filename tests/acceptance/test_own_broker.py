"""Celery's messages on a Redis of their own: it may be lost and emptied at any time, and no order with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack import Stack


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    """A second Redis."""
    server = RedisServer(tmp_path / "broker")
    server.start()
    yield server
    server.stop()


def test_a_broker_that_is_lost_loses_nothing(sqlite_stack: Stack, broker: RedisServer) -> None:
    """What is enqueued while it is away is submitted when it is back, empty."""
    sqlite_stack.environment["ORDERRELAY_BROKER_URL"] = broker.url
    sqlite_stack.worker()
    before = sqlite_stack.enqueue(5, "before")
    sqlite_stack.wait_for(before, JobState.SUCCEEDED)
    broker.kill9()
    during = sqlite_stack.enqueue(5, "during")
    broker.start()
    sqlite_stack.wait_for(during, JobState.SUCCEEDED)
    sqlite_stack.wait_for_results(10)
    sqlite_stack.assert_all_created_once([*before, *during])
    with sqlite_stack.producer._client(1.0) as intake, broker.connect() as client:
        assert not list(intake.scan_iter(f"{keys.CELERY_PREFIX}*"))
        assert all(key.startswith(keys.CELERY_PREFIX.encode()) for key in client.scan_iter("*"))
