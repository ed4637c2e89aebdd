"""The in-memory producer's own words: what a test asks of it and says to it."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_producers import (
    AsyncOrderProducer,
    JobState,
    LineResult,
    OrderInvalid,
    OrderProducer,
    Priority,
    QueueFull,
    QueueUnavailable,
    UnknownCompany,
)
from orderrelay_producers.testing import InMemoryAsyncOrderProducer, InMemoryOrderProducer
from orderrelay_shared import ids
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orderrelay_producers.testing import EnqueuedOrder


@pytest.fixture
def producer() -> InMemoryOrderProducer:
    """A fresh one, which waits for nobody."""
    producer = InMemoryOrderProducer()
    producer.patience_seconds = 0.0
    return producer


@pytest.mark.parametrize(
    ("real", "in_memory"),
    [(OrderProducer, InMemoryOrderProducer), (AsyncOrderProducer, InMemoryAsyncOrderProducer)],
)
def test_it_has_every_word_of_the_real_one(real: type[Any], in_memory: type[Any]) -> None:
    """What the producer has in public, the in-memory one has too, of its own and with the same parameters."""
    words = {name for name in vars(real) if not name.startswith("_")}
    assert {name for name in words if getattr(in_memory, name) is getattr(real, name)} == set()
    for name in words:
        assert str(inspect.signature(getattr(in_memory, name))) == str(inspect.signature(getattr(real, name))), name


def test_it_needs_no_redis() -> None:
    """Neither the client of Redis is loaded for it nor the settings."""
    program = (
        "import sys\nfrom orderrelay_producers.testing import InMemoryOrderProducer\n"
        "with InMemoryOrderProducer() as producer:\n"
        f"    producer.enqueue({order('A-1')!r})\n"
        "    producer.assert_enqueued(external_id='A-1')\n"
        "print(sorted({'redis', 'pydantic_settings', 'orderrelay_workers', 'pytest'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# What was enqueued --------------------------------------------------------------------------------------------------


def test_an_order_is_found_by_what_is_in_it(producer: InMemoryOrderProducer) -> None:
    """By ExternalId, customer, rows, terms, properties in either spelling; numbers and dates as an order has them."""
    producer.enqueue(order("A-1", CustomerNr="014"))
    producer.enqueue(order("A-2"), company="ACME", priority="urgent", booked=True)
    found = producer.assert_enqueued(
        external_id="A-2",
        customer="013",
        invoice_date="2026-01-30",
        InvoiceRows=[{"ProductNr": "100-5t", "quantity": 3.0, "amount": "350"}],
        company="acme",
        priority="urgent",
        booked=True,
        count=1,
    )
    assert found.order.invoice_rows[0].amount == Decimal(350)
    assert (found.external_id, found.job_id) == ("A-2", ids.job_id("acme", "A-2"))
    producer.assert_enqueued(invoice_date=dt.date(2026, 1, 30), count=2)


def test_the_same_order_is_one_however_often_it_is_enqueued(producer: InMemoryOrderProducer) -> None:
    """It is counted once, and the record tells how often it came, and whether anybody waited until it was booked."""
    for booked in (False, True, False):
        producer.enqueue(order("A-1"), booked=booked)
    producer.assert_enqueued(external_id="A-1", count=1, times=3, booked=True)
    assert len(producer.enqueued) == 1


def test_a_missing_order_is_told_with_the_nearest(producer: InMemoryOrderProducer) -> None:
    """The message shows what was expected, and how the nearest record differs."""
    producer.enqueue(order("other", CustomerNr="999"))
    producer.enqueue(order("A-1"))
    with pytest.raises(AssertionError) as raised:
        producer.assert_enqueued(external_id="A-2", customer="013", invoice_rows=[{"quantity": 4}])
    assert str(raised.value).splitlines() == [
        "no order was enqueued with external_id='A-2', customer_nr='013', invoice_rows=[{'quantity': 4}]",
        f"the nearest is 'A-1' (job {ids.job_id('default', 'A-1')}):",
        "    external_id is 'A-1', not 'A-2'",
        "    invoice_rows[0].quantity is Decimal('3'), not 4",
        "enqueued, by ExternalId: 'other', 'A-1'",
    ]


def test_of_equally_near_orders_the_one_of_a_like_name_is_told(producer: InMemoryOrderProducer) -> None:
    """A slip of the pen is shown beside what was meant."""
    producer.enqueue(order("zebra"))
    producer.enqueue(order("webshop-1001"))
    with pytest.raises(AssertionError, match="the nearest is 'webshop-1001'"):
        producer.assert_enqueued(external_id="webshop-1010")


def test_nothing_enqueued_is_told_so(producer: InMemoryOrderProducer) -> None:
    """There is no nearest where there is nothing."""
    with pytest.raises(AssertionError, match="nothing at all was enqueued"):
        producer.assert_enqueued(external_id="A-1")


def test_another_number_of_orders_is_told(producer: InMemoryOrderProducer) -> None:
    """Too many is as wrong as too few."""
    producer.enqueue(order("A-1"))
    producer.enqueue(order("A-2"))
    with pytest.raises(AssertionError, match="2 orders were enqueued with customer_nr='013'; expected 1"):
        producer.assert_enqueued(customer="013", count=1)
    with pytest.raises(ValueError, match="assert_not_enqueued"):
        producer.assert_enqueued(customer="013", count=0)


def test_a_row_too_few_is_told(producer: InMemoryOrderProducer) -> None:
    """Rows are compared one by one, and their number too."""
    producer.enqueue(order("A-1"))
    with pytest.raises(AssertionError, match="it has 1 invoice_rows, not 2"):
        producer.assert_enqueued(invoice_rows=[{}, {}])


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"custmer_nr": "013"}, "did you mean 'customer_nr'"),
        ({"invoice_rows": [{"produkt_nr": "1"}]}, "in its OrderRow; did you mean 'product_nr'"),
    ],
)
def test_a_name_that_no_order_has_is_a_mistake(
    producer: InMemoryOrderProducer, fields: dict[str, Any], hint: str
) -> None:
    """It is not a missing order, and the nearest name is told."""
    with pytest.raises(TypeError, match=hint):
        producer.assert_enqueued(**fields)


def test_an_order_that_shall_not_be_there(producer: InMemoryOrderProducer) -> None:
    """`assert_not_enqueued` is the other way round."""
    producer.assert_not_enqueued()
    producer.enqueue(order("A-1"))
    producer.assert_not_enqueued(external_id="A-2")
    with pytest.raises(AssertionError, match="1 enqueued with customer_nr='013', though none was to be: 'A-1'"):
        producer.assert_not_enqueued(customer="013")


def test_what_was_not_accepted_is_not_recorded(producer: InMemoryOrderProducer) -> None:
    """A refused order, and one that met no Redis, were never enqueued."""
    with pytest.raises(OrderInvalid):
        producer.enqueue(order("A-1", InvoiceDate="soon"))
    with producer.unavailable(), pytest.raises(QueueUnavailable):
        producer.enqueue(order("A-2"))
    producer.assert_not_enqueued()


def test_it_forgets_everything_when_told(producer: InMemoryOrderProducer) -> None:
    """`clear` begins anew."""
    producer.succeed(producer.enqueue(order("A-1")))
    producer.clear()
    assert (producer.enqueued, producer.find(external_id="A-1")) == ([], None)
    assert producer.enqueue_many([order("A-1")]).lines[0].result is LineResult.ACCEPTED


# How orders end -----------------------------------------------------------------------------------------------------


def test_the_test_says_how_an_order_ends(producer: InMemoryOrderProducer) -> None:
    """Created, rejected and parked, each with what a worker tells of it."""
    created, rejected, parked = (producer.enqueue(order(x)) for x in ("A-1", "A-2", "A-3"))
    producer.succeed(created, order_number="4711")
    producer.reject(rejected.id, reason="no such product", error_number=295)
    producer.park(external_id="A-3", reason="who knows")
    assert (created.wait().state, created.wait().order_number) == (JobState.SUCCEEDED, "4711")
    assert (rejected.wait().reason, rejected.wait().error_number) == ("no such product", 295)
    assert (parked.wait().state, parked.wait().reason) == (JobState.PARKED, "who knows")


def test_what_is_said_before_the_order_comes_true_when_it_comes(producer: InMemoryOrderProducer) -> None:
    """For code that enqueues and waits in one go."""
    producer.reject(external_id="A-1", company="acme")
    assert producer.enqueue(order("A-1"), company="acme").wait().state is JobState.REJECTED


def test_every_order_may_end_at_once(producer: InMemoryOrderProducer) -> None:
    """With order numbers that count up, as the vendor's do."""
    producer.state_when_enqueued = JobState.SUCCEEDED
    numbers = [producer.enqueue(order(f"A-{n}")).wait().order_number for n in range(3)]
    assert numbers == ["200", "201", "202"]


def test_any_state_can_be_told(producer: InMemoryOrderProducer) -> None:
    """Those on the way, too."""
    job = producer.enqueue(order("A-1"))
    producer.tell(JobState.UNKNOWN, job, reason="no answer", attempts=2)
    status = job.status()
    assert status is not None
    assert (status.state, status.reason, status.attempts) == (JobState.UNKNOWN, "no answer", 2)


def test_of_which_order_must_be_said(producer: InMemoryOrderProducer) -> None:
    """Neither none nor two."""
    with pytest.raises(TypeError, match="its job, or its external_id"):
        producer.succeed()


def test_waiting_for_an_end_that_nobody_said_tells_what_to_say(producer: InMemoryOrderProducer) -> None:
    """The test is not left hanging for a minute."""
    job = producer.enqueue(order("A-1"))
    with pytest.raises(TimeoutError, match=r"it is waiting.*producer\.succeed\(external_id='A-1'\)"):
        job.wait()


def test_another_thread_may_say_how_it_ends(producer: InMemoryOrderProducer) -> None:
    """Whoever waits hears it."""
    producer.patience_seconds = 30.0
    job = producer.enqueue(order("A-1"))
    heard: list[JobState] = []
    waiting = threading.Thread(target=lambda: heard.append(job.wait().state))
    waiting.start()
    producer.succeed(job)
    waiting.join(30.0)
    assert heard == [JobState.SUCCEEDED]


def test_another_task_may_say_how_it_ends() -> None:
    """In an event loop nobody is held up who waits."""

    async def wait_and_tell() -> JobState:
        producer = InMemoryAsyncOrderProducer()
        producer.patience_seconds = 30.0
        job = await producer.enqueue(order("A-1"))
        waiting = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        producer.assert_enqueued(external_id="A-1")
        producer.succeed(job)
        return (await waiting).state

    assert asyncio.run(wait_and_tell()) is JobState.SUCCEEDED


def test_orders_may_come_from_an_asynchronous_iterator() -> None:
    """They are numbered as they come."""

    async def coming() -> AsyncIterator[dict[str, object]]:
        for n in range(3):
            yield order(f"A-{n}")

    async def enqueue() -> list[EnqueuedOrder]:
        async with InMemoryAsyncOrderProducer() as producer:
            report = await producer.enqueue_many(coming())
            assert [line.job and line.job.external_id for line in report] == ["A-0", "A-1", "A-2"]
            return producer.enqueued

    assert [record.external_id for record in asyncio.run(enqueue())] == ["A-0", "A-1", "A-2"]


# What goes wrong ----------------------------------------------------------------------------------------------------


def test_redis_is_away_for_so_many_calls(producer: InMemoryOrderProducer) -> None:
    """The next one goes well, within the block too."""
    with producer.unavailable(times=2):
        for _ in range(2):
            with pytest.raises(QueueUnavailable) as raised:
                producer.enqueue(order("A-1"))
            assert raised.value.maybe_taken is False
        producer.enqueue(order("A-1"))
    producer.assert_enqueued(external_id="A-1", times=1)


def test_an_answer_is_lost(producer: InMemoryOrderProducer) -> None:
    """The order is taken, the caller does not know, and enqueues it again: still one order."""
    with producer.unavailable(taken=True), pytest.raises(QueueUnavailable) as raised:
        producer.enqueue(order("A-1"))
    assert raised.value.maybe_taken
    assert raised.value.order is not None
    producer.enqueue(raised.value.order)
    producer.assert_enqueued(count=1, times=2)


def test_every_line_of_a_report_meets_an_absent_redis(producer: InMemoryOrderProducer) -> None:
    """Orders that travel together fail together, but for those that never leave."""
    with producer.unavailable(times=1):
        report = producer.enqueue_many([order("A-1"), order("A-2", InvoiceRows=[]), order("A-3")])
    assert [line.result for line in report] == [LineResult.UNAVAILABLE, LineResult.REFUSED, LineResult.UNAVAILABLE]


def test_nobody_is_told_where_a_job_is_without_redis(producer: InMemoryOrderProducer) -> None:
    """Status and estimate fail too, and waiting ends without an answer."""
    job = producer.enqueue(order("A-1"))
    producer.succeed(job)
    with producer.unavailable():
        for ask in (job.status, lambda: producer.find(external_id="A-1"), producer.estimate):
            with pytest.raises(QueueUnavailable):
                ask()
        with pytest.raises(TimeoutError):
            job.wait()


def test_the_queue_is_full(producer: InMemoryOrderProducer) -> None:
    """Until the block ends; whoever blocks gets in as soon as there is room."""
    with producer.full():
        for block in (False, True):
            with pytest.raises(QueueFull) as raised:
                producer.enqueue(order("A-1"), block=block)
            assert raised.value.waiting >= raised.value.max_waiting
    with producer.full(times=3):
        producer.enqueue(order("A-1"), block=True)
    producer.assert_enqueued(external_id="A-1", times=1)


def test_companies_are_served_as_the_test_says() -> None:
    """By default all; if some are named, no other."""
    producer = InMemoryOrderProducer(companies=["Acme"])
    producer.enqueue(order("A-1"), company="acme")
    with pytest.raises(UnknownCompany, match="workers serve acme"):
        producer.enqueue(order("A-2"), company="beta")


def test_an_estimate_counts_what_goes_before(producer: InMemoryOrderProducer) -> None:
    """By priority."""
    producer.enqueue(order("A-1"), priority=Priority.BULK)
    producer.enqueue(order("A-2"))
    before = [producer.estimate(priority=priority).waiting_before for priority in Priority]
    assert before == [0, 1, 2]
