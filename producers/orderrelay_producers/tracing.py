"""Spans of enqueueing, where the service has set OpenTelemetry up. Only its API is used, if it is there already.

A service that never imported OpenTelemetry pays a look into `sys.modules` for each call; nothing is imported for it. An
order whose span is recorded carries that span's context in its intake entry; all others travel as if there were none.
What a service's tracer raises goes no further: it would look as if the order had not been taken.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from orderrelay_shared import span_words

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.trace import Span, SpanKind, Tracer

    from orderrelay_producers.ready import ReadyOrder
    from orderrelay_shared.intake import Envelope

_API: Final = "opentelemetry.trace"


class Sending:
    """A span around what is sent to Redis in one round trip or several; a context manager that ends it.

    It is nobody's current span: what yields to an event loop must not change that.
    """

    def __init__(self, tracer: Tracer, span: Span, company: str) -> None:
        self._tracer = tracer
        self._span = span
        self._company = company
        self._orders = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(Exception):
            if kind is not None:
                self._failed(kind.__name__)
            self._span.end()

    def _failed(self, kind: str) -> None:
        """It went wrong; only the kind of error is told, as the text may hold what is in the order."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  it is there, or this object were not

        self._span.set_attribute(span_words.ERROR, kind)
        self._span.set_status(StatusCode.ERROR)

    def carry(self, envelope: Envelope) -> Envelope:
        """The order with this span's context, if that is recorded."""
        with suppress(Exception):
            return _carrying(envelope, self._span)
        return envelope

    def create(self, ready: ReadyOrder) -> ReadyOrder:
        """One of several orders with a context of its own, to which this span is linked."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  as above

        self._orders += 1
        with suppress(Exception):
            span = _start(self._tracer, "create", "create", self._company, SpanKind.PRODUCER, ready.envelope)
            span.end()
            if span.get_span_context().trace_flags.sampled:
                self._span.add_link(span.get_span_context())
                return ready._replace(envelope=_carrying(ready.envelope, span))
        return ready

    def sent(self, *, is_unavailable: bool) -> None:
        """A batch was sent; or some of it was not, as Redis did not answer."""
        with suppress(Exception):
            self._span.set_attribute(span_words.COUNT, self._orders)
            if is_unavailable:
                self._failed("QueueUnavailable")


def sending_one(envelope: Envelope) -> Sending | None:
    """Begin the span of one order; None: the service does not trace."""
    return _sending(envelope.company, envelope) if _is_set_up() else None


def sending_many(company: str) -> Sending | None:
    """Begin the span of a batch, each of whose orders is to have one of its own; None: the service does not trace."""
    return _sending(company, None) if _is_set_up() else None


def _is_set_up() -> bool:
    """Whether there is more than the API, which redis-py imports wherever it is installed."""
    trace: Any = sys.modules.get(_API)
    if trace is None:
        return False
    try:
        return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    except Exception:  # noqa: BLE001  as at the top of this module
        return False


def _sending(company: str, envelope: Envelope | None) -> Sending | None:
    from opentelemetry.trace import SpanKind  # noqa: PLC0415  it is imported already

    with suppress(Exception):
        tracer = _tracer()
        if tracer is not None:
            # What each order's own span stands for is not handed over by this one, and so is a call of Redis only.
            kind = SpanKind.CLIENT if envelope is None else SpanKind.PRODUCER
            return Sending(tracer, _start(tracer, "enqueue", "send", company, kind, envelope), company)
    return None


def _tracer() -> Tracer | None:
    """The service's tracer; None if it has not set one up, or traces nothing of what it does right now."""
    from opentelemetry import trace  # noqa: PLC0415  as above

    caller = trace.get_current_span().get_span_context()
    if caller.is_valid and not caller.trace_flags.sampled:
        return None
    return trace.get_tracer_provider().get_tracer(span_words.SCOPE)


def _start(
    tracer: Tracer, operation: str, kind: str, company: str, span_kind: SpanKind, envelope: Envelope | None = None
) -> Span:  # fmt: skip
    job_id = None if envelope is None else envelope.job_id
    words = span_words.words_of(operation, kind, company, job_id)
    return tracer.start_span(span_words.span_name(operation), kind=span_kind, attributes=words)


def _carrying(envelope: Envelope, span: Span) -> Envelope:
    context = span.get_span_context()
    if not (context.is_valid and context.trace_flags.sampled):
        return envelope
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return replace(envelope, traceparent=traceparent)
