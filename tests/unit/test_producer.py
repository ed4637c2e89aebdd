"""The producer: enqueueing one order or many, and asking what became of them."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import fakeredis
import pytest
import redis as redis_module

from orderrelay_producers import (
    Job,
    JobState,
    JobStatus,
    LineResult,
    Order,
    OrderConflict,
    OrderInvalid,
    OrderProducer,
    OrderRow,
    QueueFull,
    QueueUnavailable,
    UnknownCompany,
    following,
)
from orderrelay_producers.following import wait_until_settled
from orderrelay_producers.round_trip import run
from orderrelay_producers.steps import Exchange
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Ask, Cancel, Envelope, read_entry
from orderrelay_shared.job_status import UNHEARD_OF
from orderrelay_shared.settings import ProducerSettings
from orderrelay_workers import statuses
from tests.in_loop import MAKERS
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import redis

    from tests.servers import RedisServer


def order(external_id: str | None = None, *, quantity: int = 3) -> Order:
    """A small order."""
    row = OrderRow(customer_row_type=2, product_nr="100-5t", quantity=quantity, amount=350)
    return Order(customer_nr="013", invoice_date=dt.date(2026, 1, 30), invoice_rows=[row], external_id=external_id)


def status(
    state: JobState = JobState.WAITING, external_id: str = "A-1", company: str = "default", reason: str | None = None
) -> JobStatus:
    """A status as a worker publishes it."""
    at = dt.datetime(2026, 1, 30, 12, tzinfo=dt.UTC)
    return JobStatus(state, company, external_id, at, reason=reason)


def publish(client: redis.Redis, told: JobStatus) -> uuid.UUID:
    """Publish a status as a worker does."""
    job = ids.job_id(told.company, told.external_id)
    statuses.publish(client, {job: told})
    return job


def intake(client: redis.Redis) -> list[Envelope | Ask | Cancel]:
    """All that is in the intake."""
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.INTAKE))
    return [read_entry(fields) for _, fields in found]


@contextmanager
def worker(
    client: redis.Redis, answer: Callable[[Envelope | Ask | Cancel], tuple[uuid.UUID, bytes] | None]
) -> Iterator[None]:
    """A stand-in for the workers: reads the intake and publishes what `answer` says of each entry."""
    ended = threading.Event()

    def work() -> None:
        done = 0
        while not ended.wait(0.01):
            for entry in intake(client)[done:]:
                done += 1
                if (told := answer(entry)) is not None:
                    client.set(keys.status(told[0]), told[1], ex=60)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5.0)


def book(entry: Envelope | Ask | Cancel) -> tuple[uuid.UUID, bytes] | None:
    """A worker's word on an order that it just booked."""
    if not isinstance(entry, Envelope):
        return None
    return entry.job_id, status(external_id=entry.external_id, company=entry.company).to_json()


@pytest.fixture(params=MAKERS, ids=["in threads", "in a loop"])
def make(request: pytest.FixtureRequest) -> Iterator[type[OrderProducer]]:
    """What makes a producer, of each kind; all are closed in the end."""
    made: list[OrderProducer] = []

    def make_one(*args: Any, **more: Any) -> OrderProducer:
        made.append(request.param(*args, **more))
        return made[-1]

    yield cast("type[OrderProducer]", make_one)
    for one in made:
        one.close()


@pytest.fixture
def producer(fake_or_real_redis: redis.Redis, make: type[OrderProducer]) -> OrderProducer:
    """A producer of each kind on fakeredis, then on the real server."""
    return make(redis=fake_or_real_redis)


def test_the_order_reaches_the_intake(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """What a worker will read is the order: its company, ExternalId, digest and body."""
    mine = order("A-1")
    producer.enqueue(mine, company="ACME")
    assert intake(fake_or_real_redis) == [Envelope("acme", "A-1", mine.content_digest(), mine.body())]


def test_the_job_is_named_by_company_and_external_id(producer: OrderProducer) -> None:
    """The job's id is the one that every producer and worker derives."""
    job = producer.enqueue(order("A-1"), company="acme")
    assert (job.id, job.external_id, job.company) == (ids.job_id("acme", "A-1"), "A-1", "acme")


def test_a_mapping_is_an_order_too(producer: OrderProducer) -> None:
    """An order may come as a mapping with the vendor's names."""
    row = {"CustomerRowType": 2, "ProductNr": "1", "Quantity": 1, "Amount": 1}
    given = {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [row], "ExternalId": "A-1"}
    assert producer.enqueue(given).id == ids.job_id("default", "A-1")


def test_an_order_gets_its_external_id_on_the_object(producer: OrderProducer) -> None:
    """An order without ExternalId has one afterwards, so enqueueing it again is the same job."""
    mine = order()
    first = producer.enqueue(mine)
    assert mine.external_id == first.external_id
    assert producer.enqueue(mine) == first


def test_the_same_order_again_is_the_same_job_and_goes_to_the_ledger(
    producer: OrderProducer, fake_or_real_redis: redis.Redis
) -> None:
    """The producer never decides by its cache that an order need not be sent."""
    jobs = {producer.enqueue(order("A-1")).id for _ in range(3)}
    assert len(jobs) == 1
    assert len(intake(fake_or_real_redis)) == 3


def test_other_content_under_the_same_external_id_is_a_conflict(
    producer: OrderProducer, fake_or_real_redis: redis.Redis
) -> None:
    """The second order is refused with the first one's job, and is in the intake for the record."""
    first = producer.enqueue(order("A-1", quantity=1))
    with pytest.raises(OrderConflict, match="'A-1' was already accepted with other content") as caught:
        producer.enqueue(order("A-1", quantity=2))
    assert caught.value.job_id == first.id
    assert len(intake(fake_or_real_redis)) == 2


def test_an_invalid_order_is_refused_before_redis(make: type[OrderProducer]) -> None:
    """What is wrong with an order is told even where no Redis is."""
    with pytest.raises(OrderInvalid, match="CustomerNr"):
        make(f"redis://127.0.0.1:{free_port()}").enqueue({"InvoiceRows": []})


def test_an_external_id_longer_than_the_setting_is_refused(
    fake_or_real_redis: redis.Redis, make: type[OrderProducer]
) -> None:
    """The limit on ExternalIds is a setting."""
    producer = make(redis=fake_or_real_redis, settings=ProducerSettings(external_id_max_length=40))
    with pytest.raises(OrderInvalid, match="ExternalId: has 41 characters; at most 40"):
        producer.enqueue(order("x" * 41))


def test_a_full_queue_is_told_with_the_order(fake_or_real_redis: redis.Redis, make: type[OrderProducer]) -> None:
    """QueueFull carries the order, which can be enqueued again later."""
    producer = make(redis=fake_or_real_redis, settings=ProducerSettings(max_waiting=1))
    producer.enqueue(order("A-1"))
    second = order()
    with pytest.raises(QueueFull, match="1 orders wait, and 1 may") as caught:
        producer.enqueue(second)
    assert caught.value.order is second
    assert second.external_id is not None


def test_an_unserved_company_is_told(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """The error names the company, and those that workers serve."""
    fake_or_real_redis.zadd(keys.COMPANIES, {"acme": time.time()})
    with pytest.raises(UnknownCompany, match="company 'amce': no worker serves it; workers serve acme"):
        producer.enqueue(order(), company="amce")


def test_a_wrong_alias_is_told(producer: OrderProducer) -> None:
    """A text that can be no alias is refused as an unknown company."""
    with pytest.raises(UnknownCompany, match="is no company alias"):
        producer.enqueue(order(), company="a b")
    with pytest.raises(UnknownCompany, match="a company is named by a text, not by None"):
        producer.enqueue(order(), company=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_construction_does_no_io(make: type[OrderProducer]) -> None:
    """A producer can be made while Redis is away."""
    with make(f"redis://127.0.0.1:{free_port()}"):
        pass


def test_a_refused_connection_is_told_with_the_order(make: type[OrderProducer]) -> None:
    """Redis away: the order was not taken, the error carries it with its ExternalId and says what to do."""
    mine = order()
    with (
        make(f"redis://127.0.0.1:{free_port()}") as producer,
        pytest.raises(QueueUnavailable, match=r"was not taken\. Enqueueing the order of this error") as caught,
    ):
        producer.enqueue(mine, timeout=1.0)
    assert caught.value.order is mine
    assert mine.external_id is not None
    assert mine.external_id in str(caught.value)
    assert not caught.value.maybe_taken


def test_a_password_is_never_told(make: type[OrderProducer]) -> None:
    """The address of Redis may hold a password; no error shows it."""
    with (
        make(f"redis://user:s3cret@127.0.0.1:{free_port()}") as producer,
        pytest.raises(QueueUnavailable) as caught,
    ):
        producer.enqueue(order(), timeout=1.0)
    assert "s3cret" not in f"{caught.value!s} {caught.value!r} {producer!r}"


def test_redis_killed_while_enqueueing(redis_server: RedisServer, redis_url: str, make: type[OrderProducer]) -> None:
    """Redis dies with the order in its hands: told in time, and the same object again is the same job, taken."""
    mine = order()
    with make(redis_url) as producer:
        producer.enqueue(order("A-0"), timeout=0.5)
        redis_server.process.freeze()
        began_at = time.monotonic()
        with pytest.raises(QueueUnavailable, match="may have been taken") as caught:
            producer.enqueue(mine, timeout=0.5)
        assert time.monotonic() - began_at < 1.0
        redis_server.kill9()
        assert caught.value.order is mine
        assert caught.value.maybe_taken
        external_id = mine.external_id
        assert external_id is not None
        redis_server.start()
        assert producer.enqueue(mine).id == ids.job_id("default", external_id)
    with redis_server.connect() as client:
        assert [entry.external_id for entry in intake(client) if isinstance(entry, Envelope)] == [external_id]


def test_redis_restarted_between_two_orders(
    redis_server: RedisServer, redis_url: str, make: type[OrderProducer]
) -> None:
    """A restart of Redis between two orders is not noticed: connection and script are made anew."""
    with make(redis_url) as producer:
        producer.enqueue(order("A-1"))
        redis_server.kill9()
        redis_server.start()
        assert producer.enqueue(order("A-2")).external_id == "A-2"


def test_threads_share_a_producer(redis_url: str, redis_client: redis.Redis, make: type[OrderProducer]) -> None:
    """Orders of many threads all arrive, each once."""
    with make(redis_url) as producer:
        threads = [
            threading.Thread(target=lambda n=n: [producer.enqueue(order(f"{n}-{i}")) for i in range(20)])
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    arrived = {entry.external_id for entry in intake(redis_client) if isinstance(entry, Envelope)}
    assert len(arrived) == redis_client.xlen(keys.INTAKE) == 160


def test_booked_waits_for_a_worker(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """With `booked` the call returns when a worker has published the job's status."""
    with worker(fake_or_real_redis, book):
        job = producer.enqueue(order("A-1"), booked=True)
    assert fake_or_real_redis.exists(keys.status(job.id))


def test_booked_believes_an_older_status(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """A status of the job that is there already proves that its row is committed."""
    job = publish(fake_or_real_redis, status(JobState.SUCCEEDED))
    assert producer.enqueue(order("A-1"), booked=True, timeout=0.5).id == job


def test_unheard_of_is_not_booked(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """The answer that the ledger does not have the job is no sign of booking."""
    fake_or_real_redis.set(keys.status(ids.job_id("default", "A-1")), UNHEARD_OF, ex=60)
    with pytest.raises(QueueUnavailable, match="not yet booked"):
        producer.enqueue(order("A-1"), booked=True, timeout=0.2)


def test_booked_without_workers_is_told(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """Nobody books: after the timeout the error says that the order is accepted, and asks for a worker."""
    with pytest.raises(
        QueueUnavailable, match=r"accepted but not yet booked within 0\.2 s: is a worker running\? The order may"
    ) as caught:
        producer.enqueue(order("A-1"), booked=True, timeout=0.2)
    assert caught.value.maybe_taken
    assert len(intake(fake_or_real_redis)) == 1


def test_a_published_status_is_read(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """A status in Redis is the answer, and no worker is asked."""
    told = status(JobState.SUCCEEDED)
    job = publish(fake_or_real_redis, told)
    assert producer.status(job) == producer.status(str(job)) == producer.find(external_id="a-1") == told
    with pytest.raises(ValueError, match=r"'a-1' is no job id; for an ExternalId use find\(external_id='a-1'\)"):
        producer.status("a-1")
    assert intake(fake_or_real_redis) == []


def test_a_forgotten_status_is_asked_for(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """Where Redis knows nothing, a worker answers from the ledger."""
    told = status(JobState.SUCCEEDED)
    job = ids.job_id("default", "A-1")
    with worker(fake_or_real_redis, lambda entry: (job, told.to_json()) if entry == Ask(job) else None):
        assert producer.status(job) == told


def test_a_job_that_the_ledger_lacks_is_none(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """The workers' answer "unheard of" becomes None."""
    with worker(fake_or_real_redis, lambda entry: (entry.job_id, UNHEARD_OF)):
        assert producer.status(uuid.uuid4()) is None


def test_a_status_that_nobody_tells(producer: OrderProducer) -> None:
    """Without an answer of a worker the status is not known, which is not the same as "no such job"."""
    with pytest.raises(QueueUnavailable, match="no worker answered in time") as caught:
        producer.status(uuid.uuid4(), timeout=0.2)
    assert caught.value.order is None


def test_a_status_of_a_newer_version_is_told(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """A status that cannot be read is not taken for "no such job"."""
    job = uuid.uuid4()
    fake_or_real_redis.set(keys.status(job), b'{"state":"teleported"}', ex=60)
    with pytest.raises(QueueUnavailable, match="newer orderrelay"):
        producer.status(job)


def test_a_cancel_is_a_request_in_the_intake(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """It comes after the order, with the producer's words."""
    job = producer.enqueue(order("A-1"))
    assert producer.cancel(job, why="Kunden ångrade sig") == producer.cancel(str(job.id)) == "requested"
    assert intake(fake_or_real_redis)[1:] == [Cancel(job.id, "Kunden ångrade sig"), Cancel(job.id)]


@pytest.mark.parametrize("why", ["x" * 301, "two\nlines", "\0"])
def test_why_is_a_line(producer: OrderProducer, fake_or_real_redis: redis.Redis, why: str) -> None:
    """What could not be shown is refused before Redis."""
    with pytest.raises(ValueError, match="at most 300 printable characters on one line"):
        producer.cancel(uuid.uuid4(), why=why)
    assert intake(fake_or_real_redis) == []


def test_a_cancel_without_redis_is_told(make: type[OrderProducer]) -> None:
    """Redis away: the request was not taken, and the error says so in time."""
    with (
        make(f"redis://127.0.0.1:{free_port()}") as producer,
        pytest.raises(QueueUnavailable, match="cannot be reached"),
    ):
        producer.cancel(uuid.uuid4(), timeout=1.0)


def test_wait_returns_the_settled_status(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """Waiting passes over states that move, and ends with the first that is settled."""
    job = producer.enqueue(order("A-1"))
    publish(fake_or_real_redis, status(JobState.IN_PROGRESS))
    later = threading.Timer(0.1, publish, (fake_or_real_redis, status(JobState.REJECTED)))
    later.start()
    assert job.wait(timeout=5.0).state is JobState.REJECTED
    later.join()


def test_wait_is_woken(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """The word of a worker ends the wait, and not the next look, which would come much later."""
    job = producer.enqueue(order("A-1"))
    publish(fake_or_real_redis, status(JobState.IN_PROGRESS))
    told_at = 0.0

    def listening() -> int:
        ((_, listeners),) = cast("list[tuple[bytes, int]]", fake_or_real_redis.pubsub_numsub(keys.status(job.id)))
        return listeners

    def settle() -> None:
        nonlocal told_at
        wait_until(listening, what="it is heard")
        told_at = time.monotonic()
        publish(fake_or_real_redis, status(JobState.SUCCEEDED))

    later = threading.Thread(target=settle)
    later.start()
    assert job.wait(timeout=20.0).state is JobState.SUCCEEDED
    assert time.monotonic() - told_at < following._PRECAUTION_SECONDS / 4
    later.join()
    if isinstance(fake_or_real_redis, fakeredis.FakeRedis):  # It does not notice a closed connection.
        return
    wait_until(lambda: not listening(), what="nobody listens any more")


def test_a_lost_word_is_made_good(
    producer: OrderProducer, fake_or_real_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status that was published without a word, as by an older worker, is found by looking, only later."""
    monkeypatch.setattr(following, "_PRECAUTION_SECONDS", 0.2)
    job = producer.enqueue(order("A-1"))
    later = threading.Timer(
        0.1, fake_or_real_redis.set, (keys.status(job.id), status(JobState.SUCCEEDED).to_json()), {"ex": 60}
    )
    later.start()
    assert job.wait(timeout=5.0).state is JobState.SUCCEEDED
    later.join()


def without_channels(client: redis.Redis, user: str) -> None:
    """A Redis user who may do everything but listen and speak on channels."""
    client.acl_setuser(user, enabled=True, passwords="+pw", keys=["*"], categories=["+@all"], reset_channels=True)


def test_a_wait_ends_in_time_where_redis_is_silent(
    redis_server: RedisServer, redis_url: str, make: type[OrderProducer]
) -> None:  # fmt: skip
    """The time is that of the whole wait, also while Redis hangs amid it."""
    with make(redis_url) as producer:
        job = producer.enqueue(order("A-1"))
        frozen = threading.Timer(0.2, redis_server.process.freeze)
        frozen.start()
        began_at = time.monotonic()
        with pytest.raises(TimeoutError, match="is not settled"):
            job.wait(timeout=1.0)
        assert 0.8 < time.monotonic() - began_at < 2.0
        frozen.join()


def test_threads_wait_with_one_producer(redis_url: str, redis_client: redis.Redis, make: type[OrderProducer]) -> None:
    """Each thread that waits hears of its own job."""
    with make(redis_url) as producer, ThreadPoolExecutor(8) as threads:
        jobs = [producer.enqueue(order(f"A-{number}")) for number in range(8)]
        waits = [threads.submit(job.wait, 20.0) for job in jobs]
        for number in range(8):
            publish(redis_client, status(JobState.SUCCEEDED, f"A-{number}"))
        assert [wait.result().external_id for wait in waits] == [f"A-{number}" for number in range(8)]


def test_who_may_not_listen_looks(redis_url: str, redis_client: redis.Redis, make: type[OrderProducer]) -> None:
    """A Redis user without the right to the channels waits as well: by looking, and it asks for the right once."""
    redis_client.acl_setuser(
        "deaf", enabled=True, passwords="+pw", keys=["*"], categories=["+@all"], reset_channels=True
    )
    redis_client.acl_log_reset()
    try:
        with make(redis_url.replace("//", "//deaf:pw@")) as producer:
            job = producer.enqueue(order("A-1"))
            later = threading.Timer(0.3, publish, (redis_client, status(JobState.SUCCEEDED)))
            later.start()
            assert job.wait(timeout=5.0).state is JobState.SUCCEEDED
            later.join()
        refused = cast("list[object]", redis_client.acl_log())
        assert len(refused) == 1
    finally:
        redis_client.acl_deluser("deaf")


def test_a_worker_that_may_not_tell_publishes(redis_url: str, redis_client: redis.Redis) -> None:
    """A worker's Redis user without the right to the channels publishes all the same."""
    redis_client.acl_setuser(
        "mute", enabled=True, passwords="+pw", keys=["*"], categories=["+@all"], reset_channels=True
    )
    try:
        with redis_module.Redis.from_url(redis_url.replace("//", "//mute:pw@")) as mute:
            told = [status(JobState.SUCCEEDED, f"A-{number}") for number in range(3)]
            statuses.publish(mute, {ids.job_id("default", one.external_id): one for one in told})
        assert len(list(redis_client.scan_iter(match=keys.EVERY_STATUS))) == 3
    finally:
        redis_client.acl_deluser("mute")


def test_wait_tells_the_last_state_when_time_is_up(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """A job that does not settle in time: the error says where it is, and why."""
    publish(fake_or_real_redis, status(JobState.WAITING, reason="paused: credentials"))
    job = producer.enqueue(order("A-1"))
    with pytest.raises(TimeoutError, match=r"it is waiting \(paused: credentials\)"):
        job.wait(timeout=0.2)


@pytest.mark.parametrize("timeout", [0, -1.5])
def test_waiting_with_no_time_left_only_looks(
    producer: OrderProducer, fake_or_real_redis: redis.Redis, timeout: float
) -> None:
    """Where the job is can be told all the same, and whether it is settled."""
    job = producer.enqueue(order("A-1"))
    publish(fake_or_real_redis, status(JobState.WAITING))
    with pytest.raises(TimeoutError, match=r"is not settled: it is waiting$"):
        job.wait(timeout=timeout)
    publish(fake_or_real_redis, status(JobState.SUCCEEDED))
    assert job.wait(timeout=timeout).state is JobState.SUCCEEDED


def test_a_look_with_no_time_left_has_time_to_connect() -> None:
    """A quarter of a second, or what looked for the state would say that Redis did not answer."""
    now = time.monotonic()
    look = next(wait_until_settled(uuid.UUID(int=5), deadline=now))
    assert isinstance(look, Exchange)
    assert look.deadline >= now + 0.25


def test_wait_asks_for_a_forgotten_status(fake_or_real_redis: redis.Redis) -> None:
    """Waiting outlives a wipe of Redis: a status that is gone is asked for, and not at every turn."""
    job = ids.job_id("default", "A-1")
    with pytest.raises(TimeoutError, match="nothing was heard of it yet"):
        run(
            fake_or_real_redis,
            wait_until_settled(job, deadline=time.monotonic() + 0.5, ask_first_after_seconds=0.1),
        )
    assert intake(fake_or_real_redis) in ([Ask(job)], [Ask(job)] * 2)


def test_wait_bears_a_restart_of_redis(redis_server: RedisServer, redis_url: str, make: type[OrderProducer]) -> None:
    """Redis may come and go while a job is waited for."""
    with make(redis_url) as producer:
        job = producer.enqueue(order("A-1"))
        redis_server.kill9()

        def come_back() -> None:
            redis_server.start()
            with redis_server.connect() as client:
                publish(client, status(JobState.SUCCEEDED))

        back = threading.Thread(target=come_back)
        back.start()
        assert job.wait(timeout=20.0).state is JobState.SUCCEEDED
        back.join()


def test_a_job_can_be_compared_and_shown() -> None:
    """Two handles of one job are equal, and a handle shows what it names."""
    with OrderProducer() as one, OrderProducer() as other:
        job = uuid.UUID(int=5)
        assert Job(job, "A-1", "acme", one) == Job(job, "A-1", "acme", other)
        assert repr(Job(job, "A-1", "acme", one)) == f"Job(id={job!r}, external_id='A-1', company='acme')"


def test_many_orders_give_a_line_each(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """One bad order among many is a line of the report, in its place, and stops nothing."""
    batch: list[Order | Mapping[str, object]] = [
        order("A-1"),
        {"CustomerNr": "013"},
        order("A-1"),
        order("A-1", quantity=9),
        order("A-2"),
    ]
    report = producer.enqueue_many(batch)
    results = ["accepted", "refused", "already", "conflict", "accepted"]
    assert [(line.index, line.result) for line in report] == list(enumerate(results))
    assert [type(line.error) for line in report.failed] == [OrderInvalid, OrderConflict]
    assert str(report) == "2 accepted, 1 already, 1 refused, 1 conflict"
    assert len(intake(fake_or_real_redis)) == 4


def test_many_orders_travel_in_batches(producer: OrderProducer, fake_or_real_redis: redis.Redis) -> None:
    """More orders than one batch holds all arrive, in order, from an iterable that is read once."""
    report = producer.enqueue_many(order(f"A-{number}") for number in range(1001))
    assert report.all_taken
    assert report.count(LineResult.ACCEPTED) == len(report) == 1001
    arrived = [entry.external_id for entry in intake(fake_or_real_redis) if isinstance(entry, Envelope)]
    assert arrived == [f"A-{number}" for number in range(1001)]


def test_batches_are_read_as_they_are_sent(producer: OrderProducer) -> None:
    """Lines come while orders are still being read, so any number of orders fits in memory."""
    read: list[int] = []

    def orders() -> Iterator[Order]:
        for number in range(100):
            read.append(number)
            yield order(f"A-{number}")

    lines = producer.enqueue_batches(orders(), company="default", timeout=5.0, batch_size=10)
    assert next(lines).result is LineResult.ACCEPTED
    assert len(read) == 10


def test_many_orders_in_a_full_queue(fake_or_real_redis: redis.Redis, make: type[OrderProducer]) -> None:
    """Orders beyond the limit are reported as `full`, with the object to enqueue again."""
    producer = make(redis=fake_or_real_redis, settings=ProducerSettings(max_waiting=2))
    orders = [order() for _ in range(3)]
    report = producer.enqueue_many(orders)
    assert [line.result for line in report] == ["accepted", "accepted", "full"]
    assert isinstance(report.lines[2].error, QueueFull)
    assert report.lines[2].error.order is orders[2]


def test_many_orders_without_redis_end_in_time(make: type[OrderProducer]) -> None:
    """Redis away: every line says so and carries its order, and the rest is not tried once time is up."""
    orders = [order() for _ in range(40)]
    with make(f"redis://127.0.0.1:{free_port()}") as producer:
        began_at = time.monotonic()
        lines = list(producer.enqueue_batches(orders, company="default", timeout=0.3, batch_size=1))
        assert time.monotonic() - began_at < 2.0
    assert {line.result for line in lines} == {LineResult.UNAVAILABLE}
    errors = [line.error for line in lines if isinstance(line.error, QueueUnavailable)]
    assert [error.order for error in errors] == orders
    assert "cannot be reached" in errors[0].reason
    assert "not tried" in errors[-1].reason


def test_many_orders_go_on_when_redis_is_back(
    redis_server: RedisServer, redis_url: str, make: type[OrderProducer]
) -> None:
    """Batches after an outage that is shorter than the timeout are taken."""

    def orders() -> Iterator[Order]:
        yield order("A-1")
        redis_server.kill9()
        yield order("A-2")
        redis_server.start()
        yield order("A-3")

    with make(redis_url) as producer:
        lines = list(producer.enqueue_batches(orders(), company="default", timeout=30.0, batch_size=1))
    assert [line.result for line in lines] == ["accepted", "unavailable", "accepted"]


def test_callers_with_many_timeouts_share_connections(
    redis_url: str, redis_client: redis.Redis, make: type[OrderProducer]
) -> None:
    """Ever other timeouts do not open ever other connections."""
    with make(redis_url) as producer:
        for number in range(50):
            producer.enqueue(order(), timeout=4.0 + number / 100)
        names = [client["name"] for client in redis_client.client_list()]
        assert names.count("orderrelay-producer") == 1


def test_close_ends_the_connections(redis_url: str, redis_client: redis.Redis, make: type[OrderProducer]) -> None:
    """Leaving the context closes what the producer opened."""
    with make(redis_url) as producer:
        producer.enqueue(order())
        held = list(producer._clients.values())  # Or the garbage collector would close them.
    wait_until(
        lambda: "orderrelay-producer" not in {client["name"] for client in redis_client.client_list()},
        what="the producer's connections are gone",
    )
    assert held
