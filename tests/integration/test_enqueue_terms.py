"""`orderrelay enqueue` with terms: priority, due time, deadline, and waiting for room."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Envelope, read_entry
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.states import JobState, Priority
from tests.integration.test_enqueue_command import line, orders, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis
    from typer.testing import Result

__all__ = ["orders", "run"]  # fixtures

FAR = "2126-01-30T08:00:00+01:00"


def envelopes(client: redis.Redis) -> list[Envelope]:
    """The orders in the intake."""
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.INTAKE))
    entries = [read_entry(fields) for _, fields in found]
    return [entry for entry in entries if isinstance(entry, Envelope)]


def test_a_file_has_its_terms(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """All lines of a file are enqueued on the terms of the command line."""
    orders.write_bytes(line("A-1") + line("A-2"))
    result = run("enqueue", orders, "--priority", "bulk", "--due-at", "2026-01-30T08:00:00Z", "--deadline", FAR)
    assert result.exit_code == 0, result.output
    assert [(e.external_id, e.priority) for e in envelopes(redis_client)] == [
        ("A-1", Priority.BULK), ("A-2", Priority.BULK)
    ]  # fmt: skip
    assert {e.due_at for e in envelopes(redis_client)} == {datetime(2026, 1, 30, 8, tzinfo=UTC)}
    assert {e.deadline for e in envelopes(redis_client)} == {datetime(2126, 1, 30, 7, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--due-at", "tomorrow"], "--due-at 'tomorrow' is no time; write it as 2026-01-30T08:00:00+01:00"),
        (["--due-at", "2126-01-30T08:00"], "--due-at '2126-01-30T08:00' has no time zone"),
        (["--deadline", "2126-01-30"], "--deadline '2126-01-30' has no time zone"),
        (["--deadline", "2026-01-30T08:00:00Z"], "which has passed"),
        (["--due-at", "2126-02-01T00:00:00Z", "--deadline", FAR], "which is not after due_at"),
        (["--priority", "high"], "priority"),
    ],
)
def test_wrong_terms_are_wrong_usage(
    run: Callable[..., Result], orders: Path, redis_client: redis.Redis, words: list[str], told: str
) -> None:
    """They are told in one line, and nothing is enqueued."""
    orders.write_bytes(line("A-1"))
    result = run("enqueue", orders, *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert envelopes(redis_client) == []


def test_a_run_waits_for_room(
    run: Callable[..., Result], orders: Path, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --wait a full queue does not stop the run while it drains."""
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "2")
    orders.write_bytes(b"".join(line(f"A-{number}") for number in range(4)))
    room = threading.Timer(0.5, lambda: redis_client.delete(keys.INTAKE))
    room.start()
    result = run("enqueue", orders, "--wait", "5")
    room.join()
    assert result.exit_code == 0, result.output
    assert [e.external_id for e in envelopes(redis_client)] == ["A-2", "A-3"]


def test_a_status_tells_the_terms(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """Priority, due time and deadline are shown where an order has them."""
    at = datetime(2026, 1, 30, 12, tzinfo=UTC)
    status = JobStatus(
        JobState.WAITING, "default", "A-1", at, priority=Priority.URGENT, due_at=at, deadline=at + timedelta(hours=1)
    )
    redis_client.set(keys.status(ids.job_id("default", "A-1")), status.to_json(), ex=60)
    told = run("status", "A-1").stdout
    assert "Priority:     urgent" in told
    assert "Due at:       2026-01-30T12:00:00Z" in told
    assert "Deadline:     2026-01-30T13:00:00Z" in told
    assert '"deadline":"2026-01-30T13:00:00Z"' in run("status", "A-1", "--json").stdout
