"""The producer: how other services hand over orders, and ask what became of them."""

from __future__ import annotations

import threading
import time
import uuid
from bisect import bisect_right
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

from orderrelay_producers import following
from orderrelay_producers.accept import Acceptance, NotAnswered, Verdict, accept
from orderrelay_producers.errors import OrderConflict, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.estimate import Estimate, read_estimate
from orderrelay_producers.job import Job
from orderrelay_producers.patience import Patience
from orderrelay_producers.ready import ReadyOrder, each_ready, make_ready
from orderrelay_producers.report import LineResult, Report, ReportLine
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_producers.terms import Terms
from orderrelay_shared import ids
from orderrelay_shared.job_status import JobStatus, content_mark
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from redis import Redis

    from orderrelay_shared.intake import Envelope
    from orderrelay_shared.orders import Order, OrderInvalid
    from orderrelay_shared.settings import ProducerSettings

#: Orders that travel to Redis together.
BATCH_SIZE: Final = 500

#: Connections wait so long, in seconds, for one step of connecting: half of what the caller allows, rounded down.
#: A closed list, so that callers with ever other timeouts do not open ever other connections.
_STEP_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)

#: Between two batches of which the first met no Redis, in seconds.
_AFTER_FAILURE_SECONDS: Final = 0.1


class OrderProducer:
    """Hands orders over to the workers, through Redis. Thread-safe; construction does no I/O; usable after a fork.

    Args:
        redis_url: Address of Redis; default `ORDERRELAY_REDIS_URL`, else `redis://127.0.0.1:6379/0`.
        settings: All settings; default: read from the environment.
        redis: A client to use instead of own connections, with its own timeouts; it is not closed here.

    Raises:
        SettingsInvalid: A setting is wrong.
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
        self._safekeeping = Safekeeping(self._settings.accept_replicas, self._settings.accept_on_disk)
        self._redis_url = redis_url if redis_url is not None else self._settings.redis_url
        self._given = redis
        self._clients: dict[float, Redis] = {}
        self._lock = threading.Lock()
        self._client(5.0)  # A wrong address is told here, and not at the first order.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; they open again when needed."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
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
            timeout: Seconds in all.

        Returns:
            The job, which is accepted; booked, if that was asked for.

        Raises:
            OrderInvalid: The order breaks the rules.
            OrderConflict: Another order has that ExternalId.
            UnknownCompany: Workers serve companies, and not this one.
            QueueFull: Too many orders wait.
            QueueUnavailable: Redis, or with `booked` a worker, did not answer in time, or the order is not yet where
                `ORDERRELAY_ACCEPT_REPLICAS` and `ORDERRELAY_ACCEPT_ON_DISK` want it; enqueue `error.order` again.
            ValueError: `due_at`, `deadline` or `priority` is none; the text says what is wrong.
        """
        give_up_at = time.monotonic() + timeout
        terms = Terms(priority, due_at, deadline)
        company = _normal(company)
        ready = make_ready(0, order, company, terms, self._settings.external_id_max_length)
        client = self._client(timeout)
        safekeeping = Safekeeping() if booked else self._safekeeping
        patience = Patience(timeout if block else 0.0, ends_at=give_up_at)
        while True:
            ((line, _),) = self._accept(client, [ready], [ready.envelope], give_up_at, safekeeping)
            if line.result is not LineResult.FULL or not patience.wait():
                break
        if line.error is not None:
            raise line.error
        job = line.job if line.job is not None else self._job(ready)
        if booked:
            word = following.wait_until_booked(client, job.id, deadline=give_up_at)
            if word is None:
                raise QueueUnavailable(
                    ready.order, True, f"accepted but not yet booked within {timeout:g} s: is a worker running?"
                )
            booked_as = JobStatus.from_json(word)
            if booked_as is not None and booked_as.content not in (None, content_mark(ready.envelope.content_digest)):
                raise OrderConflict(ready.order, job.id)
        return job

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
            UnknownCompany: That is no company alias.
            ValueError: As of `enqueue`.
        """
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
            ValueError: The text is no job id.
        """
        deadline = time.monotonic() + timeout
        return following.find_out(self._client(timeout), _job_id(job), deadline=deadline)

    def find(self, *, external_id: str, company: str = "default", timeout: float = 5.0) -> JobStatus | None:
        """Where the job of an order is, by the order's ExternalId; otherwise as `status`.

        Raises:
            QueueUnavailable: Neither Redis knew nor a worker answered in time.
            UnknownCompany: That is no company alias.
        """
        return self.status(ids.job_id(_normal(company), external_id), timeout=timeout)

    def estimate(self, *, company: str = "default", priority: str = "normal", timeout: float = 5.0) -> Estimate:
        """How long an order will take that is enqueued now, as workers last said.

        Raises:
            QueueUnavailable: Redis did not answer in time.
            UnknownCompany: That is no company alias.
            ValueError: There is no such priority.
        """
        deadline = time.monotonic() + timeout
        return read_estimate(self._client(timeout), _normal(company), priority, deadline=deadline)

    def wait(self, job: Job | uuid.UUID | str, *, timeout: float = 60.0) -> JobStatus:
        """Wait until nothing more happens to a job by itself (`JobState.is_settled`).

        Args:
            job: The job or its id.
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: The job is not settled yet; the text tells its last known state.
            ValueError: The text is no job id.
        """
        deadline = time.monotonic() + timeout
        return following.wait_until_settled(self._client(timeout), _job_id(job), deadline=deadline)

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
        company = _normal(company)
        terms = terms if terms is not None else Terms()
        client = self._client(timeout)
        patience = Patience(wait)
        numbered = enumerate(orders)
        give_up_at: float | None = None
        while batch := list(islice(numbered, batch_size)):
            ready: list[ReadyOrder] = []
            refused: dict[int, OrderInvalid] = {}
            coming = each_ready(batch, company, terms, self._settings.external_id_max_length, ready, refused)
            if give_up_at is None or time.monotonic() < give_up_at:
                started_at = time.monotonic()
                sent = self._accept_in_time(client, ready, coming, timeout, patience)
                if any(line.result is LineResult.UNAVAILABLE for line in sent):
                    give_up_at = give_up_at if give_up_at is not None else started_at + timeout
                    time.sleep(min(_AFTER_FAILURE_SECONDS, max(0.0, give_up_at - time.monotonic())))
                elif sent:
                    give_up_at = None
            else:
                unreached = NotAnswered("Redis took nothing for too long, so this was not tried", maybe_taken=False)
                sent = [self._line(ready[-1], unreached) for _ in coming]
            lines = {line.index: line for line in sent}
            for index, error in refused.items():
                lines[index] = ReportLine(index, LineResult.REFUSED, error=error)
            yield from (lines[index] for index, _ in batch)

    def _accept_in_time(
        self,
        client: Redis,
        ready: list[ReadyOrder],
        coming: Iterable[Envelope],
        timeout: float,
        patience: Patience,
    ) -> list[ReportLine]:
        """Try a batch, and of it again and again, in order, what finds the queue full."""
        taken: list[ReportLine] = []
        while True:
            answered = self._accept(client, ready, coming, time.monotonic() + timeout, self._safekeeping)
            lines = [line for line, _ in answered]
            full = [line for line in lines if line.result is LineResult.FULL]
            if not full:
                if lines:
                    patience.encourage()
                return taken + lines
            taken += [line for line in lines if line.result is not LineResult.FULL]
            if len(full) < len(lines):
                patience.encourage()
            if any(line.result is LineResult.UNAVAILABLE for line in lines) or not patience.wait():
                return taken + full
            ready = [one for line, one in answered if line.result is LineResult.FULL]
            coming = [one.envelope for one in ready]

    def _accept(
        self,
        client: Redis,
        ready: Sequence[ReadyOrder],
        envelopes: Iterable[Envelope],
        deadline: float,
        safekeeping: Safekeeping,
    ) -> list[tuple[ReportLine, ReadyOrder]]:
        """Hand envelopes over; when all have been read, `ready` has as many members, to which they belong."""
        answers = accept(
            client, envelopes, max_waiting=self._settings.max_waiting, deadline=deadline, safekeeping=safekeeping
        )
        return [(self._line(one, answer), one) for one, answer in zip(ready, answers, strict=True)]

    def _line(self, ready: ReadyOrder, answer: Acceptance | NotAnswered) -> ReportLine:
        index, job = ready.number, self._job(ready)
        if isinstance(answer, NotAnswered):
            unavailable = QueueUnavailable(ready.order, answer.maybe_taken, answer.reason)
            return ReportLine(index, LineResult.UNAVAILABLE, job, unavailable)
        match answer.verdict:
            case Verdict.ACCEPTED:
                return ReportLine(index, LineResult.ACCEPTED, job)
            case Verdict.ALREADY:
                return ReportLine(index, LineResult.ALREADY, job)
            case Verdict.CONFLICT:
                return ReportLine(index, LineResult.CONFLICT, job, OrderConflict(ready.order, job.id))
            case Verdict.FULL:
                full = QueueFull(ready.order, answer.waiting, self._settings.max_waiting)
                return ReportLine(index, LineResult.FULL, job, full)
            case Verdict.UNKNOWN_COMPANY:
                reason = f"no worker serves it; workers serve {answer.companies}"
                unknown = UnknownCompany(ready.envelope.company, reason)
                return ReportLine(index, LineResult.REFUSED, error=unknown)

    def _job(self, ready: ReadyOrder) -> Job:
        envelope = ready.envelope
        return Job(envelope.job_id, envelope.external_id, envelope.company, self)

    def _client(self, timeout: float) -> Redis:
        if self._given is not None:
            return self._given
        from orderrelay_shared.redis_connection import connect  # noqa: PLC0415  as above

        step_seconds = _STEP_SECONDS[max(0, bisect_right(_STEP_SECONDS, timeout / 2) - 1)]
        with self._lock:
            if step_seconds not in self._clients:
                self._clients[step_seconds] = connect(
                    self._redis_url, timeout_seconds=step_seconds, client_name="orderrelay-producer"
                )
            return self._clients[step_seconds]


def _normal(company: str) -> str:
    try:
        return ids.normalise_company(company)
    except ValueError as error:
        raise UnknownCompany(company, str(error)) from error


def _job_id(job: Job | uuid.UUID | str) -> uuid.UUID:
    if isinstance(job, Job):
        return job.id
    return job if isinstance(job, uuid.UUID) else uuid.UUID(job)
