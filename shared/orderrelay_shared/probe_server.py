"""A small HTTP server for whoever watches over a process: a few pages, each answered with 200 or 503."""

from __future__ import annotations

import http.server
import json
import socket
import socketserver
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from orderrelay_shared.settings import SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: A client that sends nothing for this time, or takes nothing, is cut off; and so is, after the longer one, whoever has
#: not gone with an answer by then: bytes sent one at a time would hold a thread and a file for hours. In seconds.
_CLIENT_SECONDS = 5
_WHOLE_SECONDS = 10

#: So many clients are served at once. Of more, the one that came first is cut off: a probe is answered at once, so it
#: is none, and this process needs its files for other things.
_MOST_CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page says.

    Attributes:
        body: Its content.
        content_type: What kind of content that is.
        is_good: Whether it is sent with 200; otherwise with 503.
    """

    body: bytes
    content_type: str
    is_good: bool = True


def as_json(content: Mapping[str, object], *, is_good: bool) -> Answer:
    """An answer that is one JSON object."""
    return Answer(json.dumps(content).encode() + b"\n", "application/json", is_good)


class ProbeServer:
    """Serves from a thread of its own, from the start of the process to its end.

    Args:
        host: The address to listen on.
        port: The port.
        pages: What answers a GET, by path; each is called in a thread of the one who asks.
        turn: Called twice a second, and after each request.

    Raises:
        SettingsInvalid: Nothing can listen there.
    """

    def __init__(
        self, host: str, port: int, pages: Mapping[str, Callable[[], Answer]], turn: Callable[[], None] = lambda: None
    ) -> None:
        try:
            self._server = _Server(host, port, pages, turn)
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
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, pages: Mapping[str, Callable[[], Answer]], turn: Callable[[], None]
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self.turn = turn
        self._clients: dict[object, float] = {}  # connection -> when it came; the first first
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking a name server for this host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer one client in a thread of its own."""
        self._clients[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Be done with a client."""
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second, and after each request."""
        self._cut_off()
        self.turn()

    def _cut_off(self) -> None:
        """End the connections of who takes too long, and of who is too many; their threads end with them."""
        here: list[tuple[Any, float]] = list(self._clients.items())
        latest = time.monotonic() - _WHOLE_SECONDS
        for place, (request, came_at) in enumerate(here):
            if came_at < latest or place < len(here) - _MOST_CLIENTS:
                self._clients.pop(request, None)
                with suppress(OSError):  # it is gone by itself
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that is gone; of anything else, as Python does."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server_version, sys_version = "orderrelay", ""
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer one request."""
        pages = cast("_Server", self.server).pages
        page = pages.get(self.path.partition("?")[0])
        if page is None:
            *others, last = pages
            self._send(
                HTTPStatus.NOT_FOUND, as_json({"error": f"ask for {', '.join(others)} or {last}"}, is_good=False)
            )
            return
        answer = page()
        self._send(HTTPStatus.OK if answer.is_good else HTTPStatus.SERVICE_UNAVAILABLE, answer)

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: a probe every few seconds is no news."""
