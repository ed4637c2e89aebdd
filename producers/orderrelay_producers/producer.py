"""The producer: how other services hand over orders, and ask what became of them."""

from __future__ import annotations

import os
import time
from itertools import islice
from typing import TYPE_CHECKING, Literal, Self

from orderrelay_producers import following
from orderrelay_producers.enqueueing import BATCH_SIZE, Enqueueing, id_of, job_id, normal, refuse_one
from orderrelay_producers.estimate import Estimate, read_estimate
from orderrelay_producers.job import Job
from orderrelay_producers.report import Report, ReportLine
from orderrelay_producers.round_trip import run
from orderrelay_producers.steps import seconds_of, step_seconds
from orderrelay_producers.terms import Terms
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from types import TracebackType

    from redis import Redis

    from orderrelay_shared.job_status import JobStatus
    from orderrelay_shared.orders import Order, OrderInvalid
    from orderrelay_shared.settings import ProducerSettings


class OrderProducer:
    """Hands orders over to the workers, through Redis. Thread-safe; construction does no I/O; usable after a fork.

    Args:
        redis_url: Address of Redis; default `ORDERRELAY_REDIS_URL`, else `redis://127.0.0.1:6379/0`.
        settings: All settings; default: read from the environment.
        redis: A client to use instead of own connections, with its own timeouts; it is not closed here.

    Raises:
        SettingsInvalid: A setting is wrong.
        TypeError: `redis` is no client of redis-py.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: ProducerSettings | None = None,
        redis: Redis | None = None,
    ) -> None:
        # Settings and redis take long to import, and many importers never make a producer.
        from orderrelay_shared.settings import ProducerSettings, load  # noqa: PLC0415  see above

        self._settings = settings if settings is not None else load(ProducerSettings)
        self._enqueueing = Enqueueing(self._settings, self._make_job)
        self._redis_url = redis_url if redis_url is not None else self._settings.redis_url
        self._given = redis
        if redis is not None:
            from orderrelay_shared.redis_connection import check_client  # noqa: PLC0415  as above

            check_client(redis, is_async=False)
        self._clients: dict[tuple[int, float], Redis] = {}
        self._client(5.0)  # A wrong address is told here, and not at the first order.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; they open again when needed."""
        clients, self._clients = self._clients, {}
        for (process, _), client in clients.items():
            if process == os.getpid():
                client.close()

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
        """Hand one order over. An order without an ExternalId gets one, on the object itself.

        Enqueueing is idempotent: the same ExternalId and content is the same job, however often it is enqueued. Its
        `due_at`, `deadline` and `priority` are no part of the content: those of the first time stay.

        Args:
            order: An `Order`, or a mapping to make one of.
            company: Alias of the company that the order belongs to.
            due_at: Do not send it before; a time with a zone.
            deadline: Do not send it after: it is parked then. A time with a zone, in the future and after `due_at`.
            priority: Whose turn it is first: "urgent", "normal" or "bulk".
            booked: Return only when the job's row is committed to the ledger, and cannot be lost with Redis; so what
                `ORDERRELAY_ACCEPT_REPLICAS` and `ORDERRELAY_ACCEPT_ON_DISK` ask for is not waited for as well.
            block: While too many orders wait, wait for room, until the timeout.
            timeout: Seconds in all, from 0 on; infinity is taken for 11 days.

        Returns:
            The job, which is accepted; booked, if that was asked for.

        Raises:
            OrderInvalid: The order breaks the rules.
            OrderConflict: Another order has that ExternalId.
            UnknownCompany: Workers serve companies, and not this one.
            QueueFull: Too many orders wait.
            QueueUnavailable: Redis, or with `booked` a worker, did not answer in time, or the order is not yet where
                `ORDERRELAY_ACCEPT_REPLICAS` and `ORDERRELAY_ACCEPT_ON_DISK` want it; enqueue `error.order` again.
            ValueError: `due_at`, `deadline`, `priority` or `timeout` is none; the text says what is wrong.
        """
        timeout = seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        steps = self._enqueueing.one(order, company, terms, booked=booked, block=block, timeout=timeout)
        return run(self._client(timeout), steps)

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
        """Hand many orders over, in batches. One bad order is a line of the report and stops nothing.

        Args:
            orders: Any number, read as they are sent.
            company: Alias of the company that all of them belong to.
            due_at: As of `enqueue`, for all of them; `deadline` and `priority` likewise.
            deadline: See there.
            priority: See there.
            block: While too many orders wait, wait for room, until nothing was taken for `timeout` seconds.
            timeout: Seconds that Redis may stay without an answer; after that the rest is reported `unavailable`
                without being tried. There is no limit on the whole while Redis answers.

        Returns:
            A line for each order, in order.

        Raises:
            TypeError: It is one order.
            UnknownCompany: That is no company alias.
            ValueError: As of `enqueue`.
        """
        refuse_one(orders)
        timeout = seconds_of(timeout)
        terms = Terms(priority, due_at, deadline)
        wait = timeout if block else 0.0
        return Report(tuple(self.enqueue_batches(orders, company=company, terms=terms, wait=wait, timeout=timeout)))

    def status(self, job: Job | uuid.UUID | str, *, timeout: float = 5.0) -> JobStatus | None:
        """Where a job is: as workers published it, or else as a worker answers from the ledger.

        Args:
            job: The job or its id.
            timeout: Seconds in all.

        Returns:
            None if the ledger does not have the job, or not yet.

        Raises:
            QueueUnavailable: Neither Redis knew nor a worker answered in time.
            ValueError: That is no job id, or no timeout.
        """
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        return run(self._client(timeout), following.find_out(job_id(job), deadline=deadline))

    def find(self, *, external_id: str, company: str = "default", timeout: float = 5.0) -> JobStatus | None:
        """Where the job of an order is, by the order's ExternalId; otherwise as `status`.

        Raises:
            QueueUnavailable: Neither Redis knew nor a worker answered in time.
            UnknownCompany: That is no company alias.
            ValueError: The ExternalId is no text, or that is no timeout.
        """
        return self.status(id_of(external_id, company), timeout=timeout)

    def estimate(self, *, company: str = "default", priority: str = "normal", timeout: float = 5.0) -> Estimate:
        """How long an order will take that is enqueued now, as workers last said.

        Raises:
            QueueUnavailable: Redis did not answer in time.
            UnknownCompany: That is no company alias.
            ValueError: There is no such priority, or that is no timeout.
        """
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        return run(self._client(timeout), read_estimate(normal(company), priority, deadline=deadline))

    def wait(self, job: Job | uuid.UUID | str, *, timeout: float = 60.0) -> JobStatus:
        """Wait until nothing more happens to a job by itself (`JobState.is_settled`).

        Args:
            job: The job or its id.
            timeout: Seconds to wait at most. With 0 or less it only looks where the job is.

        Raises:
            TimeoutError: The job is not settled yet; the text tells its last known state.
            ValueError: That is no job id, or no timeout.
        """
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        return run(self._client(min(timeout, 5.0)), following.wait_until_settled(job_id(job), deadline=deadline))

    def cancel(self, job: Job | uuid.UUID | str, *, why: str = "", timeout: float = 5.0) -> Literal["requested"]:
        """Ask that a job be cancelled. Asking again is safe.

        A worker cancels it if it waits, or is parked, and no request that may have created it ever left. In every other
        state nothing happens to it; its status says where it is. A cancelled job stays so: the same order under its
        ExternalId is not sent any more.

        Args:
            job: The job or its id. It must have been enqueued before; workers look at both in that order.
            why: What people shall read of it, at most 300 characters on one line.
            timeout: Seconds in all.

        Returns:
            "requested": Redis has the request; `wait` or `status` tell what became of it.

        Raises:
            QueueUnavailable: Redis did not answer in time; the request may have been taken.
            ValueError: That is no job id or no timeout, or `why` is too long or not printable.
        """
        timeout = seconds_of(timeout)
        deadline = time.monotonic() + timeout
        run(self._client(timeout), following.cancel(job_id(job), why, deadline=deadline))
        return "requested"

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
        """As `enqueue_many`, but gives the report's lines as they come, with one batch in memory at a time.

        Args:
            orders: Any number, read a batch ahead of the lines; an `OrderInvalid` in place of an order becomes its
                refused line.
            company: Alias of the company that all of them belong to.
            timeout: As of `enqueue_many`.
            terms: On what terms all of them are to be sent.
            wait: While too many orders wait, wait for room, until nothing was taken for so many seconds.
            batch_size: How many orders travel together.

        Raises:
            UnknownCompany: That is no company alias.
        """
        batches = self._enqueueing.batches(company, terms or Terms(), wait=wait, timeout=timeout)
        client = self._client(timeout)
        numbered = enumerate(orders)
        while batch := list(islice(numbered, batch_size)):
            yield from run(client, batches.hand_over(batch))

    def _make_job(self, job: uuid.UUID, external_id: str, company: str) -> Job:
        return Job(job, external_id, company, self)

    def _client(self, timeout: float) -> Redis:
        if self._given is not None:
            return self._given
        # By process, as a fork may inherit a pool whose lock some other thread holds; and so without a lock here.
        here = (os.getpid(), step_seconds(timeout))
        client = self._clients.get(here)
        if client is None:
            from orderrelay_shared.redis_connection import connect  # noqa: PLC0415  as above

            made = connect(self._redis_url, timeout_seconds=here[1], client_name="orderrelay-producer")
            client = self._clients.setdefault(here, made)
        return client
