"""Redis by way of sentinels: the address, what connections are made of, and a primary that is one no longer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from redis.sentinel import MasterNotFoundError, SentinelManagedSSLConnection

from orderrelay_producers import AsyncOrderProducer, OrderProducer, QueueUnavailable
from orderrelay_shared import keys, sentinels
from orderrelay_shared.redis_connection import connect
from orderrelay_shared.sentinel_urls import SentinelUrl, read_sentinel_url
from orderrelay_shared.urls import masked, passwords_in, redis_url_problem
from orderrelay_workers.broker import broker_options
from orderrelay_workers.consumer import PATIENCE
from tests.servers import RedisServer
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = (
    "sentinel://us%40er:hun%2Fter%3B2@one:1,[::1]:2,three/the.main-1/3"
    "?sentinel_username=guard&sentinel_password=hunter%263&ssl=true&ssl_ca_certs=/etc/ca.pem"
)


def test_all_that_an_address_can_say() -> None:
    """Sentinels without a port have theirs; everything is decoded, and passwords stay out of the repr."""
    address = read_sentinel_url(_FULL)
    assert address == SentinelUrl(
        sentinels=(("one", 1), ("::1", 2), ("three", 26379)),
        primary="the.main-1",
        database=3,
        user="us@er",
        password="hun/ter;2",
        sentinel_user="guard",
        sentinel_password="hunter&3",
        is_tls=True,
        tls_files={"ssl_ca_certs": "/etc/ca.pem"},
    )
    assert "hun" not in repr(address)
    assert masked(_FULL) == "sentinel://…@one:1,[::1]:2,three/the.main-1/3?…"
    assert {"hun/ter;2", "hunter&3"} <= set(passwords_in(_FULL))


@pytest.mark.parametrize("url", ["sentinel://host/main", "SENTINEL://:hunter2@a,b:1/main/0?ssl=false", _FULL])
def test_good_addresses(url: str) -> None:
    """Ports, database and secrets may be left out."""
    assert redis_url_problem(url) is None


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("", "no host and port"),
        ("host:1,/main", "no host and port"),
        ("host:0/main", "no host and port"),
        ("host:70000/main", "no host and port"),
        ("u:hunter2,@x:hunter2@host/main", None),
        ("u:hunter2/@host/main", "no host and port"),
        ("host:1", "names no primary"),
        ("host:1/", "names no primary"),
        ("host:1/hunter2 3/0", "names no primary"),
        ("host:1/main/hunter2", "database number"),
        ("host:1/main/0/1", "database number"),
        ("host:1/main/0?password=hunter2", "other names than sentinel_username, sentinel_password, ssl"),
        ("host:1/main/0?ssl=true&ssl=false", "twice"),
        ("host:1/main/0?hunter2", "percent-encoded"),
        ("host:1/main/0?ssl=hunter2", "neither true nor false"),
        ("host:1/main/0?ssl_ca_certs=/hunter2", "but not ssl=true"),
        ("[host:1/main/0", "cannot be read"),
    ],
)
def test_bad_addresses(rest: str, problem: str | None) -> None:
    """What is wrong is told, and nothing of the address."""
    found = redis_url_problem(f"sentinel://{rest}")
    if problem is None:
        assert found is None
        return
    assert found is not None
    assert problem in found
    assert "hunter2" not in found


def test_all_sentinels_take_half_of_the_time_together() -> None:
    """Each is given its share, and the primary the other half."""
    with connect("sentinel://a:1,b:1/main", timeout_seconds=2.0, client_name="a test") as client:
        options = client.connection_pool.connection_kwargs
        assert (options["socket_timeout"], options["socket_connect_timeout"]) == (2.0, 1.0)
        assert (options["client_name"], options["health_check_interval"]) == ("a-test", 10)
    asked = sentinels.sentinel_options(read_sentinel_url("sentinel://a:1,b:1/main"), 2.0)
    assert (asked["socket_timeout"], asked["socket_connect_timeout"]) == (0.5, 0.5)


def test_tls() -> None:
    """Redis and the sentinels are reached by TLS with the same files, and certificates are checked."""
    with connect(_FULL, client_name="test") as client:
        assert client.connection_pool.connection_class is SentinelManagedSSLConnection
        of_redis = client.connection_pool.connection_kwargs
    of_sentinels = sentinels.sentinel_options(read_sentinel_url(_FULL), 2.0)
    for options in (of_redis, of_sentinels):
        assert (options["ssl_ca_certs"], options["ssl_cert_reqs"]) == ("/etc/ca.pem", "required")
    assert of_sentinels["ssl"] is True
    assert (of_redis["username"], of_redis["password"], of_redis["db"]) == ("us@er", "hun/ter;2", 3)


def test_nobody_is_there() -> None:
    """What each sentinel did is told, without secrets."""
    url = "sentinel://u:hunter2@127.0.0.1:1,127.0.0.1:2/main?sentinel_password=hunter3"
    with connect(url, client_name="test") as client, pytest.raises(MasterNotFoundError) as told:
        client.ping()
    first, second = str(told.value).split("; ")
    assert first.startswith("no sentinel names a primary main: 127.0.0.1:1: Error ")
    assert second.startswith("127.0.0.1:2: Error ")
    assert "hunter" not in str(told.value)


def test_the_broker_of_other_addresses_is_named_as_it_is() -> None:
    """Nothing is added for what needs none of it."""
    options = broker_options("rediss://u:p@host/1?ssl_ca_certs=/a", {"socket_timeout": 2})
    assert options == {
        "broker_url": "rediss://u:p@host/1?ssl_ca_certs=/a",
        "broker_transport_options": {"socket_timeout": 2},
    }


def test_what_kombu_is_told() -> None:
    """Every sentinel, with all that kombu takes from the one whose turn it is; and patience as elsewhere."""
    options = broker_options(_FULL, PATIENCE)
    connection = Connection(
        options["broker_url"], transport_options=options["broker_transport_options"], ssl=options["broker_use_ssl"]
    )
    for host, port in (("one", 1), ("::1", 2), ("three", 26379), ("one", 1)):
        parts: dict[str, Any] = connection.info()
        assert (parts["hostname"], parts["port"]) == (host, port)
        assert (parts["userid"], parts["password"], parts["virtual_host"]) == ("us@er", "hun/ter;2", "3")
        assert parts["ssl"] == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/etc/ca.pem"}
        connection.maybe_switch_next()
    told = options["broker_transport_options"]
    assert {name: told[name] for name in PATIENCE} == PATIENCE
    assert told["master_name"] == "the.main-1"
    asked = told["sentinel_kwargs"]
    assert (asked["username"], asked["password"], asked["ssl"]) == ("guard", "hunter&3", True)
    assert asked["retry"].get_retries() == 0


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RedisServer]:
    """Another empty server."""
    server = RedisServer(tmp_path / "other")
    server.start()
    yield server
    server.kill9()


def test_a_primary_that_became_a_replica_is_left(
    redis_server: RedisServer, redis_url: str, other: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody has closed the connection, its first READONLY does, and the next call asks the sentinels again."""
    del redis_url
    named = redis_server

    async def name_it(*_: object) -> tuple[str, int]:
        return "127.0.0.1", named.port

    monkeypatch.setattr(sentinels._Sentinels, "discover_master", lambda *_: ("127.0.0.1", named.port))
    monkeypatch.setattr(sentinels._AsyncSentinels, "discover_master", name_it)

    async def in_a_loop() -> None:
        nonlocal named
        async with AsyncOrderProducer("sentinel://unused/main") as producer:
            await producer.enqueue(order("A-1"), company="acme")
            with former.connect() as client:
                client.replicaof("127.0.0.1", str(other.port))
            named = other
            with pytest.raises(QueueUnavailable, match="now a slave"):
                await producer.enqueue(order("A-2"), company="acme")
            await producer.enqueue(order("A-2"), company="acme")

    former = redis_server
    with OrderProducer("sentinel://unused/main") as producer:
        producer.enqueue(order("A-1"), company="acme")
        try:
            with former.connect() as client:
                client.replicaof("127.0.0.1", str(other.port))
            named = other
            with pytest.raises(QueueUnavailable, match="now a slave"):
                producer.enqueue(order("A-2"), company="acme")
            producer.enqueue(order("A-2"), company="acme")
            former.promote()
            other.wipe()
            named = former
            asyncio.run(in_a_loop())
        finally:
            former.promote()
    with other.connect() as client:
        assert client.xlen(keys.INTAKE) == 1
