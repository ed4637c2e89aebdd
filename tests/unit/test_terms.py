"""On what terms orders are enqueued: priority, due time and deadline; and waiting for room in the queue."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_producers import LineResult, OrderProducer, Priority, QueueFull
from orderrelay_producers.patience import Patience
from orderrelay_producers.steps import Pause
from orderrelay_producers.terms import Terms
from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope
from orderrelay_shared.settings import ProducerSettings
from tests.unit.test_producer import intake, order

if TYPE_CHECKING:
    import redis

NOW = datetime.now(UTC)
LATER, LATEST = NOW + timedelta(hours=1), NOW + timedelta(hours=2)


def narrow(client: redis.Redis, max_waiting: int) -> OrderProducer:
    """A producer that may have so many orders waiting."""
    return OrderProducer(settings=ProducerSettings(max_waiting=max_waiting), redis=client)


def terms_in(client: redis.Redis) -> list[tuple[str, Priority, bool, bool]]:
    """Of each order in the intake its ExternalId and priority, and whether it has a due time and a deadline."""
    found = [entry for entry in intake(client) if isinstance(entry, Envelope)]
    return [(e.external_id, e.priority, e.due_at is not None, e.deadline is not None) for e in found]


def test_one_order_takes_its_terms_along(fake_or_real_redis: redis.Redis) -> None:
    """What is given is in the intake."""
    producer = OrderProducer(redis=fake_or_real_redis)
    producer.enqueue(order("A-1"), priority="urgent", due_at=LATER, deadline=LATEST)
    [entry] = intake(fake_or_real_redis)
    assert isinstance(entry, Envelope)
    assert entry.priority is Priority.URGENT
    assert entry.due_at is not None
    assert abs(entry.due_at - LATER) <= timedelta(milliseconds=1)


def test_many_orders_share_their_terms(fake_or_real_redis: redis.Redis) -> None:
    """One value holds for all orders of a call."""
    producer = OrderProducer(redis=fake_or_real_redis)
    producer.enqueue_many([order("A-1"), order("A-2")], priority=Priority.BULK, deadline=LATER)
    assert terms_in(fake_or_real_redis) == [
        ("A-1", Priority.BULK, False, True), ("A-2", Priority.BULK, False, True)
    ]  # fmt: skip


def test_terms_are_no_content(fake_or_real_redis: redis.Redis) -> None:
    """The same order on other terms is no conflict: it is the same job."""
    producer = OrderProducer(redis=fake_or_real_redis)
    first = producer.enqueue(order("A-1"))
    assert producer.enqueue(order("A-1"), priority="bulk", deadline=LATER) == first


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"priority": "high"}, "priority is 'high'; it may be urgent, normal, bulk"),
        ({"due_at": LATER.replace(tzinfo=None)}, "due_at is .*, which has no time zone"),
        ({"deadline": LATER.replace(tzinfo=None)}, "deadline is .*, which has no time zone"),
        ({"deadline": NOW - timedelta(seconds=1)}, "deadline is .*, which has passed"),
        ({"due_at": LATEST, "deadline": LATER}, "deadline is .*, which is not after due_at"),
        ({"due_at": LATER, "deadline": LATER}, "deadline is .*, which is not after due_at"),
    ],
)
def test_wrong_terms_are_refused(fake_or_real_redis: redis.Redis, terms: dict[str, Any], told: str) -> None:
    """A clear error for one order and for many, and nothing is enqueued."""
    producer = OrderProducer(redis=fake_or_real_redis)
    with pytest.raises(ValueError, match=told):
        producer.enqueue(order("A-1"), **terms)
    with pytest.raises(ValueError, match=told):
        producer.enqueue_many([order("A-1")], **terms)
    assert intake(fake_or_real_redis) == []


def test_a_due_time_that_has_passed_means_at_once() -> None:
    """It is no error: a producer may be late itself."""
    assert Terms(due_at=NOW - timedelta(days=1)).due_at is not None


def test_a_blocking_order_is_taken_as_soon_as_there_is_room(fake_or_real_redis: redis.Redis) -> None:
    """While the queue is full it waits, and ends soon after there is room."""
    producer = narrow(fake_or_real_redis, 1)
    producer.enqueue(order("A-1"))
    room = threading.Timer(0.4, lambda: fake_or_real_redis.delete(keys.INTAKE))
    room.start()
    started_at = time.monotonic()
    producer.enqueue(order("A-2"), block=True, timeout=10.0)
    room.join()
    assert 0.3 < time.monotonic() - started_at < 5.0
    assert [name for name, *_ in terms_in(fake_or_real_redis)] == ["A-2"]


def test_a_blocking_order_gives_up_in_time(fake_or_real_redis: redis.Redis) -> None:
    """When the timeout is over, the queue is full as it would have been at once."""
    producer = narrow(fake_or_real_redis, 1)
    producer.enqueue(order("A-1"))
    started_at = time.monotonic()
    with pytest.raises(QueueFull):
        producer.enqueue(order("A-2"), block=True, timeout=0.5)
    assert 0.3 < time.monotonic() - started_at < 0.6


def test_many_orders_wait_for_room_again_and_again(fake_or_real_redis: redis.Redis) -> None:
    """All of them are taken, though it takes longer than the timeout: that begins anew whenever there is room."""
    producer = narrow(fake_or_real_redis, 2)
    taken: list[str] = []
    ended = threading.Event()

    def drain() -> None:
        while not ended.wait(0.3):
            taken.extend(name for name, *_ in terms_in(fake_or_real_redis))
            fake_or_real_redis.delete(keys.INTAKE)

    draining = threading.Thread(target=drain)
    draining.start()
    report = producer.enqueue_many([order(f"A-{number}") for number in range(16)], block=True, timeout=1.5)
    ended.set()
    draining.join()
    assert report.all_taken
    assert [line.index for line in report] == list(range(16))
    left = [name for name, *_ in terms_in(fake_or_real_redis)]
    assert set(taken + left) == {f"A-{number}" for number in range(16)}


def test_many_orders_give_up_without_progress(fake_or_real_redis: redis.Redis) -> None:
    """What finds no room for so long is reported full; later batches are not waited for again."""
    producer = narrow(fake_or_real_redis, 2)
    started_at = time.monotonic()
    lines = list(
        producer.enqueue_batches(
            [order(f"A-{number}") for number in range(6)], company="default", timeout=5.0, wait=0.5, batch_size=3
        )
    )
    assert [line.result for line in lines] == [LineResult.ACCEPTED] * 2 + [LineResult.FULL] * 4
    assert 0.3 < time.monotonic() - started_at < 0.9


def test_patience_ends_with_the_whole() -> None:
    """It never waits beyond the end that it is given, and not at all without seconds."""
    assert list(Patience(0.0).wait()) == []
    assert list(Patience(60.0, ends_at=time.monotonic() + 0.05).wait()) == []
    (pause,) = Patience(60.0).wait()
    assert isinstance(pause, Pause)
    assert 0.0 < pause.seconds < 0.1


def test_a_time_must_be_a_datetime() -> None:
    """Text in place of a time is told, with its name, and not met by a stranger's error."""
    wrong: Any = "2026-01-01"
    with pytest.raises(ValueError, match="due_at is '2026-01-01'; it must be a datetime"):
        Terms(due_at=wrong)
