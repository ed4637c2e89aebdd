"""What a person decides about stopped orders: `orderrelay parked resolve`, `resend` and `drop`, on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from orderrelay_workers.ledger import schema
from tests.integration.booked_orders import Ledger, json_lines, orderrelay, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES_NOTHING = b'{"Success":true,"Keys":null}'


@pytest.fixture
def ledger(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger with one parked and one rejected order, named in the environment."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    opened = Ledger(database_url)
    opened.book("parked-1")
    opened.settle(opened.claim("acme", lease_seconds=0.0), _NAMES_NOTHING)
    for _ in range(2):
        opened.look_up(b"[]")
    opened.book("rejected-1")
    opened.answer(refused(41, "Redovisningsåret är inte öppet"))
    yield opened
    opened.engine.dispose()


def job(ledger: Ledger, external_id: str) -> sa.RowMapping:
    """The job of an order."""
    with ledger.engine.connect() as connection:
        query = sa.select(schema.job).where(schema.job.c.external_id == external_id)
        return connection.execute(query).mappings().one()


def events(ledger: Ledger) -> list[tuple[str, str]]:
    """Kind and actor of what people did."""
    with ledger.engine.connect() as connection:
        rows = connection.execute(sa.select(schema.event).order_by(schema.event.c.id)).mappings()
        return [(row["kind"], row["actor"]) for row in rows if row["kind"].endswith("_by_person")]


def test_resolved_is_succeeded_under_its_number(ledger: Ledger) -> None:
    """A parked order that a person found at the vendor is succeeded, with the number and who said so."""
    result = orderrelay("parked", "resolve", "parked-1", "--number", "211", "--why", "seen in the list")
    assert result.exit_code == 0
    assert (job(ledger, "parked-1")["state"], job(ledger, "parked-1")["order_number"]) == ("succeeded", "211")
    [(kind, actor)] = events(ledger)
    assert kind == "resolved_by_person"
    assert "@" in actor


def test_resolve_needs_to_know_which_order_it_is(ledger: Ledger) -> None:
    """Without a number or an id nothing is resolved."""
    result = orderrelay("parked", "resolve", "parked-1", "--why", "I think so")
    assert result.exit_code == 1
    assert "order number" in result.stderr
    assert "--not-created" in result.stderr
    assert job(ledger, "parked-1")["state"] == "parked"


@pytest.mark.parametrize(("lookup_path", "state"), [("Economy/Look/Up/", "unknown"), ("", "waiting")])
def test_resolved_as_not_created_is_sent(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, lookup_path: str, state: str
) -> None:
    """An order that a person did not find at the vendor is sent: looked up first, or at once without a look-up."""
    monkeypatch.setenv("ORDERRELAY_LOOKUP_PATH", lookup_path)
    result = orderrelay("parked", "resolve", "parked-1", "--not-created", "--why", "searched by Åsa")
    assert (result.exit_code, result.stdout) == (0, "1 order resolved as not created, and sent\n")
    assert job(ledger, "parked-1")["state"] == state
    [(kind, actor)] = events(ledger)
    assert kind == "resent_by_person"
    assert "@" in actor


def test_an_order_is_there_or_not(ledger: Ledger) -> None:
    """A number together with "not created" is a mistake, and decides nothing."""
    command = ("parked", "resolve", "parked-1", "--not-created", "--number", "211", "--why", "seen")
    assert orderrelay(*command).exit_code == 2
    assert job(ledger, "parked-1")["state"] == "parked"


def test_an_id_that_another_order_holds_resolves_nothing(ledger: Ledger) -> None:
    """One order at the vendor is one job's."""
    ledger.book("created-1")
    ledger.answer(b'{"Success":true,"Keys":[77],"Strings":["9"]}')
    result = orderrelay("parked", "resolve", "parked-1", "--vendor-id", 77, "--why", "seen")
    assert result.exit_code == 1
    assert "already that of job" in result.stderr


def test_without_yes_nothing_is_done(ledger: Ledger) -> None:
    """A choice by options is told with its counts first."""
    result = orderrelay("parked", "resend", "--company", "acme", "--why", "try again")
    assert result.exit_code == 0
    assert "1 order would be sent again" in result.stdout
    assert "1 parked of acme" in result.stdout
    assert job(ledger, "parked-1")["state"] == "parked"


def test_without_yes_it_is_told_what_is_not_possible(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be refused with --yes is refused without it, in the same words."""
    ledger.book("created-1")
    ledger.answer(b'{"Success":true,"Keys":[77],"Strings":["9"]}')
    drop = ("parked", "drop", "created-1", "--why", "unwanted")
    tried, done = orderrelay(*drop), orderrelay(*drop, "--yes")
    assert (tried.exit_code, tried.stderr, tried.stdout) == (1, done.stderr, "No order fits that.\n")
    monkeypatch.setenv("ORDERRELAY_LOOKUP_PATH", "")
    resent = orderrelay("parked", "resend", "parked-1", "--why", "try again", "--json")
    [line] = json_lines(resent)
    assert (resent.exit_code, line["orders"], list(line["refused"])) == (1, 0, ["parked-1"])
    assert job(ledger, "parked-1")["state"] == "parked"
    assert events(ledger) == []


def test_a_choice_that_fits_nothing_says_so(ledger: Ledger) -> None:
    """Nobody is left to wonder about an empty list."""
    result = orderrelay("parked", "resend", "--reason", "of something else", "--why", "try again")
    assert (result.exit_code, result.stdout) == (0, "No order fits that.\n")


def test_resent_is_looked_up_first(ledger: Ledger) -> None:
    """A person can be wrong, so an order that is sent again becomes unknown, due for a look-up, attempts anew."""
    result = orderrelay("parked", "resend", "parked-1", "--why", "try again", "--yes")
    assert result.exit_code == 0
    row = job(ledger, "parked-1")
    assert (row["state"], row["if_absent"], row["attempts"]) == ("unknown", "waiting", 0)


def test_without_a_lookup_somebody_must_vouch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be looked up, an order is sent again only on a person's word that it was not created."""
    monkeypatch.setenv("ORDERRELAY_LOOKUP_PATH", "")
    refused_ = orderrelay("parked", "resend", "parked-1", "--why", "try again", "--yes")
    assert refused_.exit_code == 1
    assert "--not-created" in refused_.stderr
    assert orderrelay("parked", "resend", "parked-1", "--why", "looked", "--not-created", "--yes").exit_code == 0
    assert job(ledger, "parked-1")["state"] == "waiting"


def test_rejected_orders_are_chosen_by_their_reason(ledger: Ledger) -> None:
    """`--rejected --reason TEXT` chooses what the vendor refused for that reason."""
    command = ("parked", "resend", "--rejected", "--reason", "REDOVISNINGSÅRET", "--why", "opened", "--yes", "--json")
    [line] = json_lines(orderrelay(*command))
    assert line == {"done": True, "orders": 1, "refused": {}, "not_found": []}
    assert job(ledger, "rejected-1")["state"] == "unknown"
    assert job(ledger, "parked-1")["state"] == "parked"


def test_dropped_is_cancelled_for_good(ledger: Ledger) -> None:
    """A dropped order is cancelled, and nothing else can be decided about it."""
    assert orderrelay("parked", "drop", "rejected-1", "--why", "customer cancelled", "--yes").exit_code == 0
    assert job(ledger, "rejected-1")["state"] == "cancelled"
    again = orderrelay("parked", "resend", "rejected-1", "--why", "no", "--yes")
    assert again.exit_code == 1
    assert "it is cancelled" in again.stderr


def test_an_unknown_name_is_told_and_the_others_are_done(ledger: Ledger) -> None:
    """One wrong name among several does not hide what was done with the rest."""
    result = orderrelay("parked", "drop", "parked-1", "nobody-1", "--why", "old", "--yes")
    assert result.exit_code == 1
    assert "nobody-1: no such order" in result.stderr
    assert job(ledger, "parked-1")["state"] == "cancelled"


def test_nothing_named_is_a_mistake(ledger: Ledger) -> None:
    """Without names and options nothing is chosen, rather than everything."""
    assert orderrelay("parked", "drop", "--why", "all", "--yes").exit_code == 2
