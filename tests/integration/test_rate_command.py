"""The command `orderrelay rate`, on both databases and a real Redis."""

from __future__ import annotations

import getpass
import json
import socket
import uuid
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orderrelay_workers.gate import Gate, Kind, Limits
from orderrelay_workers.ledger import companies, identity, schema
from orderrelay_workers.settings import CompanySettings
from tests.integration.booked_orders import Ledger, json_lines, orderrelay
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


@pytest.fixture
def ledger(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger with the companies acme and beta, and an empty Redis, named in the environment."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    opened = Ledger(database_url)
    register(opened, "acme", closed_hours="sun 00:00-24:00", time_zone="Europe/Stockholm")
    register(opened, "beta")
    yield opened
    opened.engine.dispose()


@pytest.fixture
def gate(ledger: Ledger, redis_client: redis.Redis) -> Gate:
    """A worker's gate, seeded for acme as the settings say."""
    gate = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=40.0)
    gate.seed("acme", Limits(10, 1, 50), None, {})
    return gate


def register(ledger: Ledger, alias: str, **more: object) -> companies.Company:
    """What a worker does at its start with a company of its settings."""
    fixed = {"company_api_key": SecretStr(f"key-of-{alias}"), "connect_api_key": "c", "token": "t"}
    settings = CompanySettings.model_validate(fixed | more)
    ledger_id = identity.ledger_id(ledger.engine)
    return companies.register(ledger.engine, ledger_id, alias, settings, actor="worker test:1")


def acme(ledger: Ledger) -> companies.Company:
    """The company as the ledger has it now."""
    return companies.by_alias(ledger.engine)["acme"]


def test_set_is_kept_in_the_ledger_with_who_and_why(ledger: Ledger) -> None:
    """The ledger has the limits and the user at this host; an event tells why."""
    result = orderrelay("rate", "set", "ACME", "--rate", "2.5", "--reason", "their  wish\n")
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    assert result.exit_code == 0
    assert (acme(ledger).set_rate_per_second, acme(ledger).set_burst, acme(ledger).set_by) == (2.5, None, me)
    with ledger.engine.connect() as connection:
        [event] = connection.execute(sa.select(schema.event.c.kind, schema.event.c.actor, schema.event.c.detail)).all()
    assert (event.kind, event.actor) == ("limits_set", me)
    assert json.loads(event.detail) == {"rate_per_second": 2.5, "reason": "their wish"}
    assert result.stdout == (
        "acme: 2.5 requests/s, burst 1, at most 50 in flight\n"
        "The settings say otherwise; go back to them with: orderrelay rate reset acme\n"
    )


def test_set_and_reset_change_the_gate_at_once(ledger: Ledger, gate: Gate) -> None:
    """No worker has to look first: the gate has the limits as soon as the command has ended."""
    told = orderrelay("rate", "set", "acme", "--rate", "3", "--burst", "4", "--max-in-flight", "5", "--json")
    state = gate.state("acme")
    assert state is not None
    assert state.limits == Limits(3, 4, 5)
    assert json.loads(told.stdout)["mirrored"] is True
    assert gate.admit("acme", Kind.ORDER, 9).granted == 4
    assert orderrelay("rate", "reset", "acme").stdout == (
        "acme: 10 requests/s, burst 1, at most 50 in flight\nas the settings say\n"
    )
    state = gate.state("acme")
    assert state is not None
    assert state.limits == Limits(10, 1, 50)


def test_resetting_what_is_not_set_is_good(ledger: Ledger) -> None:
    """A script may run twice."""
    result = orderrelay("rate", "reset", "beta")
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, "as the settings say; nobody had set anything else")
    assert json.loads(orderrelay("rate", "reset", "beta", "--json").stdout)["changed"] is False


def test_a_rate_that_leaves_nothing_to_learn_says_so(ledger: Ledger) -> None:
    """Whoever sets it at the floor of the learned rate need not wonder."""
    register(ledger, "acme", learn_rate_from=2)
    assert "learned from 2/s up" in orderrelay("rate", "set", "acme", "--burst", "3").stdout
    assert "not above LEARN_RATE_FROM (2)" in orderrelay("rate", "set", "acme", "--rate", "1").stdout


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        ([], ["give at least one of --rate, --burst and --max-in-flight"]),
        (["--rate", "0"], ["--rate is 0; it must be above 0 and at most 10000"]),
        (["--rate", "nan"], ["--rate is nan; it must be above 0 and at most 10000"]),
        (["--rate", "inf", "--burst", "0"], ["--rate is inf; it must be above", "--burst is 0; it must be from 1"]),
        (["--max-in-flight", "10001"], ["--max-in-flight is 10001; it must be from 1 to 10000"]),
    ],
)
def test_wrong_limits_are_told_all_at_once(ledger: Ledger, options: list[str], problems: list[str]) -> None:
    """Each is named with what is allowed, and nothing is changed."""
    result = orderrelay("rate", "set", "acme", *options)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == len(problems)
    assert all(line.startswith(problem) for line, problem in zip(lines, problems, strict=True))
    assert acme(ledger).set_by is None


@pytest.mark.parametrize("words", [("set", "amce", "--rate", "1"), ("reset", "amce"), ("show", "amce")])
def test_an_unknown_company_names_the_known_ones(ledger: Ledger, words: tuple[str, ...]) -> None:
    """A misspelt alias ends with 1, and nothing is made of it."""
    result = orderrelay("rate", *words)
    assert (result.exit_code, result.stderr) == (1, "company 'amce' is not in the ledger; known: acme, beta\n")


def test_without_redis_the_ledger_changes_all_the_same(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's word stands and workers carry it on, so the command ends with 0 and says so."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://u:hunter2@127.0.0.1:{free_port()}/0")
    result = orderrelay("rate", "set", "acme", "--rate", "2", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["changed"], told["mirrored"]) == (0, True, False)
    assert "The ledger has the change" in result.stderr
    assert "hunter2" not in result.output
    assert acme(ledger).set_rate_per_second == 2


def test_show_tells_every_company_and_why_it_is_slow(ledger: Ledger, gate: Gate) -> None:
    """A line for each, then the words about each, and closed hours that are to come."""
    orderrelay("rate", "set", "acme", "--rate", "2")
    result = orderrelay("rate", "show")
    assert result.exit_code == 0
    heading, first, second, *words = result.stdout.splitlines()
    assert heading.split()[:6] == ["COMPANY", "REQUESTS/S", "NOW", "DONE", "ORDERS/S", "BURST"]
    assert first.split()[:3] == ["acme", "2", "2"]
    assert first.split()[-1] == acme(ledger).set_by
    assert second.split()[:3] == ["beta", "10", "–"]
    assert words[0] == "acme: no worker is running; start one with: orderrelay worker"
    assert words[1].startswith("acme: ")
    assert "closed hours" in words[1]
    assert "beta: its gate in Redis is not made yet, and so is closed; a worker makes it within seconds" in words


def test_show_as_json_has_all_of_it(ledger: Ledger, gate: Gate) -> None:
    """An object a line; what was set stands beside what the settings say."""
    orderrelay("rate", "set", "acme", "--rate", "2", "--max-in-flight", "7")
    [one, two] = json_lines(orderrelay("rate", "show", "--json"))
    assert one["company"] == "acme"
    assert (one["rate_per_second"], one["burst"], one["max_in_flight"]) == (2.0, 1, 7)
    assert one["settings"] == {"rate_per_second": 10.0, "burst": 1, "max_in_flight": 50}
    assert one["set"] == {"rate_per_second": 2.0, "burst": None, "max_in_flight": 7}
    assert (one["rate_now"], one["is_learned"], one["in_flight"], one["waiting"]) == (2.0, False, 0, 0)
    assert one["closed"]["reason"] == "closed hours"
    assert one.keys() == two.keys()
    assert (two["set_by"], two["rate_now"], two["closed"]) == (None, None, None)


def test_show_without_redis_tells_what_the_ledger_knows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits are in the ledger; the exit code says that something was away."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://u:hunter2@127.0.0.1:{free_port()}/0")
    result = orderrelay("rate", "show", "acme")
    assert result.exit_code == 3
    assert "acme: Redis does not answer: nothing is sent while it is away" in result.stdout
    assert "hunter2" not in result.output


def test_a_database_that_is_away_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, without the password."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x")
    result = orderrelay("rate", "set", "acme", "--rate", "1")
    assert result.exit_code == 3
    assert "is not usable" in result.stderr
    assert "hunter2" not in result.output
