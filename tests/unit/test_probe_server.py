"""The HTTP server of a worker or relay that is asked by someone who means it no good."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import probe_server
from orderrelay_shared.probe_server import ProbeServer, as_json
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def port() -> Iterator[int]:
    """Where a server with one page answers."""
    found = free_port()
    server = ProbeServer("127.0.0.1", found, {"/live": lambda: as_json({"live": True}, is_good=True)})
    server.start()
    yield found
    server.close()


def is_cut_off(client: socket.socket) -> bool:
    """Whether the server has ended a connection; what it has not ended is not waited for."""
    client.settimeout(0.001)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def is_live(port: int) -> bool:
    """Whether a probe is answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=10) as answer:
        return bool(answer.status == 200)


def test_many_who_ask_nothing_leave_room_for_a_probe(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold only so many threads and files; the first of them are cut off."""
    monkeypatch.setattr(probe_server, "_MOST_CLIENTS", 3)
    before = threading.active_count()
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    assert is_live(port)
    wait_until(lambda: threading.active_count() <= before + 3, 4, what="the threads of those cut off have ended")
    assert [is_cut_off(client) for client in clients[:17]] == [True] * 17
    for client in clients:
        client.close()


def test_who_sends_a_byte_now_and_then_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long each byte is waited for: the whole has to be there in time."""
    monkeypatch.setattr(probe_server, "_WHOLE_SECONDS", 0.2)

    def is_done() -> bool:
        with suppress(OSError):
            client.sendall(b"a")
        return is_cut_off(client)

    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /")
        wait_until(is_done, 4, what="the client is cut off")


def test_who_goes_away_leaves_no_traceback(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that resets its connection is none of an operator's business."""
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /")
        wait_until(lambda: threading.active_count() > before, 10, what="the server reads")
    wait_until(lambda: threading.active_count() == before, 10, what="the server has noticed")
    assert is_live(port)
    assert capfd.readouterr().err == ""
