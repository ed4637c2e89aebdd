"""The spans of a worker: what became of each order whose producer's call is traced, in that call's trace.

They are recorded when what they tell of is committed, with the times at which it happened: no request waits for them,
and nothing is sent to the vendor for them. Whatever goes wrong here is told in the log and stops there. Imported only
where tracing is on, as it imports OpenTelemetry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

import structlog
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from orderrelay_shared import span_words
from orderrelay_shared.states import Outcome
from orderrelay_workers.vendor.exchange import Failure

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

    from orderrelay_shared.job_status import JobStatus
    from orderrelay_workers.ledger.booking import Booked
    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.ledger.settling import LookedUp, Settled
    from orderrelay_workers.request_ends import Answered
    from orderrelay_workers.vendor.answers import Verdict
    from orderrelay_workers.vendor.exchange import Exchange

    _Words: TypeAlias = Mapping[str, str | int]

#: These ends of a request are no error: the order is there, or the vendor says "later".
_NO_ERROR: Final = (Outcome.CREATED, Outcome.THROTTLED)

_log = structlog.get_logger(__name__)


class Traces:
    """Records the spans of one worker.

    Args:
        tracer: Takes the spans; it must not block.
        vendor_url: The vendor's address; only host and port of it are told.
        close: Ends the export, within a few seconds.
    """

    def __init__(self, tracer: Tracer, vendor_url: str, close: Callable[[], None]) -> None:
        self._tracer = tracer
        self._vendor: dict[str, str | int] = _host_and_port(vendor_url)
        self.close = close

    def booked(self, booked: Sequence[Booked], began_ns: int, ended_ns: int) -> None:
        """Orders were booked between these two instants, in nanoseconds since 1970."""
        self._safely(lambda: self._booked(booked, began_ns, ended_ns))

    def settled(
        self, company: str, answered: Sequence[Answered], settled: Settled | None, began_ns: int, ended_ns: int
    ) -> None:  # fmt: skip
        """Order requests were settled between these two instants; without `settled` they are in the spool."""
        statuses = {} if settled is None else settled.statuses

        def record() -> None:
            for one in answered:
                self._answered(company, one, statuses, began_ns, ended_ns)

        self._safely(record)

    def looked_up(self, company: str, batch: Sequence[LookedUp], settled: Settled) -> None:
        """Look-ups ended, and were settled."""

        def record() -> None:
            for one in batch:
                self._looked_up(company, one, settled.statuses.get(one.job_id))

        self._safely(record)

    @staticmethod
    def _safely(record: Callable[[], object]) -> None:
        try:
            record()
        except Exception as error:  # noqa: BLE001  no order shall suffer from what watches it
            _log.warning("spans_not_recorded", error=type(error).__name__)

    def _booked(self, booked: Sequence[Booked], began_ns: int, ended_ns: int) -> None:
        for one in booked:
            envelope = one.accepted.envelope
            if envelope.traceparent is not None:
                words = span_words.words_of("book", "receive", envelope.company, one.job_id)
                words |= {"orderrelay.result": one.result, span_words.COUNT: len(booked)}
                span = self._of_order("book", envelope.traceparent, began_ns, words)
                span.end(ended_ns)

    def _answered(
        self, company: str, one: Answered, statuses: Mapping[uuid.UUID, JobStatus], settling_ns: int, ended_ns: int
    ) -> None:  # fmt: skip
        """A request's span, inside that of its first traced order and linked to those of the others."""
        claimed_ns = int(one.request.watch.wall_seconds * 1e9)
        traced: list[tuple[Span, Claim, Verdict]] = []
        for claim, verdict in zip(one.request.claims, one.verdicts, strict=True):
            if claim.traceparent is not None:
                words = span_words.words_of("submit", "process", company, claim.job_id)
                words |= {"orderrelay.request.number": claim.number}
                traced.append((self._of_order("submit", claim.traceparent, claimed_ns, words), claim, verdict))
        if not traced:
            return
        first, *others = [span for span, _, _ in traced]
        orders = len(one.request.claims)
        more: _Words = {span_words.COUNT: orders} if orders > 1 else {}
        request = self._request("POST", one.exchange, first, others, more)
        for span, claim, verdict in traced:
            if span is not first:
                span.add_link(request.get_span_context())
            settle = self._tracer.start_span(
                span_words.span_name("settle"),
                set_span_in_context(span),
                attributes=span_words.words_of("settle", "settle", company, claim.job_id),
                start_time=settling_ns,
            )
            settle.end(ended_ns)
            _end(span, str(verdict.outcome), statuses.get(claim.job_id), ended_ns, verdict.outcome in _NO_ERROR)

    def _looked_up(self, company: str, one: LookedUp, status: JobStatus | None) -> None:
        if one.traceparent is None:
            return
        words = span_words.words_of("reconcile", "process", company, one.job_id)
        span = self._of_order("reconcile", one.traceparent, _ns(one.exchange.began_at), words)
        self._request("GET", one.exchange, span, [], {})
        _end(span, one.verdict.kind, status, time.time_ns(), one.verdict.kind in ("found", "absent"))

    def _of_order(self, operation: str, traceparent: str, began_ns: int, words: _Words) -> Span:
        """A span of a worker in the trace of the producer's call."""
        return self._tracer.start_span(
            span_words.span_name(operation),
            _context(traceparent),
            kind=SpanKind.CONSUMER,
            attributes=words,
            start_time=began_ns,
        )

    def _request(self, method: str, exchange: Exchange, within: Span, others: Sequence[Span], more: _Words) -> Span:
        """A request to the vendor, over by now. Nothing of its address but host and port: the rest holds keys."""
        span = self._tracer.start_span(
            method,
            set_span_in_context(within),
            kind=SpanKind.CLIENT,
            attributes={"http.request.method": method, **self._vendor, **more},
            links=[Link(other.get_span_context()) for other in others],
            start_time=_ns(exchange.began_at),
        )
        if exchange.status is not None:
            span.set_attribute("http.response.status_code", exchange.status)
        if (error := _error_of(exchange)) is not None:
            _fail(span, error)
        span.end(_ns(exchange.ended_at))
        return span


def _end(span: Span, outcome: str, status: JobStatus | None, ended_ns: int, is_well: bool) -> None:
    span.set_attribute("orderrelay.outcome", outcome)
    if status is not None:
        span.set_attribute("orderrelay.state", str(status.state))
    if not is_well:
        _fail(span, outcome)
    span.end(ended_ns)


def _fail(span: Span, error: str) -> None:
    span.set_attribute(span_words.ERROR, error)
    span.set_status(StatusCode.ERROR)


def _error_of(exchange: Exchange) -> str | None:
    if exchange.failure is not None:
        return Failure(exchange.failure).name.lower()
    return str(exchange.status) if exchange.status is not None and exchange.status >= 400 else None


def _context(traceparent: str) -> Context:
    _, trace_id, span_id, flags = traceparent.split("-")
    remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(remote))


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1e6) * 1000


def _host_and_port(url: str) -> dict[str, str | int]:
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or {"https": 443}.get(parts.scheme, 80)}
