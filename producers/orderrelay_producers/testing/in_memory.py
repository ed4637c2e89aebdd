"""The in-memory producer: the words of `OrderProducer`, for tests that shall need no Redis."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Self

from orderrelay_producers.errors import QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.job import Job
from orderrelay_producers.producer import BATCH_SIZE, OrderProducer
from orderrelay_producers.ready import ReadyOrder, make_ready
from orderrelay_producers.report import LineResult, Report, ReportLine
from orderrelay_producers.terms import Terms
from orderrelay_producers.testing.memory import Memory, job_id_of
from orderrelay_shared import ids
from orderrelay_shared.orders import OrderInvalid
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from orderrelay_producers.estimate import Estimate
    from orderrelay_shared.job_status import JobStatus
    from orderrelay_shared.orders import Order


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
        del timeout
        terms = Terms(priority, due_at, deadline)
        ready = make_ready(0, order, _normal(company), terms, ids.EXTERNAL_ID_MAX_LENGTH)
        ((line, _),) = self._take([ready], block=block, booked=booked)
        if line.error is not None:
            raise line.error
        return self._handle(ready)

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
        company = _normal(company)
        numbered = enumerate(orders)
        while batch := list(islice(numbered, batch_size)):
            lines: dict[int, ReportLine] = {}
            ready: list[ReadyOrder] = []
            for number, order in batch:
                try:
                    ready.append(make_ready(number, order, company, terms or Terms(), ids.EXTERNAL_ID_MAX_LENGTH))
                except OrderInvalid as error:
                    lines[number] = ReportLine(number, LineResult.REFUSED, error=error)
            if ready:
                lines |= {line.index: line for line, _ in self._take(ready, block=wait > 0, booked=False)}
            yield from (lines[number] for number, _ in batch)

    def status(self, job: Job | uuid.UUID | str, *, timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.status`; an order is booked as soon as it is enqueued."""
        del timeout
        return self.peek(job_id_of(job))

    def find(self, *, external_id: str, company: str = "default", timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.find`."""
        return self.status(ids.job_id(_normal(company), external_id), timeout=timeout)

    def estimate(self, *, company: str = "default", priority: str = "normal", timeout: float = 5.0) -> Estimate:
        """As `OrderProducer.estimate`, but how long an order takes is never known."""
        del timeout
        return self.estimated(_normal(company), priority)

    def wait(self, job: Job | uuid.UUID | str, *, timeout: float = 60.0) -> JobStatus:
        """As `OrderProducer.wait`, for `patience_seconds` at most; another thread may say meanwhile how it ends."""
        job_id = job_id_of(job)
        status = self.await_settled(job_id, min(timeout, self.patience_seconds))
        if status is None or self.strike(QueueUnavailable) is not None:
            raise TimeoutError(self.told_unsettled(job_id))
        return status

    def _take(self, ready: list[ReadyOrder], *, block: bool, booked: bool) -> list[tuple[ReportLine, ReadyOrder]]:
        """Take the orders of one call to Redis."""
        away = self.strike(QueueUnavailable)
        full = self.strike(QueueFull)
        while block and full is not None and full.left is not None:
            full = self.strike(QueueFull)
        answered = [(one, self.take(one, away, is_full=full is not None, booked=booked)) for one in ready]
        return [(self._report_line(one, result, error), one) for one, (result, error) in answered]

    def _report_line(self, ready: ReadyOrder, result: LineResult, error: Exception | None) -> ReportLine:
        job = None if result is LineResult.REFUSED else self._handle(ready)
        return ReportLine(ready.number, result, job, error)

    def _handle(self, ready: ReadyOrder) -> Job:
        return Job(ready.envelope.job_id, ready.envelope.external_id, ready.envelope.company, self)


def _normal(company: str) -> str:
    try:
        return ids.normalise_company(company)
    except ValueError as error:
        raise UnknownCompany(company, str(error)) from error
