"""What holds of the real producer holds of the in-memory one: one list of behaviours for both.

The real one stands before a real Redis, a real worker and a simulated vendor.
"""

from __future__ import annotations

import datetime as dt
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import pytest

from orderrelay_producers import (
    JobState,
    LineResult,
    Order,
    OrderConflict,
    OrderInvalid,
    OrderProducer,
    Priority,
    QueueFull,
    QueueUnavailable,
    UnknownCompany,
)
from orderrelay_producers.testing import InMemoryAsyncOrderProducer, InMemoryOrderProducer
from orderrelay_shared import ids
from orderrelay_shared.settings import ProducerSettings
from orderrelay_workers.testing import OrderrelayStack
from tests.in_loop import InLoop, Loop
from tests.servers import free_port
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Iterator

ProducerT = TypeVar("ProducerT", InMemoryOrderProducer, InMemoryAsyncOrderProducer)

COMPANIES = ("default", "acme")
LITTLE_SECONDS = 1.0
SOON = dt.datetime(2150, 1, 30, 22, 0, 0, 123456, tzinfo=dt.UTC)


class World(Protocol):
    """A producer, and what stands behind it: a vendor that creates every order, unless told otherwise."""

    @property
    def producer(self) -> OrderProducer:
        """The producer."""
        ...

    def refuse(self, external_id: str) -> None:
        """Let the vendor refuse this order as it comes."""
        ...

    @contextmanager
    def unreachable(self) -> Iterator[OrderProducer]:
        """A producer that reaches no Redis."""
        ...

    @contextmanager
    def answer_lost(self) -> Iterator[OrderProducer]:
        """A producer whose Redis takes everything and answers nothing."""
        ...

    def small(self, max_waiting: int) -> OrderProducer:
        """A producer whose queue is small and empty, and which no worker serves."""
        ...


@dataclass
class InMemory:
    """The in-memory one."""

    producer: InMemoryOrderProducer

    def refuse(self, external_id: str) -> None:
        """The test says so."""
        self.producer.reject(external_id=external_id)

    @contextmanager
    def unreachable(self) -> Iterator[OrderProducer]:
        """The test says so."""
        with self.producer.unavailable():
            yield self.producer

    @contextmanager
    def answer_lost(self) -> Iterator[OrderProducer]:
        """The test says so."""
        with self.producer.unavailable(taken=True):
            yield self.producer

    def small(self, max_waiting: int) -> OrderProducer:
        """Another one."""
        return InMemoryOrderProducer(max_waiting=max_waiting)


class InMemoryInLoop(InLoop):
    """The in-memory one for event loops, behind the face of the other."""

    def __init__(self, memory: InMemoryAsyncOrderProducer) -> None:
        self._twin = None
        self.producer = self.memory = memory
        self.loop = Loop()
        self._is_closed = False


@dataclass
class InMemoryAsync:
    """The in-memory one for event loops."""

    in_loop: InMemoryInLoop
    started: list[InMemoryInLoop]

    @property
    def memory(self) -> InMemoryAsyncOrderProducer:
        """What the test says something to."""
        return self.in_loop.memory

    @property
    def producer(self) -> OrderProducer:
        """Its face."""
        return cast("OrderProducer", self.in_loop)

    def refuse(self, external_id: str) -> None:
        """The test says so."""
        self.memory.reject(external_id=external_id)

    @contextmanager
    def unreachable(self) -> Iterator[OrderProducer]:
        """The test says so."""
        with self.memory.unavailable():
            yield self.producer

    @contextmanager
    def answer_lost(self) -> Iterator[OrderProducer]:
        """The test says so."""
        with self.memory.unavailable(taken=True):
            yield self.producer

    def small(self, max_waiting: int) -> OrderProducer:
        """Another one."""
        self.started.append(InMemoryInLoop(InMemoryAsyncOrderProducer(max_waiting=max_waiting)))
        return cast("OrderProducer", self.started[-1])


@dataclass
class Real:
    """The real one."""

    stack: OrderrelayStack
    redis_url: str

    @property
    def producer(self) -> OrderProducer:
        """The stack's."""
        return self.stack.producer

    def refuse(self, external_id: str) -> None:
        """A fault of the vendor's."""
        self.stack.vendor.fault("order refused", external_id=external_id)

    @contextmanager
    def unreachable(self) -> Iterator[OrderProducer]:
        """Where nobody listens."""
        with OrderProducer(f"redis://127.0.0.1:{free_port()}/0") as producer:
            yield producer

    @contextmanager
    def answer_lost(self) -> Iterator[OrderProducer]:
        """A frozen Redis takes what was sent when it goes on, if it was connected to and knew the script before."""
        self.producer.enqueue(order(f"before-{uuid.uuid4()}"), timeout=LITTLE_SECONDS)
        with self.stack.without_redis():
            yield self.producer

    def small(self, max_waiting: int) -> OrderProducer:
        """On the Redis of this run's tests, which no worker serves."""
        return OrderProducer(settings=ProducerSettings(redis_url=self.redis_url, max_waiting=max_waiting))


@pytest.fixture(scope="module")
def stack() -> Iterator[OrderrelayStack]:
    """One stack for all behaviours; each has ExternalIds of its own."""
    with OrderrelayStack(companies=COMPANIES) as stack:
        yield stack


@pytest.fixture(params=["in memory", "in memory, async", "real"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The in-memory ones, then the real one."""
    started: list[InMemoryInLoop] = []
    if request.param == "real":
        yield Real(request.getfixturevalue("stack"), request.getfixturevalue("redis_url"))
    elif request.param == "in memory":
        yield InMemory(ready(InMemoryOrderProducer(companies=COMPANIES)))
    else:
        started.append(InMemoryInLoop(ready(InMemoryAsyncOrderProducer(companies=COMPANIES))))
        yield InMemoryAsync(started[0], started)
    for one in started:
        one.loop.close()


def ready(producer: ProducerT) -> ProducerT:
    """The vendor creates every order at once."""
    producer.state_when_enqueued = JobState.SUCCEEDED
    producer.patience_seconds = 0.0
    return producer


def memory_of(world: World) -> InMemoryOrderProducer | InMemoryAsyncOrderProducer:
    """What the test says something to."""
    if isinstance(world, InMemoryAsync):
        return world.memory
    assert isinstance(world, InMemory)
    return world.producer


@pytest.fixture
def mine() -> str:
    """An ExternalId of this test alone."""
    return f"A-{uuid.uuid4().hex[:12]}"


def test_a_job_is_named_by_company_and_external_id(world: World, mine: str) -> None:
    """Whatever the producer; the alias is normalised."""
    job = world.producer.enqueue(order(mine), company="ACME")
    assert (job.id, job.external_id, job.company) == (ids.job_id("acme", mine), mine, "acme")


def test_an_order_without_external_id_gets_one_on_the_object(world: World) -> None:
    """So that the same object again is the same job."""
    values = {name: value for name, value in order("").items() if name != "ExternalId"}
    given = Order.parse(values)
    first, again = world.producer.enqueue(given), world.producer.enqueue(given)
    assert given.external_id == first.external_id
    assert first == again


@pytest.mark.parametrize(
    "changes",
    [
        {"InvoiceDate": "soon", "InvoiceRows": []},
        {"CustomerNo": "013"},
        {"ExternalId": "x" * 65},
        {"InvoiceRows": [{"CustomerRowType": 2, "Quantity": "3,5"}]},
    ],
)
def test_a_bad_order_is_refused_in_the_same_words(world: World, mine: str, changes: dict[str, Any]) -> None:
    """All problems at once, by the same rules."""
    with pytest.raises(OrderInvalid) as expected:
        Order.parse(order(mine, **changes))
    with pytest.raises(OrderInvalid) as raised:
        world.producer.enqueue(order(mine, **changes))
    assert raised.value.problems == expected.value.problems


def test_another_order_under_the_same_external_id_is_a_conflict(world: World, mine: str) -> None:
    """The first stays; ExternalIds are compared by their folded form. Booked or not."""
    first = world.producer.enqueue(order(mine))
    for booked in (False, True):
        with pytest.raises(OrderConflict) as raised:
            world.producer.enqueue(order(mine.lower(), CustomerNr="014"), booked=booked)
        assert (raised.value.job_id, raised.value.order.customer_nr) == (first.id, "014")


def test_a_report_has_a_line_for_each_order(world: World, mine: str) -> None:
    """In order, with the job and the error that `enqueue` would have had."""
    orders = [order(mine), order(f"{mine}-b", InvoiceRows=[]), order(mine), order(mine, CustomerNr="014")]
    report = world.producer.enqueue_many(iter(orders))
    assert [(line.index, line.result, type(line.error), line.job and line.job.external_id) for line in report] == [
        (0, LineResult.ACCEPTED, type(None), mine),
        (1, LineResult.REFUSED, OrderInvalid, None),
        (2, LineResult.ALREADY, type(None), mine),
        (3, LineResult.CONFLICT, OrderConflict, mine),
    ]
    assert str(report) == "1 accepted, 1 already, 1 refused, 1 conflict"


def test_one_order_is_not_many(world: World, mine: str) -> None:
    """Its properties are not taken for orders, which would be a report of refused lines."""
    for one in (order(mine), Order.parse(order(mine)), "orders.jsonl"):
        with pytest.raises(TypeError, match=r"use enqueue\(order\)"):
            world.producer.enqueue_many(cast("Any", one))


def test_a_company_that_nobody_serves_is_unknown(world: World, mine: str) -> None:
    """Told with those that there are; in a report it is a refused line."""
    with pytest.raises(UnknownCompany) as raised:
        world.producer.enqueue(order(mine), company="Beta")
    assert raised.value.company == "beta"
    assert set(raised.value.reason.partition("workers serve ")[2].split(", ")) == set(COMPANIES)
    (line,) = world.producer.enqueue_many([order(mine)], company="beta")
    assert (line.result, type(line.error), line.job) == (LineResult.REFUSED, UnknownCompany, None)


def test_what_is_no_alias_is_told_before_anything_is_sent(world: World, mine: str) -> None:
    """Wherever an alias is taken."""
    producer = world.producer
    for call in (
        lambda: producer.enqueue(order(mine), company="no alias!"),
        lambda: producer.enqueue_many([order(mine)], company="no alias!"),
        lambda: producer.find(external_id=mine, company="no alias!"),
        lambda: producer.estimate(company="no alias!"),
    ):
        with pytest.raises(UnknownCompany, match="is no company alias"):
            call()


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"priority": "soon"}, "it may be urgent, normal, bulk"),
        ({"due_at": dt.datetime(2150, 1, 30)}, "has no time zone"),  # noqa: DTZ001  that is the mistake
        ({"deadline": dt.datetime(2020, 1, 30, tzinfo=dt.UTC)}, "which has passed"),
        ({"due_at": SOON, "deadline": SOON}, "not after due_at"),
    ],
)
def test_terms_that_are_none_are_a_value_error(world: World, mine: str, terms: dict[str, Any], words: str) -> None:
    """For one order and for many."""
    with pytest.raises(ValueError, match=words):
        world.producer.enqueue(order(mine), **terms)
    with pytest.raises(ValueError, match=words):
        world.producer.enqueue_many([order(mine)], **terms)


def test_an_order_succeeds(world: World, mine: str) -> None:
    """Its status tells number and id, by job, by id, as text, and by ExternalId."""
    producer = world.producer
    job = producer.enqueue(order(mine))
    status = job.wait(timeout=30)
    assert (status.state, status.external_id, status.company, status.attempts) == (
        JobState.SUCCEEDED,
        mine,
        "default",
        1,
    )
    assert status.order_number is not None
    assert int(status.order_number) >= 200
    assert status.vendor_id is not None
    assert (status.reason, status.error_number, status.priority) == (None, None, Priority.NORMAL)
    assert status.content is not None
    asked = [job.status(), producer.status(job), producer.status(job.id), producer.status(str(job.id))]
    assert [*asked, producer.find(external_id=mine), producer.wait(job)] == [status] * 6


def test_an_order_is_rejected(world: World, mine: str) -> None:
    """With the vendor's number and words."""
    world.refuse(mine)
    status = world.producer.enqueue(order(mine)).wait(timeout=30)
    assert (status.state, status.error_number, status.attempts) == (JobState.REJECTED, 26, 1)
    assert status.reason == "refused by the vendor, error 26 (customer is blocked): Kunden är spärrad"
    assert (status.order_number, status.vendor_id) == (None, None)


def test_terms_come_back_with_the_status(world: World, mine: str) -> None:
    """In whole milliseconds: a due time not earlier, a deadline not later than was said."""
    deadline = SOON + dt.timedelta(hours=1)
    if not isinstance(world, Real):
        memory_of(world).state_when_enqueued = JobState.WAITING
    job = world.producer.enqueue(order(mine), priority="bulk", due_at=SOON, deadline=deadline, booked=True, timeout=20)
    status = job.status()
    assert status is not None
    assert (status.state, status.attempts, status.priority) == (JobState.WAITING, 0, Priority.BULK)
    assert status.due_at == SOON.replace(microsecond=124000)
    assert status.deadline == deadline.replace(microsecond=123000)
    with pytest.raises(TimeoutError, match=f"job {job.id} is not settled: it is waiting"):
        job.wait(timeout=0.3)


def test_an_order_is_cancelled_before_it_is_sent(world: World, mine: str) -> None:
    """Its status says why; one that the vendor has stays as it is."""
    producer = world.producer
    created = producer.enqueue(order(f"{mine}-created"))
    status = created.wait(timeout=30)
    if not isinstance(world, Real):
        memory_of(world).state_when_enqueued = JobState.WAITING
    waiting = producer.enqueue(order(mine), due_at=SOON, booked=True, timeout=20)
    assert [producer.cancel(job, why="sold out") for job in (created, waiting)] == ["requested"] * 2
    cancelled = waiting.wait(timeout=30)
    assert (cancelled.state, cancelled.attempts) == (JobState.CANCELLED, 0)
    assert cancelled.reason == "cancelled by its producer: sold out"
    assert created.status() == status
    with pytest.raises(ValueError, match="printable characters on one line"):
        producer.cancel(waiting, why="x" * 301)


def test_a_job_that_nobody_knows(world: World, mine: str) -> None:
    """It has no status; what is no job id is a mistake."""
    assert world.producer.find(external_id=mine, timeout=20) is None
    with pytest.raises(ValueError, match="is no job id"):
        world.producer.status("no id")
    with pytest.raises(TimeoutError, match="nothing was heard of it yet"):
        world.producer.wait(uuid.uuid4(), timeout=0.2)


def test_redis_is_unreachable(world: World, mine: str) -> None:
    """It is proved that nothing was taken; the error's order can be enqueued again."""
    with world.unreachable() as producer:
        with pytest.raises(QueueUnavailable) as raised:
            producer.enqueue(order(mine), timeout=0.5)
        (line,) = producer.enqueue_many([order(mine)], timeout=0.5)
        with pytest.raises(QueueUnavailable) as asked:
            producer.find(external_id=mine, timeout=0.5)
    assert raised.value.maybe_taken is False
    assert raised.value.order is not None
    assert asked.value.order is None
    assert (line.result, line.job and line.job.external_id) == (LineResult.UNAVAILABLE, mine)
    (again,) = world.producer.enqueue_many([raised.value.order])
    assert again.result is LineResult.ACCEPTED


def test_an_answer_is_lost(world: World, mine: str) -> None:
    """Perhaps taken, and enqueued again it is the same order."""
    with world.answer_lost() as producer, pytest.raises(QueueUnavailable) as raised:
        producer.enqueue(order(mine), timeout=LITTLE_SECONDS)
    assert raised.value.maybe_taken is True
    assert raised.value.order is not None
    (again,) = world.producer.enqueue_many([raised.value.order])
    assert again.result is LineResult.ALREADY
    assert again.job is not None
    assert again.job.wait(timeout=30).attempts == 1


def test_a_full_queue_takes_no_more(world: World, mine: str) -> None:
    """Not even with a little patience; all that tells how full it is, and the order, is in the error."""
    producer = world.small(max_waiting=2)
    report = producer.enqueue_many([order(f"{mine}-{n}") for n in range(3)])
    assert [line.result for line in report] == [LineResult.ACCEPTED, LineResult.ACCEPTED, LineResult.FULL]
    for block in (False, True):
        with pytest.raises(QueueFull) as raised:
            producer.enqueue(order(mine), block=block, timeout=0.3)
        assert (raised.value.waiting, raised.value.max_waiting) == (2, 2)
        assert raised.value.order.external_id == mine


def test_an_estimate(world: World) -> None:
    """Never without a reason; a priority that there is not is a mistake."""
    assert world.producer.estimate().why_slow
    with pytest.raises(ValueError, match="it may be urgent, normal, bulk"):
        world.producer.estimate(priority="soon")


def test_it_goes_on_after_it_was_closed(world: World, mine: str) -> None:
    """Closing lets connections go, and no more."""
    if isinstance(world, InMemoryAsync):
        producer = world.producer
        first = producer.enqueue(order(mine))
        world.in_loop.loop.do(world.memory.aclose())
    else:
        with world.producer as producer:
            first = producer.enqueue(order(mine))
    assert producer.enqueue(order(mine)) == first
