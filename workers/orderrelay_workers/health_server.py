"""Answers `GET /live` and `GET /ready` with 200 or 503, and `GET /metrics`, for whoever watches over this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST

from orderrelay_shared.probe_server import Answer, ProbeServer, as_json
from orderrelay_workers import metrics
from orderrelay_workers.health import judge

if TYPE_CHECKING:
    from orderrelay_workers.health import Vitals


def health_server(host: str, port: int, vitals: Vitals, name: str) -> ProbeServer:
    """The server of a worker.

    Args:
        host: The address to listen on.
        port: The port.
        vitals: What is told.
        name: What this worker is called.

    Raises:
        SettingsInvalid: Nothing can listen there.
    """
    pages = {
        "/live": lambda: _health(vitals, name, asked_for="live"),
        "/ready": lambda: _health(vitals, name, asked_for="ready"),
        "/metrics": lambda: Answer(metrics.exposition(), CONTENT_TYPE_LATEST),
    }
    return ProbeServer(host, port, pages, turn=vitals.awake)


def _health(vitals: Vitals, name: str, *, asked_for: str) -> Answer:
    signs = vitals.signs()
    health = judge(signs)
    return as_json(
        {
            "live": not health.not_live,
            "ready": not health.not_ready,
            "not_live": health.not_live,
            "not_ready": health.not_ready,
            "worker": name,
            "beat_seconds_ago": _rounded(signs.beat_seconds if signs else None),
            "hint_seconds_ago": _rounded(signs.hint_seconds if signs else None),
        },
        is_good=not (health.not_live if asked_for == "live" else health.not_ready),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
