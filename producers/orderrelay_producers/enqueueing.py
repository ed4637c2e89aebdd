"""Enqueueing as both producers do it: what is decided of it, without I/O."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Generic

from orderrelay_producers import following, tracing
from orderrelay_producers.accept import Acceptance, NotAnswered, Verdict, accept, accept_one
from orderrelay_producers.errors import OrderConflict, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.job import AsyncJob, Job
from orderrelay_producers.patience import Patience
from orderrelay_producers.ready import ReadyOrder, each_ready, make_ready
from orderrelay_producers.report import JobT, LineResult, ReportLine
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_producers.steps import Pause
from orderrelay_shared import ids
from orderrelay_shared.job_status import JobStatus, content_mark
from orderrelay_shared.orders import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orderrelay_producers.steps import Steps
    from orderrelay_producers.terms import Terms
    from orderrelay_shared.intake import Envelope
    from orderrelay_shared.orders import OrderInvalid
    from orderrelay_shared.settings import ProducerSettings

#: Orders that travel to Redis together.
BATCH_SIZE: Final = 500

_NOTHING_ASKED: Final = Safekeeping()

#: Of one order alone these end a call well.
_TAKEN: Final = (Verdict.ACCEPTED, Verdict.ALREADY)

#: Between two batches of which the first met no Redis, in seconds.
_AFTER_FAILURE_SECONDS: Final = 0.1


class Enqueueing(Generic[JobT]):
    """Enqueueing under some settings.

    Args:
        settings: The producer's.
        make_job: Makes the handle that the caller gets, of job id, ExternalId and company.
    """

    def __init__(self, settings: ProducerSettings, make_job: Callable[[uuid.UUID, str, str], JobT]) -> None:
        self._settings = settings
        self._safekeeping = Safekeeping(settings.accept_replicas, settings.accept_on_disk)
        self._make_job = make_job

    def one(
        self,
        order: Order | Mapping[str, object],
        company: str,
        terms: Terms,
        *,
        booked: bool,
        block: bool,
        timeout: float,
    ) -> Steps[JobT]:
        """As `OrderProducer.enqueue`."""
        give_up_at = time.monotonic() + timeout
        ready = make_ready(0, order, normal(company), terms, self._settings.external_id_max_length)
        span = tracing.sending_one(ready.envelope)
        if span is None:
            return (yield from self._one(ready, give_up_at, booked=booked, block=block, timeout=timeout))
        with span:
            ready = ready._replace(envelope=span.carry(ready.envelope))
            return (yield from self._one(ready, give_up_at, booked=booked, block=block, timeout=timeout))

    def _one(
        self, ready: ReadyOrder, give_up_at: float, *, booked: bool, block: bool, timeout: float
    ) -> Steps[JobT]:  # fmt: skip
        safekeeping = _NOTHING_ASKED if booked else self._safekeeping
        patience: Patience | None = None  # It takes time to make, and hardly any order needs it.
        made: list[JobT] = []
        while True:
            answer = yield from accept_one(
                ready.envelope,
                max_waiting=self._settings.max_waiting,
                deadline=give_up_at,
                safekeeping=safekeeping,
                meanwhile=lambda: made.append(self._job(ready)),
            )
            if isinstance(answer, Acceptance) and answer.verdict in _TAKEN:
                break
            line = self.line(ready, answer)
            patience = patience or Patience(timeout if block else 0.0, ends_at=give_up_at)
            if line.error is not None and not (line.result is LineResult.FULL and (yield from patience.wait())):
                raise line.error
        job = made[-1]
        if booked:
            word = yield from following.wait_until_booked(job.id, deadline=give_up_at)
            if word is None:
                raise QueueUnavailable(
                    ready.order, True, f"accepted but not yet booked within {timeout:g} s: is a worker running?"
                )
            booked_as = JobStatus.from_json(word)
            if booked_as is not None and booked_as.content not in (None, content_mark(ready.envelope.content_digest)):
                raise OrderConflict(ready.order, job.id)
        return job

    def batches(self, company: str, terms: Terms, *, wait: float, timeout: float) -> Batches[JobT]:
        """Begin to hand over batches, one after the other; see `OrderProducer.enqueue_batches`."""
        return Batches(self, normal(company), terms, Patience(wait), timeout)

    def each_ready(
        self,
        batch: Iterable[tuple[int, Order | Mapping[str, object] | OrderInvalid]],
        company: str,
        terms: Terms,
        ready: list[ReadyOrder],
        refused: dict[int, OrderInvalid],
        trace: Callable[[ReadyOrder], ReadyOrder] | None,
    ) -> Iterable[Envelope]:
        """As `ready.each_ready`, under these settings."""
        return each_ready(batch, company, terms, self._settings.external_id_max_length, ready, refused, trace)

    def accept_in_time(
        self, ready: list[ReadyOrder], coming: Iterable[Envelope], timeout: float, patience: Patience
    ) -> Steps[list[ReportLine[JobT]]]:
        """Try a batch, and of it again and again, in order, what finds the queue full."""
        taken: list[ReportLine[JobT]] = []
        while True:
            answered = yield from self._accept(ready, coming, time.monotonic() + timeout, self._safekeeping)
            lines = [line for line, _ in answered]
            full = [line for line in lines if line.result is LineResult.FULL]
            if not full:
                if lines:
                    patience.encourage()
                return taken + lines
            taken += [line for line in lines if line.result is not LineResult.FULL]
            if len(full) < len(lines):
                patience.encourage()
            if any(line.result is LineResult.UNAVAILABLE for line in lines) or not (yield from patience.wait()):
                return taken + full
            ready = [one for line, one in answered if line.result is LineResult.FULL]
            coming = [one.envelope for one in ready]

    def _accept(
        self,
        ready: Sequence[ReadyOrder],
        envelopes: Iterable[Envelope],
        deadline: float,
        safekeeping: Safekeeping,
    ) -> Steps[list[tuple[ReportLine[JobT], ReadyOrder]]]:
        """Hand envelopes over; when all have been read, `ready` has as many members, to which they belong."""
        answers = yield from accept(
            envelopes, max_waiting=self._settings.max_waiting, deadline=deadline, safekeeping=safekeeping
        )
        return [(self.line(one, answer), one) for one, answer in zip(ready, answers, strict=True)]

    def line(self, ready: ReadyOrder, answer: Acceptance | NotAnswered) -> ReportLine[JobT]:
        """What became of an order by Redis' answer."""
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

    def _job(self, ready: ReadyOrder) -> JobT:
        envelope = ready.envelope
        return self._make_job(envelope.job_id, envelope.external_id, envelope.company)


class Batches(Generic[JobT]):
    """Batches of one call, handed over one after the other.

    Args:
        enqueueing: How.
        company: The alias in its normal form.
        terms: On what terms all orders are to be sent.
        patience: How long to wait for room in the queue.
        timeout: Seconds that Redis may stay without an answer; after that nothing more is tried.
    """

    def __init__(
        self, enqueueing: Enqueueing[JobT], company: str, terms: Terms, patience: Patience, timeout: float
    ) -> None:
        self._enqueueing = enqueueing
        self._company = company
        self._terms = terms
        self._patience = patience
        self._timeout = timeout
        self._give_up_at: float | None = None

    def hand_over(
        self, batch: Sequence[tuple[int, Order | Mapping[str, object] | OrderInvalid]]
    ) -> Steps[list[ReportLine[JobT]]]:
        """Hand over the next numbered orders.

        Returns:
            A line for each, in order.
        """
        span = tracing.sending_many(self._company)
        if span is None:
            return (yield from self._hand_over(batch, None))
        with span:
            lines = yield from self._hand_over(batch, span.create)
            span.sent(is_unavailable=any(line.result is LineResult.UNAVAILABLE for line in lines))
            return lines

    def _hand_over(
        self,
        batch: Sequence[tuple[int, Order | Mapping[str, object] | OrderInvalid]],
        trace: Callable[[ReadyOrder], ReadyOrder] | None,
    ) -> Steps[list[ReportLine[JobT]]]:
        ready: list[ReadyOrder] = []
        refused: dict[int, OrderInvalid] = {}
        coming = self._enqueueing.each_ready(batch, self._company, self._terms, ready, refused, trace)
        if self._give_up_at is None or time.monotonic() < self._give_up_at:
            started_at = time.monotonic()
            sent = yield from self._enqueueing.accept_in_time(ready, coming, self._timeout, self._patience)
            if any(line.result is LineResult.UNAVAILABLE for line in sent):
                self._give_up_at = self._give_up_at if self._give_up_at is not None else started_at + self._timeout
                yield Pause(min(_AFTER_FAILURE_SECONDS, max(0.0, self._give_up_at - time.monotonic())))
            elif sent:
                self._give_up_at = None
        else:
            unreached = NotAnswered("Redis took nothing for too long, so this was not tried", maybe_taken=False)
            sent = [self._enqueueing.line(ready[-1], unreached) for _ in coming]
        lines = {line.index: line for line in sent}
        for index, error in refused.items():
            lines[index] = ReportLine(index, LineResult.REFUSED, error=error)
        return [lines[index] for index, _ in batch]


def refuse_one(orders: object) -> None:
    """Refuse what is one order where many are wanted: its properties would be taken for orders, each a refused line.

    Raises:
        TypeError: It is one order, or text.
    """
    if isinstance(orders, Order | Mapping | str | bytes):
        raise TypeError("enqueue_many takes many orders, and this is one: use enqueue(order) or enqueue_many([order])")


def normal(company: str) -> str:
    """The alias in its normal form.

    Raises:
        UnknownCompany: It is none.
    """
    if not isinstance(company, str):  # pyright: ignore[reportUnnecessaryIsInstance]  not everybody checks types
        raise UnknownCompany(str(company), f"a company is named by a text, not by {company!r}")
    try:
        return ids.normalise_company(company)
    except ValueError as error:
        raise UnknownCompany(company, str(error)) from error


def id_of(external_id: str, company: str) -> uuid.UUID:
    """The id of the job of an order.

    Raises:
        UnknownCompany: That is no company alias.
        ValueError: The ExternalId is no text.
    """
    if not isinstance(external_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]  as above
        raise ValueError(f"external_id is {external_id!r}; it must be text")  # noqa: TRY004  as of `job_id`
    return ids.job_id(normal(company), external_id)


def job_id(job: Job | AsyncJob | uuid.UUID | str) -> uuid.UUID:
    """The id of a job that is given in any way.

    Raises:
        ValueError: That is no job id.
    """
    if isinstance(job, Job | AsyncJob):
        return job.id
    if isinstance(job, uuid.UUID):
        return job
    if not isinstance(job, str):  # pyright: ignore[reportUnnecessaryIsInstance]  as above
        raise ValueError(f"{job!r} is no job id: give the job, or its id as a UUID or as text")  # noqa: TRY004  as documented
    try:
        return uuid.UUID(job)
    except ValueError:
        raise ValueError(f"{job!r} is no job id; for an ExternalId use find(external_id={job!r})") from None
