"""The command `orderrelay doctor`, against real servers and the simulator; and its judgements, which are pure."""

from __future__ import annotations

import dataclasses
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from orderrelay_shared import keys
from orderrelay_workers.audit.facts import ServerFacts, WorkerFacts
from orderrelay_workers.diagnosis import of_clocks, of_companies, of_database, of_redis
from orderrelay_workers.diagnosis.findings import Finding, Level
from orderrelay_workers.gate import Gate, Kind, Limits, Report
from orderrelay_workers.ledger import companies, identity, liveness, schema
from orderrelay_workers.settings import CompanySettings, WorkerSettings
from orderrelay_workers.simulator import Credentials, running_simulator
from orderrelay_workers.vendor.answers import LoginVerdict
from tests.gates import open_circuit
from tests.integration.booked_orders import Ledger, json_lines, orderrelay
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

    from orderrelay_workers.simulator import RunningSimulator

_COMPANY = {"COMPANY_API_KEY": "k1-secret", "CONNECT_API_KEY": "k2-secret", "LICENSE": "l-1", "USER_NAME": "the-user"}
_SECRETS = ("k1-secret", "k2-secret", "p-secret", "hunter2", "the-user")


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """A vendor that takes one password."""
    with running_simulator(credentials=Credentials(password="p-secret"), login_failure_seconds=0.0) as running:
        yield running


@dataclass
class Place:
    """Everything that the doctor looks at."""

    ledger: Ledger
    redis: redis.Redis
    gate: Gate
    simulator: RunningSimulator
    patch: pytest.MonkeyPatch


@pytest.fixture
def well(
    database_url: str,
    redis_client: redis.Redis,
    redis_url: str,
    simulator: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """A place where all is well: one company, a worker that beats, gate seeded, vendor up."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.setenv("ORDERRELAY_BASE_URL", simulator.url)
    for name, value in {**_COMPANY, "PASSWORD": "p-secret"}.items():
        monkeypatch.setenv(f"ORDERRELAY_COMPANIES__ACME__{name}", value)
    ledger = Ledger(database_url)
    ledger_id = identity.ledger_id(ledger.engine)
    companies.register(ledger.engine, ledger_id, "acme", settings_of("k1-secret"), actor="worker test:1")
    identity.check(redis_client, ledger_id)
    life = liveness.LifeSign(ledger.engine, uuid.uuid4(), "host:1", "0.1.0")
    life.begin()
    gate = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=40.0)
    gate.seed("acme", Limits(1000, 1, 50), None, {})
    yield Place(ledger, redis_client, gate, simulator, monkeypatch)
    life.end()
    ledger.engine.dispose()


def settings_of(key: str) -> CompanySettings:
    """A company's settings with this company key."""
    return CompanySettings(
        company_api_key=SecretStr(key),
        connect_api_key=SecretStr("k2-secret"),
        license="l-1",
        user_name=SecretStr("the-user"),
        password=SecretStr("p-secret"),
    )


def findings(expected: int) -> list[Finding]:
    """What the doctor finds; it must end with this code and show no secret."""
    result = orderrelay("doctor", "--json")
    assert result.exit_code == expected, result.output
    assert not any(secret in result.output for secret in _SECRETS)
    *lines, counts = json_lines(result)
    found = [Finding(**{**line, "level": Level(line["level"])}) for line in lines]
    assert counts == {str(level): sum(f.level is level for f in found) for level in Level}
    return found


def problems(found: list[Finding]) -> list[tuple[str, str]]:
    """Subject and text of the problems."""
    return [(f.subject, f.text) for f in found if f.level is Level.PROBLEM]


def the(found: list[Finding], subject: str, words: str) -> Finding:
    """The finding of a subject that says these words."""
    said = [f for f in found if f.subject == subject and words in f.text]
    assert len(said) == 1, [(f.subject, f.text) for f in found]
    return said[0]


def test_all_is_well(well: Place) -> None:
    """With everything in place there is no problem; the test server's lax fsync on PostgreSQL aside."""
    lax = well.ledger.engine.dialect.name == "postgresql"
    found = findings(1 if lax else 0)
    assert {subject for subject, _ in problems(found)} == ({"database"} if lax else set())
    for subject, words in {
        "settings": "valid; companies: acme",
        "redis": "maxmemory-policy is noeviction",
        "ledger": "belong together",
        "workers": "1 alive (host:1), version 0.1.0",
        "clocks": "agree within 2 s",
    }.items():
        assert the(found, subject, words).level is Level.OK
    for words in ("bound to the company key", "its gate is open", "look-up is set", "login at"):
        assert the(found, "acme", words).level is Level.OK


def test_a_redis_that_nobody_has_marked(well: Place) -> None:
    """Before the first worker that is well; where workers run it is a wrong address, which the doctor mentions."""
    expected = 1 if well.ledger.engine.dialect.name == "postgresql" else 0  # as above
    well.redis.delete(keys.LEDGER_ID)
    assert "If workers run already, theirs are others" in the(findings(expected), "ledger", "not joined yet").text


def test_it_changes_nothing(well: Place) -> None:
    """Nothing stays in Redis of the login that the doctor tries, and the gate counts none in flight."""
    orderrelay("doctor")
    state = well.gate.state("acme")
    assert state is not None
    assert state.in_flight == 0
    assert well.redis.hlen(keys.gate_in_flight("acme")) <= 1
    assert well.redis.exists(keys.token("acme"), keys.login_lock("acme")) == 0


def test_findings_for_people(well: Place) -> None:
    """A line tells level, subject and what was found; the last one counts."""
    result = orderrelay("doctor")
    assert any(line.split()[:2] == ["ok", "settings"] for line in result.stdout.splitlines())
    assert result.stdout.splitlines()[-1].endswith("problems")
    assert not any(secret in result.output for secret in _SECRETS)


def test_a_refused_login_is_a_problem(well: Place) -> None:
    """A wrong password is told, with the settings to check."""
    well.patch.setenv("ORDERRELAY_COMPANIES__ACME__PASSWORD", "hunter2")
    finding = the(findings(1), "acme", "the vendor refuses the login")
    assert finding.level is Level.PROBLEM
    assert "ORDERRELAY_COMPANIES__ACME__" in finding.to_do


def test_a_login_that_fails_here_closes_nothing_for_the_workers(well: Place) -> None:
    """A wrong address in the doctor's own settings does not hold their logins."""
    with well.patch.context() as patch:
        patch.setenv("ORDERRELAY_BASE_URL", f"http://127.0.0.1:{free_port()}")
        for _ in range(3):
            the(findings(1), "acme", "does not work: not sent: connection refused")
    the(orderrelay_findings(), "acme", "its gate is open")
    the(orderrelay_findings(), "acme", "login at")


def test_a_login_is_asked_for_at_the_gate(well: Place) -> None:
    """While the gate holds logins, the doctor tries none; as the one probe it tells how that ended."""
    well.gate.admit("acme", Kind.LOGIN, 1)
    for _ in range(2):
        well.gate.report("acme", Kind.LOGIN, Report(finished=1, unwell=1))
    the(findings(1), "acme", "login requests are held, as the vendor is unwell")
    the(findings(1), "acme", "login was not tried, as the gate says held")


def test_a_fixed_token_is_not_tried(well: Place) -> None:
    """With a fixed TOKEN there is no login."""
    well.patch.setenv("ORDERRELAY_COMPANIES__ACME__TOKEN", "hunter2")
    assert the(orderrelay_findings(), "acme", "has a fixed TOKEN").level is Level.OK


def orderrelay_findings() -> list[Finding]:
    """What the doctor finds, however it ends."""
    *lines, _ = json_lines(orderrelay("doctor", "--json"))
    return [Finding(**{**line, "level": Level(line["level"])}) for line in lines]


def test_without_redis_the_rest_is_told(well: Place) -> None:
    """Redis away: 3, and all else that can be known; nothing is sent to the vendor past the gate."""
    well.patch.setenv("ORDERRELAY_REDIS_URL", f"redis://u:hunter2@127.0.0.1:{free_port()}/0")
    found = findings(3)
    assert the(found, "redis", "does not answer").unreachable
    assert the(found, "workers", "1 alive").level is Level.OK
    assert the(found, "acme", "login was not tried, as Redis is away").level is Level.WARNING


def test_without_a_database_the_rest_is_told(well: Place) -> None:
    """Database away: 3, and Redis and logins are told."""
    well.patch.setenv("ORDERRELAY_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/orders")
    found = findings(3)
    assert the(found, "database", "is not usable").unreachable
    assert the(found, "acme", "login at").level is Level.OK


def test_a_broker_of_its_own_is_looked_at(well: Place) -> None:
    """Where BROKER_URL is another address, it is told whether it answers."""
    well.patch.setenv("ORDERRELAY_BROKER_URL", f"redis://u:hunter2@127.0.0.1:{free_port()}/0")
    assert the(findings(3), "broker", "does not answer").unreachable


def test_an_eviction_policy_is_a_problem(well: Place) -> None:
    """A Redis that throws keys away would throw accepted orders away."""
    well.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        the(findings(1), "redis", "maxmemory-policy is allkeys-lru")
    finally:
        well.redis.config_set("maxmemory-policy", "noeviction")


def test_another_ledger_is_a_problem(well: Place) -> None:
    """Two ledgers behind one intake would create orders twice."""
    well.redis.set(keys.LEDGER_ID, uuid.uuid4().hex)
    assert the(findings(1), "ledger", "orders could be created twice").level is Level.PROBLEM


def test_a_changed_key_is_a_problem(well: Place) -> None:
    """A company key other than the one that the alias is bound to is told, with what to do."""
    well.patch.setenv("ORDERRELAY_COMPANIES__ACME__COMPANY_API_KEY", "hunter2")
    assert "--same-company" in the(findings(1), "acme", "bound to another company key").to_do


def test_a_pause_is_a_warning_with_its_reason(well: Place) -> None:
    """A pause of a person is told with who, why, and how to end it; the login waits as well."""
    companies.pause(well.ledger.engine, "acme", "stock-taking", actor="me@here")
    well.gate.pause("acme", "stock-taking")
    found = orderrelay_findings()
    finding = the(found, "acme", "by me@here: stock-taking")
    assert (finding.level, finding.to_do) == (Level.WARNING, "go on with: orderrelay resume acme")
    the(found, "acme", "login was not tried, as the gate says paused")


def test_a_held_company_is_a_problem(well: Place) -> None:
    """An open circuit is told with its reason."""
    open_circuit(well.gate, Kind.ORDER)
    assert the(findings(1), "acme", "order requests are held").level is Level.PROBLEM


def test_an_unseeded_gate_is_a_warning_and_no_login_is_lost(well: Place) -> None:
    """Before the first worker the gate is closed, and the credentials can be tried all the same."""
    well.redis.delete(keys.gate("acme"), keys.gate_in_flight("acme"))
    found = orderrelay_findings()
    assert the(found, "acme", "its gate is closed until a worker opens it").level is Level.WARNING
    assert the(found, "acme", "login at").level is Level.OK
    assert well.redis.exists(keys.gate("acme"), keys.gate_in_flight("acme")) == 0


def test_no_look_up_is_a_warning(well: Place) -> None:
    """Without a look-up, orders of which nobody knows need a person."""
    well.patch.setenv("ORDERRELAY_LOOKUP_PATH", "")
    assert the(orderrelay_findings(), "acme", "no look-up is set").level is Level.WARNING


def test_no_database_file_is_fine_and_none_is_made(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking makes no SQLite ledger; the first worker does."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    assert the(findings(1), "database", "is made when the first worker starts").level is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_no_tables_are_a_problem(redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database without tables is told with what to run."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", postgres_url)
    assert the(findings(1), "database", "its tables are at nothing").to_do == "run: orderrelay init"


def test_wrong_settings_end_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wrong setting is a problem of its own, and nothing else is looked at."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", "http://u:hunter2@host")
    monkeypatch.setenv("ORDERRELAY_MAX_ATTEMPTS", "0")
    result = orderrelay("doctor", "--json")
    *lines, counts = json_lines(result)
    assert (result.exit_code, counts["problem"]) == (2, 2)
    assert {line["subject"] for line in lines} == {"settings"}
    assert "hunter2" not in json.dumps(lines)


# --- judgements

_REDIS = of_redis.RedisFacts("7.2.4", "master", True, "always", False, True, "noeviction")


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, Level.OK, "a crash loses none"),
        ({"append_fsync": "everysec"}, Level.OK, "may lose the last second"),
        ({"append_fsync": "no"}, Level.WARNING, "may lose half a minute"),
        ({"append_fsync": None}, Level.WARNING, "appendfsync is not told"),
        ({"append_only": False}, Level.WARNING, "since the last snapshot"),
        ({"append_only": False, "snapshots": False}, Level.WARNING, "orders accepted and not yet booked are lost"),
        ({"last_append_failed": True}, Level.PROBLEM, "last write to the append-only file failed"),
        ({"role": "slave"}, Level.PROBLEM, "is a replica"),
        ({"eviction": None}, Level.WARNING, "does not tell its maxmemory-policy"),
        ({"version": "6.0.16"}, Level.PROBLEM, "is too old"),
        ({"version": "6.2.0"}, Level.OK, "version 6.2.0"),
    ],
)
def test_what_accepted_is_worth(changes: dict[str, object], level: Level, words: str) -> None:
    """What Redis keeps decides what "accepted" is worth, and it is said in words."""
    found = of_redis.judge(dataclasses.replace(_REDIS, **changes), "redis://host")  # type: ignore[arg-type]  # a table of changes
    assert the(found, "redis", words).level is level


@pytest.mark.parametrize(
    ("changes", "asked", "level", "words"),
    [
        ({"replicas": 2}, of_redis.Asked(), Level.OK, "a crash loses none; a failover may lose"),
        ({"replicas": 2}, of_redis.Asked(1), Level.OK, "a crash loses none; an accepted order is at 1 of 2 replicas"),
        ({"replicas": 1}, of_redis.Asked(2), Level.PROBLEM, "is 2, but 1 replicas are connected"),
        ({"append_only": False}, of_redis.Asked(on_disk=True), Level.PROBLEM, "ACCEPT_ON_DISK is set, but"),
        ({"append_fsync": "everysec"}, of_redis.Asked(on_disk=True), Level.PROBLEM, "ACCEPT_ON_DISK is set, but"),
        ({"append_fsync": None, "version": "7.4.1"}, of_redis.Asked(on_disk=True), Level.PROBLEM, "is set, but"),
        ({"version": "7.0.15"}, of_redis.Asked(on_disk=True), Level.PROBLEM, "ACCEPT_ON_DISK is set, but"),
    ],
)
def test_what_producers_ask_is_weighed(
    changes: dict[str, object], asked: of_redis.Asked, level: Level, words: str
) -> None:
    """What a failover may lose is told with what a crash may; what Redis cannot do for producers is a problem."""
    found = of_redis.judge(dataclasses.replace(_REDIS, **changes), "redis://host", asked)  # type: ignore[arg-type]  # as above
    assert the(found, "redis", words).level is level


@pytest.mark.parametrize(
    "changes", [{}, {"append_fsync": "everysec", "version": "8.2.1"}, {"is_valkey": True, "version": "7.2.4"}]
)
def test_what_redis_can_do_is_no_problem(changes: dict[str, object]) -> None:
    """Where producers can be told what is on disk, asking for that is well."""
    found = of_redis.judge(dataclasses.replace(_REDIS, **changes), "redis://host", of_redis.Asked(on_disk=True))  # type: ignore[arg-type]  # as above
    assert [finding.level for finding in found if finding.level is Level.PROBLEM] == []


_SERVER = ServerFacts("16.4", "on", "on", "on", False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fsync": "off"}, "fsync is off"),
        ({"full_page_writes": "off"}, "full_page_writes is off"),
        ({"synchronous_commit": "off"}, "synchronous_commit is off"),
        ({"synchronous_commit": "local"}, "synchronous_commit is local"),
        ({"is_standby": True}, "is a standby"),
    ],
)
def test_a_server_that_can_lose_a_commit_is_a_problem(changes: dict[str, object], words: str) -> None:
    """What is booked must survive a power cut."""
    found = of_database.judge_server(dataclasses.replace(_SERVER, **changes), "postgresql://host")  # type: ignore[arg-type]  # a table of changes
    assert the(found, "database", words).level is Level.PROBLEM
    assert not problems(of_database.judge_server(_SERVER, "postgresql://host"))


@pytest.mark.parametrize(
    ("ahead", "level"), [({"Redis": -1.9}, Level.OK), ({"Redis": 1.5, "the database": -1.0}, Level.WARNING)]
)
def test_clocks_far_apart_are_a_warning(ahead: dict[str, float], level: Level) -> None:
    """More than two seconds between any two clocks are told."""
    (finding,) = of_clocks.judge_clocks(ahead)
    assert finding.level is level


def test_no_worker_is_a_warning() -> None:
    """Accepted orders wait; a worker that ended without a word is told."""
    finding = of_database.judge_workers(WorkerFacts((), 2))
    assert (finding.level, finding.to_do) == (Level.WARNING, "start one with: orderrelay worker")
    assert "2 ended without a word" in finding.text


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("token", Level.OK),
        ("refused", Level.PROBLEM),
        ("failing", Level.PROBLEM),
        ("not_sent", Level.PROBLEM),
        ("misconfigured", Level.PROBLEM),
        ("throttled", Level.WARNING),
    ],
)
def test_what_a_login_means(kind: str, level: Level) -> None:
    """Every end of a login is judged."""
    verdict = LoginVerdict(None, kind, "reason")  # type: ignore[arg-type]  # a table of kinds
    assert of_companies.judge_login("acme", verdict, "https://host").level is level


def test_a_company_that_only_the_ledger_has_is_a_warning(well: Place) -> None:
    """A misspelt alias of a producer shows as a company that nobody serves."""
    companies.ensure(well.ledger.engine, ["amce"])
    assert the(orderrelay_findings(), "amce", "not set here").level is Level.WARNING


def test_no_company_is_a_problem() -> None:
    """Without companies no worker starts."""
    (finding,) = of_companies.judge_companies(WorkerSettings())
    assert finding.level is Level.PROBLEM
    assert "ORDERRELAY_COMPANIES__<ALIAS>__COMPANY_API_KEY" in finding.text


def test_the_examples_values_are_a_problem() -> None:
    """A settings file that was copied and not filled in is told value by value, before any vendor is asked."""
    change_me = SecretStr("change-me")
    company = CompanySettings(company_api_key=SecretStr("k"), connect_api_key=change_me, token=change_me)
    found = of_companies.judge_companies(WorkerSettings(companies={"acme": company}))
    assert [finding.text.split()[0] for finding in found] == [
        "ORDERRELAY_COMPANIES__ACME__CONNECT_API_KEY",
        "ORDERRELAY_COMPANIES__ACME__TOKEN",
    ]


def test_what_waits_for_a_person_is_a_warning(well: Place) -> None:
    """A parked order is told, with the command that lists them."""
    well.ledger.book("parked-1")
    well.ledger.settle(well.ledger.claim("acme", lease_seconds=0.0), b'{"Success":true,"Keys":null}')
    for _ in range(2):
        well.ledger.look_up(b"[]")
    finding = the(orderrelay_findings(), "ledger", "1 order is parked")
    assert (finding.level, "orderrelay parked list" in finding.to_do) == (Level.WARNING, True)


def test_orders_that_no_worker_serves_are_a_problem(well: Place) -> None:
    """Booked orders of a company that no worker has the credentials of wait for ever, so it is told how to end that."""
    companies.ensure(well.ledger.engine, ["amce"])
    well.ledger.book("A-1", "A-2", company="amce")
    with well.ledger.engine.begin() as connection:
        connection.execute(sa.update(schema.job).values(due_at=datetime.now(UTC) - timedelta(minutes=3)))
    finding = the(findings(1), "amce", "2 orders are booked and due for 3 min, but no running worker serves")
    assert "ORDERRELAY_COMPANIES__AMCE__" in finding.to_do
