"""A client of bare sockets: it tells what really came over the connection, which no HTTP library does."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = {"companyApiKey": "acme-key", "connectApiKey": "connect-key", "token": "fixed-token"}


@dataclass
class Seen:
    """What a client saw: how it ended, and what came before."""

    end: str  # "answer", "truncated", "closed" (not one byte), "reset" or "silent"
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reads: int = 0
    closed_after: bool = False

    @property
    def json(self) -> Any:
        """The body as JSON, a byte-order mark left out."""
        return json.loads(self.body.decode("utf-8-sig"))


def order(external_id: str = "A-1", **changes: object) -> dict[str, object]:
    """The order of the vendor's document, with an ExternalId."""
    row = {"CustomerRowType": 2, "ProductNr": "100-5t", "Quantity": 3.0, "Amount": 350, "RowNr": 1}
    return {
        "InvoiceRows": [{**row, "Text": "Skolbil m väktare"}],
        "InvoiceDate": "2026-01-30",
        "OriginType": 6,
        "CustomerNr": "013",
        "ExternalId": external_id,
        **changes,
    }


def call(
    url: str,
    method: str,
    path: str,
    parameters: Mapping[str, object] | None = None,
    body: bytes = b"",
    *,
    timeout: float = 10.0,
    content_type: str = "application/json",
    watch_close: float = 0.0,
) -> Seen:
    """One request on a connection of its own; `watch_close` waits so long whether the server closes after it."""
    address = urlsplit(url)
    target = f"{path}?{urlencode(parameters)}" if parameters else path
    headers = f"Host: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    head = f"{method} {target} HTTP/1.1\r\n{headers}"
    with socket.create_connection((address.hostname, address.port), timeout=timeout) as connection:
        connection.sendall(head.encode() + body)
        return _read(connection, watch_close)


def post_order(url: str, value: object, *, token: str = KEYS["token"], **options: Any) -> Seen:
    """Post one order in an array."""
    parameters = {**KEYS, "token": token, "importId": 0, "specialFunctionalities": ""}
    body = json.dumps([value]).encode()
    return call(url, "POST", "/Economy/Billing/Orders", parameters, body, **options)


def look_up(url: str, external_id: str, **options: Any) -> Seen:
    """Ask for the ids of an ExternalId."""
    parameters = {**KEYS, "type": 6, "externalId": external_id}
    return call(url, "GET", "/Economy/Billing/InvoiceIdsFromExternalId/", parameters, **options)


def log_in(url: str, *, password: str = "secret", **options: Any) -> Seen:
    """Log in."""
    keys = {name: KEYS[name] for name in ("companyApiKey", "connectApiKey")}
    body = json.dumps({"License": "100", "UserName": "api", "Password": password}).encode()
    return call(url, "POST", "/Login/Token/", keys, body, **options)


def _read(connection: socket.socket, watch_close: float) -> Seen:
    seen = Seen("closed")
    data = bytearray()
    try:
        while not _is_whole(data):
            part = connection.recv(1 << 20)
            if not part:
                seen.end = "truncated" if data else "closed"
                return _parsed(seen, data)
            seen.reads += 1
            data += part
        seen.end = "answer"
        _parsed(seen, data)
        if watch_close:
            connection.settimeout(watch_close)
            seen.closed_after = connection.recv(1) == b""
    except ConnectionResetError:
        seen.end = "reset"
    except TimeoutError:
        seen.end = seen.end if seen.end == "answer" else "silent"
    return seen


def _is_whole(data: bytearray) -> bool:
    end = data.find(b"\r\n\r\n", 0, 4096)
    if end < 0:
        return False
    lower = bytes(data[:end]).lower()
    if b"transfer-encoding: chunked" in lower:
        return data.endswith(b"0\r\n\r\n")
    at = lower.find(b"content-length: ")
    length = int(lower[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return len(data) - end - 4 >= length


def _parsed(seen: Seen, data: bytearray) -> Seen:
    head, separator, seen.body = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if separator:
        seen.status = int(lines[0].split()[1])
        seen.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    return seen
