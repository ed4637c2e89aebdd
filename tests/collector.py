"""A collector of OpenTelemetry spans, as workers and producers of a test send them: real OTLP over HTTP."""

from __future__ import annotations

import contextlib
import gzip
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pytest


@dataclass(frozen=True)
class Span:
    """A span as the collector got it; ids are hexadecimal, times are nanoseconds since 1970."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: bool
    service: str


@dataclass
class Collector:
    """What came in.

    Attributes:
        url: Where it listens.
        spans: All spans, as they came.
        raw: The bodies of all requests, unpacked.
    """

    url: str
    spans: list[Span] = field(default_factory=list[Span])
    raw: list[bytes] = field(default_factory=list[bytes])

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a worker that sends its spans here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def of_trace(self, trace_id: str) -> dict[str, Span]:
        """The spans of one trace by their names; a name that is there twice keeps the last."""
        return {span.name: span for span in self.spans if span.trace_id == trace_id}

    def wait_for(self, trace_id: str, names: Collection[str]) -> dict[str, Span]:
        """Wait until a trace has spans of these names."""
        wait_until(lambda: set(names) <= set(self.of_trace(trace_id)), 15, what=f"{trace_id} has {sorted(names)}")
        return self.of_trace(trace_id)

    def take(self, body: bytes) -> None:
        """Take a request's body."""
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for of_resource in request.resource_spans:
            service = {a.key: a.value.string_value for a in of_resource.resource.attributes}["service.name"]
            self.spans += [_span(span, service) for scope in of_resource.scope_spans for span in scope.spans]
        self.raw.append(body)


def _span(span: Any, service: str) -> Span:
    attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
    links = tuple(link.span_id.hex() for link in span.links)
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    times = span.start_time_unix_nano, span.end_time_unix_nano
    return Span(span.name, span.kind, *ids, *times, attributes, links, span.status.code == 2, service)


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector that answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def traced_service(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> Iterator[trace.Tracer]:
    """This process is a service whose spans go to the collector; gives its tracer."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with monkeypatch.context() as patched:
        patched.setattr(trace, "get_tracer_provider", lambda: provider)
        yield provider.get_tracer("shop")
    with contextlib.suppress(Exception):
        provider.shutdown()
