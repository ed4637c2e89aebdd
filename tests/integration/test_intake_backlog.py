"""The intake while there is a backlog: entries of one batch go and are told of while the next batch is booked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import redis

from orderrelay_shared import keys
from orderrelay_workers.sidecar import intake as intake_module
from orderrelay_workers.sidecar.intake import Intake
from tests.integration.test_intake import accept, ledger, left, new_worker, worker
from tests.ledgers import job_id
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.test_intake import BookingWorker
    from tests.ledgers import Ledger

__all__ = ["ledger", "new_worker", "worker"]  # fixtures

#: So many orders make a batch that is followed by another.
_FULL = 2


class HeldUp(Intake):
    """Deletes only when it is let, or fails at it."""

    def __init__(self, worker: BookingWorker) -> None:
        super().__init__(worker)  # type: ignore[arg-type]  # as much of a worker as the intake takes
        self.may_delete = threading.Event()
        self.failures = 0
        self.deletions = 0

    def _delete(self, entry_ids: list[bytes]) -> None:
        self.deletions += 1
        assert self.may_delete.wait(10)
        if self.failures:
            self.failures -= 1
            raise redis.ConnectionError
        super()._delete(entry_ids)


@pytest.fixture
def intake(
    worker: BookingWorker, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HeldUp]:  # fmt: skip
    """A reader whose group is made, and whose batches are small."""
    monkeypatch.setattr(intake_module, "BATCH", _FULL)
    intake = HeldUp(worker)
    assert intake.book_next() == 0
    assert redis_client.xlen(keys.INTAKE) == 0
    yield intake
    intake.may_delete.set()
    intake.close()


def test_the_next_batch_is_booked_while_entries_go(
    intake: HeldUp, ledger: Ledger, redis_client: redis.Redis
) -> None:  # fmt: skip
    """A full batch does not wait for Redis; but of two, the second's entries go only after the first's."""
    accept(redis_client, *range(2 * _FULL))
    assert intake.book_next() == _FULL
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(intake.book_next)
        wait_until(lambda: ledger.states() == {"waiting": 2 * _FULL}, what="the second batch is booked")
        assert (left(redis_client), intake.deletions) == ((2 * _FULL, 2 * _FULL), 1)
        intake.may_delete.set()
        assert second.result(timeout=10) == _FULL
    intake.close()
    assert left(redis_client) == (0, 0)
    assert all(redis_client.exists(keys.status(job_id(number))) for number in range(2 * _FULL))


def test_a_batch_that_is_not_full_is_told_of_at_once(intake: HeldUp, redis_client: redis.Redis) -> None:
    """Where nothing follows, all is done when the call returns."""
    intake.may_delete.set()
    accept(redis_client, 1)
    assert intake.book_next() == 1
    assert left(redis_client) == (0, 0)
    assert redis_client.exists(keys.status(job_id(1)))


def test_entries_that_could_not_be_deleted_are_booked_again(
    intake: HeldUp, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """If Redis goes away while a full batch's entries go, the next call tells it, and nothing stays or comes twice."""
    intake.may_delete.set()
    intake.failures = 1
    accept(redis_client, *range(2 * _FULL))
    assert intake.book_next() == _FULL
    with pytest.raises(redis.ConnectionError):
        intake.book_next()
    assert [intake.book_next() for _ in range(3)] == [_FULL, _FULL, 0]
    assert (left(redis_client), ledger.states(), ledger.events()) == ((0, 0), {"waiting": 2 * _FULL}, [])


def test_that_they_could_not_is_noticed_even_if_nothing_follows(intake: HeldUp, redis_client: redis.Redis) -> None:
    """They are booked again although no other entry comes."""
    intake.may_delete.set()
    intake.failures = 1
    accept(redis_client, *range(_FULL))
    assert intake.book_next() == _FULL
    with pytest.raises(redis.ConnectionError):
        intake.book_next()
    assert [intake.book_next() for _ in range(2)] == [_FULL, 0]
    assert left(redis_client) == (0, 0)


def test_a_worker_that_stops_lets_them_go_first(intake: HeldUp, redis_client: redis.Redis) -> None:
    """Else another worker would book them again, after ten seconds."""
    accept(redis_client, *range(_FULL))
    assert intake.book_next() == _FULL
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(intake.close)
        wait_until(lambda: intake.deletions == 1, what="the entries are about to go")
        assert not closing.done()
        intake.may_delete.set()
        closing.result(timeout=10)
    assert left(redis_client) == (0, 0)


def test_redis_may_be_away_when_it_stops(intake: HeldUp, redis_client: redis.Redis) -> None:
    """The worker ends all the same; its entries stay for another."""
    intake.may_delete.set()
    intake.failures = 1
    accept(redis_client, *range(_FULL))
    assert intake.book_next() == _FULL
    intake.close()
    assert left(redis_client) == (_FULL, _FULL)
