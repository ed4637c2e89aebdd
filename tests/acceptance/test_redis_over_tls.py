"""Redis over TLS, with an authority of one's own and certificates for clients: producers, workers and Celery alike."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trustme

from orderrelay_producers import AsyncOrderProducer, OrderProducer, QueueUnavailable
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import running_simulator
from tests.stack import Stack, order
from tests.tls_front import tls_front

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.processes import Processes
    from tests.servers import RedisServer


@dataclass(frozen=True)
class Secured:
    """A Redis that is reached only over TLS and with a certificate.

    Attributes:
        url: Its address, without what a client needs.
        query: What a client needs, for the address.
    """

    url: str
    query: str


@pytest.fixture
def secured(redis_url: str, redis_server: RedisServer, tmp_path: Path) -> Iterator[Secured]:
    """The tests' Redis behind TLS that asks for a certificate."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    client = authority.issue_cert("orderrelay@example.com")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client.private_key_pem.write_to_path(tmp_path / "client.key")
    client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    query = f"ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client.key"
    with tls_front(redis_server.port, tls) as port:
        yield Secured(f"rediss://127.0.0.1:{port}/0", query)


def test_an_order_goes_through(secured: Secured, sqlite_url: str, processes: Processes, tmp_path: Path) -> None:
    """From the producer through the worker and back, and in an event loop."""
    url = f"{secured.url}?{secured.query}"

    async def in_a_loop() -> JobState:
        async with AsyncOrderProducer(url) as producer:
            job = await producer.enqueue(order("A-2"), company="acme")
            return (await job.wait(timeout=20)).state

    with running_simulator(login_failure_seconds=0.2) as simulator:
        stack = Stack(processes, url, sqlite_url, simulator, tmp_path)
        worker = stack.worker()
        with OrderProducer(url) as producer:
            job = producer.enqueue(order("A-1"), company="acme", booked=True)
            assert job.wait(timeout=20).state is JobState.SUCCEEDED
        assert asyncio.run(in_a_loop()) is JobState.SUCCEEDED
        stack.wait_for_results(2)
        processes.end()
        stack.close()
    assert "client.key" not in worker.log


def test_without_a_certificate_nobody_is_served(secured: Secured) -> None:
    """The order is not taken, and the error says so."""
    only_authority = secured.query.partition("&")[0]
    for query in (only_authority, ""):
        with OrderProducer(f"{secured.url}?{query}") as producer, pytest.raises(QueueUnavailable) as error:
            producer.enqueue(order("A-1"), company="acme", timeout=2.0)
        assert error.value.order is not None


def test_a_certificate_of_another_name_is_not_trusted(redis_server: RedisServer, tmp_path: Path) -> None:
    """The server's name is checked, so nobody else's certificate of the same authority will do."""
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with tls_front(redis_server.port, tls) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/ca.pem"
        with OrderProducer(url) as producer, pytest.raises(QueueUnavailable):
            producer.enqueue(order("A-1"), company="acme", timeout=2.0)
