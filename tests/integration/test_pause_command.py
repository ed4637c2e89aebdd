"""The commands `orderrelay pause` and `orderrelay resume`, on both databases and a real Redis."""

from __future__ import annotations

import getpass
import json
import socket
import uuid
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orderrelay_workers.gate import Gate, Kind, Limits, Refusal
from orderrelay_workers.ledger import companies, identity, schema
from orderrelay_workers.settings import CompanySettings
from tests.integration.booked_orders import Ledger, orderrelay
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

_KEY_NAME = "ORDERRELAY_COMPANIES__ACME__COMPANY_API_KEY"


@pytest.fixture
def ledger(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger with the companies acme and beta, and an empty Redis, named in the environment."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    opened = Ledger(database_url)
    for alias in ("acme", "beta"):
        register(opened, alias, f"key-of-{alias}")
    yield opened
    opened.engine.dispose()


@pytest.fixture
def gate(ledger: Ledger, redis_client: redis.Redis) -> Gate:
    """A worker's gate, seeded for acme."""
    gate = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=40.0)
    gate.seed("acme", Limits(1000, 1, 50), None, {})
    return gate


def register(ledger: Ledger, alias: str, key: str) -> companies.Company:
    """What a worker does at its start with a company of its settings."""
    settings = CompanySettings(company_api_key=SecretStr(key), connect_api_key=SecretStr("c"), token=SecretStr("t"))
    ledger_id = identity.ledger_id(ledger.engine)
    return companies.register(ledger.engine, ledger_id, alias, settings, actor="worker test:1")


def acme(ledger: Ledger) -> companies.Company:
    """The company as the ledger has it now."""
    return companies.by_alias(ledger.engine)["acme"]


def set_key(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Set acme in the environment."""
    monkeypatch.setenv(_KEY_NAME, key)
    monkeypatch.setenv(_KEY_NAME.replace("COMPANY_API", "CONNECT_API"), "c")
    monkeypatch.setenv(_KEY_NAME.replace("COMPANY_API_KEY", "TOKEN"), "t")


def test_pause_is_kept_in_the_ledger_with_who_and_why(ledger: Ledger) -> None:
    """The ledger has the reason and the user at this host; an event tells it."""
    result = orderrelay("pause", "ACME", "--reason", "stock-taking  until Monday")
    me = f"{getpass.getuser()}@{socket.gethostname()}"
    assert result.exit_code == 0
    assert (acme(ledger).paused_reason, acme(ledger).paused_by) == ("stock-taking until Monday", me)
    with ledger.engine.connect() as connection:
        kinds = connection.execute(sa.select(schema.event.c.kind, schema.event.c.actor)).all()
    assert [tuple(row) for row in kinds] == [("company_paused", me)]


def test_pause_closes_the_gate_at_once(ledger: Ledger, gate: Gate) -> None:
    """No worker has to look first: the gate refuses as soon as the command has ended."""
    orderrelay("pause", "acme", "--reason", "stock-taking")
    refused = gate.admit("acme", Kind.ORDER, 1)
    assert (refused.refusal, refused.reason) == (Refusal.PAUSED, "stock-taking")


def test_resume_opens_the_gate_at_once(ledger: Ledger, gate: Gate) -> None:
    """After `resume` the gate admits, and the ledger has no pause."""
    orderrelay("pause", "acme", "--reason", "stock-taking")
    result = orderrelay("resume", "acme")
    assert (result.exit_code, acme(ledger).paused_reason) == (0, None)
    assert gate.admit("acme", Kind.ORDER, 1).granted == 1


def test_the_first_reason_stays(ledger: Ledger) -> None:
    """Another reason is refused with 1, as the one who gave the first relies on it."""
    orderrelay("pause", "acme", "--reason", "first")
    result = orderrelay("pause", "acme", "--reason", "second")
    assert result.exit_code == 1
    assert "first" in result.stderr
    assert acme(ledger).paused_reason == "first"


def test_pausing_again_for_the_same_reason_is_good(ledger: Ledger) -> None:
    """A script may run twice."""
    orderrelay("pause", "acme", "--reason", "first")
    result = orderrelay("pause", "acme", "--reason", "first", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["paused"], told["changed"]) == (0, True, False)


@pytest.mark.parametrize("reason", [companies.CREDENTIALS, companies.COMPANY_KEY_CHANGED])
def test_reasons_that_workers_would_act_on_are_refused(ledger: Ledger, reason: str) -> None:
    """A person's pause must not look like one that workers end by themselves."""
    assert orderrelay("pause", "acme", "--reason", reason).exit_code == 2
    assert acme(ledger).paused_reason is None


def test_without_a_reason_it_says_who(ledger: Ledger) -> None:
    """In a hurry no words are needed; who paused it is always known."""
    assert orderrelay("pause", "acme").exit_code == 0
    assert acme(ledger).paused_reason == "no reason was given"


@pytest.mark.parametrize("words", [("pause", "amce", "--reason", "x"), ("resume", "amce")])
def test_an_unknown_company_names_the_known_ones(ledger: Ledger, words: tuple[str, ...]) -> None:
    """A misspelt alias ends with 1, and nothing is made of it."""
    result = orderrelay(*words)
    assert result.exit_code == 1
    assert result.stderr == "company 'amce' is not in the ledger; known: acme, beta\n"


@pytest.mark.parametrize("words", [("pause", "acme", "--reason", "x"), ("resume", "acme")])
def test_without_redis_the_ledger_changes_all_the_same(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The ledger's word stands and workers carry it on, so the command ends with 0 and says so."""
    if words[0] == "resume":
        companies.pause(ledger.engine, "acme", "x", actor="me")
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://u:hunter2@127.0.0.1:{free_port()}/0")
    result = orderrelay(*words, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["changed"], told["mirrored"]) == (0, True, False)
    assert "The ledger has the change" in result.stderr
    assert "hunter2" not in result.output
    assert (acme(ledger).paused_reason is None) == (words[0] == "resume")


def test_resuming_what_is_not_paused_is_good(ledger: Ledger) -> None:
    """`resume` says that nothing was to be done."""
    result = orderrelay("resume", "acme")
    assert (result.exit_code, result.stdout) == (0, "acme was not paused\n")


def test_a_changed_key_is_not_resumed_without_a_word(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders would go to other books: it takes `--same-company`, and the text says so."""
    register(ledger, "acme", "another-key")
    set_key(monkeypatch, "another-key")
    result = orderrelay("resume", "acme")
    assert result.exit_code == 1
    assert "orderrelay resume acme --same-company" in result.stderr
    assert acme(ledger).paused_reason == companies.COMPANY_KEY_CHANGED


def test_the_old_key_set_again_resumes_without_an_override(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a worker was started with a wrong key by mistake, the right key and a plain resume are enough."""
    key = companies.by_alias(ledger.engine)["acme"].key_digest
    companies.pause(ledger.engine, "acme", companies.COMPANY_KEY_CHANGED, actor="worker")
    set_key(monkeypatch, "key-of-acme")
    result = orderrelay("resume", "acme")
    assert (result.exit_code, acme(ledger).paused_reason) == (0, None)
    assert "restart" not in result.stdout
    assert acme(ledger).key_digest == key


def test_same_company_binds_the_new_key(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--same-company` the alias is bound to the key that is set here."""
    register(ledger, "acme", "another-key")
    set_key(monkeypatch, "another-key")
    result = orderrelay("resume", "acme", "--same-company")
    assert result.exit_code == 0
    assert acme(ledger).key_digest == companies.key_digest(identity.ledger_id(ledger.engine), "another-key")
    assert acme(ledger).paused_reason is None
    assert "another-key" not in result.output


def test_same_company_needs_the_key(ledger: Ledger) -> None:
    """Where the company is not set, there is no key to bind: usage."""
    register(ledger, "acme", "another-key")
    result = orderrelay("resume", "acme", "--same-company")
    assert result.exit_code == 2
    assert _KEY_NAME in result.stderr


def test_same_company_does_not_take_another_alias_key(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two aliases on one key would create orders twice."""
    companies.pause(ledger.engine, "acme", "x", actor="me")
    set_key(monkeypatch, "key-of-beta")
    result = orderrelay("resume", "acme", "--same-company")
    assert result.exit_code == 1
    assert "beta" in result.stderr
    assert acme(ledger).paused_reason == "x"


def test_same_company_on_a_running_company_says_what_to_do(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is bound anew only with the end of a pause."""
    set_key(monkeypatch, "another-key")
    result = orderrelay("resume", "acme", "--same-company")
    assert result.exit_code == 1
    assert "was not bound anew" in result.stderr
