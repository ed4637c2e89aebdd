"""`AsyncOrderProducer` behind the face of `OrderProducer`, so that one suite of tests holds both to the same."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import fakeredis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orderrelay_producers import AsyncJob, AsyncOrderProducer, Job, OrderProducer, Report, ReportLine
from orderrelay_producers.async_ears import Switchboard
from orderrelay_producers.async_round_trip import run

if TYPE_CHECKING:
    import uuid
    from collections.abc import Coroutine, Iterator

    from orderrelay_producers import Estimate, JobStatus
    from orderrelay_producers.steps import Steps
    from orderrelay_shared.settings import ProducerSettings

_T = TypeVar("_T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def do(self, what: Coroutine[Any, Any, _T]) -> _T:
        """Do something in the loop, and wait for its end."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60.0)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()


class InLoop:
    """An asynchronous producer whose calls are made in an event loop elsewhere.

    Args:
        redis_url: As of the producer.
        settings: As of the producer.
        redis: A synchronous client; the producer is given one like it.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: ProducerSettings | None = None,
        redis: redis.Redis | None = None,
    ) -> None:
        self._twin = None if redis is None else async_twin(redis)
        self.producer = AsyncOrderProducer(redis_url, settings=settings, redis=self._twin)
        self.loop = Loop()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the producer and its loop; again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.loop.do(self.producer.aclose())
        if self._twin is not None:
            self.loop.do(self._twin.aclose())
        self.loop.close()

    @property
    def _clients(self) -> dict[float, redis.asyncio.Redis]:
        (place,) = self.producer._places.values()
        return place.clients

    def enqueue(self, order: Any, **more: Any) -> Job:
        """As `OrderProducer.enqueue`."""
        return self._job(self.loop.do(self.producer.enqueue(order, **more)))

    def enqueue_many(self, orders: Any, **more: Any) -> Report:
        """As `OrderProducer.enqueue_many`."""
        report = self.loop.do(self.producer.enqueue_many(orders, **more))
        return Report(tuple(self._line(line) for line in report))

    def enqueue_batches(self, orders: Any, **more: Any) -> Iterator[ReportLine]:
        """As `OrderProducer.enqueue_batches`."""
        lines = self.producer.enqueue_batches(orders, **more)
        try:
            while True:
                yield self._line(self.loop.do(cast("Any", anext(lines))))
        except StopAsyncIteration:
            return
        finally:
            self.loop.do(lines.aclose())

    def status(self, job: Job | uuid.UUID | str, **more: Any) -> JobStatus | None:
        """As `OrderProducer.status`."""
        return self.loop.do(self.producer.status(self._given(job), **more))

    def find(self, **more: Any) -> JobStatus | None:
        """As `OrderProducer.find`."""
        return self.loop.do(self.producer.find(**more))

    def wait(self, job: Job | uuid.UUID | str, **more: Any) -> JobStatus:
        """As `OrderProducer.wait`."""
        return self.loop.do(self.producer.wait(self._given(job), **more))

    def cancel(self, job: Job | uuid.UUID | str, **more: Any) -> str:
        """As `OrderProducer.cancel`."""
        return self.loop.do(self.producer.cancel(self._given(job), **more))

    def estimate(self, **more: Any) -> Estimate:
        """As `OrderProducer.estimate`."""
        return self.loop.do(self.producer.estimate(**more))

    def _given(self, job: Job | uuid.UUID | str) -> AsyncJob | uuid.UUID | str:
        return AsyncJob(job.id, job.external_id, job.company, self.producer) if isinstance(job, Job) else job

    def _job(self, job: AsyncJob) -> Job:
        return Job(job.id, job.external_id, job.company, self)

    def _line(self, line: ReportLine[AsyncJob]) -> ReportLine:
        return ReportLine(line.index, line.result, None if line.job is None else self._job(line.job), line.error)


def run_in_loop(client: redis.Redis, steps: Steps[_T]) -> _T:
    """As `round_trip.run`, in an event loop and with a client like the given one."""

    async def carry_out() -> _T:
        async with async_twin(client) as twin:
            return await run(twin, steps, Switchboard(twin))

    return asyncio.run(carry_out())


def async_twin(client: redis.Redis) -> redis.asyncio.Redis:
    """An asynchronous client of the same server."""
    options = client.connection_pool.connection_kwargs
    if isinstance(client, fakeredis.FakeRedis):
        return fakeredis.FakeAsyncRedis(server=options["server"])
    return redis.asyncio.Redis(
        host=options["host"],
        port=options["port"],
        db=options.get("db", 0),
        protocol=options.get("protocol"),
        driver_info=None,
        socket_timeout=options["socket_timeout"],
        retry=Retry(NoBackoff(), 0),
    )


#: What makes a producer of either kind.
MAKERS = cast("tuple[type[OrderProducer], ...]", (OrderProducer, InLoop))
