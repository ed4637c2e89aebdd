"""The settings of workers: companies, addresses, and what is said when they are wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.settings import SettingsInvalid, describe
from orderrelay_workers.settings import (
    CompanySettings,
    WorkerSettings,
    load_worker_settings,
    private_folder,
    require_companies,
    secret_values,
    state_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    SetAll = Callable[..., None]

ACME = {
    "COMPANIES__ACME__COMPANY_API_KEY": "company-key-of-acme",
    "COMPANIES__ACME__CONNECT_API_KEY": "connect-key-of-acme",
    "COMPANIES__ACME__TOKEN": "token-of-acme",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("ORDERRELAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> SetAll:
    """Set variables, named without the prefix."""

    def set_all(**names: str) -> None:
        for name, text in names.items():
            monkeypatch.setenv(f"ORDERRELAY_{name}", text)

    return set_all


def problems() -> tuple[str, ...]:
    """The lines with which loading fails."""
    with pytest.raises(SettingsInvalid) as caught:
        load_worker_settings()
    return caught.value.lines


def test_defaults(tmp_path: Path) -> None:
    """Nothing set gives the documented defaults."""
    settings = load_worker_settings()
    assert settings.broker_url == settings.redis_url
    assert settings.database_url == f"sqlite:///{tmp_path}/state/orderrelay/orderrelay.db"
    assert settings.spool_folder == tmp_path / "state" / "orderrelay" / "spool"
    assert settings.base_url == "https://apiexternal.softone.se"
    assert (settings.order_path, settings.order_body) == ("Economy/Billing/Orders", "array")
    assert settings.login_path == "Login/Token/"
    assert settings.lookup_path == "Economy/Billing/InvoiceIdsFromExternalId/"
    assert (settings.request_timeout_seconds, settings.start_fence_seconds, settings.settling_seconds) == (30, 5, 120)
    assert (settings.max_attempts, settings.backoff_first_seconds, settings.backoff_cap_seconds) == (10, 5, 3600)
    assert (settings.lookup_failing_seconds, settings.lease_seconds) == (3600, 40)
    assert settings.retryable_error_numbers == frozenset()
    assert settings.orders_per_request == 1
    assert (settings.log_format, settings.log_level) == ("console", "INFO")
    assert settings.companies == {}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"ORDER_BODY": "object"}, ["ORDERRELAY_ORDER_BODY: must not be object", "allowed: array"]),
        ({"LOOKUP_PATH": ""}, ["ORDERRELAY_LOOKUP_PATH: must not be empty", "would be parked"]),
        ({"MAX_ATTEMPTS": "1"}, ["ORDERRELAY_MAX_ATTEMPTS: is 1", "allowed: at least 2"]),
    ],
)
def test_several_orders_in_a_request_need_a_way_out(
    environment: SetAll, names: dict[str, str], words: list[str]
) -> None:  # fmt: skip
    """An array to hold them, a look-up for what is left in doubt, and another attempt after that."""
    environment(**names)
    load_worker_settings()
    environment(ORDERS_PER_REQUEST="10")
    [line] = problems()
    assert all(word in line for word in [*words, "with ORDERRELAY_ORDERS_PER_REQUEST above 1"])


@pytest.mark.parametrize("text", ["0", "101", "ten"])
def test_orders_per_request_has_bounds(environment: SetAll, text: str) -> None:
    """From 1 to 100."""
    environment(ORDERS_PER_REQUEST=text)
    [line] = problems()
    assert line.startswith("ORDERRELAY_ORDERS_PER_REQUEST: ")


def test_nothing_is_created_at_load(tmp_path: Path) -> None:
    """Loading settings leaves no folder behind."""
    load_worker_settings()
    assert list(tmp_path.iterdir()) == []


def test_private_folder(tmp_path: Path) -> None:
    """A state folder is made for this user alone."""
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_relative_state_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state folder never depends on the working folder."""
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    assert state_folder().is_absolute()
    assert "here" not in state_folder().parts


def test_company(environment: SetAll) -> None:
    """A company is read from nested names, its alias normalised, with the documented defaults."""
    environment(**ACME)
    acme = load_worker_settings().companies["acme"]
    assert acme.company_api_key.get_secret_value() == "company-key-of-acme"
    assert (acme.rate_per_second, acme.burst, acme.max_in_flight) == (10, 1, 50)
    assert (acme.import_id, acme.special_functionalities) == (0, "")
    assert (acme.learn_rate_from, acme.retry_share, acme.lookup_weight, acme.login_weight) == (None, 0.2, 1, 1)
    assert (acme.time_zone, acme.closed_hours, acme.maintenance) == ("UTC", "", "")


def test_secrets_folder_in_any_case(environment: SetAll, tmp_path: Path) -> None:
    """Files complete a company, named in any case, with or without the prefix; their newline is no secret."""
    names = ACME | {"COMPANIES__ACME__LICENSE": "1", "COMPANIES__ACME__USER_NAME": "ann"}
    del names["COMPANIES__ACME__TOKEN"]
    environment(**names, SECRETS_DIR=str(tmp_path))
    (tmp_path / "companies__acme__password").write_text("pass word\r\n")
    (tmp_path / "ORDERRELAY_COMPANIES__Acme__CONNECT_API_KEY").write_text("loses\n")
    (tmp_path / "database_password_of_another_service").write_text("x")
    with pytest.raises(SettingsInvalid, match="the aliases 'Acme' and 'acme' mean the same company"):
        load_worker_settings()
    (tmp_path / "ORDERRELAY_COMPANIES__Acme__CONNECT_API_KEY").rename(tmp_path / "companies__acme__connect_api_key")
    acme = load_worker_settings().companies["acme"]
    assert acme.password is not None
    assert acme.password.get_secret_value() == "pass word"
    assert acme.connect_api_key.get_secret_value() == "connect-key-of-acme"


def test_alias_may_hold_two_underscores(environment: SetAll) -> None:
    """The alias ends at the last double underscore."""
    environment(**{name.replace("ACME", "AC__ME"): text for name, text in ACME.items()})
    assert list(load_worker_settings().companies) == ["ac__me"]


def test_aliases_that_mean_the_same(environment: SetAll) -> None:
    """Two spellings of one alias are refused, and both are named."""
    environment(**ACME, COMPANIES__acme__BURST="2")
    (line,) = problems()
    assert line == (
        "ORDERRELAY_COMPANIES: the aliases 'ACME' and 'acme' mean the same company 'acme' "
        "(allowed: one spelling for all settings of a company)"
    )


def test_aliases_that_mean_the_same_in_code() -> None:
    """Settings made in code are held to the same rule."""
    company = CompanySettings.model_validate({"company_api_key": "a", "connect_api_key": "b", "token": "c"})
    with pytest.raises(ValueError, match="'Acme' and 'acme ' mean the same company"):
        WorkerSettings(companies={"Acme": company, "acme ": company})


def test_two_aliases_on_one_key(environment: SetAll) -> None:
    """One company key under two aliases is refused: both are named, the key is not shown."""
    environment(**ACME, **{name.replace("ACME", "SECOND"): text for name, text in ACME.items()})
    (line,) = problems()
    assert line.startswith("ORDERRELAY_COMPANIES__SECOND__COMPANY_API_KEY: is the same key for the aliases ")
    assert "'acme', 'second'" in line
    assert "company-key-of-acme" not in line


def test_neither_token_nor_login(environment: SetAll) -> None:
    """A company without a way to log in is told each name that is missing, with other mistakes."""
    environment(COMPANIES__ACME__COMPANY_API_KEY="k", COMPANIES__ACME__PASSWORD="hunter2", COMPANIES__ACME__BURST="0")
    names = [line.split(":")[0].rpartition("__")[2] for line in problems()]
    assert names == ["CONNECT_API_KEY", "BURST", "LICENSE", "USER_NAME"]


def test_a_wrong_alias(environment: SetAll) -> None:
    """An alias with other characters is refused in its author's words."""
    environment(**{name.replace("ACME", "Å B"): text for name, text in ACME.items()})
    assert problems()[0].startswith("ORDERRELAY_COMPANIES__Å B: 'Å B' is no company alias: use 1-32 of ")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MAX_ATTEMPT", "did you mean ORDERRELAY_MAX_ATTEMPTS?"),
        ("BURST", "did you mean ORDERRELAY_COMPANIES__<ALIAS>__BURST?"),
        ("COMPANIES__ACME__TOKE", "did you mean ORDERRELAY_COMPANIES__ACME__TOKEN?"),
        ("COMPANIES_ACME_TOKEN", "did you mean ORDERRELAY_COMPANIES__<ALIAS>__TOKEN?"),
        ("ENVFILE", "did you mean ORDERRELAY_ENV_FILE?"),
        ("QQQ", "nothing like it is known; remove it"),
    ],
)
def test_unknown_names(environment: SetAll, name: str, hint: str) -> None:
    """An unknown variable stops the start and tells the nearest known one; its value is not shown."""
    environment(**ACME, **{name: "hunter2"})
    assert problems() == (f"ORDERRELAY_{name}: is no setting ({hint})",)


def test_names_for_tests_are_ignored(environment: SetAll) -> None:
    """ORDERRELAY_TEST_… belongs to the test suite."""
    environment(TEST_REDIS_SERVER="x")
    assert load_worker_settings().companies == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("START_FENCE_SECONDS", "-1"),
        ("SETTLING_SECONDS", "nan"),
        ("LOOKUP_FAILING_SECONDS", "inf"),
        ("MAX_ATTEMPTS", "0"),
        ("MAX_ATTEMPTS", "1.5"),
        ("BACKOFF_FIRST_SECONDS", "3601"),
        ("RETRYABLE_ERROR_NUMBERS", "1,x"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("ORDER_BODY", "list"),
        ("ORDER_PATH", "Orders?x=1"),
        ("LOOKUP_PATH", "https://elsewhere/x"),
        ("BROKER_URL", "amqp://u:hunter2@host"),
        ("BASE_URL", "ftp://host"),
        ("BASE_URL", "https://u:hunter2@host"),
        ("BASE_URL", "https://host?key=hunter2"),
        ("BASE_URL", "https://"),
        ("BASE_URL", "https://host:99999"),
        ("DATABASE_URL", "mysql://u:hunter2@host/x"),
        ("DATABASE_URL", "postgresql://u:hun/ter2@host:x/y"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:////a.db?mode=ro"),
        ("COMPANIES__ACME__RATE_PER_SECOND", "0"),
        ("COMPANIES__ACME__MAX_IN_FLIGHT", "0"),
        ("COMPANIES__ACME__LEARN_RATE_FROM", "0"),
        ("COMPANIES__ACME__LEARN_RATE_FROM", "fast"),
        ("COMPANIES__ACME__LEARN_RATE_FROM", "10"),
        ("COMPANIES__ACME__RETRY_SHARE", "1.1"),
        ("COMPANIES__ACME__RETRY_SHARE", "nan"),
        ("COMPANIES__ACME__LOOKUP_WEIGHT", "-1"),
        ("COMPANIES__ACME__LOGIN_WEIGHT", "101"),
        ("COMPANIES__ACME__TIME_ZONE", "Stockholm"),
        ("COMPANIES__ACME__CLOSED_HOURS", "22:00-06:00"),
        ("COMPANIES__ACME__CLOSED_HOURS", "daily 00:00-24:00"),
        ("COMPANIES__ACME__MAINTENANCE", "2026-12-24"),
        ("COMPANIES__ACME__IMPORT_ID", "-1"),
    ],
)
def test_wrong_values(environment: SetAll, name: str, text: str) -> None:
    """A wrong value has one line, which names the variable and what is allowed."""
    environment(**ACME, **{name: text})
    (line,) = problems()
    assert line.startswith(f"ORDERRELAY_{name}: ")
    assert "(allowed: " in line
    assert "hun" not in line


def test_hours_say_what_is_wrong_with_them(environment: SetAll) -> None:
    """Each wrong span is told, with those of other settings; the line says what is allowed."""
    environment(
        **ACME,
        COMPANIES__ACME__CLOSED_HOURS="mon 22-06, xyz 01:00-02:00",
        COMPANIES__ACME__TIME_ZONE="Europe/Stokholm",
        COMPANIES__ACME__LEARN_RATE_FROM="20",
    )
    zone, hours, floor = problems()
    assert zone.startswith(
        "ORDERRELAY_COMPANIES__ACME__TIME_ZONE: 'Europe/Stokholm' is no known time zone; did you mean Europe/Stockholm?"
    )
    assert hours.startswith(
        "ORDERRELAY_COMPANIES__ACME__CLOSED_HOURS: 'mon 22-06' is no span of closed hours; "
        "'xyz 01:00-02:00' has 'xyz', which is no day (days are mon, tue, wed, thu, fri, sat, sun) "
        "(allowed: spans with commas between them, such as "
    )
    assert floor == (
        "ORDERRELAY_COMPANIES__ACME__LEARN_RATE_FROM: is not below RATE_PER_SECOND "
        "(allowed: a number above 0 and below 10; empty: the rate is not learned)"
    )


def test_a_schedule_is_taken_as_people_write_it(environment: SetAll) -> None:
    """Spaces do not matter, and a floor below the rate is good."""
    environment(
        **ACME,
        COMPANIES__ACME__CLOSED_HOURS=" mon-fri  22:00-06:00,\n sun 00:00-24:00",
        COMPANIES__ACME__TIME_ZONE=" Europe/Stockholm ",
        COMPANIES__ACME__MAINTENANCE="2026-12-24T18:00 / 2026-12-26T06:00",
        COMPANIES__ACME__LEARN_RATE_FROM="9.5",
    )
    acme = load_worker_settings().companies["acme"]
    assert acme.closed_hours == "mon-fri 22:00-06:00, sun 00:00-24:00"
    assert (acme.time_zone, acme.maintenance) == ("Europe/Stockholm", "2026-12-24T18:00 / 2026-12-26T06:00")


def test_relative_sqlite_path(environment: SetAll) -> None:
    """A relative path is refused, with the reason."""
    environment(DATABASE_URL="sqlite:///orders.db")
    (line,) = problems()
    assert "has a relative path; two processes started in different folders would use two ledgers" in line


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://u:p@host/name", "postgresql+psycopg://u:p@host/name"),
        ("postgres://host/name?sslmode=require", "postgresql+psycopg://host/name?sslmode=require"),
        ("postgresql+psycopg://host/name", "postgresql+psycopg://host/name"),
        ("sqlite:////var/x.db", "sqlite:////var/x.db"),
        ("sqlite+pysqlite:////var/x.db", "sqlite:////var/x.db"),
        ("sqlite:///C:/x.db", "sqlite:///C:/x.db"),
    ],
)
def test_database_addresses(environment: SetAll, given: str, used: str) -> None:
    """The ledger's address comes out as SQLAlchemy needs it."""
    environment(DATABASE_URL=given)
    assert load_worker_settings().database_url == used


def test_lookup_can_be_switched_off(environment: SetAll) -> None:
    """An empty look-up path is a value of its own."""
    environment(LOOKUP_PATH="")
    assert load_worker_settings().lookup_path == ""


def test_error_numbers(environment: SetAll) -> None:
    """Error numbers are a list with commas; the log level is read in any case."""
    environment(RETRYABLE_ERROR_NUMBERS=" 16, 1401,", LOG_LEVEL="debug", BASE_URL="http://host/api/")
    settings = load_worker_settings()
    assert settings.retryable_error_numbers == {16, 1401}
    assert (settings.log_level, settings.base_url) == ("DEBUG", "http://host/api")


def test_companies_required() -> None:
    """What speaks to the vendor says which settings make a company."""
    with pytest.raises(SettingsInvalid, match=r"no company is set .*ORDERRELAY_COMPANIES__<ALIAS>__COMPANY_API_KEY"):
        require_companies(load_worker_settings())


def test_no_secret_in_repr(environment: SetAll) -> None:
    """Settings can be printed; all that must not be shown is known to the log mask."""
    environment(**ACME, DATABASE_URL="postgresql://u:db-password@host/x", REDIS_URL="redis://:redis-password@host")
    settings = load_worker_settings()
    values = secret_values(settings)
    assert values == {*ACME.values(), "db-password", "redis-password"}
    assert [value for value in values if value in repr(settings) + str(settings)] == []


def test_everything_is_described() -> None:
    """Each setting has a description, and a company's stand under its alias."""
    rows = {row.name: row for row in describe(WorkerSettings)}
    assert all(row.description for row in rows.values())
    assert rows["ORDERRELAY_COMPANIES__<ALIAS>__TOKEN"].type == "secret"
    assert rows["ORDERRELAY_COMPANIES__<ALIAS>__COMPANY_API_KEY"].type == "secret"
    assert rows["ORDERRELAY_LOG_FORMAT"].type == "console|json"
    assert rows["ORDERRELAY_BACKOFF_CAP_SECONDS"].default == "3600"
