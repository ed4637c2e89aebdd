"""Which credentials are in use: the newest, the previous ones while those are refused, and none only if both are."""

from __future__ import annotations

import uuid

import pytest

from orderrelay_workers.credentials import Credentials, Refused
from orderrelay_workers.settings import CompanySettings, WorkerSettings

ACME = "acme"


def keys(password: str = "first", **more: object) -> CompanySettings:
    """A company's settings."""
    given = {"company_api_key": "k", "connect_api_key": "c", "license": "l", "user_name": "u", "password": password}
    return CompanySettings.model_validate(given | more)


@pytest.fixture
def settings() -> WorkerSettings:
    """The settings that a worker began with."""
    return WorkerSettings(companies={ACME: keys()})


@pytest.fixture
def credentials(settings: WorkerSettings) -> Credentials:
    """A worker's credentials."""
    return Credentials(settings, uuid.UUID(int=1))


def password(credentials: Credentials) -> str:
    """The password in use."""
    used = credentials.in_use(ACME).password
    assert used is not None
    return used.get_secret_value()


def refuse(credentials: Credentials) -> Refused:
    """The vendor refuses those in use."""
    return credentials.refused(ACME, credentials.in_use(ACME))


def take(credentials: Credentials) -> None:
    """The vendor takes those in use."""
    credentials.taken(ACME, credentials.in_use(ACME))


def test_new_ones_are_used_by_all_readers_at_once(settings: WorkerSettings, credentials: Credentials) -> None:
    """Whoever reads the settings reads the new value, and one that was read before stays whole."""
    before = settings.companies[ACME]
    credentials.renew(ACME, keys("second"))
    assert settings.companies[ACME] is credentials.in_use(ACME) is credentials.newest(ACME)
    assert (before, password(credentials)) == (keys(), "second")


def test_without_previous_ones_a_refusal_leaves_none(credentials: Credentials) -> None:
    """As at a worker's start; they stay in use for when a person says that they work again."""
    assert [refuse(credentials), refuse(credentials)] == [Refused.NONE_LEFT] * 2
    assert password(credentials) == "first"


def test_refused_new_ones_give_way_to_the_previous(credentials: Credentials) -> None:
    """The previous are tried; only when the vendor takes them is there something to tell, once."""
    credentials.renew(ACME, keys("second"))
    assert (refuse(credentials), password(credentials)) == (Refused.OTHERS_LEFT, "first")
    assert credentials.take_untold() == []
    take(credentials)
    take(credentials)
    assert [credentials.take_untold(), credentials.take_untold()] == [[ACME], []]


def test_new_ones_that_are_taken_need_no_word(credentials: Credentials) -> None:
    """All is well, and nobody is told."""
    credentials.renew(ACME, keys("second"))
    take(credentials)
    assert credentials.take_untold() == []


def test_both_refused_leave_none(credentials: Credentials) -> None:
    """Then the newest are in use again, and both may be tried anew after a person has resumed."""
    credentials.renew(ACME, keys("second"))
    assert [refuse(credentials) for _ in range(4)] == [Refused.OTHERS_LEFT, Refused.NONE_LEFT] * 2
    assert password(credentials) == "second"


def test_the_newest_are_tried_again_when_the_previous_end(credentials: Credentials) -> None:
    """The vendor's switch may come after ours: when it refuses the previous at last, the new ones have their turn."""
    credentials.renew(ACME, keys("second"))
    refuse(credentials)
    take(credentials)
    assert (refuse(credentials), password(credentials)) == (Refused.OTHERS_LEFT, "second")
    assert refuse(credentials) is Refused.NONE_LEFT


def test_a_late_refusal_of_others_is_none_of_these(credentials: Credentials) -> None:
    """A login that was under way when the credentials changed says nothing about the new ones."""
    before = credentials.in_use(ACME)
    credentials.renew(ACME, keys("second"))
    assert credentials.refused(ACME, before) is Refused.NOT_IN_USE
    credentials.taken(ACME, before)
    assert (password(credentials), credentials.take_proof(ACME)) == ("second", False)


def test_changed_limits_change_no_credentials(credentials: Credentials) -> None:
    """They hold whichever credentials are in use, and nothing that was refused is tried again for them."""
    credentials.renew(ACME, keys("second"))
    refuse(credentials)
    credentials.renew(ACME, keys("second", rate_per_second=77))
    assert (password(credentials), credentials.in_use(ACME).rate_per_second) == ("first", 77)
    assert (refuse(credentials), credentials.in_use(ACME).rate_per_second) == (Refused.NONE_LEFT, 77)


def test_what_never_worked_is_not_kept(credentials: Credentials) -> None:
    """After a mistake that the vendor refused, the ones before it are still the previous, not the mistake."""
    credentials.renew(ACME, keys("second"))
    refuse(credentials), refuse(credentials)
    credentials.renew(ACME, keys("third"))
    refuse(credentials)
    assert password(credentials) == "first"


def test_going_back_leaves_no_previous(credentials: Credentials) -> None:
    """A file put back to what is in use anyway has nothing else to fall back on."""
    credentials.renew(ACME, keys("second"))
    refuse(credentials)
    credentials.renew(ACME, keys())
    assert refuse(credentials) is Refused.NONE_LEFT


def test_a_proof_counts_once(credentials: Credentials) -> None:
    """Each success allows to speak for the credentials once; a refusal takes it away."""
    take(credentials)
    assert [credentials.take_proof(ACME), credentials.take_proof(ACME)] == [True, False]
    take(credentials)
    refuse(credentials)
    assert credentials.take_proof(ACME) is False


def test_digests_tell_credentials_apart_and_nothing_else(credentials: Credentials) -> None:
    """Another password is another digest; another rate is not."""
    first = credentials.newest_digest(ACME)
    credentials.renew(ACME, keys(rate_per_second=77))
    assert credentials.newest_digest(ACME) == first
    credentials.renew(ACME, keys("second"))
    refuse(credentials)
    assert credentials.newest_digest(ACME) != first == credentials.digest_in_use(ACME)
