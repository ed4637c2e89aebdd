"""Connections to Redis: no wait without end, no silent second try."""

from __future__ import annotations

import socket
import time

import pytest
import redis

from orderrelay_shared.redis_connection import connect, masked
from orderrelay_shared.settings import SettingsInvalid


def test_options() -> None:
    """Answers are bytes, every wait has an end, and the connection says who it is."""
    with connect("redis://host:6380/2", timeout_seconds=3, client_name="orderrelay worker") as client:
        options = client.connection_pool.connection_kwargs
        expected = {
            "host": "host",
            "port": 6380,
            "db": 2,
            "decode_responses": False,
            "socket_timeout": 3,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "client_name": "orderrelay-worker",
        }
        assert {name: options[name] for name in expected} == expected


def test_nothing_connects_before_the_first_command() -> None:
    """A client can be made while Redis is away; the command says that it is."""
    with (
        connect("redis://127.0.0.1:1/0", client_name="test") as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()


def test_a_command_is_sent_once() -> None:
    """A server that closes after reading gets no second connection: a script might have run."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        port = server.getsockname()[1]
        with connect(f"redis://127.0.0.1:{port}", timeout_seconds=0.2, client_name="test") as client:
            with pytest.raises(redis.RedisError):
                client.ping()
            server.accept()[0].close()
            server.settimeout(0.05)
            with pytest.raises(TimeoutError):
                server.accept()


def test_a_silent_server_is_given_up() -> None:
    """A server that accepts and says nothing costs the timeout, no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        began = time.monotonic()
        with (
            connect(f"redis://127.0.0.1:{port}", timeout_seconds=0.2, client_name="test") as client,
            pytest.raises(redis.TimeoutError),
        ):
            client.ping()
        assert time.monotonic() - began < 2


def test_unix_socket() -> None:
    """A socket file is an address too."""
    with connect("unix:///run/redis.sock?db=3", client_name="test") as client:
        assert client.connection_pool.connection_kwargs["path"] == "/run/redis.sock"


@pytest.mark.parametrize("url", ["sentinel://u:hunter2@h/", "http://u:hunter2@h", "u:hunter2@h", ""])
def test_other_addresses(url: str) -> None:
    """Another scheme is refused with what is allowed, and without the address."""
    with pytest.raises(SettingsInvalid, match=r"allowed: redis://, rediss://, unix://, sentinel://") as caught:
        connect(url, client_name="test")
    assert "hunter2" not in str(caught.value)


def test_masked_is_offered_here() -> None:
    """Who has a connection can name it in a log."""
    assert masked("redis://u:p@h/0") == "redis://…@h/0"
