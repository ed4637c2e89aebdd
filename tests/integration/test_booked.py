"""`booked=True` against the real intake and ledger: what it returns is in SQL, and no other order's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from redis.exceptions import RedisError

from orderrelay_producers import OrderConflict, OrderProducer
from orderrelay_shared import keys
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.rows import read_statuses
from orderrelay_workers.statuses import publish
from tests.integration.test_intake import BookingWorker, _Settings
from tests.ledgers import ACME, Ledger, open_ledger
from tests.servers import RedisServer
from tests.unit.test_producer import order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderrelay_workers.sidecar.intake import Intake


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """An empty ledger with the company "acme"."""
    with open_ledger(database_url) as ledger:
        yield ledger


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps nothing on disk."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill9()


@pytest.fixture
def booking(ledger: Ledger, server: RedisServer) -> Iterator[None]:
    """A worker's intake that books, whatever happens to Redis."""
    ended = threading.Event()
    intake: Intake = BookingWorker(ledger.engine, _Settings(server.url)).intake()

    def book() -> None:
        while not ended.is_set():
            try:
                intake.book_next()
            except RedisError:
                ended.wait(0.01)

    thread = threading.Thread(target=book)
    thread.start()
    yield
    ended.set()
    thread.join(10.0)
    intake.close()


def booked_in(ledger: Ledger) -> set[str]:
    """The ExternalIds in the ledger."""
    with ledger.engine.connect() as connection:
        return set(connection.execute(sa.select(schema.job.c.external_id)).scalars())


@pytest.mark.usefixtures("booking")
def test_booked_outlives_redis(ledger: Ledger, server: RedisServer) -> None:
    """Redis dies with all it has the moment after `booked` returns, five times: every order is in the ledger."""
    told: set[str] = set()
    with OrderProducer(server.url) as producer:
        for number in range(5):
            told.add(producer.enqueue(order(f"A-{number}"), company=ACME, booked=True, timeout=10.0).external_id)
            server.kill9()
            assert booked_in(ledger) == told
            server.start()


@pytest.mark.usefixtures("booking")
def test_a_conflict_is_told_after_a_wipe(ledger: Ledger, server: RedisServer) -> None:
    """Redis has forgotten the first order, the ledger has not: other content under its ExternalId is a conflict."""
    with OrderProducer(server.url) as producer:
        producer.enqueue(order("A-1", quantity=1), company=ACME, booked=True, timeout=10.0)
        server.wipe()
        with pytest.raises(OrderConflict):
            producer.enqueue(order("A-1", quantity=2), company=ACME, booked=True, timeout=10.0)
        server.wipe()
        assert producer.enqueue(order("A-1", quantity=1), company=ACME, booked=True, timeout=10.0).external_id == "A-1"


@pytest.mark.usefixtures("booking")
def test_a_conflict_is_told_from_a_later_status(ledger: Ledger, server: RedisServer) -> None:
    """A status that was published when the job went on, and not at booking, tells the content as well."""
    with OrderProducer(server.url) as producer, server.connect() as client:
        job = producer.enqueue(order("A-1", quantity=1), company=ACME, booked=True, timeout=10.0).id
        client.delete(*client.keys("orderrelay:recent:*"), keys.status(job))
        with ledger.engine.connect() as connection:
            publish(client, read_statuses(connection, [job]))
        with pytest.raises(OrderConflict):
            producer.enqueue(order("A-1", quantity=2), company=ACME, booked=True, timeout=10.0)


@pytest.mark.usefixtures("booking")
def test_booked_is_told_to_whoever_asked_for_the_order_before(server: RedisServer) -> None:
    """The word that the ledger has no such job does not stand in the way of the word that it now has."""
    with OrderProducer(server.url) as producer:
        assert producer.find(external_id="A-1", company=ACME) is None
        producer.enqueue(order("A-1"), company=ACME, booked=True, timeout=5.0)
