"""What must hold of an order before it is called accepted: replicas that have it, disks that it is on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import redis

from orderrelay_producers import LineResult, OrderConflict, OrderProducer, QueueFull, QueueUnavailable
from orderrelay_producers.round_trip import ErrorReply, NoReply
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_shared import ids, keys
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.settings import ProducerSettings
from orderrelay_shared.states import JobState
from tests.servers import RedisServer, wait_until
from tests.unit.test_producer import order, publish, status, worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COPIES, _DISK = Safekeeping(1), Safekeeping(0, on_disk=True)
_ALWAYS = [b"appendfsync", b"always"]
_VALKEY = b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"
_TOO_OLD = "ORDERRELAY_ACCEPT_ON_DISK needs Redis 7.2 or later, or Valkey"
_FORBIDDEN = ErrorReply("NOPERM", "has no permissions")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica, both with an append-only file."""
    on_disk = ("--appendonly", "yes", "--appendfsync", "always")
    primary = RedisServer(tmp_path / "primary", options=on_disk)
    replica = RedisServer(tmp_path / "replica", options=on_disk, replica_of=primary)
    primary.start()
    replica.start()
    yield primary, replica
    replica.kill9()
    primary.kill9()


def producer(
    server: RedisServer, *, replicas: int = 0, on_disk: bool = False, max_waiting: int = 1000
) -> OrderProducer:
    """A producer that asks for so much."""
    settings = ProducerSettings(accept_replicas=replicas, accept_on_disk=on_disk, max_waiting=max_waiting)
    return OrderProducer(server.url, settings=settings)


def in_the_intake(server: RedisServer) -> int:
    """How many entries wait there."""
    with server.connect() as client:
        return int(client.xlen(keys.INTAKE))


def waits_for_disk(server: RedisServer) -> bool:
    """Whether this server has WAITAOF: Redis 7.2 and Valkey do, the Redis 7.0 of Debian 12 does not."""
    with server.connect() as client:
        major, minor, *_ = str(client.info("server")["redis_version"]).split(".")
    return (int(major), int(minor)) >= (7, 2)


def refuses(asks: OrderProducer, words: str) -> None:
    """The producer raises QueueUnavailable with these words, for an order that may have been taken."""
    with pytest.raises(QueueUnavailable, match=words) as caught:
        asks.enqueue(order("A-1"))
    assert caught.value.maybe_taken


def cut_off(replica: RedisServer, primary: RedisServer) -> None:
    """Cut the replica off; returns when the primary knows."""
    replica.kill9()
    with primary.connect() as client:
        wait_until(lambda: client.info("replication")["connected_slaves"] == 0, what="the primary is alone")


def test_the_replica_has_what_is_accepted(pair: tuple[RedisServer, RedisServer]) -> None:
    """When enqueue returns, the replica has the order: killing the primary at once loses nothing."""
    primary, replica = pair
    with producer(primary, replicas=1) as asks:
        for number in range(50):
            asks.enqueue(order(f"A-{number}"))
            assert in_the_intake(replica) == number + 1


def test_the_wait_is_for_ones_own_writes(pair: tuple[RedisServer, RedisServer]) -> None:
    """An order that the replica does not have is not excused by connections that wrote nothing new."""
    primary, replica = pair
    with producer(primary, replicas=1) as asks:
        asks.enqueue(order("A-1"))
        replica.process.freeze()
        with pytest.raises(QueueUnavailable, match="0 of 1 replicas"):
            asks.enqueue(order("A-2"), timeout=0.5)
        replica.process.thaw()
        assert asks.enqueue(order("A-2")).external_id == "A-2"


def test_without_the_replica_nothing_is_accepted_for_sure(pair: tuple[RedisServer, RedisServer]) -> None:
    """Link cut: told in time, with the order, what is missing, and that enqueueing it again is safe."""
    primary, replica = pair
    cut_off(replica, primary)
    mine = order()
    with producer(primary, replicas=1) as asks:
        began_at = time.monotonic()
        with pytest.raises(QueueUnavailable, match=r"0 of 1 replicas had the order in time \(ORDERRELAY") as caught:
            asks.enqueue(mine, timeout=0.5)
        assert time.monotonic() - began_at < 2.0
    assert caught.value.maybe_taken
    assert caught.value.order is mine
    assert "the order may have been taken. Enqueueing the order of this error (`.order`) again is safe" in str(
        caught.value
    )
    assert in_the_intake(primary) == 1


def test_an_order_that_was_not_kept_is_accepted_later(pair: tuple[RedisServer, RedisServer]) -> None:
    """The same order again is the same job, once the replica is back."""
    primary, replica = pair
    cut_off(replica, primary)
    with producer(primary, replicas=1) as asks:
        with pytest.raises(QueueUnavailable):
            asks.enqueue(order("A-1"), timeout=0.5)
        replica.start()
        assert asks.enqueue(order("A-1")).id == ids.job_id("default", "A-1")


def test_many_orders_wait_once(pair: tuple[RedisServer, RedisServer]) -> None:
    """A batch asks once, at its end, and not for each order."""
    primary, _ = pair
    with producer(primary, replicas=1) as asks, primary.connect() as client:
        asks.enqueue(order("A-0"))
        client.config_resetstat()
        assert asks.enqueue_many(order(f"A-{number}") for number in range(600)).all_taken
        assert client.info("commandstats")["cmdstat_wait"]["calls"] == 2


def test_many_orders_without_the_replica_end_in_time(pair: tuple[RedisServer, RedisServer]) -> None:
    """Every line says `unavailable`, perhaps taken; the time is no multiple of the number of batches."""
    primary, replica = pair
    cut_off(replica, primary)
    with producer(primary, replicas=1) as asks:
        began_at = time.monotonic()
        orders = [order() for _ in range(40)]
        lines = list(asks.enqueue_batches(orders, company="default", timeout=0.3, batch_size=10))
        assert time.monotonic() - began_at < 1.5
    assert {line.result for line in lines} == {LineResult.UNAVAILABLE}
    errors = [line.error for line in lines if isinstance(line.error, QueueUnavailable)]
    assert [error.order for error in errors] == orders
    assert errors[0].maybe_taken
    assert not errors[-1].maybe_taken


def test_refusals_stay_refusals(pair: tuple[RedisServer, RedisServer]) -> None:
    """A conflict and a full queue are told as such, also where nothing can be kept as asked for."""
    primary, replica = pair
    with producer(primary, replicas=1, max_waiting=2) as asks:
        asks.enqueue(order("A-1"))
        cut_off(replica, primary)
        with pytest.raises(OrderConflict):
            asks.enqueue(order("A-1", quantity=9), timeout=0.2)
        with pytest.raises(QueueFull):
            asks.enqueue(order("A-2"), timeout=0.2)


def test_a_forgotten_script_is_waited_for_too(pair: tuple[RedisServer, RedisServer]) -> None:
    """Redis has forgotten the script: the second round trip, which writes, asks as well."""
    primary, replica = pair
    with producer(primary, replicas=1) as asks, primary.connect() as client:
        asks.enqueue(order("A-1"))
        replica.process.freeze()
        client.script_flush()
        with pytest.raises(QueueUnavailable, match="0 of 1 replicas"):
            asks.enqueue(order("A-2"), timeout=0.5)
        replica.process.thaw()


def test_on_disk_and_at_the_replica(pair: tuple[RedisServer, RedisServer]) -> None:
    """Both can be asked for: the primary's disk, and a replica. A server that is too old for it is told as such."""
    with producer(pair[0], replicas=1, on_disk=True) as asks:
        if not waits_for_disk(pair[0]):
            refuses(asks, _TOO_OLD)
            return
        assert asks.enqueue(order("A-1")).external_id == "A-1"


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_disk_that_is_synced_now_and_then_is_not_believed(
    pair: tuple[RedisServer, RedisServer], protocol: int
) -> None:
    """Under everysec this server says "on disk" too early, so its word is not passed on."""
    primary, _ = pair
    settings = ProducerSettings(accept_on_disk=True)
    with redis.Redis.from_url(primary.url, protocol=protocol) as client:
        asks = OrderProducer(redis=client, settings=settings)
        if not waits_for_disk(primary):
            refuses(asks, _TOO_OLD)
            return
        assert asks.enqueue(order("A-1")).external_id == "A-1"
        client.config_set("appendfsync", "everysec")
        refuses(asks, "too early that an order is on disk: its appendfsync is everysec")


def test_without_an_append_only_file_nothing_is_on_disk(redis_server: RedisServer, redis_url: str) -> None:
    """AOF off: told at once, with what to set."""
    missing = "has no append-only file: ORDERRELAY_ACCEPT_ON_DISK needs appendonly"
    with producer(redis_server, on_disk=True) as asks:
        refuses(asks, missing if waits_for_disk(redis_server) else _TOO_OLD)


def test_booked_needs_no_replica(redis_server: RedisServer, redis_url: str, redis_client: redis.Redis) -> None:
    """What is in the ledger need not be kept by Redis, so `booked` waits for the ledger alone."""
    job = publish(redis_client, status())
    with producer(redis_server, replicas=1) as asks:
        assert asks.enqueue(order("A-1"), booked=True, timeout=1.0).id == job


@pytest.mark.parametrize(
    ("safekeeping", "replies", "words"),
    [
        (_COPIES, [1], None),
        (_COPIES, [2], None),
        (Safekeeping(2), [1], "1 of 2 replicas had the order in time"),
        (_DISK, [[1, 0], _ALWAYS, _VALKEY], None),
        (_DISK, [[1, 0], {b"appendfsync": b"always"}, _VALKEY], None),
        (_DISK, [[1, 0], [b"appendfsync", b"everysec"], b"redis_version:8.0.1\r\n"], None),
        (_DISK, [[1, 0], [b"appendfsync", b"everysec"], b"redis_version:7.4.1\r\n"], "too early"),
        (_DISK, [[1, 0], _FORBIDDEN, _VALKEY], "does not tell its appendfsync"),
        (_DISK, [[1, 0], _FORBIDDEN, _FORBIDDEN], "does not tell its appendfsync"),
        (_DISK, [[0, 0], _ALWAYS, _VALKEY], "not on Redis' disk in time"),
        (Safekeeping(1, on_disk=True), [1, [1, 0], _ALWAYS, _VALKEY], None),
        (Safekeeping(1, on_disk=True), [0, [1, 0], _ALWAYS, _VALKEY], "0 of 1 replicas"),
        (Safekeeping(1, on_disk=True), [1, [0, 0], _ALWAYS, _VALKEY], "not on Redis' disk"),
        (_COPIES, [NoReply("reset", sent=True)], "did not say where it is kept (reset)"),
        (_COPIES, [ErrorReply("UNBLOCKED", "UNBLOCKED force unblock")], "ceased to be the primary"),
        (_COPIES, [ErrorReply("ERR", "WAIT cannot be used with replica instances.")], "ceased to be the primary"),
        (_COPIES, [_FORBIDDEN], "needs WAIT)"),
        (_DISK, [ErrorReply("ERR", "unknown command 'WAITAOF', with"), _ALWAYS, _VALKEY], "needs Redis 7.2 or later"),
        (_COPIES, [ErrorReply("ERR", "something else")], "something else"),
    ],
)
def test_what_is_lacking_is_told_in_words(safekeeping: Safekeeping, replies: list[object], words: str | None) -> None:
    """Each answer of Redis either suffices or is told with what is missing."""
    lacking = safekeeping.lacking(replies)
    assert lacking is None if words is None else lacking is not None and words in lacking


def test_redis_never_waits_without_end() -> None:
    """0 means without end to Redis; a deadline that has passed asks for the shortest wait instead."""
    late = time.monotonic() - 1.0
    assert Safekeeping(1, on_disk=True).commands(late)[:2] == [("WAIT", 1, 1), ("WAITAOF", 1, 0, 1)]


def test_two_waits_share_the_time() -> None:
    """Waiting for a replica and then for the disk takes no longer than the caller allows."""
    waits = Safekeeping(1, on_disk=True).commands(time.monotonic() + 5.0)[:2]
    assert 4.0 < sum(int(wait[-1]) for wait in waits) / 1000 < 5.0


def test_nothing_asked_costs_nothing() -> None:
    """By default the primary alone decides."""
    settings = ProducerSettings()
    assert not Safekeeping(settings.accept_replicas, settings.accept_on_disk)


def test_a_booked_conflict_is_told_though_the_cache_forgot(
    redis_server: RedisServer, redis_url: str, redis_client: redis.Redis
) -> None:
    """`booked` compares contents with the ledger's, so a conflict is told where Redis has forgotten the first."""
    first = order("A-1", quantity=1)

    def book(_: object) -> tuple[object, bytes]:
        told = JobStatus(JobState.WAITING, "default", "A-1", status().at, content=first.content_digest()[:8].hex())
        return ids.job_id("default", "A-1"), told.to_json()

    with producer(redis_server) as asks, worker(redis_client, book):  # type: ignore[arg-type]  # any entry is answered alike
        assert asks.enqueue(first, booked=True).external_id == "A-1"
        redis_client.delete(*keys.recent(ids.order_digest("default", "A-1")))
        with pytest.raises(OrderConflict, match="'A-1' was already accepted with other content"):
            asks.enqueue(order("A-1", quantity=2), booked=True)
