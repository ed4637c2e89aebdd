"""`orderrelay pause --begin-cautious` and `orderrelay resume --end-cautious`, and who tells of the mode."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import caution
from orderrelay_workers.ledger.engine import reading
from tests.integration.booked_orders import Ledger, orderrelay

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ledger(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger with three waiting orders, named in the environment, and a vendor with a look-up."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    opened = Ledger(database_url)
    opened.book("A-1", "A-2", "A-3")
    yield opened
    opened.engine.dispose()


@pytest.fixture
def without_lookup(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The same, where the vendor cannot be asked."""
    monkeypatch.setenv("ORDERRELAY_LOOKUP_PATH", "")
    return ledger


def reason(ledger: Ledger) -> str | None:
    """Why cautious mode is on; None if it is not."""
    with reading(ledger.engine) as connection:
        return caution.read_standing(connection).reason


def states(ledger: Ledger) -> set[str]:
    """The states of all orders."""
    with reading(ledger.engine) as connection:
        return set(connection.exec_driver_sql("SELECT state FROM job").scalars())


def test_a_person_begins_it_for_all_companies(ledger: Ledger) -> None:
    """From then on nothing is claimed that was not looked up; the ledger says who and why."""
    result = orderrelay("pause", "--begin-cautious", "--reason", "restored the backup of Sunday")
    assert result.exit_code == 0, result.output
    assert "cautious mode is on: restored the backup of Sunday" in result.stdout
    assert "3 wait now" in result.stdout
    assert reason(ledger) == "restored the backup of Sunday"
    assert ledger.claim() == []


def test_its_end_moves_what_waits_to_the_look_up(ledger: Ledger) -> None:
    """The command says how many those are; a new order is simply sent."""
    orderrelay("pause", "--begin-cautious")
    result = orderrelay("resume", "--end-cautious")
    assert (result.exit_code, states(ledger), reason(ledger)) == (0, {JobState.UNKNOWN}, None)
    assert "3 orders that wait are looked up first" in result.stdout
    ledger.book("A-4")
    assert [claim.external_id for claim in ledger.claim()] == ["A-4"]


def test_without_a_look_up_a_person_decides(without_lookup: Ledger) -> None:
    """The command says so; what waits becomes unknown, which is parked where nobody can be asked."""
    begun = orderrelay("pause", "--begin-cautious", "--reason", "restored")
    assert "Every order is parked for a person, as there is no look-up; 3 wait now" in begun.stdout
    ended = orderrelay("resume", "--end-cautious")
    assert (ended.exit_code, states(without_lookup)) == (0, {JobState.UNKNOWN})
    assert "3 orders that wait are parked for a person" in ended.stdout


def test_ending_what_was_not_on_is_good(ledger: Ledger) -> None:
    """A script may run twice."""
    result = orderrelay("resume", "--end-cautious")
    assert (result.exit_code, result.stdout) == (0, "cautious mode was not on\n")


def test_json_tells_it_to_machines(ledger: Ledger) -> None:
    """One object, before and after."""
    on = json.loads(orderrelay("pause", "--begin-cautious", "--reason", "restored", "--json").stdout)
    assert (on["cautious"], on["reason"], on["not_looked_up"]) == (True, "restored", 3)
    off = json.loads(orderrelay("resume", "--end-cautious", "--json").stdout)
    assert (off["cautious"], off["reason"], off["since"]) == (False, None, None)


@pytest.mark.parametrize("words", [("pause",), ("resume",), ("pause", "acme", "--begin-cautious"),
                                   ("resume", "acme", "--end-cautious")])  # fmt: skip
def test_a_company_and_the_mode_are_two_things(ledger: Ledger, words: tuple[str, ...]) -> None:
    """Neither, or both, is a mistake in the call."""
    result = orderrelay(*words)
    assert result.exit_code == 2
    assert "name one company, or give --" in result.stderr


def test_stats_and_doctor_tell_that_it_is_on(ledger: Ledger) -> None:
    """An operator who looks finds it, with the way out."""
    assert "cautious since" not in orderrelay("audit", "stats").stdout
    orderrelay("pause", "--begin-cautious", "--reason", "restored")
    assert "cautious since" in orderrelay("audit", "stats").stdout
    found = [json.loads(line) for line in orderrelay("doctor", "--json").stdout.splitlines()[:-1]]
    [told] = [finding for finding in found if "cautious mode is on" in finding["text"]]
    assert told["level"] == "problem"
    assert "restored; 3 orders wait for it" in told["text"]
    assert "orderrelay resume --end-cautious" in told["to_do"]
