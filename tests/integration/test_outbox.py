"""The transactional outbox: what a service stores in its own transaction, and what relays make of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from orderrelay_producers import Order, OrderInvalid, OrderRow, Outbox, OutboxJob, UnknownCompany, outbox_store
from orderrelay_producers.outbox_relay import Done, Relay
from orderrelay_producers.outbox_store import open_store
from orderrelay_producers.outbox_table import Statements
from orderrelay_producers.outbox_vitals import Vitals
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Envelope, read_entry
from orderrelay_shared.settings import ProducerSettings, SettingsInvalid
from orderrelay_shared.states import Priority
from tests.outboxes import Service, counts, lay_out, run_sql, service, set_aside
from tests.servers import free_port
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from tests.servers import RedisServer

KINDS = ("driver", "dictionaries", "session", "scoped", "connection")


@pytest.fixture
def outbox_url(database_url: str) -> str:
    """The URL of a service's database, on SQLite and then on PostgreSQL, with an empty outbox."""
    lay_out(database_url)
    return database_url


@pytest.fixture
def sqlite_outbox_url(sqlite_url: str) -> str:
    """The same on SQLite only, where the database makes no difference."""
    lay_out(sqlite_url)
    return sqlite_url


@pytest.fixture
def open_outbox(redis_url: str) -> Iterator[Callable[[str], Outbox]]:
    """Makes the outbox of a service with a database."""
    with contextlib.ExitStack() as opened:
        yield lambda url: opened.enter_context(Outbox(settings=settings_of(redis_url, url)))


@pytest.fixture
def open_relay(redis_url: str) -> Iterator[Callable[..., Relay]]:
    """Makes relays of the outbox in a database."""
    with contextlib.ExitStack() as opened:

        def make(url: str, say: Callable[[str], None] = lambda _: None, **more: Any) -> Relay:
            relay = Relay(open_store(url), settings_of(redis_url, url, **more), say)
            return opened.enter_context(contextlib.closing(relay))

        yield make


def settings_of(redis_url: str, outbox_url: str, **more: Any) -> ProducerSettings:
    """The settings of a service and its relay."""
    return ProducerSettings(redis_url=redis_url, outbox_url=outbox_url, **more)


def fill(outbox: Outbox, url: str, *external_ids: str, company: str = "acme") -> list[OutboxJob]:
    """Enqueue orders in one transaction, and commit it."""
    with service("driver", url).begin() as (connection, _):
        return [outbox.enqueue(connection, order(external_id), company=company) for external_id in external_ids]


def arrived(client: redis.Redis) -> list[Envelope]:
    """The orders in the intake."""
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.INTAKE))
    entries = [read_entry(fields) for _, fields in found]
    return [entry for entry in entries if isinstance(entry, Envelope)]


def arrived_ids(client: redis.Redis) -> list[str]:
    """Their ExternalIds."""
    return [envelope.external_id for envelope in arrived(client)]


# Enqueueing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_is_committed_with_the_services_own_data(
    kind: str, outbox_url: str, open_outbox: Callable[[str], Outbox]
) -> None:
    """Both are there after the commit, and neither after a rollback."""
    shop: Service = service(kind, outbox_url)
    outbox = open_outbox(outbox_url)
    with contextlib.suppress(LookupError), shop.begin() as (transaction, execute):
        execute("INSERT INTO purchase VALUES (1)")
        outbox.enqueue(transaction, order("rolled-back"))
        raise LookupError
    with shop.begin() as (transaction, execute):
        execute("INSERT INTO purchase VALUES (2)")
        job = outbox.enqueue(transaction, order("kept"), company="acme")
    assert run_sql(outbox_url, "SELECT number FROM purchase") == [(2,)]
    assert run_sql(outbox_url, "SELECT id, external_id, company FROM orderrelay_outbox") == [(job.row, "kept", "acme")]
    assert job.id == ids.job_id("acme", "kept")


def test_what_was_stored_is_what_a_producer_sends(
    outbox_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """Every field of the order and its terms comes through the table as it was."""
    later = dt.datetime(2099, 1, 30, 8, 0, 0, 123456, tzinfo=dt.UTC)
    row = OrderRow(customer_row_type=2, product_nr="1", quantity=3, amount=1, text="Skolbil m väktare")
    given = Order(customer_nr="013", invoice_date=dt.date(2026, 1, 30), invoice_rows=[row])
    outbox = open_outbox(outbox_url)
    terms: dict[str, Any] = {"priority": "urgent", "due_at": later, "deadline": later + dt.timedelta(days=1)}
    with service("driver", outbox_url).begin() as (connection, _):
        job = outbox.enqueue(connection, given, company=" ACME ", **terms)
    open_relay(outbox_url).once()
    outbox._producer.enqueue(given, company="acme", **terms)
    stored, sent = arrived(redis_client)
    assert stored == sent
    assert stored.priority is Priority.URGENT
    assert job.external_id == stored.external_id == given.external_id
    assert uuid.UUID(job.external_id).version == 7


def test_a_bad_order_is_refused_before_the_database_hears_of_it(
    sqlite_outbox_url: str, open_outbox: Callable[[str], Outbox]
) -> None:
    """With the words of a producer; the caller's transaction can go on."""
    outbox = open_outbox(sqlite_outbox_url)
    with service("driver", sqlite_outbox_url).begin() as (connection, _):
        with pytest.raises(OrderInvalid, match="InvoiceRows: must have at least one row"):
            outbox.enqueue(connection, order("A-1", InvoiceRows=[]))
        with pytest.raises(OrderInvalid, match="at most 64 are allowed"):
            outbox.enqueue(connection, order("A" * 65))
        with pytest.raises(UnknownCompany, match="is no company alias"):
            outbox.enqueue(connection, order("A-1"), company="a b")
        with pytest.raises(ValueError, match="deadline is 2020-01-01"):
            outbox.enqueue(connection, order("A-1"), deadline=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        assert not connection.in_transaction


def test_what_is_no_transaction_is_refused(
    sqlite_outbox_url: str, postgres_url: str, open_outbox: Callable[[str], Outbox]
) -> None:
    """With a text that says what to hand in instead."""
    outbox = open_outbox(sqlite_outbox_url)

    def refusal(given: object) -> str:
        with pytest.raises((TypeError, RuntimeError)) as caught:
            outbox.enqueue(given, order("A-1"))
        return str(caught.value)

    assert "of the type builtins.str; hand in the Session or Connection of SQLAlchemy" in refusal(sqlite_outbox_url)
    engine = sa.create_engine(sqlite_outbox_url)
    assert "sqlalchemy.Engine; hand in the Session or Connection" in refusal(engine)
    with engine.connect() as connection:
        assert "is in autocommit mode" in refusal(connection.execution_options(isolation_level="AUTOCOMMIT"))
    engine.dispose()
    assert "session.run_sync" in refusal(AsyncSession())
    path = sqlite_outbox_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as by_itself:
        assert "is in autocommit mode" in refusal(by_itself)
        assert "sqlite3.Cursor; hand in its connection" in refusal(by_itself.cursor())
        by_itself.execute("BEGIN")
        assert outbox.enqueue(by_itself, order("A-1")).row == 1
        by_itself.execute("ROLLBACK")
    lay_out(postgres_url)
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as autocommit:
        assert "is in autocommit mode" in refusal(autocommit)
        assert "hand in its connection" in refusal(autocommit.cursor())
        with autocommit.transaction():
            assert outbox.enqueue(autocommit, order("A-1")).row == 1
    assert counts(sqlite_outbox_url).waiting == 0


def test_a_missing_table_is_told(sqlite_url: str, open_outbox: Callable[[str], Outbox]) -> None:
    """The driver's own error has a note that says how to make it."""
    engine = sa.create_engine(sqlite_url)
    with Session(engine) as session, pytest.raises(sa.exc.OperationalError) as caught:
        open_outbox(sqlite_url).enqueue(session, order("A-1"))
    engine.dispose()
    assert caught.value.__notes__ == [
        "If the table orderrelay_outbox is missing, make it: orderrelay outbox init",
    ]


def test_an_async_session_enqueues_by_run_sync(postgres_url: str, open_outbox: Callable[[str], Outbox]) -> None:
    """As the refusal says."""
    lay_out(postgres_url)
    outbox = open_outbox(postgres_url)

    async def enqueue() -> None:
        engine = create_async_engine(postgres_url)
        async with AsyncSession(engine) as session, session.begin():
            await session.run_sync(lambda s: outbox.enqueue(s, order("kept")))
        async with AsyncSession(engine) as session:
            await session.run_sync(lambda s: outbox.enqueue(s, order("rolled-back")))
        await engine.dispose()

    asyncio.run(enqueue())
    assert run_sql(postgres_url, "SELECT external_id FROM orderrelay_outbox") == [("kept",)]


def test_a_django_service_enqueues(outbox_url: str, redis_url: str, redis_client: redis.Redis) -> None:
    """In `transaction.atomic`, savepoints too, and sends at once by `on_commit`; without one it is refused."""
    if outbox_url.startswith("sqlite"):
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": outbox_url.removeprefix("sqlite:///")}
    else:
        parts = urlsplit(outbox_url)
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": parts.path[1:], "USER": "postgres"}
        database |= {"HOST": str(parts.hostname), "PORT": str(parts.port)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.django_service", json.dumps(database)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
        | {"ORDERRELAY_REDIS_URL": redis_url, "ORDERRELAY_OUTBOX_URL": outbox_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "by-itself": "no transaction is open on this connection of Django; use `with transaction.atomic():`",
        "too early": 0,
        "sent": [1],
        "waiting": ["kept", "nested"],
    }
    assert arrived_ids(redis_client) == ["at-once"]


# Relaying -----------------------------------------------------------------------------------------------------------


def test_a_relay_hands_over_in_order_and_empties_the_table(
    outbox_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """What waits is in the intake, in the order of insertion; a second look finds nothing."""
    fill(open_outbox(outbox_url), outbox_url, "A-1", "A-2", "A-3")
    assert counts(outbox_url).waiting == 3
    relay = open_relay(outbox_url)
    assert relay.once() == Done(taken=3)
    assert relay.once() == Done()
    assert arrived_ids(redis_client) == ["A-1", "A-2", "A-3"]
    assert counts(outbox_url).waiting == 0


def test_a_late_commit_is_not_skipped(
    postgres_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """A row that becomes visible after one with a higher id has left is handed over all the same."""
    lay_out(postgres_url)
    outbox, relay = open_outbox(postgres_url), open_relay(postgres_url)
    with service("driver", postgres_url).begin() as (connection, _):
        outbox.enqueue(connection, order("slow"))
        fill(outbox, postgres_url, "quick")
        assert relay.once() == Done(taken=1)
    assert relay.once() == Done(taken=1)
    assert arrived_ids(redis_client) == ["quick", "slow"]


def test_two_relays_at_once_share_the_work(
    outbox_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """Every order arrives, and none twice, as each relay has rows of its own."""
    external_ids = [f"A-{number}" for number in range(1500)]
    fill(open_outbox(outbox_url), outbox_url, *external_ids)
    done: list[Done] = []

    def relay() -> None:
        done.append(open_relay(outbox_url).run(poll_seconds=0.01, until_empty=True, is_asked_to_stop=lambda: False))

    threads = [threading.Thread(target=relay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    open_relay(outbox_url).run(poll_seconds=0.01, until_empty=True, is_asked_to_stop=lambda: False)
    assert sorted(arrived_ids(redis_client)) == sorted(external_ids)
    assert counts(outbox_url).waiting == 0


def test_a_relay_passes_over_what_another_one_has(
    postgres_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """On PostgreSQL it does not wait for the other one."""
    lay_out(postgres_url)
    fill(open_outbox(postgres_url), postgres_url, "A-1", "A-2")
    with contextlib.closing(open_store(postgres_url)) as other, other.writing() as cursor:
        assert [row.external_id for row in other.statements.take(cursor, at_most=1)] == ["A-1"]
        assert open_relay(postgres_url).once() == Done(taken=1)
    assert arrived_ids(redis_client) == ["A-2"]


def test_what_cannot_be_taken_is_set_aside_and_blocks_nothing(
    outbox_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """A conflict, a company that nobody serves, and a row that cannot be read; each is told, with its reason."""
    outbox = open_outbox(outbox_url)
    fill(outbox, outbox_url, "A-1", "broken")
    with service("driver", outbox_url).begin() as (connection, _):
        outbox.enqueue(connection, order("A-1", CustomerNr="014"), company="acme")
    fill(outbox, outbox_url, "B-1", company="nobody")
    fill(outbox, outbox_url, "A-2")
    run_sql(outbox_url, "UPDATE orderrelay_outbox SET layout = 0 WHERE external_id = 'broken'")
    redis_client.zadd(keys.COMPANIES, {"acme": time.time()})
    told: list[str] = []
    relay = open_relay(outbox_url, told.append)
    assert relay.once() == Done(taken=2, set_aside=3)
    assert [(one.id, one.external_id, one.reason) for one in set_aside(outbox_url)] == [
        (2, "broken", "the row cannot be read: envelope layout is b'0', no number from 1 to 9999"),
        (3, "A-1", "its ExternalId was already accepted with other content; the first order stays"),
        (4, "B-1", "no worker serves this company; workers serve acme"),
    ]
    assert sorted(told)[1] == (
        "set aside: row 3, 'A-1' of company 'acme': "
        "its ExternalId was already accepted with other content; the first order stays"
    )
    assert relay.once() == Done()
    assert (counts(outbox_url).waiting, counts(outbox_url).set_aside) == (0, 3)


def test_a_row_of_a_newer_version_waits_for_a_newer_relay(
    sqlite_outbox_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay]
) -> None:
    """It is neither set aside nor in the way."""
    fill(open_outbox(sqlite_outbox_url), sqlite_outbox_url, "newer", "A-1")
    run_sql(sqlite_outbox_url, "UPDATE orderrelay_outbox SET layout = 99 WHERE external_id = 'newer'")
    assert open_relay(sqlite_outbox_url).once() == Done(taken=1)
    found = counts(sqlite_outbox_url)
    assert (found.waiting, found.newer, found.set_aside) == (1, 1, 0)


def test_a_table_that_cannot_be_counted_in_time_is_relayed(
    postgres_url: str,
    open_outbox: Callable[[str], Outbox],
    open_relay: Callable[..., Relay],
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counting is for metrics: where it takes longer than a statement may, the orders go all the same."""
    lay_out(postgres_url)
    fill(open_outbox(postgres_url), postgres_url, "A-1")
    monkeypatch.setattr(outbox_store, "_STATEMENT_SECONDS", 0.1)
    monkeypatch.setattr(Statements, "counts", lambda _, cursor: cursor.execute("SELECT pg_sleep(60)"))
    give_up_at = time.monotonic() + 5
    open_relay(postgres_url).run(
        poll_seconds=0.01,
        is_asked_to_stop=lambda: redis_client.xlen(keys.INTAKE) == 1 or time.monotonic() > give_up_at,
        vitals=Vitals(),
    )
    assert arrived_ids(redis_client) == ["A-1"]


def test_a_full_queue_of_one_company_does_not_block_another(
    outbox_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay], redis_client: redis.Redis
) -> None:
    """The full company's orders stay on the table, in no way of those behind them."""
    outbox = open_outbox(outbox_url)
    fill(outbox, outbox_url, *(f"A-{number}" for number in range(600)))
    fill(outbox, outbox_url, "B-1", company="beta")
    redis_client.set(keys.waiting("acme"), 10, ex=60)
    done = open_relay(outbox_url, max_waiting=10).run(
        poll_seconds=0.01, until_empty=True, is_asked_to_stop=lambda: False
    )
    assert done == Done(taken=1, full=frozenset({"acme"}))
    assert arrived_ids(redis_client) == ["B-1"]
    assert counts(outbox_url).waiting == 600


def test_a_relay_waits_for_redis(
    outbox_url: str,
    open_outbox: Callable[[str], Outbox],
    open_relay: Callable[..., Relay],
    redis_server: RedisServer,
    redis_client: redis.Redis,
) -> None:
    """While Redis is away everything stays; when it is back the relay goes on by itself."""
    fill(open_outbox(outbox_url), outbox_url, "A-1")
    told: list[str] = []
    relay = open_relay(outbox_url, told.append)
    redis_server.kill9()
    assert relay.once().away is not None
    assert relay.once().away is not None  # by a ping, with nothing locked
    assert counts(outbox_url).waiting == 1

    def is_asked_to_stop() -> bool:
        if told and not redis_server.is_running:
            redis_server.start()
        return counts(outbox_url).waiting == 0

    done = relay.run(poll_seconds=0.01, is_asked_to_stop=is_asked_to_stop)
    assert done == Done(taken=1)
    assert told[0].startswith("waiting: ")
    assert told[1:] == ["going on"]
    assert arrived_ids(redis_client) == ["A-1"]


def test_a_relay_connects_again_to_its_database(
    postgres_url: str, open_outbox: Callable[[str], Outbox], open_relay: Callable[..., Relay]
) -> None:
    """A connection that was cut is told as an outage, and made anew."""
    lay_out(postgres_url)
    relay = open_relay(postgres_url)
    assert relay.once() == Done()
    run_sql(
        postgres_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )
    fill(open_outbox(postgres_url), postgres_url, "A-1")
    done = relay.run(poll_seconds=0.01, is_asked_to_stop=lambda: counts(postgres_url).waiting == 0)
    assert done == Done(taken=1)


# At once ------------------------------------------------------------------------------------------------------------


def test_what_was_just_committed_is_sent_at_once(
    outbox_url: str, open_outbox: Callable[[str], Outbox], redis_client: redis.Redis
) -> None:
    """Only the named orders go; before the commit nothing does, and a second time nothing more."""
    outbox = open_outbox(outbox_url)
    fill(outbox, outbox_url, "left-to-the-relay")
    with service("driver", outbox_url).begin() as (connection, _):
        job = outbox.enqueue(connection, order("A-1"))
        assert outbox.send_now(job) == 0
    assert outbox.send_now(job) == 1
    assert outbox.send_now(job) == 0
    assert arrived_ids(redis_client) == ["A-1"]
    assert counts(outbox_url).waiting == 1


def test_without_redis_everything_is_left_to_the_relay(
    sqlite_outbox_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It raises nothing, and does not even try for a while."""
    with Outbox(settings=settings_of(f"redis://127.0.0.1:{free_port()}/0", sqlite_outbox_url)) as outbox:
        (job,) = fill(outbox, sqlite_outbox_url, "A-1")
        assert outbox.send_now(job) == 0
        assert outbox.send_now(job) == 0
    assert counts(sqlite_outbox_url).waiting == 1
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the outbox's orders are left to the relay: ")


def test_sending_at_once_needs_the_databases_address(sqlite_outbox_url: str) -> None:
    """It is named."""
    with Outbox(settings=ProducerSettings()) as outbox:
        (job,) = fill(outbox, sqlite_outbox_url, "A-1")
        with pytest.raises(SettingsInvalid, match="ORDERRELAY_OUTBOX_URL: is missing"):
            outbox.send_now(job)
