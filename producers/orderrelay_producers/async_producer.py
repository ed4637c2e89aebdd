"""The producer for event loops: `OrderProducer`, word for word, to be awaited."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from orderrelay_producers import following
from orderrelay_producers.async_ears import Switchboard
from orderrelay_producers.async_round_trip import run
from orderrelay_producers.enqueueing import BATCH_SIZE, Enqueueing, id_of, job_id, normal, refuse_one
from orderrelay_producers.estimate import Estimate, read_estimate
from orderrelay_producers.job import AsyncJob
from orderrelay_producers.report import Report, ReportLine
from orderrelay_producers.steps import seconds_of, step_seconds
from orderrelay_producers.terms import Terms
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    import uuid
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
    from datetime import datetime
    from types import TracebackType

    from redis.asyncio import Redis

    from orderrelay_producers.steps import Steps
    from orderrelay_shared.job_status import JobStatus
    from orderrelay_shared.orders import Order, OrderInvalid
    from orderrelay_shared.settings import ProducerSettings

_T = TypeVar("_T")

# ruff: noqa: ASYNC109 - the timeouts are `OrderProducer`'s: each call ends by itself, with an error that says why


class AsyncOrderProducer:
    """As `OrderProducer`, for event loops; construction does no I/O, and may be before there is a loop.

    Usable in any number of loops, one after the other or at once; each has connections of its own, at most 50 for each
    of nine classes of timeout.

    Args:
        redis_url: As of `OrderProducer`.
        settings: As of `OrderProducer`.
        redis: A client to use instead of own connections, with its own timeouts; it is not closed here.

    Raises:
        SettingsInvalid: A setting is wrong.
        TypeError: `redis` is no asynchronous client of redis-py.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: ProducerSettings | None = None,
        redis: Redis | None = None,
    ) -> None:
        # Settings and redis take long to import, and many importers never make a producer.
        from orderrelay_shared.redis_connection import check_client, check_url  # noqa: PLC0415  see above
        from orderrelay_shared.settings import ProducerSettings, load  # noqa: PLC0415

        self._settings = settings if settings is not None else load(ProducerSettings)
        self._enqueueing = Enqueueing(self._settings, self._make_job)
        self._redis_url = redis_url if redis_url is not None else self._settings.redis_url
        self._given = redis
        if redis is not None:
            check_client(redis, is_async=True)
        self._places: dict[tuple[int, asyncio.AbstractEventLoop], _Place] = {}
        check_url(self._redis_url)  # A wrong address is told here, and not at the first order.

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close this loop's connections; they open again when needed."""
        here = self._places.pop(_here(), None)
        if here is not None:
            await here.board.aclose()
            for client in here.clients.values():
                await client.aclose()

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
        """As `OrderProducer.enqueue`. One that is cancelled may have been taken: enqueue the same object again."""
        timeout = seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        steps = self._enqueueing.one(order, company, terms, booked=booked, block=block, timeout=timeout)
        return await self._run(timeout, steps)

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
        """As `OrderProducer.enqueue_many`; the orders may come from an asynchronous iterator too.

        Others have their turn in the loop every few milliseconds while orders are checked.
        """
        refuse_one(orders)
        timeout = seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        wait = timeout if block else 0.0
        batches = self.enqueue_batches(orders, company=company, terms=terms, wait=wait, timeout=timeout)
        async with aclosing(batches):
            return Report(tuple([line async for line in batches]))

    async def status(self, job: AsyncJob | uuid.UUID | str, *, timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.status`."""
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        return await self._run(timeout, following.find_out(job_id(job), deadline=deadline))

    async def find(self, *, external_id: str, company: str = "default", timeout: float = 5.0) -> JobStatus | None:
        """As `OrderProducer.find`."""
        return await self.status(id_of(external_id, company), timeout=timeout)

    async def estimate(self, *, company: str = "default", priority: str = "normal", timeout: float = 5.0) -> Estimate:
        """As `OrderProducer.estimate`."""
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        return await self._run(timeout, read_estimate(normal(company), priority, deadline=deadline))

    async def wait(self, job: AsyncJob | uuid.UUID | str, *, timeout: float = 60.0) -> JobStatus:
        """As `OrderProducer.wait`."""
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        return await self._run(min(timeout, 5.0), following.wait_until_settled(job_id(job), deadline=deadline))

    async def cancel(
        self, job: AsyncJob | uuid.UUID | str, *, why: str = "", timeout: float = 5.0
    ) -> Literal["requested"]:
        """As `OrderProducer.cancel`."""
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        await self._run(timeout, following.cancel(job_id(job), why, deadline=deadline))
        return "requested"

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
        """As `OrderProducer.enqueue_batches`."""
        batches = self._enqueueing.batches(company, terms or Terms(), wait=wait, timeout=timeout)
        async for batch in _numbered(orders, batch_size):
            for line in await self._run(timeout, batches.hand_over(batch)):
                yield line

    def _make_job(self, job: uuid.UUID, external_id: str, company: str) -> AsyncJob:
        return AsyncJob(job, external_id, company, self)

    async def _run(self, timeout: float, steps: Steps[_T]) -> _T:
        here = self._here()
        return await run(self._client(here, timeout), steps, here.board)

    def _here(self) -> _Place:
        key = _here()
        if key not in self._places:
            # Those of loops that ended unclosed, as each `asyncio.run` may leave, are of no use to anybody.
            for pid, loop in [other for other in self._places if other[0] != key[0] or other[1].is_closed()]:
                del self._places[pid, loop]
            place = self._places[key] = _Place()
            place.board = Switchboard(self._client(place, 5.0))
        return self._places[key]

    def _client(self, here: _Place, timeout: float) -> Redis:
        if self._given is not None:
            return self._given
        from orderrelay_shared.redis_connection import connect_async  # noqa: PLC0415  as above

        seconds = step_seconds(timeout)
        if seconds not in here.clients:
            here.clients[seconds] = connect_async(
                self._redis_url, timeout_seconds=seconds, client_name="orderrelay-producer"
            )
        return here.clients[seconds]


class _Place:
    """What a producer has in one loop: clients by their timeout, and who listens."""

    board: Switchboard

    def __init__(self) -> None:
        self.clients: dict[float, Redis] = {}


async def _numbered(
    orders: Iterable[Order | Mapping[str, object] | OrderInvalid]
    | AsyncIterable[Order | Mapping[str, object] | OrderInvalid],
    size: int,
) -> AsyncIterator[list[tuple[int, Order | Mapping[str, object] | OrderInvalid]]]:
    """Orders with their numbers, from 0, so many together."""
    if not isinstance(orders, AsyncIterable):
        numbered = enumerate(orders)
        while some := list(islice(numbered, size)):
            yield some
        return
    number = 0
    batch: list[tuple[int, Order | Mapping[str, object] | OrderInvalid]] = []
    async for order in orders:
        batch.append((number, order))
        number += 1
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    """Process and loop: a connection belongs to both."""
    return os.getpid(), asyncio.get_running_loop()
