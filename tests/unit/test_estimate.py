"""How long an order will take, as a service that enqueues can ask."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from orderrelay_producers import Estimate, OrderProducer, QueueUnavailable, UnknownCompany
from orderrelay_shared import keys
from orderrelay_shared.outlook import Outlook
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def producer(fake_or_real_redis: redis.Redis) -> Iterator[OrderProducer]:
    """A producer on fakeredis, then on the real server."""
    with OrderProducer(redis=fake_or_real_redis) as producer:
        yield producer


def publish(client: redis.Redis, outlook: Outlook) -> None:
    """What a worker does every few seconds."""
    client.set(keys.outlook("acme"), outlook.to_json(), ex=60)


def test_an_estimate_says_how_long_and_why(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """By the priority of the order, as workers last said."""
    now = datetime.now(UTC)
    outlook = Outlook(
        at=now,
        waiting=1400,
        by_priority={"urgent": 100, "normal": 300, "bulk": 1000},
        expected_per_second=10.0,
        done_at_by_priority={"urgent": now + timedelta(seconds=10), "normal": now + timedelta(seconds=40)},
        why_slow=("the rate of 10/s is the limit",),
    )
    publish(fake_or_real_redis, outlook)
    normal = producer.estimate(company="ACME")
    done_at, why = now + timedelta(seconds=40), ("the rate of 10/s is the limit",)
    assert dataclasses.replace(normal, seconds=None) == Estimate(400, 10.0, None, done_at, why, now)
    assert normal.seconds == pytest.approx(40.0, abs=5.0)
    assert producer.estimate(company="acme", priority="urgent").done_at == now + timedelta(seconds=10)
    bulk = producer.estimate(company="acme", priority="bulk")
    assert (bulk.waiting_before, bulk.seconds, bulk.done_at) == (1400, None, None)


def test_an_old_estimate_does_not_lie_in_the_past(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """What workers reckoned half a minute ago may be done by now; an order that comes now takes its time."""
    before = datetime.now(UTC) - timedelta(seconds=30)
    done_at = {"normal": before + timedelta(seconds=3)}
    publish(fake_or_real_redis, Outlook(at=before, waiting=6, expected_per_second=2.0, done_at_by_priority=done_at))
    asked_at = datetime.now(UTC)
    estimate = producer.estimate(company="acme")
    assert estimate.at == before
    assert estimate.seconds == 0.5
    assert estimate.done_at is not None
    assert abs(estimate.done_at - asked_at - timedelta(seconds=0.5)) < timedelta(seconds=5)


def test_where_no_worker_told_anything_nothing_is_known(producer: OrderProducer) -> None:
    """There is no number that could be wrong, and a word about what to do."""
    estimate = producer.estimate()
    assert (estimate.waiting_before, estimate.per_second, estimate.seconds, estimate.done_at) == (None,) * 4
    assert estimate.why_slow == (
        "no worker has told of company 'default' for a minute: is a worker running ('orderrelay worker')?",
    )


def test_an_outlook_of_a_later_version_is_read_as_far_as_it_goes(
    producer: OrderProducer, fake_or_real_redis: redis.Redis
) -> None:
    """What cannot be read at all counts as nothing told."""
    fake_or_real_redis.set(keys.outlook("acme"), b'{"at":"2026-11-23T12:00:00Z","waiting":7,"new":[]}', ex=60)
    assert producer.estimate(company="acme").waiting_before == 0
    fake_or_real_redis.set(keys.outlook("acme"), b'{"at":"soon"}', ex=60)
    assert producer.estimate(company="acme").waiting_before is None


def test_wrong_words_are_refused(producer: OrderProducer) -> None:
    """An alias that can be none, and a priority that is none."""
    with pytest.raises(UnknownCompany):
        producer.estimate(company="Å B")
    with pytest.raises(ValueError, match="priority is 'asap'; it may be urgent, normal, bulk"):
        producer.estimate(priority="asap")


def test_without_redis_there_is_no_estimate() -> None:
    """The error is the one that every other question gives."""
    with (
        OrderProducer(f"redis://127.0.0.1:{free_port()}/0") as producer,
        pytest.raises(QueueUnavailable) as caught,
    ):
        producer.estimate(timeout=1.0)
    assert caught.value.order is None
