"""A fleet in which secrets change: who pauses a company, who just steps aside, and how all come to agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog.testing

from orderrelay_workers import refused_credentials
from orderrelay_workers.credentials import Credentials
from orderrelay_workers.ledger import companies, identity
from orderrelay_workers.ledger.companies import COMPANY_KEY_CHANGED, CREDENTIALS
from orderrelay_workers.settings import CompanySettings, WorkerSettings
from orderrelay_workers.sidecar.rotation import Rotation
from tests.ledgers import ACME, Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orderrelay_workers.runtime import Runtime


@dataclass
class Member:
    """A worker as far as credentials go. The vendor takes what `good` says."""

    ledger: Ledger
    password: str
    good: set[str]
    actor: str = "member"
    served: bool = True
    tried: list[str] = field(default_factory=list[str])
    bound: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def __post_init__(self) -> None:
        self.engine = self.ledger.engine
        self.ledger_id = identity.ledger_id(self.engine)
        self.gate = SimpleNamespace(pause=lambda *_: None)
        self.settings = WorkerSettings(companies={ACME: settings_with(self.password)})
        self.credentials = Credentials(self.settings, self.ledger_id)
        self._register()

    @property
    def runtime(self) -> Runtime:
        """As the product sees it."""
        return cast("Runtime", self)

    def _register(self) -> None:
        newest = self.credentials.newest(ACME)
        companies.register(self.engine, self.ledger_id, ACME, newest, actor=self.actor)

    def change(self, password: str) -> None:
        """Its secrets change while it runs."""
        self.credentials.renew(ACME, settings_with(password))
        self._register()

    def mirror(self) -> None:
        """Its periodic look at the ledger."""
        self.served = refused_credentials.look_again(self.runtime, company(self.ledger))

    def forgo(self, _: str) -> None:
        """It serves the company no more."""
        self.served = False

    def refresh_companies(self, _: object) -> None:
        """A look at the ledger out of turn."""
        self.mirror()

    def rebind(self, alias: str, digest: bytes) -> None:
        """It works with another company key from now on."""
        self.bound[alias] = digest

    def work(self) -> None:
        """Log in with what is in use, if the company is open and served here, and again while there are others."""
        for _ in range(3):
            self.mirror()
            if company(self.ledger).paused_reason is not None or not self.served:
                return
            used = self.credentials.in_use(ACME)
            assert used.password is not None
            self.tried.append(used.password.get_secret_value())
            if self.tried[-1] in self.good:
                self.credentials.taken(ACME, used)
                return
            refused_credentials.judge(self.runtime, ACME, used, "Login failed")


def settings_with(password: str, **more: object) -> CompanySettings:
    """A company's settings."""
    given = {"company_api_key": "k", "connect_api_key": "c", "license": "l", "user_name": "u", "password": password}
    return CompanySettings.model_validate(given | more)


def company(ledger: Ledger) -> companies.Company:
    """The company as the ledger has it."""
    return companies.by_alias(ledger.engine)[ACME]


def is_paused(ledger: Ledger) -> bool:
    """Whether it is paused for its credentials."""
    return company(ledger).paused_reason == CREDENTIALS


@pytest.fixture
def member(ledger: Ledger) -> Callable[..., Member]:
    """Starts workers."""
    return lambda password, good: Member(ledger, password, good)


def test_a_worker_with_old_secrets_steps_aside(ledger: Ledger, member: Callable[..., Member]) -> None:
    """The vendor takes only the new: who has them goes on, who has not serves no more until its secrets change too."""
    good = {"new"}
    slow, quick = member("old", good), member("old", good)
    quick.change("new")
    for worker in [slow, quick] * 3:
        worker.work()
    assert (slow.served, quick.served, is_paused(ledger)) == (False, True, False)
    assert (slow.tried, ledger.events()) == (["old"], ["company_not_served!"])
    slow.change("new")
    slow.work()
    assert (slow.served, slow.tried, is_paused(ledger)) == (True, ["old", "new"], False)


def test_refused_new_secrets_stop_nobody(ledger: Ledger, member: Callable[..., Member]) -> None:
    """The vendor takes only the old: who has new ones goes on with the previous, and one alarm tells it."""
    good = {"old"}
    slow, quick = member("old", good), member("old", good)
    other = member("old", good)
    for changed in (quick, other):
        changed.change("new")
        changed.work()
        refused_credentials.tell(changed.runtime)
    slow.work()
    assert [slow.tried, quick.tried, other.tried] == [["old"], ["new", "old"], ["new", "old"]]
    assert (is_paused(ledger), ledger.events()) == (False, ["new_credentials_refused!"])


def test_both_refused_pause_the_company_until_the_secrets_change(
    ledger: Ledger, member: Callable[..., Member]
) -> None:  # fmt: skip
    """Changed secrets of any worker end the pause, without a restart."""
    worker = member("old", {"right"})
    worker.change("wrong")
    worker.work()
    assert (worker.tried, is_paused(ledger)) == (["wrong", "old"], True)
    worker.change("right")
    worker.work()
    assert (worker.tried[2:], is_paused(ledger), worker.served) == (["right"], False, True)


def test_a_worker_started_with_old_secrets_stops_nobody_for_long(
    ledger: Ledger, member: Callable[..., Member]
) -> None:  # fmt: skip
    """Its refusal pauses the company, as it registered last; who was let in lately ends that, once, and it settles."""
    good = {"new"}
    worker = member("new", good)
    worker.work()
    late = member("old", good)
    late.work()
    assert is_paused(ledger)
    for either in [worker, late] * 5:
        either.work()
    assert (is_paused(ledger), worker.served, late.served) == (False, True, False)
    assert ledger.events() == ["company_paused!", "company_resumed", "company_not_served!"]


def test_workers_whose_secrets_are_all_refused_do_not_go_to_and_fro(
    ledger: Ledger, member: Callable[..., Member]
) -> None:  # fmt: skip
    """However often they look, each is refused once, and the company stays paused."""
    good = {"one"}
    one = member("one", good)
    one.work()
    two = member("two", good)
    good.clear()
    for either in [two, one] * 6:
        either.work()
    assert is_paused(ledger)
    assert (one.tried, two.tried) == (["one", "one"], ["two"])
    assert ledger.events().count("company_paused!") == 2


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes the env file that workers read."""
    path = tmp_path / "orderrelay.env"
    monkeypatch.setenv("ORDERRELAY_ENV_FILE", str(path))

    def write(password: str, **more: str) -> None:
        given = {"COMPANY_API_KEY": "k", "CONNECT_API_KEY": "c", "LICENSE": "l", "USER_NAME": "u", "PASSWORD": password}
        lines = [f"ORDERRELAY_COMPANIES__ACME__{name}={text}" for name, text in {**given, **more}.items()]
        path.write_text("\n".join(["ORDERRELAY_REQUEST_TIMEOUT_SECONDS=30", *lines]))

    return write


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What is logged."""
    with structlog.testing.capture_logs() as lines:
        yield cast("list[Any]", lines)


def look_twice(rotation: Rotation) -> None:
    """A change counts once it was read twice alike."""
    rotation.look()
    rotation.look()


@pytest.fixture
def rotating(
    ledger: Ledger, env_file: Callable[..., None], member: Callable[..., Member]
) -> tuple[Member, Rotation]:  # fmt: skip
    """A worker that has looked at its file already."""
    env_file("old")
    worker = member("old", {"old", "new"})
    rotation = Rotation(worker.runtime)
    look_twice(rotation)
    return worker, rotation


def test_what_is_being_written_is_not_taken_over(
    rotating: tuple[Member, Rotation], env_file: Callable[..., None]
) -> None:  # fmt: skip
    """A file that looks different each time waits until it has come to rest."""
    worker, rotation = rotating
    for password in ("n", "ne", "new"):
        env_file(password)
        rotation.look()
    assert worker.credentials.newest(ACME) == settings_with("old")
    rotation.look()
    assert worker.credentials.newest(ACME) == settings_with("new")


def test_invalid_settings_are_told_once_and_change_nothing(
    rotating: tuple[Member, Rotation], env_file: Callable[..., None], told: list[Any]
) -> None:
    """All lines name what is wrong, none shows a secret; the next valid ones are taken over."""
    worker, rotation = rotating
    env_file("hush-hush", BURST="none")
    for _ in range(4):
        rotation.look()
    [line] = told
    assert line["event"] == "settings_invalid"
    assert "ORDERRELAY_COMPANIES__ACME__BURST" in line["lines"][0]
    assert "hush" not in str(told)
    assert worker.credentials.newest(ACME) == settings_with("old")
    env_file("new")
    look_twice(rotation)
    assert worker.credentials.newest(ACME) == settings_with("new")


def test_limits_are_taken_over_and_the_rest_is_named(
    ledger: Ledger,
    rotating: tuple[Member, Rotation],
    env_file: Callable[..., None],
    told: list[Any],
) -> None:
    """One line says what is in force now, one names what needs a restart, with no value in either."""
    worker, rotation = rotating
    env_file("old", RATE_PER_SECOND="3", IMPORT_ID="7")
    look_twice(rotation)
    look_twice(rotation)
    assert [(line["event"], line["settings"]) for line in told] == [
        ("settings_taken_over", ["ORDERRELAY_COMPANIES__ACME__RATE_PER_SECOND"]),
        ("settings_need_a_restart", ["ORDERRELAY_COMPANIES__ACME__IMPORT_ID"]),
    ]
    assert worker.settings.companies[ACME] == settings_with("old", rate_per_second=3)
    assert company(ledger).rate_per_second == 3


def test_a_worker_with_old_secrets_and_a_new_rate_does_not_speak_for_them(
    ledger: Ledger, rotating: tuple[Member, Rotation], env_file: Callable[..., None], member: Callable[..., Member]
) -> None:
    """Only changed credentials are registered as the newest."""
    _, rotation = rotating
    newest = member("new", {"new"}).credentials.newest_digest(ACME)
    env_file("old", RATE_PER_SECOND="3")
    look_twice(rotation)
    assert company(ledger).credentials_digest == newest
    env_file("other")
    look_twice(rotation)
    assert company(ledger).credentials_digest != newest


def test_another_company_key_pauses_and_is_used_only_when_a_person_says_so(
    ledger: Ledger, rotating: tuple[Member, Rotation], env_file: Callable[..., None]
) -> None:
    """What is under way goes to the books it was meant for; after `resume --same-company` the other key is used."""
    worker, rotation = rotating
    env_file("new", COMPANY_API_KEY="other-key")
    look_twice(rotation)
    assert company(ledger).paused_reason == COMPANY_KEY_CHANGED
    assert worker.settings.companies[ACME] == settings_with("old")
    digest = companies.key_digest(worker.ledger_id, "other-key")
    companies.resume(ledger.engine, ACME, actor="a person", new_key_digest=digest)
    rotation.look()
    assert worker.settings.companies[ACME].company_api_key.get_secret_value() == "other-key"
    assert worker.bound == {ACME: digest}
    assert company(ledger).paused_reason is None


def test_a_swapped_link_is_noticed(
    ledger: Ledger, member: Callable[..., Member], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes puts a new folder behind a link, with files of any age and the same size."""
    names = {"COMPANY_API_KEY": "k", "CONNECT_API_KEY": "c", "LICENSE": "l", "USER_NAME": "u"}
    for folder, password in (("..1", "old"), ("..2", "new")):
        (tmp_path / folder).mkdir()
        for name, text in {**names, "PASSWORD": password}.items():
            (tmp_path / folder / f"COMPANIES__ACME__{name}").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    for path in (tmp_path / "..1").iterdir():
        (tmp_path / path.name).symlink_to(f"..data/{path.name}")
    monkeypatch.setenv("ORDERRELAY_SECRETS_DIR", str(tmp_path))
    worker = member("old", {"new"})
    rotation = Rotation(worker.runtime)
    look_twice(rotation)
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    look_twice(rotation)
    assert worker.credentials.newest(ACME) == settings_with("new")
