"""Answers `GET /live` and `GET /ready` with 200 or 503, and `GET /metrics`, for whoever watches over this process."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from prometheus_client import CONTENT_TYPE_LATEST

from orderrelay_shared.settings import SettingsInvalid
from orderrelay_workers import metrics
from orderrelay_workers.health import judge

if TYPE_CHECKING:
    from orderrelay_workers.health import Vitals

#: A client that sends no whole request within this time is cut off, in seconds.
_CLIENT_SECONDS = 5


class HealthServer:
    """Serves from a thread of its own, from the start of the process to its end.

    Args:
        host: The address to listen on.
        port: The port.
        vitals: What is told.
        name: What this worker is called.

    Raises:
        SettingsInvalid: Nothing can listen there.
    """

    def __init__(self, host: str, port: int, vitals: Vitals, name: str) -> None:
        try:
            self._server = _Server(host, port, vitals, name)
        except OSError as error:
            line = (
                f"ORDERRELAY_HEALTH_PORT: nothing can listen on {host}:{port}: {error.strerror or error} "
                "(allowed: a port that is free on ORDERRELAY_HEALTH_HOST, or 0 for none)"
            )
            raise SettingsInvalid([line]) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, vitals: Vitals, name: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.vitals = vitals
        self.name = name
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def service_actions(self) -> None:
        """Called twice a second, and after each request."""
        self.vitals.awake()


class _Handler(http.server.BaseHTTPRequestHandler):
    server_version, sys_version = "orderrelay", ""
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics.exposition())
            return
        if path not in ("/live", "/ready"):
            self._answer(HTTPStatus.NOT_FOUND, {"error": "ask for /live, /ready or /metrics"})
            return
        server = cast("_Server", self.server)
        signs = server.vitals.signs()
        health = judge(signs)
        good = not (health.not_live if path == "/live" else health.not_ready)
        self._answer(
            HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE,
            {
                "live": not health.not_live,
                "ready": not health.not_ready,
                "not_live": health.not_live,
                "not_ready": health.not_ready,
                "worker": server.name,
                "beat_seconds_ago": _rounded(signs.beat_seconds if signs else None),
                "hint_seconds_ago": _rounded(signs.hint_seconds if signs else None),
            },
        )

    def _answer(self, status: HTTPStatus, content: dict[str, object]) -> None:
        self._send(status, "application/json", json.dumps(content).encode() + b"\n")

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: a probe every few seconds is no news."""


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
