"""The duty that looks after deadlines: who may look, at which pace, and what producers are told."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_shared import keys
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.outlook import Outlook
from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import companies
from orderrelay_workers.sidecar import deadline_watch
from orderrelay_workers.sidecar.deadline_watch import DeadlineWatch
from tests.integration.test_ledger_deadlines import within
from tests.integration.test_ledger_lanes import book
from tests.ledgers import ACME, ACTOR, Ledger, open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    import sqlalchemy as sa

    from orderrelay_workers.runtime import Runtime


@dataclass
class Watcher:
    """As much of a worker as the duty takes."""

    engine: sa.Engine
    redis: redis.Redis
    boot_id: uuid.UUID = field(default_factory=uuid.uuid4)
    actor: str = ACTOR
    companies: dict[str, companies.Company] = field(default_factory=dict[str, companies.Company])

    def __post_init__(self) -> None:
        self.companies = companies.by_alias(self.engine)
        self.duty = DeadlineWatch()

    def watch(self) -> None:
        """Do the duty once."""
        self.duty.watch(cast("Runtime", self))


@pytest.fixture
def ledger(sqlite_url: str) -> Iterator[Ledger]:
    """An empty ledger with the company "acme", whose orders may go at 10 a second."""
    with open_ledger(sqlite_url) as ledger:
        yield ledger


@pytest.fixture
def watcher(ledger: Ledger, redis_client: redis.Redis) -> Watcher:
    """A worker."""
    return Watcher(ledger.engine, redis_client)


def publish(client: redis.Redis, per_second: float | None) -> None:
    """Publish how fast orders are expected to go."""
    outlook = Outlook(at=datetime.now(UTC), waiting=0, expected_per_second=per_second)
    client.set(keys.outlook(ACME), outlook.to_json(), ex=60)


@pytest.mark.parametrize(("per_second", "is_told"), [(None, True), (5.0, True), (100.0, False)])
def test_orders_are_expected_to_go_as_they_did_lately(
    watcher: Watcher, ledger: Ledger, redis_client: redis.Redis, per_second: float | None, is_told: bool
) -> None:
    """The published pace counts; without one, the rate of the company."""
    publish(redis_client, per_second)
    ledger.book(*range(300))
    book(ledger, 1000, deadline=within(20))
    watcher.watch()
    assert bool(ledger.events("deadline_at_risk")) == is_told


def test_without_an_outlook_the_rate_counts(watcher: Watcher, ledger: Ledger) -> None:
    """A Redis that was wiped has none, and that is no error."""
    ledger.book(*range(300))
    book(ledger, 1000, deadline=within(40))
    watcher.watch()
    assert ledger.events() == []


def test_one_worker_looks_at_a_time(watcher: Watcher, ledger: Ledger, redis_client: redis.Redis) -> None:
    """Looking for risks reads all that waits, so it is done by one, now and then; parking is done by all."""
    watcher.watch()
    ledger.book(*range(300))
    book(ledger, 1000, deadline=within(20))
    [late] = book(ledger, 1001, deadline=within(20))
    ledger.set(late, deadline=within(-1))
    Watcher(ledger.engine, redis_client).watch()
    assert ledger.events() == ["deadline_passed"]
    redis_client.delete(keys.duty("deadlines"))
    watcher.watch()
    assert ledger.events() == ["deadline_passed", "deadline_at_risk!"]


def test_producers_are_told_of_what_was_parked(
    watcher: Watcher, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that has missed its deadline is parked in one round, and each job's status says so."""
    monkeypatch.setattr(deadline_watch, "_BATCH", 3)
    jobs = book(ledger, *range(7), deadline=within(60))
    for job in jobs:
        ledger.set(job, deadline=within(-1))
    watcher.watch()
    for job in jobs:
        told = redis_client.get(keys.status(job))
        assert isinstance(told, bytes)
        status = JobStatus.from_json(told)
        assert status is not None
        assert status.state is JobState.PARKED
