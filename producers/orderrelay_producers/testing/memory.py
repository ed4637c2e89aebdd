"""What every in-memory producer has: the orders it took, how the test says they end, and what goes wrong."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import structs

from orderrelay_producers.errors import OrderConflict, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.estimate import Estimate
from orderrelay_producers.report import LineResult
from orderrelay_producers.testing.records import EnqueuedOrder, matching, told_missing, told_unwanted
from orderrelay_producers.testing.troubles import Troubles
from orderrelay_shared import ids
from orderrelay_shared.intake import Cancel, Envelope, read_entry
from orderrelay_shared.job_status import JobStatus, content_mark
from orderrelay_shared.orders import Order
from orderrelay_shared.outlook import PRIORITIES
from orderrelay_shared.states import JobState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderrelay_producers.ready import ReadyOrder
    from orderrelay_producers.testing.troubles import Trouble

#: The numbers that the first order to succeed gets, as in the vendor's document.
_FIRST_NUMBER: Final = 200
_FIRST_VENDOR_ID: Final = 12614169


class WithId(Protocol):
    """A job of any producer."""

    @property
    def id(self) -> uuid.UUID:
        """The job's id."""
        ...


class Memory(Troubles):
    """The orders of one test. Thread-safe.

    Args:
        companies: The aliases that workers serve; others raise `UnknownCompany`. None given: all are served.
        max_waiting: When so many orders wait, the next raises `QueueFull`.

    Attributes:
        state_when_enqueued: The state that each order comes into as soon as it is enqueued, unless the test said
            otherwise of it before; with `JobState.SUCCEEDED` it also gets an order number.
        patience_seconds: `wait` waits so long at most, by the clock, whatever its caller's timeout: nobody but the
            test can settle a job, and mostly it has done so before.
    """

    def __init__(self, *, companies: Iterable[str] = (), max_waiting: int = 1_000_000) -> None:
        super().__init__()
        self.state_when_enqueued = JobState.WAITING
        self.patience_seconds = 1.0
        self._companies = frozenset(ids.normalise_company(alias) for alias in companies)
        self._max_waiting = max_waiting
        self._changed = threading.Condition(threading.RLock())
        self.clear()

    def clear(self) -> None:
        """Forget every order, and all that was said of orders."""
        with self._changed:
            self._envelopes: dict[uuid.UUID, Envelope] = {}
            self._records: dict[uuid.UUID, EnqueuedOrder] = {}
            self._statuses: dict[uuid.UUID, JobStatus] = {}
            self._said: dict[uuid.UUID, tuple[JobState, dict[str, object]]] = {}
            self._succeeded = 0

    # What was enqueued ----------------------------------------------------------------------------------------------

    @property
    def enqueued(self) -> list[EnqueuedOrder]:
        """Every order that was accepted, once each, in order."""
        with self._changed:
            return list(self._records.values())

    def assert_enqueued(
        self,
        *,
        external_id: str | None = None,
        customer: str | None = None,
        count: int | None = None,
        **fields: object,
    ) -> EnqueuedOrder:
        """Assert that such an order was enqueued.

        Args:
            external_id: Its ExternalId, as given.
            customer: Its CustomerNr.
            count: How many such orders there must be, 1 or more; by default any number but none. The same order
                enqueued twice is one.
            **fields: What else must be so: properties of `Order` in either spelling, `company`, `priority`, `due_at`,
                `deadline`, `booked`, `times`. Dates and numbers may be given as an order takes them.
                `invoice_rows=[{"product_nr": "100-5t"}, …]` names what is expected of each row.

        Returns:
            The first of them.

        Raises:
            AssertionError: There is none, or not as many; the text shows the nearest that there is.
            TypeError: An order has no such property.
        """
        __tracebackhide__ = True
        if count is not None and count < 1:
            raise ValueError(f"count is {count}; say that there is none with assert_not_enqueued")
        wanted = _wanted(external_id, customer, fields)
        found = matching(self.enqueued, wanted)
        if not found or count not in (None, len(found)):
            raise AssertionError(told_missing(self.enqueued, wanted, count))
        return found[0]

    def assert_not_enqueued(
        self, *, external_id: str | None = None, customer: str | None = None, **fields: object
    ) -> None:
        """Assert that no such order was enqueued; without arguments: that none was.

        Raises:
            AssertionError: There is one.
            TypeError: An order has no such property.
        """
        __tracebackhide__ = True
        wanted = _wanted(external_id, customer, fields)
        if found := matching(self.enqueued, wanted):
            raise AssertionError(told_unwanted(found, wanted))

    # How orders end -------------------------------------------------------------------------------------------------

    def succeed(
        self,
        job: WithId | uuid.UUID | None = None,
        *,
        external_id: str | None = None,
        company: str = "default",
        order_number: str | None = None,
        vendor_id: int | None = None,
    ) -> None:
        """Say that the vendor has created an order; of one that is not enqueued yet: that it will have, at once.

        Args:
            job: Its job or the job's id. Give this, or `external_id`.
            external_id: Its ExternalId.
            company: The company's alias, with `external_id`.
            order_number: The vendor's order number; by default they are counted from "200".
            vendor_id: The vendor's own id; by default counted likewise.
        """
        facts: dict[str, object] = {"order_number": order_number, "vendor_id": vendor_id}
        self.tell(JobState.SUCCEEDED, job, external_id=external_id, company=company, **facts)

    def reject(
        self,
        job: WithId | uuid.UUID | None = None,
        *,
        external_id: str | None = None,
        company: str = "default",
        reason: str = "refused by the vendor, error 26 (customer is blocked): Kunden är spärrad",
        error_number: int | None = 26,
    ) -> None:
        """Say that the vendor refuses an order, in words and with its ErrorNumber; otherwise as `succeed`."""
        facts: dict[str, object] = {"reason": reason, "error_number": error_number}
        self.tell(JobState.REJECTED, job, external_id=external_id, company=company, **facts)

    def park(
        self,
        job: WithId | uuid.UUID | None = None,
        *,
        external_id: str | None = None,
        company: str = "default",
        reason: str = "the vendor says success, but names no order; two look-ups found nothing",
    ) -> None:
        """Say that an order is kept for a person, and why; otherwise as `succeed`."""
        self.tell(JobState.PARKED, job, external_id=external_id, company=company, reason=reason)

    def tell(
        self,
        state: JobState,
        job: WithId | uuid.UUID | None = None,
        *,
        external_id: str | None = None,
        company: str = "default",
        **facts: object,
    ) -> None:
        """Say that an order is in any state, as a worker would publish it; otherwise as `succeed`.

        Args:
            state: The state.
            job: See `succeed`.
            external_id: See `succeed`.
            company: See `succeed`.
            **facts: Other attributes of `JobStatus`.
        """
        if (job is None) == (external_id is None):
            raise TypeError("say of which order: give its job, or its external_id")
        named = job_id_of(job) if external_id is None else ids.job_id(ids.normalise_company(company), external_id)
        with self._changed:
            self._said[named] = state, facts
            if (envelope := self._envelopes.get(named)) is not None:
                self._come_into(envelope, state, facts)

    # What the producers do ------------------------------------------------------------------------------------------

    def take(
        self, ready: ReadyOrder, away: Trouble | None, *, is_full: bool, booked: bool = False
    ) -> tuple[LineResult, Exception | None]:
        """Take one order, or not.

        Args:
            ready: The order.
            away: The `QueueUnavailable` that its call meets.
            is_full: Whether its call finds the queue full.
            booked: As of `enqueue`.

        Returns:
            What became of it, and what `enqueue` raises of it.
        """
        if away is not None and not away.taken:
            return LineResult.UNAVAILABLE, QueueUnavailable(ready.order, False, away.reason)
        result, error = self._judge(ready, is_full=is_full, booked=booked)
        if away is not None and result in (LineResult.ACCEPTED, LineResult.ALREADY):
            return LineResult.UNAVAILABLE, QueueUnavailable(ready.order, True, away.reason)
        return result, error

    def _judge(self, ready: ReadyOrder, *, is_full: bool, booked: bool) -> tuple[LineResult, Exception | None]:
        envelope = ready.envelope
        job_id = envelope.job_id
        with self._changed:
            if self._companies and envelope.company not in self._companies:
                served = ", ".join(sorted(self._companies))
                unknown = UnknownCompany(envelope.company, f"no worker serves it; workers serve {served}")
                return LineResult.REFUSED, unknown
            waiting = self._waiting(envelope.company)
            if is_full or waiting >= self._max_waiting:
                return LineResult.FULL, QueueFull(ready.order, max(waiting, self._max_waiting), self._max_waiting)
            first = self._envelopes.get(job_id)
            if first is None:
                self._keep(envelope, booked=booked)
                return LineResult.ACCEPTED, None
            if first.content_digest != envelope.content_digest:
                return LineResult.CONFLICT, OrderConflict(ready.order, job_id)
            record = self._records[job_id]
            self._records[job_id] = replace(record, times=record.times + 1, booked=record.booked or booked)
            return LineResult.ALREADY, None

    def _keep(self, given: Envelope, *, booked: bool) -> None:
        # As a worker reads it: times are of whole milliseconds on their way.
        fields = {name: part if isinstance(part, bytes) else part.encode() for name, part in given.to_fields().items()}
        envelope = read_entry({name.encode(): part for name, part in fields.items()})
        assert isinstance(envelope, Envelope)  # noqa: S101  what was written as an order is read as one
        job_id = envelope.job_id
        self._envelopes[job_id] = envelope
        self._records[job_id] = EnqueuedOrder(
            job_id,
            Order.from_json(envelope.body),
            envelope.company,
            envelope.priority,
            envelope.due_at,
            envelope.deadline,
            booked,
        )
        self._come_into(envelope, *self._said.get(job_id, (self.state_when_enqueued, {})))

    def _come_into(self, envelope: Envelope, state: JobState, facts: dict[str, object]) -> None:
        told: dict[str, object] = {name: value for name, value in facts.items() if value is not None}
        if state is JobState.SUCCEEDED:
            told.setdefault("order_number", str(_FIRST_NUMBER + self._succeeded))
            told.setdefault("vendor_id", _FIRST_VENDOR_ID + self._succeeded)
            self._succeeded += 1
        told.setdefault("attempts", 0 if state in (JobState.WAITING, JobState.CANCELLED) else 1)
        status = JobStatus(
            state,
            envelope.company,
            envelope.external_id,
            datetime.now(UTC),
            content=content_mark(envelope.content_digest),
            priority=envelope.priority,
            due_at=envelope.due_at,
            deadline=envelope.deadline,
        )
        self._statuses[envelope.job_id] = structs.replace(status, **told)
        self._changed.notify_all()

    def _waiting(self, company: str) -> int:
        return sum(status.company == company and status.state is JobState.WAITING for status in self._statuses.values())

    def peek(self, job_id: uuid.UUID) -> JobStatus | None:
        """Where a job is.

        Raises:
            QueueUnavailable: The test says so.
        """
        if (away := self.strike(QueueUnavailable)) is not None:
            raise QueueUnavailable(None, False, away.reason)
        with self._changed:
            return self._statuses.get(job_id)

    def cancel_unsent(self, job_id: uuid.UUID, why: str) -> None:
        """Cancel a job of which no request has left; otherwise nothing happens to it.

        Raises:
            QueueUnavailable: The test says so.
            ValueError: `why` is too long or not printable.
        """
        asked = Cancel(job_id, why)
        if (away := self.strike(QueueUnavailable)) is not None:
            raise QueueUnavailable(None, away.taken, away.reason)
        reason = f"cancelled by its producer: {asked.why}" if asked.why else "cancelled by its producer"
        with self._changed:
            status = self._statuses.get(job_id)
            if status is not None and not status.attempts and status.state in (JobState.WAITING, JobState.PARKED):
                self._come_into(self._envelopes[job_id], JobState.CANCELLED, {"reason": reason})

    def settled(self, job_id: uuid.UUID) -> JobStatus | None:
        """The job's status if nothing more happens to it by itself."""
        with self._changed:
            status = self._statuses.get(job_id)
            return status if status is not None and status.state.is_settled else None

    def await_settled(self, job_id: uuid.UUID, seconds: float) -> JobStatus | None:
        """Wait so long at most for `settled`."""
        with self._changed:
            self._changed.wait_for(lambda: self.settled(job_id) is not None, seconds)
            return self.settled(job_id)

    def told_unsettled(self, job_id: uuid.UUID) -> str:
        """Why waiting for a job ended without its being settled."""
        with self._changed:
            status = self._statuses.get(job_id)
        if status is None:
            return f"job {job_id} is not settled: nothing was heard of it yet; the test enqueued no such order"
        reason = f" ({status.reason})" if status.reason else ""
        return (
            f"job {job_id} is not settled: it is {status.state}{reason}. The test says how it ends: "
            f"producer.succeed(external_id={status.external_id!r}), before the wait, or producer.state_when_enqueued"
        )

    def estimated(self, company: str, priority: str) -> Estimate:
        """How many orders wait that go before one with that priority; how long it takes is not known.

        Raises:
            QueueUnavailable: The test says so.
            ValueError: There is no such priority.
        """
        if priority not in PRIORITIES:
            raise ValueError(f"priority is {priority!r}; it may be {', '.join(PRIORITIES)}")
        if (away := self.strike(QueueUnavailable)) is not None:
            raise QueueUnavailable(None, False, away.reason)
        first = PRIORITIES[: PRIORITIES.index(priority) + 1]
        with self._changed:
            before = sum(
                status.company == company and status.state is JobState.WAITING and status.priority in first
                for status in self._statuses.values()
            )
        return Estimate(before, None, None, None, ("this producer is in memory: no worker takes its orders",))


def job_id_of(job: object) -> uuid.UUID:
    """The id of a job of any producer, or of one named by its id.

    Raises:
        ValueError: The text is no job id.
    """
    if isinstance(job, str):
        return uuid.UUID(job)
    named = getattr(job, "id", job)
    if not isinstance(named, uuid.UUID):
        raise TypeError(f"{job!r} is no job")
    return named


def _wanted(external_id: str | None, customer: str | None, fields: dict[str, object]) -> dict[str, object]:
    wanted: dict[str, object] = {}
    if external_id is not None:
        wanted["external_id"] = external_id
    if customer is not None:
        wanted["customer_nr"] = customer
    return wanted | fields
