"""What the ledger says of limits and hours reaches the gate, and the outlook reaches producers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import sqlalchemy as sa

from orderrelay_producers import OrderProducer
from orderrelay_shared import keys
from orderrelay_shared.outlook import Outlook
from orderrelay_workers.closing import mirror_closed_time
from orderrelay_workers.gate import ClosedTime, Gate, Kind, Limits, Refusal
from orderrelay_workers.ledger import companies, liveness, schema
from orderrelay_workers.sidecar import duties
from tests.ledgers import ACME, Ledger, job_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from orderrelay_workers.runtime import Runtime


@pytest.fixture
def gate(ledger: Ledger, redis_client: redis.Redis) -> Gate:
    """A worker's gate, seeded for acme."""
    gate = Gate(redis_client, ledger.owner, probe_lease_seconds=40.0)
    gate.seed(ACME, Limits(10, 1, 50), None, {})
    return gate


@pytest.fixture
def worker(ledger: Ledger, gate: Gate, redis_client: redis.Redis) -> Iterator[Runtime]:
    """A worker as far as the mirror duty looks."""
    life_sign = liveness.LifeSign(ledger.engine, ledger.owner, "host:1", "0")
    life_sign.begin()
    stand_in = SimpleNamespace(
        engine=ledger.engine, redis=redis_client, gate=gate, boot_id=ledger.owner, refresh_companies=lambda _: None
    )
    yield cast("Runtime", stand_in)
    life_sign.end()


def close(ledger: Ledger, **columns: str) -> companies.Company:
    """Write a schedule as a worker's start does."""
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(schema.company).values(**columns))
    return companies.by_alias(ledger.engine)[ACME]


def an_hour_around_now() -> str:
    """Maintenance that has begun and is not over."""
    now = datetime.now(UTC)
    return f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}/{now + timedelta(hours=1):%Y-%m-%dT%H:%M}"


def test_a_closed_time_closes_the_gate_and_its_end_opens_it(
    ledger: Ledger, gate: Gate, redis_client: redis.Redis
) -> None:  # fmt: skip
    """The gate refuses with the reason while it is closed; with the schedule gone it admits."""
    company = close(ledger, maintenance=an_hour_around_now())
    mirror_closed_time(redis_client, gate, company, gate.state(ACME))
    refused = gate.admit(ACME, Kind.ORDER, 1)
    assert (refused.refusal, refused.reason) == (Refusal.CLOSED, "maintenance")
    assert 3400 < refused.wait_seconds < 3700
    mirror_closed_time(redis_client, gate, close(ledger, maintenance=""), gate.state(ACME))
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


def test_the_gate_is_told_only_what_it_does_not_know(ledger: Ledger, gate: Gate, redis_client: redis.Redis) -> None:
    """Every worker looks every two seconds; only a change is written, and a gate that was wiped is told again."""
    told: list[tuple[object, ...]] = []
    listener = cast("Gate", SimpleNamespace(set_closed=lambda *words: told.append(words)))
    company = close(ledger, closed_hours="sun 00:00-24:00", time_zone="Europe/Stockholm")
    mirror_closed_time(redis_client, gate, company, gate.state(ACME))
    mirror_closed_time(redis_client, listener, company, gate.state(ACME))
    assert told == []
    mirror_closed_time(redis_client, listener, company, None)
    [(alias, closed)] = told
    assert (alias, cast("ClosedTime", closed).reason) == (ACME, "closed hours")


def test_a_schedule_that_cannot_be_read_changes_nothing(ledger: Ledger, gate: Gate, redis_client: redis.Redis) -> None:
    """A zone that only other hosts know must not open what they have closed."""
    mirror_closed_time(redis_client, gate, close(ledger, maintenance=an_hour_around_now()), gate.state(ACME))
    mirror_closed_time(redis_client, gate, close(ledger, time_zone="Mars/Olympus"), gate.state(ACME))
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.CLOSED


def test_the_count_publishes_an_outlook(ledger: Ledger, worker: Runtime, redis_client: redis.Redis) -> None:
    """Producers are told how long an order will take, and the word expires."""
    ledger.book(*range(25))
    duties.mirror(worker)
    assert redis_client.get(keys.waiting(ACME)) == b"25"
    assert 0 < redis_client.ttl(keys.outlook(ACME)) <= 60
    with OrderProducer(redis=redis_client) as producer:
        estimate = producer.estimate(company=ACME)
    assert (estimate.waiting_before, estimate.per_second, estimate.seconds) == (25, 10.0, 2.6)
    assert estimate.why_slow == ("the rate of 10 requests/s is the limit: 25 wait, done in about 2 s",)


def test_the_outlook_remembers_since_when_orders_go(ledger: Ledger, worker: Runtime, redis_client: redis.Redis) -> None:
    """The next worker that counts goes on where the last one was; a stop begins it anew."""
    ledger.book(1)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    redis_client.set(keys.outlook(ACME), Outlook(since, 1, draining_since=since).to_json(), ex=60)
    duties.mirror(worker)
    assert outlook(redis_client).draining_since == since
    worker.gate.pause(ACME, "x")
    redis_client.delete(keys.duty("count"))
    duties.mirror(worker)
    assert outlook(redis_client).draining_since is None


def outlook(client: redis.Redis) -> Outlook:
    """What was published last."""
    published = client.get(keys.outlook(ACME))
    assert isinstance(published, bytes)
    found = Outlook.from_json(published)
    assert found is not None
    return found


def test_orders_that_are_due_later_are_counted_and_told(ledger: Ledger, worker: Runtime) -> None:
    """The outlook knows when the first is due, and that nobody need worry before."""
    ledger.book(1)
    ledger.set(job_id(1), due_at=datetime.now(UTC) + timedelta(hours=3), lane=5)
    duties.mirror(worker)
    told = outlook(worker.redis)
    assert (told.waiting, told.by_priority) == (1, {"bulk": 1})
    assert told.why_slow == ("nothing is due: the first of 1 waiting orders is in 3 h",)


def test_without_a_worker_that_runs_the_outlook_says_so(ledger: Ledger, worker: Runtime) -> None:
    """A worker that drains or is dead sends nothing any more."""
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(schema.worker).values(state="draining"))
    duties.mirror(worker)
    assert outlook(worker.redis).why_slow[0] == "no worker is running; start one with: orderrelay worker"


def test_a_closed_gate_gets_no_hints(ledger: Ledger, worker: Runtime, gate: Gate) -> None:
    """While it is closed no task is started that could only ask in vain."""
    assert duties._is_open(worker, ACME)
    gate.set_closed(ACME, ClosedTime(0.0, datetime.now(UTC).timestamp() + 60, "closed hours"))
    assert not duties._is_open(worker, ACME)
