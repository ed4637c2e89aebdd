"""Companies: an alias stands for one company key, and pauses are kept until what caused them is gone."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from orderrelay_workers.gate import Limits
from orderrelay_workers.ledger import companies, identity, schema
from orderrelay_workers.ledger.companies import COMPANY_KEY_CHANGED, CREDENTIALS, CompanyKeyTaken
from orderrelay_workers.limits import limits_of, schedule_of
from orderrelay_workers.settings import CompanySettings
from tests.ledgers import ACME, ACTOR, Ledger

LEDGER_ID = uuid.UUID(int=1)


def keys(company_api_key: str = "key", **more: object) -> CompanySettings:
    """A company's settings."""
    fixed = {"company_api_key": company_api_key, "connect_api_key": "c", "token": "t"}
    return CompanySettings.model_validate(fixed | more)


def register(ledger: Ledger, settings: CompanySettings, alias: str = ACME) -> companies.Company:
    """Start a worker that is configured for a company."""
    return companies.register(ledger.engine, LEDGER_ID, alias, settings, actor=ACTOR)


def test_an_alias_is_bound_by_its_first_worker(ledger: Ledger) -> None:
    """The first worker that is configured for an alias binds it to its company key; the next agrees."""
    assert companies.by_alias(ledger.engine)[ACME].key_digest is None
    bound = register(ledger, keys(rate_per_second=3))
    assert (bound.key_digest, bound.rate_per_second) == (companies.key_digest(LEDGER_ID, "key"), 3.0)
    assert register(ledger, keys()).paused_reason is None
    assert ledger.events() == []


def test_one_key_has_one_alias(ledger: Ledger) -> None:
    """Two aliases for one company key stop the start, naming both and what to do."""
    register(ledger, keys())
    with pytest.raises(CompanyKeyTaken, match=r"'acme' and 'other'.*Use one alias"):
        register(ledger, keys(), alias="other")


def test_a_changed_key_pauses(ledger: Ledger) -> None:
    """Another company key under an alias pauses that company, and leaves it bound to the first."""
    register(ledger, keys("first"))
    assert register(ledger, keys("second")).paused_reason == COMPANY_KEY_CHANGED
    register(ledger, keys("second"))
    assert companies.by_alias(ledger.engine)[ACME].key_digest == companies.key_digest(LEDGER_ID, "first")
    assert ledger.events() == ["company_paused!"]


def test_same_company_binds_anew(ledger: Ledger) -> None:
    """A person who says that it is the same company resumes it under the new key."""
    register(ledger, keys("first"))
    register(ledger, keys("second"))
    assert companies.resume(ledger.engine, ACME, actor=ACTOR, new_key_digest=companies.key_digest(LEDGER_ID, "second"))
    assert register(ledger, keys("second")).paused_reason is None


def test_other_secrets_rotate_freely(ledger: Ledger) -> None:
    """All secrets but the company key may change without a pause."""
    register(ledger, keys(user_name="a", password="b", license="l"))
    assert register(ledger, keys(connect_api_key="other", token="other", password="other")).paused_reason is None


def test_new_credentials_end_their_pause(ledger: Ledger) -> None:
    """A pause for bad credentials ends when a worker starts with others, not when it starts with the same."""
    register(ledger, keys(password="old"))
    assert companies.pause(ledger.engine, ACME, CREDENTIALS, actor=ACTOR, alarm=True)
    assert register(ledger, keys(password="old")).paused_reason == CREDENTIALS
    assert register(ledger, keys(password="new")).paused_reason is None
    assert ledger.events() == ["company_paused!", "company_resumed"]


def test_a_persons_pause_stays(ledger: Ledger) -> None:
    """A pause that a person set outlasts new credentials and a second pause; the first reason stays."""
    register(ledger, keys())
    assert companies.pause(ledger.engine, ACME, "stocktaking", actor="Ada")
    assert not companies.pause(ledger.engine, ACME, CREDENTIALS, actor=ACTOR)
    assert register(ledger, keys(token="new")).paused_reason == "stocktaking"
    assert companies.resume(ledger.engine, ACME, actor="Ada")
    assert not companies.resume(ledger.engine, ACME, actor="Ada")
    assert not companies.pause(ledger.engine, "nobody", "x", actor="Ada")


def test_no_secret_is_in_the_table(ledger: Ledger) -> None:
    """A company's row shows nothing of its secrets, and its digest differs from ledger to ledger."""
    company = register(ledger, keys("very-secret"))
    assert "very-secret" not in repr(company)
    assert company.key_digest != companies.key_digest(uuid.UUID(int=2), "very-secret")
    assert SecretStr("very-secret").get_secret_value().encode() not in (company.key_digest or b"")


def test_many_may_start_at_once(ledger: Ledger) -> None:
    """Workers that start at once make one row for each alias, and agree on the ledger's id."""
    ready = threading.Barrier(4)

    def start(_: int) -> tuple[uuid.UUID, int]:
        ready.wait(timeout=10)
        ids = companies.ensure(ledger.engine, ["new", ACME])
        register(ledger, keys(), alias=ACME)
        return identity.ledger_id(ledger.engine), ids["new"]

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(start, range(4)))) == 1
    assert sorted(companies.by_alias(ledger.engine)) == [ACME, "new"]


def test_a_control_is_remembered(ledger: Ledger) -> None:
    """A passed control is kept with the digest of the settings that passed it."""
    companies.remember_control(ledger.engine, ledger.company_id, b"digest")
    company = companies.by_alias(ledger.engine)[ACME]
    assert company.control_digest == b"digest"
    assert company.control_at is not None


def test_what_a_person_has_set_outlasts_a_worker_s_start(ledger: Ledger) -> None:
    """Limits set by a person hold in place of the settings', whichever worker starts with whatever settings."""
    register(ledger, keys(rate_per_second=10, burst=2, max_in_flight=30))
    assert companies.set_limits(ledger.engine, ACME, rate_per_second=4, actor="Ada", reason="their wish")
    company = register(ledger, keys(rate_per_second=20, burst=3, max_in_flight=40))
    assert limits_of(company) == Limits(4, 3, 40)
    assert (company.set_by, company.set_at is None) == ("Ada", False)
    assert ledger.events() == ["limits_set"]
    [event] = ledger.rows(schema.event)
    assert json.loads(event["detail"]) == {"rate_per_second": 4, "reason": "their wish"}


def test_limits_are_set_one_by_one(ledger: Ledger) -> None:
    """What is not given stays as it was set before."""
    register(ledger, keys())
    companies.set_limits(ledger.engine, ACME, rate_per_second=4, burst=7, actor="Ada", reason="")
    companies.set_limits(ledger.engine, ACME, burst=8, max_in_flight=9, actor="Bo", reason="")
    company = companies.by_alias(ledger.engine)[ACME]
    assert limits_of(company) == Limits(4, 8, 9)
    assert company.set_by == "Bo"


def test_reset_lets_the_settings_hold_again(ledger: Ledger) -> None:
    """Nothing is left of what was set, and the events tell who ended it; a second time nothing is to be done."""
    register(ledger, keys(rate_per_second=20))
    companies.set_limits(ledger.engine, ACME, rate_per_second=4, burst=7, max_in_flight=9, actor="Ada", reason="")
    assert companies.reset_limits(ledger.engine, ACME, actor="Bo", reason="over")
    company = companies.by_alias(ledger.engine)[ACME]
    assert limits_of(company) == Limits(20, 1, 50)
    assert (company.set_by, company.set_at) == (None, None)
    assert not companies.reset_limits(ledger.engine, ACME, actor="Bo", reason="again")
    assert ledger.events() == ["limits_set", "limits_reset"]


def test_a_company_that_is_not_there_has_no_limits(ledger: Ledger) -> None:
    """Nothing is made of a misspelt alias."""
    assert not companies.set_limits(ledger.engine, "nobody", burst=2, actor="Ada", reason="")
    assert not companies.reset_limits(ledger.engine, "nobody", actor="Ada", reason="")
    assert ledger.events() == []


def test_all_that_paces_comes_from_the_settings(ledger: Ledger) -> None:
    """A worker's start takes over the learned rate's floor, the retry share, the weights and the hours."""
    paced = keys(learn_rate_from=2, retry_share=0.5, lookup_weight=0, login_weight=3)
    hours = {"time_zone": "Europe/Stockholm", "closed_hours": "sun 00:00-24:00"}
    company = register(ledger, paced.model_copy(update=hours))
    assert limits_of(company) == Limits(10, 1, 50, 2, 0.5, 0, 3)
    schedule = schedule_of(company)
    assert schedule is not None
    assert (schedule.zone.key, len(schedule.hours)) == ("Europe/Stockholm", 1)
    assert limits_of(register(ledger, keys())) == Limits(10, 1, 50)


def test_a_rate_at_the_floor_is_not_learned(ledger: Ledger) -> None:
    """A person who sets the rate to the floor or below means that rate."""
    register(ledger, keys(learn_rate_from=2))
    companies.set_limits(ledger.engine, ACME, rate_per_second=2, actor="Ada", reason="")
    assert limits_of(companies.by_alias(ledger.engine)[ACME]) == Limits(2, 1, 50)
