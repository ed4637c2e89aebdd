"""The producer's settings, and how settings of any kind are found."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import environment
from orderrelay_shared.settings import ProducerSettings, SettingsInvalid, describe, load
from orderrelay_shared.urls import masked, passwords_in, redis_url_problem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("ORDERRELAY_"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    """Nothing set gives the documented defaults."""
    settings = load(ProducerSettings)
    assert (settings.redis_url, settings.max_waiting, settings.external_id_max_length) == (
        "redis://127.0.0.1:6379/0",
        1_000_000,
        64,
    )


def test_environment_beats_env_file_beats_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The nearer source wins, name by name."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "redis_url").write_text("redis://secret/1\n")
    (secrets / "ORDERRELAY_MAX_WAITING").write_text("3\n")
    (secrets / "external_id_max_length").write_text("50\n")
    env_file = tmp_path / "env"
    env_file.write_text("ORDERRELAY_REDIS_URL=redis://file/1\nORDERRELAY_MAX_WAITING=2\nOTHER=1\n")
    monkeypatch.setenv("ORDERRELAY_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("ORDERRELAY_ENV_FILE", str(env_file))
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", "redis://environment/1")
    settings = load(ProducerSettings)
    assert (settings.redis_url, settings.max_waiting, settings.external_id_max_length) == (
        "redis://environment/1",
        2,
        50,
    )


def test_a_fingerprint_shows_changed_content_whatever_the_time_says(tmp_path: Path) -> None:
    """Another password of the same length, in a file of the same age, is another one; a new age alone is not."""
    env_file, folder = tmp_path / "orderrelay.env", tmp_path / "secrets"
    folder.mkdir()
    environ = {"ORDERRELAY_ENV_FILE": str(env_file), "ORDERRELAY_SECRETS_DIR": str(folder)}

    def seen() -> bytes:
        return environment.fingerprint(environ)

    prints = [seen()]
    for path, text in ((env_file, "A=one"), (env_file, "A=two"), (folder / "TOKEN", "one"), (folder / "TOKEN", "two")):
        path.write_text(text)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        prints.append(seen())
    assert len(set(prints)) == 5
    os.utime(env_file, (1_100_000_000, 1_100_000_000))
    assert seen() == prints[-1]
    env_file.unlink()
    assert seen() not in prints


def test_env_file_is_taken_literally(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A "${" in a value is no reference."""
    env_file = tmp_path / "env"
    env_file.write_text("ORDERRELAY_REDIS_URL=redis://:p${HOME}w@host/1\n")
    monkeypatch.setenv("ORDERRELAY_ENV_FILE", str(env_file))
    assert load(ProducerSettings).redis_url == "redis://:p${HOME}w@host/1"


def test_empty_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is passed on empty, as Compose does, is not set."""
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "")
    assert load(ProducerSettings).max_waiting == 1_000_000


@pytest.mark.parametrize("name", ["ORDERRELAY_ENV_FILE", "ORDERRELAY_SECRETS_DIR"])
def test_missing_source_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A source that is named but not there stops the start, with its variable and path."""
    monkeypatch.setenv(name, "/nowhere/at/all")
    with pytest.raises(SettingsInvalid, match=rf"^{name}: .*'/nowhere/at/all'.*\(allowed: "):
        load(ProducerSettings)


def test_every_mistake_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong setting has a line with its name, its mistake and what is allowed; secrets are not shown."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", "http://user:hunter2@host")
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "many")
    monkeypatch.setenv("ORDERRELAY_EXTERNAL_ID_MAX_LENGTH", "8")
    with pytest.raises(SettingsInvalid) as caught:
        load(ProducerSettings)
    redis, waiting, length = caught.value.lines
    assert redis.startswith("ORDERRELAY_REDIS_URL: has the scheme 'http', which is not supported (allowed: redis://")
    assert waiting == "ORDERRELAY_MAX_WAITING: is 'many' (allowed: a whole number from 1)"
    assert length == "ORDERRELAY_EXTERNAL_ID_MAX_LENGTH: is '8' (allowed: a whole number from 40 to 64)"
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_producers_ignore_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer starts beside settings that only workers know."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", "x")
    monkeypatch.setenv("ORDERRELAY_COMPANIES__ACME__TOKEN", "x")
    assert load(ProducerSettings).max_waiting == 1_000_000


def test_a_name_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same variable in two spellings is a mistake, not a guess."""
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "1")
    monkeypatch.setenv("ORDERRELAY_max_waiting", "2")
    with pytest.raises(SettingsInvalid, match="ORDERRELAY_max_waiting: is given as ORDERRELAY_MAX_WAITING too"):
        load(ProducerSettings)


def test_repr_masks_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor str of settings shows what stands before the host."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", "redis://user:hunter2@host:1/2?password=hunter3")
    settings = load(ProducerSettings)
    assert "redis_url='redis://…@host:1/2?…'" in repr(settings)
    assert "hunter" not in repr(settings) + str(settings)


def test_settings_invalid_survives_pickling() -> None:
    """The error crosses process borders with its lines."""
    error = pickle.loads(pickle.dumps(SettingsInvalid(["a", "b"])))
    assert (error.lines, str(error)) == (("a", "b"), "a\nb")


def test_everything_is_described() -> None:
    """Each setting has a description, for the docs and for the person who reads the class."""
    rows = describe()
    assert [row.name for row in rows] == [
        "ORDERRELAY_REDIS_URL",
        "ORDERRELAY_MAX_WAITING",
        "ORDERRELAY_EXTERNAL_ID_MAX_LENGTH",
        "ORDERRELAY_ACCEPT_REPLICAS",
        "ORDERRELAY_ACCEPT_ON_DISK",
        "ORDERRELAY_OUTBOX_URL",
    ]
    assert all(row.description for row in rows)
    assert (rows[1].type, rows[1].default) == ("whole number", "1000000")
    assert (rows[4].type, rows[4].default) == ("true|false", "false")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hunter2@host/0", "redis://…@host/0"),
        ("redis://u:p/w@x@host/0", "redis://…@host/0"),
        ("redis://u:hun?ter2@host/0", "redis://…"),
        ("redis://u:hun#ter2@host/0", "redis://…"),
        ("https://host/a?companyApiKey=x", "https://host/a?…"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("hunter2", "…"),
    ],
)
def test_masked(url: str, shown: str) -> None:
    """An address is shown without user, password and query, whatever is in them."""
    assert masked(url) == shown


def test_passwords_in() -> None:
    """A password is found as written and decoded, in front of the host and in the query."""
    assert passwords_in("redis://u:a%40b@host/0?password=c") == ("a%40b", "a@b", "c")


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("redis://host", True),
        ("rediss://u:p@host:1/2?ssl_cert_reqs=required", True),
        ("unix:///run/redis.sock?db=1", True),
        ("unix://relative", False),
        ("redis://", False),
        ("redis://host:port", False),
        ("redis://host:0", False),
        ("redis://u:pa/ss@host", False),
        ("redis://host/name", False),
        ("sentinel://host/main/0", True),
        ("sentinel://host/", False),
        ("host:6379", False),
        ("", False),
    ],
)
def test_redis_addresses(url: str, good: bool) -> None:
    """Only addresses that the client understands pass."""
    assert (redis_url_problem(url) is None) is good
