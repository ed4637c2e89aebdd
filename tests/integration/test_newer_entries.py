"""Entries of a newer layout or kind: left for newer workers, in nobody's way, and booked as soon as one comes up."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_shared import intake as intake_format
from orderrelay_shared import keys
from orderrelay_shared.intake import EnvelopeNewer, can_read, read_entry
from orderrelay_workers.diagnosis import of_redis
from orderrelay_workers.diagnosis.findings import Level
from orderrelay_workers.sidecar import intake as intake_module
from tests.integration.test_intake import accept, intake, ledger, left, new_worker, worker
from tests.ledgers import an_order
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    from orderrelay_workers.sidecar.intake import Intake
    from tests.integration.test_intake import BookingWorker
    from tests.ledgers import Ledger

__all__ = ["intake", "ledger", "new_worker", "worker"]  # fixtures

NEWER = [
    pytest.param({"v": "3"}, "v3", id="layout"),
    pytest.param({"v": "9999", "k": "\x00"}, "v9999", id="far layout"),
    pytest.param({"k": "revise"}, "v1-revise", id="kind"),
]


def pending(client: redis.Redis) -> dict[str, int]:
    """How many entries each reader has pending, readers without any left out."""
    readers = cast("list[dict[str, object]]", client.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP))
    return {
        str(cast("bytes", reader["name"]), "utf-8"): cast("int", reader["pending"])
        for reader in readers
        if reader["pending"]
    }


def entries(client: redis.Redis) -> list[dict[str, object]]:
    """What is read and not acknowledged, entry by entry."""
    return cast("list[dict[str, object]]", client.xpending_range(keys.INTAKE, keys.INTAKE_GROUP, "-", "+", 10))


def wait_until_left(client: redis.Redis) -> None:
    """Wait until what was left for newer workers is old enough to be taken over."""
    young = intake_module._LEAVING_MS
    wait_until(
        lambda: all(cast("int", entry["time_since_delivered"]) > young for entry in entries(client)),
        what="the entries are old enough",
    )


def teach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one of a version that knows layout 3 and the kind "revise", both like an order of layout 1."""
    known = intake_format.read_entry

    def read(fields: Mapping[bytes, bytes]) -> object:
        return known({**fields, b"v": b"1", b"k": b"order"})

    monkeypatch.setattr(intake_format, "LAYOUT", 3)
    monkeypatch.setattr(intake_format, "KINDS", frozenset({"order", "ask", "cancel", "revise"}))
    monkeypatch.setattr(intake_module, "read_entry", read)


@pytest.mark.parametrize(("changes", "needs"), NEWER)
def test_a_newer_entry_is_told_from_garbage(changes: dict[str, str], needs: str) -> None:
    """An entry of a newer layout or kind says what a worker has to know to read it."""
    fields = {
        name.encode(): value if isinstance(value, bytes) else value.encode()
        for name, value in (an_order(1).envelope.to_fields() | changes).items()
    }
    with pytest.raises(EnvelopeNewer) as raised:
        read_entry(fields)
    assert raised.value.needs == needs
    assert not can_read(needs)


@pytest.mark.parametrize("needs", ["v1", "v1-order", "v1-ask", "v1-cancel", "v2", "v2-order"])
def test_what_this_version_knows_it_can_read(needs: str) -> None:
    """Entries that an older worker left for a worker like this one are recognised by what they need."""
    assert can_read(needs)


@pytest.mark.parametrize("needs", ["", "v0", "v3", "v1-", "v1-revise", "v3-order", "order", "v1-order "])
def test_what_it_does_not_know_it_cannot(needs: str) -> None:
    """Anything else is left where it is."""
    assert not can_read(needs)


@pytest.mark.parametrize(("changes", "needs"), NEWER)
def test_a_newer_entry_is_left_and_holds_up_no_other(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, changes: dict[str, bytes | str], needs: str
) -> None:
    """It stays in the stream, unacknowledged and without an alarm, while all around it is booked."""
    accept(redis_client, 1)
    accept(redis_client, 2, **changes)
    accept(redis_client, 3)
    intake.book_next()
    assert ledger.states() == {"waiting": 2}
    assert ledger.events() == []
    assert left(redis_client) == (1, 1)
    assert pending(redis_client) == {f"{keys.INTAKE_NEWER_READER}{needs}": 1}


def test_more_than_a_batch_of_newer_entries_starves_nothing(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many newer entries lie before an order, it is booked."""
    monkeypatch.setattr(intake_module, "BATCH", 3)
    accept(redis_client, *range(10), v="3")
    accept(redis_client, 10)
    for _ in range(5):
        intake.book_next()
    assert ledger.states() == {"waiting": 1}
    assert pending(redis_client) == {f"{keys.INTAKE_NEWER_READER}v3": 10}


def test_what_was_left_is_not_taken_again_by_a_worker_that_cannot_read_it(
    intake: Intake, new_worker: Callable[[], BookingWorker], redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older workers look at a newer entry once, however old it grows, so that it is there when a newer one comes."""
    monkeypatch.setattr(intake_module, "_TAKE_OVER_MS", 0)
    monkeypatch.setattr(intake_module, "_LEAVING_MS", 0)
    monkeypatch.setattr(intake_module, "_LOOK_FOR_ABANDONED_SECONDS", 0.0)
    monkeypatch.setattr(intake_module, "_BLOCK_MS", 1)
    accept(redis_client, 1, v="3")
    intake.book_next()
    [before] = entries(redis_client)
    other = new_worker().intake()
    for reader in (intake, other) * 3:
        assert reader.book_next() == 0
    [after] = entries(redis_client)
    assert (after["consumer"], after["times_delivered"]) == (before["consumer"], before["times_delivered"])
    assert cast("int", after["time_since_delivered"]) >= cast("int", before["time_since_delivered"])
    other.close()


@pytest.mark.parametrize("changes", [{"v": "3"}, {"k": "revise"}], ids=["layout", "kind"])
def test_a_newer_worker_books_what_was_left(
    intake: Intake,
    new_worker: Callable[[], BookingWorker],
    ledger: Ledger,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, bytes | str],
) -> None:
    """A worker that knows the layout or kind takes it over at its first look, and deletes it when it is booked."""
    accept(redis_client, 1, **changes)
    intake.book_next()
    wait_until_left(redis_client)
    teach(monkeypatch)
    newer = new_worker().intake()
    assert newer.book_next() == 1
    assert ledger.states() == {"waiting": 1}
    assert left(redis_client) == (0, 0)
    newer.close()


def test_a_newer_worker_takes_many_at_once(
    intake: Intake,
    new_worker: Callable[[], BookingWorker],
    ledger: Ledger,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than a batch is taken over without a pause in between."""
    monkeypatch.setattr(intake_module, "BATCH", 3)
    accept(redis_client, *range(7), v="3")
    for _ in range(3):
        intake.book_next()
    wait_until_left(redis_client)
    teach(monkeypatch)
    newer = new_worker().intake()
    assert sum(newer.book_next() for _ in range(6)) == 7
    assert ledger.states() == {"waiting": 7}
    newer.close()


def test_a_newer_entry_of_a_dead_worker_is_left_by_another(
    intake: Intake, redis_client: redis.Redis
) -> None:  # fmt: skip
    """Between reading and leaving a worker may die; the next one leaves the entry in its place."""
    [entry] = accept(redis_client, 1, v="3")
    redis_client.xreadgroup(keys.INTAKE_GROUP, "dead", {keys.INTAKE: ">"})
    redis_client.xclaim(keys.INTAKE, keys.INTAKE_GROUP, "dead", 0, [entry], idle=11_000)
    intake._looked_for_abandoned = float("-inf")
    intake.book_next()
    assert pending(redis_client) == {f"{keys.INTAKE_NEWER_READER}v3": 1}


def test_the_doctor_tells_how_many_wait(intake: Intake, redis_client: redis.Redis, redis_url: str) -> None:
    """What was left for newer workers is a warning that says how many and what they need."""
    accept(redis_client, 1, 2, v="3")
    accept(redis_client, 3, k="revise")
    accept(redis_client, 4)
    intake.book_next()
    client, found = of_redis.look_at_redis(redis_url, of_redis._NOTHING_ASKED)
    assert client is not None
    client.close()
    [newer] = [finding for finding in found if "newer version" in finding.text]
    assert newer.level is Level.WARNING
    assert newer.text == (
        "3 entries of the intake wait for a newer version of the workers (1 of v1-revise, 2 of v3); nothing is lost"
    )


def test_the_doctor_is_silent_where_none_waits(intake: Intake, redis_client: redis.Redis, redis_url: str) -> None:
    """Without such entries, and before any worker was there, nothing is said of them."""
    accept(redis_client, 1)
    for _ in range(2):
        client, found = of_redis.look_at_redis(redis_url, of_redis._NOTHING_ASKED)
        assert client is not None
        client.close()
        assert [finding for finding in found if "newer version" in finding.text] == []
        redis_client.delete(keys.INTAKE)
