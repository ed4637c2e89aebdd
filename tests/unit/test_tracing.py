"""Spans of producers and workers: when there are any, what they hold, and that nothing suffers from them."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from orderrelay_producers import OrderInvalid, OrderProducer, QueueUnavailable
from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope, read_entry
from orderrelay_workers import tracing
from orderrelay_workers.diagnosis.findings import Level
from orderrelay_workers.diagnosis.of_tracing import look_at_tracing
from orderrelay_workers.ledger.booking import Accepted, Booked
from orderrelay_workers.traces import Traces
from orderrelay_workers.tracing import Asked, asked_by
from tests.servers import free_port
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.sampling import Sampler
    from redis import Redis

    Service = Callable[..., InMemorySpanExporter]

TRACEPARENT = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """Makes this process a service that uses OpenTelemetry; gives what its spans go to."""

    def begin(sampler: Sampler | None = None) -> InMemorySpanExporter:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        return exporter

    return begin


def carried(client: Redis) -> list[str | None]:
    """The context that each entry of the intake carries."""
    found: Any = client.xrange(keys.INTAKE)
    entries = [read_entry(fields) for _, fields in found]
    return [entry.traceparent for entry in entries if isinstance(entry, Envelope)]


def test_an_order_carries_the_context_of_its_call(fake_or_real_redis: Redis, service: Service) -> None:
    """The intake's entry names the span of `enqueue`; with several orders, the span that each has of its own."""
    spans = service()
    producer = OrderProducer(redis=fake_or_real_redis)
    producer.enqueue(order("A-1"), company="acme")
    producer.enqueue_many([order("B-1"), {"CustomerNr": "bad"}, order("B-2")], company="acme")
    sent, *created, batch = spans.get_finished_spans()
    assert [s.name.split()[0] for s in (sent, *created, batch)] == ["enqueue", "create", "create", "enqueue"]
    contexts = [context for s in (sent, *created) if (context := s.get_span_context()) is not None]
    assert carried(fake_or_real_redis) == [
        f"00-{c.trace_id:032x}-{c.span_id:016x}-{c.trace_flags:02x}" for c in contexts
    ]
    assert dict(batch.attributes or {})["messaging.batch.message_count"] == 2
    assert [link.context.span_id for link in batch.links] == [c.span_id for c in contexts[1:]]


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0.0))], ids=["off", "none of all"])
def test_what_is_not_sampled_carries_nothing(fake_or_real_redis: Redis, service: Service, sampler: Sampler) -> None:
    """A call whose spans are thrown away costs nothing on the way, and no worker makes spans of its order."""
    spans = service(sampler)
    producer = OrderProducer(redis=fake_or_real_redis)
    producer.enqueue(order("A-1"), company="acme")
    producer.enqueue_many([order("A-2")], company="acme")
    assert (spans.get_finished_spans(), carried(fake_or_real_redis)) == ((), [None, None])


def test_a_call_inside_an_unsampled_one_makes_no_spans(fake_or_real_redis: Redis, service: Service) -> None:
    """The caller decides whether its request is traced."""
    spans = service()
    unsampled = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(unsampled)):
        OrderProducer(redis=fake_or_real_redis).enqueue(order("A-1"), company="acme")
    assert (spans.get_finished_spans(), carried(fake_or_real_redis)) == ((), [None])


def test_the_api_without_anything_behind_it_is_off(fake_or_real_redis: Redis) -> None:
    """A service that has the API, as a library brought it, and has set nothing up, traces nothing."""
    OrderProducer(redis=fake_or_real_redis).enqueue(order("A-1"), company="acme")
    assert carried(fake_or_real_redis) == [None]


def test_a_span_of_a_failed_call_tells_the_kind_of_error_alone(service: Service) -> None:
    """The text of an error may hold what is in the order, and the address of Redis."""
    spans = service()
    producer = OrderProducer(f"redis://:zzSecretzz@127.0.0.1:{free_port()}/0")
    with pytest.raises(QueueUnavailable):
        producer.enqueue(order("zzOrderzz"), company="acme", timeout=0.2)
    producer.enqueue_many([order("zzOrderzz-1")], company="acme", timeout=0.2)
    with pytest.raises(OrderInvalid):
        producer.enqueue({"CustomerNr": "zzOrderzz"}, company="acme")
    told = [span.to_json() for span in spans.get_finished_spans()]
    assert [text.count('"error.type": "QueueUnavailable"') for text in told] == [1, 0, 1]
    assert not [text for text in told if "zz" in text]
    assert not [event for span in spans.get_finished_spans() for event in span.events]


def test_a_tracer_that_fails_fails_no_call(fake_or_real_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that is taken is told as taken, whatever the service's tracer does before and after."""

    class FailsAtTheEnd(SimpleSpanProcessor):
        def on_end(self, span: object) -> None:
            raise ZeroDivisionError

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(FailsAtTheEnd(InMemorySpanExporter()))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    producer = OrderProducer(redis=fake_or_real_redis)
    producer.enqueue(order("A-1"), company="acme")
    assert [line.error for line in producer.enqueue_many([order("A-2")], company="acme")] == [None]
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: 1 / 0)
    producer.enqueue(order("A-3"), company="acme")
    assert len(carried(fake_or_real_redis)) == 3


def test_a_span_without_a_context_fails_no_call(fake_or_real_redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of a vendor's own tracer may be; the order travels untraced."""
    provider: Any = SimpleNamespace(get_tracer=lambda *_: SimpleNamespace(start_span=lambda *_, **__: object()))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    producer = OrderProducer(redis=fake_or_real_redis)
    producer.enqueue(order("A-1"), company="acme")
    assert [line.error for line in producer.enqueue_many([order("A-2")], company="acme")] == [None]
    assert carried(fake_or_real_redis) == [None, None]


@pytest.mark.parametrize(
    "given", [b"", b"x", TRACEPARENT.encode() + b"-00", TRACEPARENT.upper().encode() + b"G", b"\xff"]
)
def test_a_context_that_is_none_is_passed_over(given: bytes) -> None:
    """Nothing that is wrong with it keeps an order from being booked."""
    fields = Envelope("acme", "A-1", b"d" * 32, b"{}").to_fields()
    entry = {name.encode(): v if isinstance(v, bytes) else v.encode() for name, v in fields.items()}
    assert read_entry(entry | {b"tp": given}) == Envelope("acme", "A-1", b"d" * 32, b"{}")


def test_a_context_needs_no_newer_layout() -> None:
    """Workers that know nothing of it book the order: it is one more field that they do not name."""
    plain, traced = (Envelope("acme", "A-1", b"d" * 32, b"{}", traceparent=t).to_fields() for t in (None, TRACEPARENT))
    assert traced == plain | {"tp": TRACEPARENT}
    entry = {name.encode(): v if isinstance(v, bytes) else v.encode() for name, v in traced.items()}
    assert read_entry(entry) == Envelope("acme", "A-1", b"d" * 32, b"{}", traceparent=TRACEPARENT)


ENDPOINT, TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
EXPORTER = "OTEL_TRACES_EXPORTER"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, Asked(None)),
        ({"OTEL_SERVICE_NAME": "x", EXPORTER: " "}, Asked(None)),
        ({EXPORTER: "none", ENDPOINT: "http://c:4318"}, Asked(None, EXPORTER)),
        ({"OTEL_SDK_DISABLED": "True", EXPORTER: "otlp"}, Asked(None, "OTEL_SDK_DISABLED")),
        ({ENDPOINT: "http://c:4318"}, Asked("otlp_proto_http", ENDPOINT, "http://c:4318")),
        ({TRACES_ENDPOINT: "https://u:s@c/v1?key=s"}, Asked("otlp_proto_http", TRACES_ENDPOINT, "https://c")),
        ({ENDPOINT: "http://a", TRACES_ENDPOINT: "http://b"}, Asked("otlp_proto_http", TRACES_ENDPOINT, "http://b")),
        ({EXPORTER: "otlp"}, Asked("otlp_proto_http", EXPORTER)),
        ({EXPORTER: "otlp", ENDPOINT: "http://c:x"}, Asked("otlp_proto_http", EXPORTER, unreadable=ENDPOINT)),
        ({ENDPOINT: "collector:4318"}, Asked("otlp_proto_http", ENDPOINT, unreadable=ENDPOINT)),
        ({ENDPOINT: "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Asked("otlp_proto_grpc", ENDPOINT)),
        ({EXPORTER: "console", ENDPOINT: "http://c"}, Asked("console", EXPORTER)),
        (
            {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            Asked("otlp_proto_grpc", ENDPOINT, "http://c:4317"),
        ),
    ],
)
def test_opentelemetrys_own_variables_decide(environment: dict[str, str], asked: Asked) -> None:
    """A worker traces where they say so, and names no more of an address than host and port."""
    assert asked_by(environment) == asked


def test_what_cannot_be_stops_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that is not installed, or whose settings are wrong, leaves a worker without spans."""
    boot_id = uuid.uuid4()
    assert tracing.begin({EXPORTER: "no-such"}, "https://vendor", boot_id) is None
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")  # smaller than what is sent together
    assert tracing.begin({EXPORTER: "otlp"}, "https://vendor", boot_id) is None


def test_an_error_of_a_tracer_goes_no_further() -> None:
    """Orders are booked and settled whatever the tracer does."""

    class Broken:
        def start_span(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError

    tracer: Any = Broken()
    envelope = Envelope("acme", "A-1", b"d" * 32, b"{}", traceparent=TRACEPARENT)
    booked = Booked(Accepted("1-0", envelope), envelope.job_id, "new")
    Traces(tracer, "https://vendor", lambda: None).booked([booked], 1, 2)


@pytest.mark.parametrize(
    ("environment", "level", "text"),
    [
        ({}, Level.OK, "off: no variable OTEL_* asks for it"),
        ({EXPORTER: "none"}, Level.OK, "off: OTEL_TRACES_EXPORTER says so"),
        ({EXPORTER: "otlp"}, Level.OK, "on: spans go out by otlp_proto_http"),
        ({EXPORTER: "no-such"}, Level.WARNING, "asked for by OTEL_TRACES_EXPORTER, and not on: no exporter 'no-such'"),
        ({ENDPOINT: "http://127.0.0.1:1/?key=zz"}, Level.WARNING, "on, but nothing can be connected to at http://127"),
        ({ENDPOINT: "zz:4318"}, Level.WARNING, "on, but OTEL_EXPORTER_OTLP_ENDPOINT is no whole address: spans are"),
    ],
)
def test_the_doctor_says_whether_workers_trace(environment: dict[str, str], level: Level, text: str) -> None:
    """On or off and why, what is missing, and whether anything listens where the spans go."""
    finding = look_at_tracing(environment)
    assert (finding.level, finding.text[: len(text)]) == (level, text)
    assert "zz" not in finding.text + finding.to_do
