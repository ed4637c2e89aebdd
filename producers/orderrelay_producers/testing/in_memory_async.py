"""The in-memory producer for event loops: the words of `AsyncOrderProducer`, over the same memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Literal, Self

from orderrelay_producers.async_producer import AsyncOrderProducer
from orderrelay_producers.enqueueing import BATCH_SIZE, id_of, job_id, normal, refuse_one
from orderrelay_producers.errors import QueueUnavailable
from orderrelay_producers.report import Report, ReportLine
from orderrelay_producers.steps import seconds_of
from orderrelay_producers.terms import Terms
from orderrelay_producers.testing.memory import Memory
from orderrelay_producers.testing.taking import take_batch, take_one
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    import uuid
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from datetime import datetime

    from orderrelay_producers.estimate import Estimate
    from orderrelay_producers.job import AsyncJob
    from orderrelay_shared.job_status import JobStatus
    from orderrelay_shared.orders import Order, OrderInvalid

# ruff: noqa: ASYNC109 - the timeouts are those of `AsyncOrderProducer`

#: Between two looks at whether a job is settled, in seconds.
_PAUSE_SECONDS: Final = 0.005


class InMemoryAsyncOrderProducer(Memory, AsyncOrderProducer):
    """As `InMemoryOrderProducer`, for event loops.

    What the test asks and says (`assert_enqueued`, `succeed` and so on) is not awaited.

    Args:
        companies: As of `Memory`.
        max_waiting: As of `Memory`.
    """

    async def __aenter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """There is nothing to close."""

    async def enqueue(
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
    ) -> AsyncJob:
        """As `OrderProducer.enqueue`; with `booked` as if a worker were there."""
        seconds_of(timeout)
        await asyncio.sleep(0)
        terms = Terms(priority, due_at, deadline)
        return take_one(self, order, normal(company), terms, self._make_job, block=block, booked=booked)

    async def enqueue_many(
        self,
        orders: Iterable[Order | Mapping[str, object]] | AsyncIterable[Order | Mapping[str, object]],
        *,
        company: str = "default",
        due_at: datetime | None = None,
        deadline: datetime | None = None,
        priority: Priority | str = Priority.NORMAL,
        block: bool = False,
        timeout: float = 5.0,
    ) -> Report[AsyncJob]:
        """As `AsyncOrderProducer.enqueue_many`."""
        refuse_one(orders)
        timeout = seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        wait = timeout if block else 0.0
        batches = self.enqueue_batches(orders, company=company, terms=terms, wait=wait, timeout=timeout)
        async with aclosing(batches):
            return Report(tuple([line async for line in batches]))

    async def enqueue_batches(
        self,
        orders: Iterable[Order | Mapping[str, object] | OrderInvalid]
        | AsyncIterable[Order | Mapping[str, object] | OrderInvalid],
        *,
        company: str,
        timeout: float,
        terms: Terms | None = None,
        wait: float = 0.0,
        batch_size: int = BATCH_SIZE,
    ) -> AsyncGenerator[ReportLine[AsyncJob], None]:
        """As `AsyncOrderProducer.enqueue_batches`."""
        del timeout
        company = normal(company)
        given = [order async for order in orders] if isinstance(orders, AsyncIterable) else list(orders)
        numbered = list(enumerate(given))
        for start in range(0, len(numbered), batch_size):
            await asyncio.sleep(0)
            batch = numbered[start : start + batch_size]
            for line in take_batch(self, batch, company, terms or Terms(), self._make_job, block=wait > 0):
                yield line

    async def status(self, job: AsyncJob | uuid.UUID | str, *, timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.status`; an order is booked as soon as it is enqueued."""
        seconds_of(timeout)
        await asyncio.sleep(0)
        return self.peek(job_id(job))

    async def find(self, *, external_id: str, company: str = "default", timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.find`."""
        return await self.status(id_of(external_id, company), timeout=timeout)

    async def estimate(self, *, company: str = "default", priority: str = "normal", timeout: float = 5.0) -> Estimate:
        """As `OrderProducer.estimate`, but how long an order takes is never known."""
        seconds_of(timeout)
        await asyncio.sleep(0)
        return self.estimated(normal(company), priority)

    async def wait(self, job: AsyncJob | uuid.UUID | str, *, timeout: float = 60.0) -> JobStatus:
        """As `OrderProducer.wait`, for `patience_seconds` at most; another task may say meanwhile how it ends."""
        timeout = seconds_of(timeout)
        waited_for = job_id(job)
        give_up_at = time.monotonic() + min(timeout, self.patience_seconds)
        await asyncio.sleep(0)
        # An event would belong to one loop, and whoever says how it ends may be in another, or in a thread.
        while (status := self.settled(waited_for)) is None and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_SECONDS)
        if status is None or self.strike(QueueUnavailable) is not None:
            raise TimeoutError(self.told_unsettled(waited_for))
        return status

    async def cancel(
        self, job: AsyncJob | uuid.UUID | str, *, why: str = "", timeout: float = 5.0
    ) -> Literal["requested"]:
        """As `OrderProducer.cancel`, as if a worker were there."""
        seconds_of(timeout)
        await asyncio.sleep(0)
        self.cancel_unsent(job_id(job), why)
        return "requested"
