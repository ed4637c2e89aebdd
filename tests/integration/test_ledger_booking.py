"""Booking: each accepted order becomes one job, however often and by however many workers it is booked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from orderrelay_shared.states import Priority
from orderrelay_workers.ledger import booking, schema
from orderrelay_workers.ledger.engine import is_away, open_engine
from tests.ledgers import ACTOR, Ledger, an_order, job_id

if TYPE_CHECKING:
    import uuid

    from orderrelay_workers.ledger.booking import Accepted


def book(ledger: Ledger, *batch: Accepted) -> list[str]:
    """Book a batch; gives each result."""
    return [b.result for b in booking.book(ledger.engine, batch, actor=ACTOR)]


def test_a_new_order_waits(ledger: Ledger) -> None:
    """A booked order is a waiting job, due now, that has cost nothing yet."""
    [job] = ledger.book(1)
    row = ledger.job(job)
    assert job == job_id(1)
    assert (row["state"], row["external_id"], row["revision"], row["attempts"]) == ("waiting", "order-1", 1, 0)
    assert row["due_at"] <= datetime.now(UTC)
    assert row["accepted_at"] == datetime.fromtimestamp(1_700_000_000.001, UTC)


def test_the_body_is_kept_to_the_byte(ledger: Ledger) -> None:
    """The body is stored as bytes, as it was accepted, with its digest."""
    body = b'{"Text": "\\u0000 \xff\x00"}'
    order = an_order(1)
    book(ledger, replace(order, envelope=replace(order.envelope, body=body)))
    [revision] = ledger.rows(schema.revision)
    assert (revision["body"], len(revision["body_digest"])) == (body, 32)


def test_booking_again_is_the_same_job(ledger: Ledger) -> None:
    """The same order in another batch, or twice in one, is one job."""
    assert book(ledger, an_order(1), an_order(2), an_order(1)) == ["new", "new", "already"]
    assert book(ledger, an_order(2), an_order(3)) == ["already", "new"]
    assert ledger.states() == {"waiting": 3}


def test_of_a_large_batch_only_what_is_not_there_is_new(ledger: Ledger) -> None:
    """Known orders between new ones neither come twice nor keep the others out, in statements of many rows too."""
    assert book(ledger, *map(an_order, range(40, 160, 3))) == ["new"] * 40
    results = book(ledger, *map(an_order, range(200)))
    assert results == ["already" if number in range(40, 160, 3) else "new" for number in range(200)]
    assert ledger.states() == {"waiting": 200}
    assert book(ledger, *map(an_order, range(200))) == ["already"] * 200


def test_the_folded_external_id_is_the_key(ledger: Ledger) -> None:
    """ExternalIds that differ in case alone are one order; the first spelling is the one that is sent."""
    order = an_order(1)
    assert book(ledger, order) == ["new"]
    assert book(ledger, replace(order, envelope=replace(order.envelope, external_id="ORDER-1"))) == ["already"]
    assert ledger.job(job_id(1))["external_id"] == "order-1"


def test_one_external_id_in_two_companies_is_two_orders(ledger: Ledger) -> None:
    """ExternalIds are unique within a company only."""
    assert book(ledger, an_order(1), an_order(1, company="other")) == ["new", "new"]


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
def test_other_content_is_a_conflict(ledger: Ledger, together: bool) -> None:
    """Other content under a known ExternalId is recorded with its bytes as a conflict, and the first stays."""
    first, second = an_order(1, content="first"), an_order(1, content="second")
    results = book(ledger, first, second) if together else book(ledger, first) + book(ledger, second)
    assert results == ["new", "conflict"]
    assert [row["body"] for row in ledger.rows(schema.revision)] == [first.envelope.body]
    [event] = ledger.rows(schema.event)
    assert (event["kind"], event["job_id"]) == ("conflict", job_id(1))
    detail = msgspec.json.decode(event["detail"])
    assert msgspec.convert(detail["body_base64"], bytes, strict=False) == second.envelope.body


def test_the_key_outlives_the_job(ledger: Ledger) -> None:
    """An order whose job was forgotten is known for ever, and is not booked anew."""
    ledger.book(1)
    with ledger.engine.begin() as connection:
        connection.execute(sa.delete(schema.revision))
        connection.execute(sa.delete(schema.job))
    assert book(ledger, an_order(1)) == ["already"]
    assert ledger.states() == {}


def test_only_the_bad_order_is_set_aside(ledger: Ledger) -> None:
    """A batch with one order that the database will not take is halved until only that one is left out."""
    bad = an_order(5)
    bad = replace(bad, envelope=replace(bad.envelope, body_version=2**70))
    batch = [*(an_order(n) for n in range(5)), bad, *(an_order(n) for n in range(6, 10))]
    results = book(ledger, *batch)
    assert [i for i, result in enumerate(results) if result != "new"] == [5]
    assert results[5] == "set_aside"
    assert ledger.states() == {"waiting": 9}
    assert ledger.events() == ["set_aside!"]


def test_what_is_set_aside_is_whole(ledger: Ledger) -> None:
    """What is set aside can be read from the event, all fields, to the byte."""
    booking.set_aside(ledger.engine, "1-1", {"b": b"\x00\xff", "c": "åäö"}, "unreadable", actor=ACTOR)
    [event] = ledger.rows(schema.event)
    detail = msgspec.json.decode(event["detail"])
    fields = {name: msgspec.convert(raw, bytes, strict=False) for name, raw in detail["fields_base64"].items()}
    assert fields == {"b": b"\x00\xff", "c": "åäö".encode()}
    assert (detail["entry"], detail["reason"]) == ("1-1", "unreadable")


def test_a_database_that_is_away_books_nothing(ledger: Ledger) -> None:
    """When the database is away, booking raises instead of setting good orders aside."""
    away = open_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    try:
        with pytest.raises(sa.exc.OperationalError):
            booking.book(away, [an_order(1)], actor=ACTOR)
    finally:
        away.dispose()


def test_a_standby_sets_nothing_aside(ledger: Ledger) -> None:
    """A database that takes no writes, as a standby, is away; its refusal says nothing about the order."""
    name = "PRAGMA query_only=ON" if ledger.engine.dialect.name == "sqlite" else "SET default_transaction_read_only=on"
    standby = open_engine(ledger.engine.url.render_as_string(hide_password=False))

    @sa.event.listens_for(standby, "connect", insert=False)
    def refuse_writes(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(name)
        connection.commit()
        cursor.close()

    try:
        with pytest.raises(sa.exc.DBAPIError) as caught:
            booking.book(standby, [an_order(1), an_order(2)], actor=ACTOR)
    finally:
        standby.dispose()
    assert is_away(caught.value)
    assert ledger.events() == []


def test_many_workers_book_one_job_each(ledger: Ledger) -> None:
    """The same orders booked at once by several workers, in different order, are one job each, and nobody fails."""
    batches = [[an_order(n) for n in numbers] for numbers in (range(60), range(59, -1, -1), range(20, 80), range(60))]
    ready = threading.Barrier(len(batches))

    def at_once(batch: list[Accepted]) -> list[tuple[uuid.UUID, str]]:
        ready.wait(timeout=10)
        return [(b.job_id, b.result) for b in booking.book(ledger.engine, batch, actor=ACTOR)]

    with ThreadPoolExecutor(len(batches)) as threads:
        results = [result for done in threads.map(at_once, batches) for result in done]
    assert ledger.states() == {"waiting": 80}
    assert sorted(job for job, result in results if result == "new") == sorted(job_id(n) for n in range(80))
    assert {result for _, result in results} == {"new", "already"}
    assert ledger.events() == []


def test_a_key_under_another_job_is_a_conflict(ledger: Ledger) -> None:
    """An ExternalId that another job holds, as after a company got another's number, is a conflict."""
    ledger.book(1)
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(schema.order_key).values(job_id=job_id(2)))
    assert book(ledger, an_order(1), an_order(3)) == ["conflict", "new"]
    assert ledger.events() == ["conflict"]


def test_all_terms_are_kept(ledger: Ledger) -> None:
    """Priority, due time and deadline of each order are stored, beside orders that have none."""
    due_at, deadline = datetime(2036, 11, 22, 12, 0, 0, 1000, UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, UTC)
    plain, urgent = an_order(1), an_order(2)
    terms = replace(urgent.envelope, priority=Priority.URGENT, due_at=due_at, deadline=deadline)
    book(ledger, plain, replace(urgent, envelope=terms))
    first, second = ledger.job(job_id(1)), ledger.job(job_id(2))
    assert (first["lane"], first["not_before"], first["deadline"]) == (2, None, None)
    assert (second["lane"], second["not_before"], second["deadline"]) == (0, due_at, deadline)
    assert (first["due_at"], second["due_at"]) == (first["booked_at"], due_at)
