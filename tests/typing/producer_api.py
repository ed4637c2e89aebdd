"""The producer's interface as callers use it: type-checked, never run."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, assert_type

from orderrelay_producers import (
    AsyncJob,
    AsyncOrderProducer,
    Estimate,
    Job,
    JobState,
    JobStatus,
    LineResult,
    Order,
    OrderConflict,
    OrderInvalid,
    OrderProducer,
    OrderRow,
    Outbox,
    OutboxJob,
    Priority,
    Problem,
    QueueFull,
    QueueUnavailable,
    Report,
    ReportLine,
    UnknownCompany,
    errors,
)
from orderrelay_producers.testing import EnqueuedOrder, InMemoryAsyncOrderProducer, InMemoryOrderProducer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator


def enqueue_one(producer: OrderProducer) -> None:
    """One order, as an object and as a mapping."""
    row = OrderRow(customer_row_type=2, product_nr="100-5t", quantity=Decimal("3.0"), amount=350)
    order = Order(customer_nr="013", invoice_date=dt.date(2026, 1, 30), invoice_rows=[row])
    job = producer.enqueue(order, company="acme", booked=True, timeout=5.0)
    assert_type(job, Job)
    assert_type(job.id, uuid.UUID)
    assert_type(job.external_id, str)
    assert_type(job.status(), JobStatus | None)
    assert_type(job.wait(timeout=60.0).state, JobState)
    assert_type(job.wait().order_number, str | None)
    assert_type(producer.enqueue({"CustomerNr": "013"}), Job)


def enqueue_on_terms(producer: OrderProducer, order: Order) -> None:
    """With a priority, a due time and a deadline, and waiting for room."""
    tonight = dt.datetime(2026, 1, 30, 22, 0, tzinfo=dt.UTC)
    job = producer.enqueue(order, priority=Priority.URGENT, due_at=tonight, deadline=tonight, block=True)
    status = job.status()
    if status is not None:
        assert_type(status.priority, Priority)
        assert_type(status.due_at, dt.datetime | None)
        assert_type(status.deadline, dt.datetime | None)
    producer.enqueue_many([order], priority="bulk", due_at=tonight, deadline=None, block=True, timeout=60.0)


def enqueue_some(producer: OrderProducer, orders: list[Order]) -> None:
    """Many orders and their report."""
    report = producer.enqueue_many(orders, company="acme")
    assert_type(report, Report)
    for line in report:
        assert_type(line, ReportLine)
        assert_type(line.result, LineResult)
        assert_type(line.job, Job | None)
        assert_type(line.error, Exception | None)
    assert_type(producer.enqueue_many(order for order in orders).all_taken, bool)
    producer.enqueue_many([{"CustomerNr": "013"}])


def ask(producer: OrderProducer, job: Job) -> None:
    """Where a job is."""
    assert_type(producer.status(job), JobStatus | None)
    assert_type(producer.status(job.id), JobStatus | None)
    assert_type(producer.status("5f2b7c0e-9a41-5f0e-8f3c-2a6d1c7e4b90"), JobStatus | None)
    assert_type(producer.find(external_id="A-1", company="acme"), JobStatus | None)


def cancel(producer: OrderProducer, job: Job) -> None:
    """A request that a job be cancelled."""
    assert_type(producer.cancel(job), Literal["requested"])
    assert_type(producer.cancel(job.id, why="typed wrongly", timeout=1.0), Literal["requested"])


def estimate(producer: OrderProducer) -> None:
    """How long an order will take."""
    expected = producer.estimate(company="acme", priority="urgent", timeout=5.0)
    assert_type(expected, Estimate)
    assert_type(expected.waiting_before, int | None)
    assert_type(expected.per_second, float | None)
    assert_type(expected.seconds, float | None)
    assert_type(expected.done_at, dt.datetime | None)
    assert_type(expected.why_slow, tuple[str, ...])
    assert_type(producer.estimate(), Estimate)


async def enqueue_in_a_loop(orders: list[Order], coming: AsyncIterator[Order]) -> None:
    """The same words, to be awaited."""
    async with AsyncOrderProducer("redis://127.0.0.1:6379/0") as producer:
        assert_type(producer, AsyncOrderProducer)
        job = await producer.enqueue(orders[0], company="acme", priority="urgent", booked=True, timeout=5.0)
        assert_type(job, AsyncJob)
        assert_type(job.id, uuid.UUID)
        assert_type(await job.status(), JobStatus | None)
        assert_type(await job.wait(timeout=60.0), JobStatus)
        report = await producer.enqueue_many(orders, block=True)
        assert_type(report, Report[AsyncJob])
        for line in report:
            assert_type(line, ReportLine[AsyncJob])
            assert_type(line.job, AsyncJob | None)
        assert_type((await producer.enqueue_many(coming)).all_taken, bool)
        assert_type(await producer.status(job), JobStatus | None)
        assert_type(await producer.find(external_id="A-1"), JobStatus | None)
        assert_type(await producer.wait(job.id, timeout=1.0), JobStatus)
        assert_type(await producer.estimate(), Estimate)
        assert_type(await producer.cancel(job, why="typed wrongly"), Literal["requested"])


def in_a_test(memory: InMemoryOrderProducer, job: Job) -> None:
    """The in-memory producer is a producer, and has words of its own."""
    producer: OrderProducer = memory
    assert_type(producer.enqueue({"CustomerNr": "013"}), Job)
    found = memory.assert_enqueued(external_id="A-1", customer="013", count=1, invoice_date="2026-01-30")
    assert_type(found, EnqueuedOrder)
    assert_type(found.order, Order)
    assert_type(memory.enqueued, list[EnqueuedOrder])
    memory.assert_not_enqueued(customer="014")
    memory.succeed(job, order_number="4711")
    memory.reject(job.id)
    memory.park(external_id="A-1", company="acme")
    memory.tell(JobState.UNKNOWN, job, reason="no answer")
    with memory.unavailable(times=1, taken=True), memory.full():
        memory.state_when_enqueued = JobState.SUCCEEDED


async def in_a_test_of_a_loop(memory: InMemoryAsyncOrderProducer) -> None:
    """The in-memory producer for event loops is one too."""
    producer: AsyncOrderProducer = memory
    job = await producer.enqueue({"CustomerNr": "013"})
    assert_type(job, AsyncJob)
    memory.succeed(job)
    assert_type(memory.assert_enqueued(count=1), EnqueuedOrder)


def enqueue_in_a_transaction(outbox: Outbox, connection: sqlite3.Connection, order: Order) -> None:
    """In the caller's own, and at once after its commit."""
    with connection:
        job = outbox.enqueue(connection, order, company="acme", priority="urgent", due_at=None, deadline=None)
    assert_type(job, OutboxJob)
    assert_type(job.row, int)
    assert_type(job.id, uuid.UUID)
    assert_type(job.wait(timeout=60.0), JobStatus)
    assert_type(outbox.send_now(job, timeout=1.0), int)
    with Outbox("redis://127.0.0.1:6379/0") as another:
        assert_type(another.enqueue(connection, {"CustomerNr": "013"}), OutboxJob)


def mistakes(order: Order) -> None:
    """Every error and what it carries."""
    with OrderProducer("redis://127.0.0.1:6379/0") as producer:
        assert_type(producer, OrderProducer)
        try:
            producer.enqueue(order)
        except OrderInvalid as error:
            assert_type(error.problems, tuple[Problem, ...])
        except OrderConflict as error:
            assert_type(error.job_id, uuid.UUID)
        except UnknownCompany as error:
            assert_type(error.company, str)
        except QueueFull as error:
            assert_type(error.order, Order)
        except errors.QueueUnavailable as error:
            assert_type(error, QueueUnavailable)
            assert_type(error.order, Order | None)
            assert_type(error.maybe_taken, bool)
