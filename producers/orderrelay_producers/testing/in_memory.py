"""The in-memory producer: the words of `OrderProducer`, for tests that shall need no Redis."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal, Self

from orderrelay_producers.enqueueing import BATCH_SIZE, id_of, job_id, normal, refuse_one
from orderrelay_producers.errors import QueueUnavailable
from orderrelay_producers.producer import OrderProducer
from orderrelay_producers.report import Report, ReportLine
from orderrelay_producers.steps import seconds_of
from orderrelay_producers.terms import Terms
from orderrelay_producers.testing.memory import Memory
from orderrelay_producers.testing.taking import take_batch, take_one
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from orderrelay_producers.estimate import Estimate
    from orderrelay_producers.job import Job
    from orderrelay_shared.job_status import JobStatus
    from orderrelay_shared.orders import Order, OrderInvalid


class InMemoryOrderProducer(Memory, OrderProducer):
    """An `OrderProducer` that keeps what it is handed, for a test to look at.

    Orders are checked, named and refused as by the real one: the same ids, reports and errors. What the vendor and the
    workers would do, the test says: `succeed`, `reject`, `park`. It reads no settings and no environment.

    Args:
        companies: As of `Memory`.
        max_waiting: As of `Memory`.
    """

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """There is nothing to close."""

    def enqueue(
        self,
        order: Order | Mapping[str, object],
        *,
        company: str = "default",
        due_at: datetime | None = None,
        deadline: datetime | None = None,
        priority: Priority | str = Priority.NORMAL,
        booked: bool = False,
        block: bool = False,
        timeout: float = 5.0,
    ) -> Job:
        """As `OrderProducer.enqueue`; with `booked` as if a worker were there."""
        seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        return take_one(self, order, normal(company), terms, self._make_job, block=block, booked=booked)

    def enqueue_many(
        self,
        orders: Iterable[Order | Mapping[str, object]],
        *,
        company: str = "default",
        due_at: datetime | None = None,
        deadline: datetime | None = None,
        priority: Priority | str = Priority.NORMAL,
        block: bool = False,
        timeout: float = 5.0,
    ) -> Report:
        """As `OrderProducer.enqueue_many`."""
        refuse_one(orders)
        timeout = seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        wait = timeout if block else 0.0
        return Report(tuple(self.enqueue_batches(orders, company=company, terms=terms, wait=wait, timeout=timeout)))

    def enqueue_batches(
        self,
        orders: Iterable[Order | Mapping[str, object] | OrderInvalid],
        *,
        company: str,
        timeout: float,
        terms: Terms | None = None,
        wait: float = 0.0,
        batch_size: int = BATCH_SIZE,
    ) -> Iterator[ReportLine]:
        """As `OrderProducer.enqueue_batches`."""
        del timeout
        company = normal(company)
        numbered = enumerate(orders)
        while batch := list(islice(numbered, batch_size)):
            yield from take_batch(self, batch, company, terms or Terms(), self._make_job, block=wait > 0)

    def status(self, job: Job | uuid.UUID | str, *, timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.status`; an order is booked as soon as it is enqueued."""
        seconds_of(timeout)
        return self.peek(job_id(job))

    def find(self, *, external_id: str, company: str = "default", timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.find`."""
        return self.status(id_of(external_id, company), timeout=timeout)

    def estimate(self, *, company: str = "default", priority: str = "normal", timeout: float = 5.0) -> Estimate:
        """As `OrderProducer.estimate`, but how long an order takes is never known."""
        seconds_of(timeout)
        return self.estimated(normal(company), priority)

    def wait(self, job: Job | uuid.UUID | str, *, timeout: float = 60.0) -> JobStatus:
        """As `OrderProducer.wait`, for `patience_seconds` at most; another thread may say meanwhile how it ends."""
        timeout = seconds_of(timeout)
        waited_for = job_id(job)
        status = self.await_settled(waited_for, min(timeout, self.patience_seconds))
        if status is None or self.strike(QueueUnavailable) is not None:
            raise TimeoutError(self.told_unsettled(waited_for))
        return status

    def cancel(self, job: Job | uuid.UUID | str, *, why: str = "", timeout: float = 5.0) -> Literal["requested"]:
        """As `OrderProducer.cancel`, as if a worker were there."""
        seconds_of(timeout)
        self.cancel_unsent(job_id(job), why)
        return "requested"
