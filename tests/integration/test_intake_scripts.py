"""The intake against other workers and an unsteady Redis: nothing unread goes, and no late word covers a newer one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_producers import OrderConflict, OrderProducer
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Ask
from orderrelay_shared.job_status import JobStatus
from orderrelay_workers import statuses
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.rows import read_statuses
from orderrelay_workers.sidecar import telling
from tests.integration.test_intake import accept, intake, ledger, left, new_worker, worker
from tests.ledgers import ACME, an_order, created, job_id
from tests.stack import order

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    import redis
    import sqlalchemy as sa

    from orderrelay_workers.sidecar.intake import Intake
    from tests.ledgers import Ledger

__all__ = ["intake", "ledger", "new_worker", "worker"]  # fixtures

_ID = "1700000000000-0"


def succeed(ledger: Ledger, client: redis.Redis) -> None:
    """What another worker's flow does: claim, send, settle and tell."""
    [claim] = ledger.claim()
    statuses.publish(client, ledger.settle((claim, created(5))).statuses)


def told(client: redis.Redis, number: int) -> str | None:
    """Which state producers are told of that order's job."""
    status = JobStatus.from_json(cast("bytes", client.get(keys.status(job_id(number)))))
    return None if status is None else str(status.state)


def test_an_entry_id_that_came_twice_is_not_deleted_unread(
    ledger: Ledger, intake: Intake, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failover to a clock that is behind, another order may bear the id of the one that was just booked."""
    delete = intake._delete

    def after_failover(entry_ids: list[bytes]) -> None:
        redis_client.flushall()
        redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", an_order(2).envelope.to_fields()), id=_ID)  # type: ignore[arg-type]  # redis-py wants an invariant dict
        redis_client.xgroup_create(keys.INTAKE, keys.INTAKE_GROUP, id="0")
        monkeypatch.undo()
        delete(entry_ids)

    redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", an_order(1).envelope.to_fields()), id=_ID)  # type: ignore[arg-type]  # as above
    monkeypatch.setattr(intake, "_delete", after_failover)
    intake.book_next()
    assert redis_client.xlen(keys.INTAKE) == 1
    while redis_client.xlen(keys.INTAKE) and intake.book_next():
        pass
    assert {row["external_id"] for row in ledger.rows(schema.job)} == {"order-1", "order-2"}


def test_what_a_forgotten_reader_had_pending_is_read_again(
    ledger: Ledger, intake: Intake, redis_client: redis.Redis
) -> None:
    """A reader that woke up and read just before it was forgotten takes no entry with it."""
    accept(redis_client, 1)
    redis_client.xreadgroup(keys.INTAKE_GROUP, "gone", {keys.INTAKE: ">"})
    intake._forget_reader("gone")
    assert left(redis_client) == (1, 0)
    intake.book_next()
    assert ledger.states() == {"waiting": 1}


def test_a_reader_without_anything_is_forgotten_without_reading_again(
    intake: Intake, redis_client: redis.Redis
) -> None:
    """What others have read and not booked yet is not given out a second time."""
    redis_client.xgroup_createconsumer(keys.INTAKE, keys.INTAKE_GROUP, "gone")
    accept(redis_client, 1)
    redis_client.xreadgroup(keys.INTAKE_GROUP, "busy", {keys.INTAKE: ">"})
    intake._forget_reader("gone")
    assert redis_client.xreadgroup(keys.INTAKE_GROUP, "other", {keys.INTAKE: ">"}) == []


def test_a_conflict_does_not_keep_the_true_order_out(
    intake: Intake, redis_client: redis.Redis, redis_url: str
) -> None:  # fmt: skip
    """When the cache of contents was lost, the order that holds the ExternalId is still told "already"."""
    producer = OrderProducer(redis_url)
    true, other = order("order-9"), order("order-9", CustomerNr="14")
    job = producer.enqueue(true, company=ACME)
    intake.book_next()
    redis_client.delete(*keys.recent(ids.order_digest(ACME, "order-9")))
    producer.enqueue(other, company=ACME)
    intake.book_next()
    try:
        assert producer.enqueue(true, company=ACME).id == job.id
    except OrderConflict as error:
        pytest.fail(f"the true order is told: {error}")


def test_a_conflict_is_told_each_time(intake: Intake, redis_client: redis.Redis, redis_url: str) -> None:
    """A file with it that is run again does not say `accepted` the second time; the true order stays `already`."""
    producer = OrderProducer(redis_url)
    true, other = order("order-9"), order("order-9", CustomerNr="14")
    producer.enqueue(true, company=ACME)
    for _ in range(3):
        assert intake.book_next() == 1
        with pytest.raises(OrderConflict):
            producer.enqueue(other, company=ACME)
    assert intake.book_next() == 1
    assert [line.result for line in producer.enqueue_many([true], company=ACME).lines] == ["already"]


def test_a_conflict_is_forgotten_for_producers_of_the_earlier_version(
    intake: Intake, redis_client: redis.Redis, redis_url: str
) -> None:
    """They keep the cache under other names; there, too, the content of a conflict must not pass for the true one."""
    producer = OrderProducer(redis_url)
    producer.enqueue(order("order-9"), company=ACME)
    theirs = keys.recent_before(ACME, ids.external_id_digest("order-9"))
    redis_client.set(theirs, b"content of the conflict", ex=60)
    with pytest.raises(OrderConflict):
        producer.enqueue(order("order-9", CustomerNr="14"), company=ACME)
    intake.book_next()
    assert not redis_client.exists(theirs)


def test_unheard_of_does_not_cover_a_newer_word(
    ledger: Ledger, intake: Intake, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that looked for a job before another one booked and sent it does not deny the job afterwards."""
    read = read_statuses

    def slowly(connection: sa.Connection, jobs: Collection[uuid.UUID]) -> dict[uuid.UUID, JobStatus]:
        found = read(connection, jobs)
        ledger.book(1)
        succeed(ledger, redis_client)
        return found

    redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", Ask(job_id(1)).to_fields()))  # type: ignore[arg-type]  # as above
    monkeypatch.setattr(telling, "read_statuses", slowly)
    intake.book_next()
    assert told(redis_client, 1) == "succeeded"


def test_waiting_does_not_cover_a_newer_word(
    ledger: Ledger, intake: Intake, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that was sent right after its booking is not told as waiting by the one that booked it."""
    delete = intake._delete

    def slowly(entry_ids: list[bytes]) -> None:
        succeed(ledger, redis_client)
        delete(entry_ids)

    accept(redis_client, 1)
    monkeypatch.setattr(intake, "_delete", slowly)
    intake.book_next()
    assert told(redis_client, 1) == "succeeded"
