"""From the intake stream into the ledger: nothing is deleted before it is booked, and nothing is booked twice."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import redis
import sqlalchemy as sa
from msgspec.structs import replace

from orderrelay_shared import ids, job_status, keys
from orderrelay_shared.intake import Ask
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import open_engine
from orderrelay_workers.runtime import Busy
from orderrelay_workers.sidecar import intake as intake_module
from orderrelay_workers.sidecar.intake import Intake
from tests.ledgers import ACME, ACTOR, Ledger, an_order, job_id, open_ledger
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orderrelay_workers.runtime import Runtime


@dataclass
class _Settings:
    redis_url: str


@dataclass
class _Hints:
    """Notes the hints instead of sending them."""

    sent: list[str] = field(default_factory=list[str])

    def orders(self, company: str) -> bool:
        """A hint that a company has due orders."""
        self.sent.append(company)
        return True


@dataclass
class BookingWorker:
    """As much of a worker as the intake takes."""

    engine: sa.Engine
    settings: _Settings
    boot_id: uuid.UUID = field(default_factory=uuid.uuid4)
    ledger_id: uuid.UUID = field(default_factory=uuid.uuid4)
    actor: str = ACTOR
    draining: threading.Event = field(default_factory=threading.Event)
    companies: Mapping[str, object] = field(default_factory=lambda: {ACME: None})
    submitting: Busy = field(default_factory=Busy)
    hints: _Hints = field(default_factory=_Hints)
    traces: None = None

    def intake(self, kind: type[Intake] = Intake) -> Intake:
        """This worker's reader."""
        return kind(cast("Runtime", self))


@pytest.fixture
def ledger(sqlite_url: str) -> Iterator[Ledger]:
    """An empty ledger with the company "acme"."""
    with open_ledger(sqlite_url) as ledger:
        yield ledger


@pytest.fixture
def new_worker(ledger: Ledger, redis_url: str) -> Callable[[], BookingWorker]:
    """Makes workers on the same Redis and ledger."""
    return lambda: BookingWorker(ledger.engine, _Settings(redis_url))


@pytest.fixture
def worker(new_worker: Callable[[], BookingWorker]) -> BookingWorker:
    """One worker."""
    return new_worker()


@pytest.fixture
def intake(worker: BookingWorker, redis_client: redis.Redis) -> Iterator[Intake]:
    """A reader whose group is made."""
    intake = worker.intake()
    assert intake.book_next() == 0
    yield intake
    intake.close()


def accept(client: redis.Redis, *numbers: int, **changes: bytes | str) -> list[bytes]:
    """Put orders into the stream, some of their fields changed."""
    return [
        cast("bytes", client.xadd(keys.INTAKE, cast("dict[str, bytes]", an_order(n).envelope.to_fields() | changes)))  # type: ignore[arg-type]  # redis-py wants an invariant dict
        for n in numbers
    ]


def left(client: redis.Redis) -> tuple[int, int]:
    """How many entries the stream holds, and how many of them are read but not acknowledged."""
    pending = cast("dict[str, int]", client.xpending(keys.INTAKE, keys.INTAKE_GROUP))
    return client.xlen(keys.INTAKE), pending["pending"]


def test_what_came_before_any_worker_is_booked(
    worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:  # fmt: skip
    """The group begins at the stream's very beginning, so orders from before the first worker are booked."""
    accept(redis_client, 1, 2)
    intake = worker.intake()
    assert (intake.book_next(), intake.book_next()) == (0, 2)
    assert ledger.states() == {"waiting": 2}
    assert left(redis_client) == (0, 0)
    intake.close()


def test_a_wiped_redis_is_begun_anew(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """After a wipe the group is made again from the beginning, and what has come since is booked."""
    accept(redis_client, 1)
    intake.book_next()
    redis_client.flushall()
    accept(redis_client, 2)
    assert (intake.book_next(), intake.book_next()) == (0, 1)
    assert ledger.states() == {"waiting": 2}


def test_a_dead_readers_entries_are_taken_over(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis
) -> None:  # fmt: skip
    """Entries that a reader took and never booked are taken over by another, once they are old."""
    [entry, _] = accept(redis_client, 1, 2)
    redis_client.xreadgroup(keys.INTAKE_GROUP, "dead", {keys.INTAKE: ">"})
    redis_client.xclaim(keys.INTAKE, keys.INTAKE_GROUP, "dead", 0, [entry], idle=11_000)
    intake._looked_for_abandoned = 0.0
    intake._own_pending = False
    assert intake.book_next() == 1
    assert ledger.states() == {"waiting": 1}
    assert left(redis_client) == (1, 1)


def test_a_reader_that_restarts_is_another(
    new_worker: Callable[[], BookingWorker], ledger: Ledger, redis_client: redis.Redis
) -> None:
    """Several readers share the stream, each entry booked by one of them."""
    readers = [new_worker().intake() for _ in range(3)]
    for reader in readers:
        reader.book_next()
    accept(redis_client, *range(40))

    def read_all(reader: Intake) -> int:
        booked = 0
        while redis_client.xlen(keys.INTAKE):
            booked += reader.book_next()
        return booked

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(read_all, readers)) == 40
    assert ledger.states() == {"waiting": 40}
    for reader in readers:
        reader.close()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"v": "0"}, id="layout 0"),
        pytest.param({"v": "two"}, id="layout is no number"),
        pytest.param({"v": "10000"}, id="absurd layout"),
        pytest.param({"k": ""}, id="no kind"),
        pytest.param({"k": "Revoke it"}, id="no name of a kind"),
        pytest.param({"c": "ACME "}, id="company"),
        pytest.param({"x": " a"}, id="ExternalId"),
        pytest.param({"d": b"short"}, id="digest"),
        pytest.param({"bv": "0"}, id="body version"),
        pytest.param({"c": b"\xff"}, id="not UTF-8"),
    ],
)
def test_an_unreadable_entry_is_set_aside(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, changes: dict[str, bytes | str]
) -> None:
    """An entry of no known or coming layout is kept in SQL for a person, with an alarm, and holds up no other."""
    accept(redis_client, 1, **changes)
    accept(redis_client, 2)
    assert intake.book_next() == 2
    assert ledger.states() == {"waiting": 1}
    assert ledger.events() == ["set_aside!"]
    assert left(redis_client) == (0, 0)


def test_it_is_set_aside_once(intake: Intake, worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis) -> None:
    """An unreadable entry whose batch cannot be booked yet is not told of again and again."""

    @sa.event.listens_for(worker.engine, "before_cursor_execute")
    def away(_: object, __: object, statement: str, *___: object) -> None:
        if "INSERT INTO order_key" in statement:
            raise sa.exc.OperationalError(statement, None, Exception("away"))

    accept(redis_client, 1, v="two")
    accept(redis_client, 2)
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError):
            intake.book_next()
    sa.event.remove(worker.engine, "before_cursor_execute", away)
    assert intake.book_next() == 2
    assert ledger.events() == ["set_aside!"]


def test_a_newer_body_is_booked(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """An order in a newer body format is booked, as bytes, and left to newer workers to send."""
    accept(redis_client, 1, bv="2", b=b"\x00 whatever")
    intake.book_next()
    assert ledger.job(job_id(1))["body_version"] == 2
    assert ledger.rows(schema.revision)[0]["body"] == b"\x00 whatever"
    assert ledger.claim() == []


def test_while_the_database_is_away_entries_stay(
    intake: Intake, worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """Entries that could not be booked stay in the stream, and are booked as soon as the database is back."""
    accept(redis_client, 1, 2)
    worker.engine = open_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    for _ in range(2):
        with pytest.raises(sa.exc.OperationalError):
            intake.book_next()
    assert left(redis_client) == (2, 2)
    worker.engine.dispose()
    worker.engine = ledger.engine
    assert intake.book_next() == 2
    assert left(redis_client) == (0, 0)


def test_entries_go_only_after_the_commit(
    worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:  # fmt: skip
    """When an entry is deleted its job is committed already; a crash between the two books it again, harmlessly."""
    seen: list[dict[str, int]] = []

    class Crashing(Intake):
        def _delete(self, entry_ids: list[bytes]) -> None:
            seen.append(ledger.states())
            if len(seen) == 1:
                raise redis.ConnectionError
            super()._delete(entry_ids)

    intake = worker.intake(Crashing)
    intake.book_next()
    accept(redis_client, 1, 2)
    with pytest.raises(redis.ConnectionError):
        intake.book_next()
    assert left(redis_client) == (2, 2)
    assert intake.book_next() == 2
    assert seen == [{"waiting": 2}, {"waiting": 2}]
    assert (left(redis_client), ledger.events()) == ((0, 0), [])
    intake.close()


def test_a_lost_reply_is_read_again_at_once(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """Entries that were given to this reader in an answer that got lost are booked at the very next look."""
    assert intake.book_next() == 0
    accept(redis_client, 1)
    redis_client.xreadgroup(keys.INTAKE_GROUP, intake._reader, {keys.INTAKE: ">"})
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(intake.book_next)
        wait_until(lambda: cut_the_reader_off(redis_client), what="the reader blocks and is cut off")
        with pytest.raises(redis.ConnectionError):
            reading.result(timeout=5)
    assert intake.book_next() == 1
    assert ledger.states() == {"waiting": 1}


def cut_the_reader_off(client: redis.Redis) -> bool:
    """Cut the connection of a reader that blocks; False if none does."""
    for one in client.client_list():
        if one["name"] == "orderrelay-intake" and "b" in one["flags"]:
            return bool(client.client_kill_filter(_id=one["id"]))
    return False


def test_more_than_a_batch_of_ones_own(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that has more pending than one batch books all of it."""
    accept(redis_client, *range(7))
    redis_client.xreadgroup(keys.INTAKE_GROUP, intake._reader, {keys.INTAKE: ">"})
    monkeypatch.setattr(intake_module, "BATCH", 3)
    assert [intake.book_next() for _ in range(3)] == [3, 3, 1]
    assert ledger.states() == {"waiting": 7}


def test_an_entry_that_another_has_booked_is_passed_over(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """A pending entry that was deleted from the stream meanwhile does no harm."""
    [gone, _] = accept(redis_client, 1, 2)
    redis_client.xreadgroup(keys.INTAKE_GROUP, intake._reader, {keys.INTAKE: ">"})
    redis_client.xdel(keys.INTAKE, gone)
    intake.book_next()
    assert ledger.states() == {"waiting": 1}
    assert left(redis_client) == (0, 0)


def test_an_ask_is_answered_from_the_ledger(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """An ask is answered with what the ledger says, also that it has no such job."""
    [job] = ledger.book(1)
    ledger.set(job, state="parked", reason="why")
    stranger = uuid.uuid4()
    for asked in (job, stranger):
        redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", Ask(asked).to_fields()))  # type: ignore[arg-type]  # redis-py wants an invariant dict
    assert intake.book_next() == 2
    known = JobStatus.from_json(cast("bytes", redis_client.get(keys.status(job))))
    assert known is not None
    assert (known.state, known.reason) == (JobState.PARKED, "why")
    assert redis_client.get(keys.status(stranger)) == job_status.UNHEARD_OF
    assert left(redis_client) == (0, 0)


def test_a_booked_order_is_published(intake: Intake, redis_client: redis.Redis) -> None:
    """A newly booked order is told as waiting; one that is booked again as what it is."""
    accept(redis_client, 1)
    intake.book_next()
    status = JobStatus.from_json(cast("bytes", redis_client.get(keys.status(job_id(1)))))
    assert status is not None
    assert (status.state, status.external_id, status.company) == (JobState.WAITING, "order-1", ACME)


def test_booking_again_publishes_the_truth(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """An order that is enqueued again after it ended is told as ended, not as waiting."""
    [job] = ledger.book(1)
    ledger.set(job, state="rejected")
    accept(redis_client, 1)
    intake.book_next()
    status = JobStatus.from_json(cast("bytes", redis_client.get(keys.status(job))))
    assert status is not None
    assert status.state is JobState.REJECTED


def test_a_hint_follows_a_new_order(intake: Intake, worker: BookingWorker, redis_client: redis.Redis) -> None:
    """New orders of a company that is served here are hinted at; known ones and other companies' are not."""
    accept(redis_client, 1)
    intake.book_next()
    accept(redis_client, 1)
    redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", an_order(2, company="other").envelope.to_fields()))  # type: ignore[arg-type]  # redis-py wants an invariant dict
    intake.book_next()
    assert worker.hints.sent == [ACME]


def test_who_is_at_it_looks_again(intake: Intake, worker: BookingWorker, redis_client: redis.Redis) -> None:
    """While this process works on the company it is told to look again, without a hint."""
    worker.submitting.begin(ACME)
    accept(redis_client, 1)
    intake.book_next()
    assert worker.submitting.asked_again(ACME)
    assert worker.hints.sent == []


def test_asking_takes_nothing_up() -> None:
    """Asking whoever is at it to look again begins nothing, so a company is never held by nobody."""
    busy = Busy()
    assert not busy.ask(ACME)
    assert ACME not in busy
    assert busy.begin(ACME)
    assert busy.ask(ACME)
    assert busy.end(ACME)


def test_old_readers_are_forgotten(intake: Intake, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has nothing pending and has long been silent leaves the group; one with entries never does."""
    accept(redis_client, 1)
    redis_client.xreadgroup(keys.INTAKE_GROUP, "holding", {keys.INTAKE: ">"})
    redis_client.xgroup_createconsumer(keys.INTAKE, keys.INTAKE_GROUP, "silent")
    wait_until(lambda: all(idle > 1 for idle in idle_times(redis_client)), what="the readers have been silent")
    monkeypatch.setattr(intake_module, "_FORGET_READER_MS", 1)
    intake._left_by_others()
    names = {reader["name"] for reader in redis_client.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP)}
    assert b"holding" in names
    assert b"silent" not in names


def idle_times(client: redis.Redis) -> list[int]:
    """How long each reader has been silent, in milliseconds."""
    return [reader["idle"] for reader in client.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP)]


def test_a_conflict_is_told(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """Other content under a known ExternalId is recorded, its entry goes, and the job stays as it was."""
    [job] = ledger.book(1)
    other = replace(an_order(1), envelope=an_order(1, content="other").envelope)
    redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", other.envelope.to_fields()))  # type: ignore[arg-type]  # redis-py wants an invariant dict
    intake.book_next()
    assert ledger.events() == ["conflict"]
    assert left(redis_client) == (0, 0)
    assert redis_client.get(keys.status(job)) is not None


def test_a_crash_after_the_entry_is_gone_leaves_no_conflict_in_the_cache(
    worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """Else the true order would be told a conflict, and the other one that it is known, until the cache forgets."""

    class Crashing(Intake):
        def _delete(self, entry_ids: list[bytes]) -> None:
            super()._delete(entry_ids)
            raise redis.ConnectionError

    ledger.book(1)
    other = an_order(1, content="other").envelope
    order = ids.order_digest(ACME, other.external_id)
    for recent in keys.recent(order):
        redis_client.hset(recent, keys.recent_field(order), keys.recent_content(other.content_digest))
    intake = worker.intake(Crashing)
    intake.book_next()
    redis_client.xadd(keys.INTAKE, cast("dict[str, bytes]", other.to_fields()))  # type: ignore[arg-type]  # redis-py wants an invariant dict
    with pytest.raises(redis.ConnectionError):
        intake.book_next()
    assert left(redis_client) == (0, 0)
    assert not redis_client.exists(*keys.recent(order))
    intake.close()


def test_large_orders_are_read_a_few_at_a_time(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After large entries fewer are read together, after small ones more again; all are booked."""
    monkeypatch.setattr(intake_module, "_BATCH_BYTES", 3000)
    monkeypatch.setattr(intake_module, "_FIRST_BATCH", 4)
    accept(redis_client, 1, b=b"x" * 1000)
    intake.book_next()
    accept(redis_client, *range(2, 11))
    assert [intake.book_next() for _ in range(3)] == [2, 7, 0]
    assert ledger.states() == {"waiting": 10}
