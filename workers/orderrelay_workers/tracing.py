"""Whether and where a worker's spans go, as OpenTelemetry's own variables say, and how they get there.

Off, nothing of OpenTelemetry is imported. On, spans wait in a queue in memory of which a thread sends some at a time. A
collector that is away, or never answers, costs spans and nothing else: the queue drops what it has no room for.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from orderrelay_shared import span_words

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace import TracerProvider

    from orderrelay_workers.traces import Traces

#: The last spans get so long at exit, in seconds.
_PATIENCE_SECONDS: Final = 2.0

#: Where the packages of exporters name theirs.
_EXPORTERS: Final = "opentelemetry_traces_exporter"

_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_DISABLED: Final = "OTEL_SDK_DISABLED"

#: How to come by exporters that are not installed.
_INSTALL: Final = {
    "otlp_proto_http": "pip install 'orderrelay[worker,otel]'",
    "otlp_proto_grpc": "pip install 'orderrelay[worker,otel]' opentelemetry-exporter-otlp-proto-grpc",
}

#: They tell of each failure, with addresses; what is to be known of it is told here.
_QUIET: Final = ("opentelemetry", "urllib3")

_log = structlog.get_logger(__name__)


class CannotTrace(Exception):
    """Tracing is asked for and cannot be; the text says why, for people, and `to_do` what would help."""

    def __init__(self, text: str, to_do: str) -> None:
        super().__init__(text)
        self.to_do = to_do


@dataclass(frozen=True, slots=True)
class Asked:
    """What the environment asks for.

    Attributes:
        exporter: Name of the exporter's entry point; None: nothing is to be traced.
        because: The variable that says so; empty: none does.
        endpoint: Where it sends to, without anything that may be secret; empty: as is its default.
        unreadable: The variable whose address cannot be sent to by HTTP; empty: none.
    """

    exporter: str | None
    because: str = ""
    endpoint: str = ""
    unreadable: str = ""


def asked_by(environment: Mapping[str, str]) -> Asked:
    """What OpenTelemetry's variables ask a worker for."""
    if environment.get(_DISABLED, "").strip().lower() == "true":
        return Asked(None, _DISABLED)
    named = environment.get(_EXPORTER, "").strip()
    if named.lower() == "none":
        return Asked(None, _EXPORTER)
    pointing = next((name for name in _ENDPOINTS if environment.get(name, "").strip()), "")
    if not (named or pointing):
        return Asked(None)
    exporter, endpoint, unreadable = named or "otlp", "", ""
    if exporter == "otlp":
        protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "http/protobuf")
        exporter = "otlp_proto_grpc" if protocol.strip() == "grpc" else "otlp_proto_http"
    if exporter.startswith("otlp"):
        endpoint = _masked(environment.get(pointing, ""))
    # By gRPC an address may lack the scheme.
    if pointing and exporter == "otlp_proto_http" and not endpoint.startswith(("http://", "https://")):
        unreadable = pointing
    return Asked(exporter, _EXPORTER if named else pointing, endpoint, unreadable)


def _masked(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else ""


def begin(environment: Mapping[str, str], vendor_url: str, boot_id: uuid.UUID) -> Traces | None:
    """What records this worker's spans; None: tracing is off, or cannot be on, which is told and stops nothing.

    Args:
        environment: OpenTelemetry's variables are read from it, and by the SDK from the process' own.
        vendor_url: The vendor's address.
        boot_id: Which worker this is.
    """
    asked = asked_by(environment)
    if asked.exporter is None:
        return None
    try:
        exporter = exporter_of(asked.exporter)
        provider = _provider(exporter, boot_id)
    except CannotTrace as error:
        _log.warning("tracing_is_not_on", reason=str(error), to_do=error.to_do)
        return None
    except Exception as error:  # noqa: BLE001  foreign code reads foreign variables; orders go on without spans
        _log.warning("tracing_is_not_on", reason=f"OpenTelemetry refuses its settings: {type(error).__name__}")
        return None
    from orderrelay_workers.traces import Traces  # noqa: PLC0415  imports OpenTelemetry

    _log.info("tracing_is_on", exporter=asked.exporter, endpoint=asked.endpoint or None)
    return Traces(provider.get_tracer(span_words.SCOPE), vendor_url, lambda: _end(provider.shutdown))


def exporter_of(name: str) -> Any:
    """Make the exporter of that name.

    Raises:
        CannotTrace: It, or OpenTelemetry's SDK, is not installed.
    """
    found = next(iter(metadata.entry_points(group=_EXPORTERS, name=name)), None)
    if found is None:
        raise CannotTrace(f"no exporter {name!r} is installed", _to_do(name))
    for logger in _QUIET:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        return found.load()()
    except ImportError as error:
        text = f"the exporter {name!r} is not installed whole: {error.name} is missing"
        raise CannotTrace(text, _to_do(name)) from error


def _to_do(exporter: str) -> str:
    return _INSTALL.get(exporter, f"install what has it, or set {_EXPORTER}=otlp")


def _provider(exporter: Any, boot_id: uuid.UUID) -> TracerProvider:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415  only where tracing is on
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    ours = {
        "service.name": "orderrelay-worker",
        "service.version": metadata.version("orderrelay"),
        "service.instance.id": str(boot_id),
    }
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())  # what an operator says comes first
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # its own way waits for the collector
    _tell_of_failures(exporter)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _tell_of_failures(exporter: Any) -> None:
    """Have the log tell when spans begin to be lost, and when they arrive again; not of every time in between."""
    export: Callable[[Any], Any] = exporter.export
    lost = False

    def told(spans: Any) -> Any:
        nonlocal lost
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415  as above

        try:
            result, reason = export(spans), "the collector does not take them"
        except Exception as error:  # noqa: BLE001  its text may hold an address
            result, reason = SpanExportResult.FAILURE, type(error).__name__
        failed = result is not SpanExportResult.SUCCESS
        if failed and not lost:
            _log.warning("spans_are_lost", reason=reason)
        elif lost and not failed:
            _log.info("spans_arrive_again")
        lost = failed
        return result

    exporter.export = told


def _end(shut_down: Callable[[], None]) -> None:
    """Send what is left, but wait no longer than a moment for it."""
    ending = threading.Thread(target=shut_down, name="traces-end", daemon=True)
    ending.start()
    ending.join(_PATIENCE_SECONDS)
