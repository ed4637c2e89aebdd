"""Whether workers with this environment tell what they do as OpenTelemetry's spans, and whether those arrive."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from orderrelay_workers import tracing
from orderrelay_workers.diagnosis.findings import Finding, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long the collector may take to be connected to, in seconds.
_PATIENCE_SECONDS: Final = 2.0


def look_at_tracing(environment: Mapping[str, str]) -> Finding:
    """Look at OpenTelemetry's variables and at the collector that they name; nothing is sent to it."""
    asked = tracing.asked_by(environment)
    if asked.exporter is None:
        because = f"{asked.because} says so" if asked.because else "no variable OTEL_* asks for it"
        return ok("tracing", f"off: {because}")
    try:
        tracing.exporter_of(asked.exporter).shutdown()
    except tracing.CannotTrace as error:
        return warning("tracing", f"asked for by {asked.because}, and not on: {error}", error.to_do)
    except Exception as error:  # noqa: BLE001  foreign code that reads foreign variables
        text = f"asked for by {asked.because}, and not on: OpenTelemetry refuses its settings ({type(error).__name__})"
        return warning("tracing", text, "correct the variables OTEL_*")
    if asked.unreadable:
        text = f"on, but {asked.unreadable} is no whole address: spans are lost, orders are not affected"
        return warning("tracing", text, "set it to one such as http://collector:4318")
    to = f" to {asked.endpoint}" if asked.endpoint else ""
    if asked.endpoint and not _answers(asked.endpoint):
        text = f"on, but nothing can be connected to at {asked.endpoint}: spans are lost, orders are not affected"
        return warning("tracing", text, f"start the collector, or correct {asked.because}")
    return ok("tracing", f"on: spans go out by {asked.exporter}{to}")


def _answers(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    address = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection(address, timeout=_PATIENCE_SECONDS):
            return True
    except OSError:
        return False
