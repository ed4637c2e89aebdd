"""What operators copy from the folder deploy: checked without any container engine."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from orderrelay_producers import outbox_store
from orderrelay_shared.settings import ProducerSettings, Setting, describe
from orderrelay_workers.settings import WorkerSettings, load_worker_settings
from tests.deployed import by_compose, compose, unit

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLE = DEPLOY / "orderrelay.env.example"

#: The example's alias, and what stands for any alias in the settings' own list.
ALIAS, ANY_ALIAS = "__ACME__", "__<ALIAS>__"


def settings_by_name() -> dict[str, Setting]:
    """Every setting, as the example spells it."""
    return {setting.name.replace(ANY_ALIAS, ALIAS): setting for setting in describe(WorkerSettings)}


def example_lines() -> list[tuple[str, str, bool]]:
    """Name, value and whether it is set, for every setting of the example."""
    found = re.findall(r"^(#?)(ORDERRELAY_\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    return [(name, value, not hidden) for hidden, name, value in found]


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this process's own settings away."""
    import os

    for name in [name for name in os.environ if name.upper().startswith("ORDERRELAY_")]:
        monkeypatch.delenv(name)


def test_the_compose_files_follow_the_specification() -> None:
    """Compose would not refuse them for a misspelled word."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    files = [str(DEPLOY / name) for name in ("compose.yaml", "compose.secrets.yaml")]
    checked = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_dockerfile_has_no_known_mistake() -> None:
    """The linter of Dockerfiles finds nothing, not even a hint."""
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    command = [str(hadolint), "--no-color", "--failure-threshold", "style", str(DEPLOY / "Dockerfile")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_image_is_built_from_nothing_but_what_it_needs() -> None:
    """What the Dockerfile copies is let through, and nothing else: no tests, no env file."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == let_through


def test_the_redis_of_the_compose_file_neither_forgets_nor_evicts() -> None:
    """What producers were told is accepted is on disk, and stays."""
    command = " ".join(compose()["services"]["redis"]["command"])
    for words in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert words in command


def test_a_worker_is_given_time_to_end_its_requests() -> None:
    """Compose waits longer than a request may take from its claim to the last byte of its answer."""
    settings = WorkerSettings.model_fields
    longest = settings["start_fence_seconds"].default + settings["request_timeout_seconds"].default
    grace = compose()["services"]["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > longest


def test_a_worker_s_health_is_asked_for_where_it_answers() -> None:
    """The image and the compose file ask the same question of a program that exists, and the image opens the port."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ *ORDERRELAY_HEALTH_PORT=[1-9]\d*", dockerfile, re.MULTILINE)
    [asked] = re.findall(r"HEALTHCHECK .*?CMD (\[.*?\])$", dockerfile, re.MULTILINE | re.DOTALL)
    command = YAML(typ="safe").load(asked)
    for service in ("worker", "outbox"):
        assert compose()["services"][service]["healthcheck"]["test"] == ["CMD", *command]
    assert importlib.util.find_spec(command[2]) is not None


def test_only_workers_and_relays_are_asked_for_their_health() -> None:
    """Nothing else of the image would answer, and be called unhealthy for it."""
    ours = [name for name, service in compose()["services"].items() if "build" in service]
    others = [name for name in ours if name not in {"worker", "outbox"}]
    assert {name: compose()["services"][name]["healthcheck"] for name in others} == {
        "init": {"disable": True},
        "simulator": {"disable": True},
    }


def test_compose_mounts_and_scrapes_what_is_there() -> None:
    """Files that are mounted exist, Prometheus asks workers and relays where they answer; rules go by the jobs."""
    said = compose()
    for service in said["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith("./") else source in said["volumes"], volume
    scraped = YAML(typ="safe").load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    asked: set[str] = set()
    for job in scraped:
        [found] = job["dns_sd_configs"]
        [service] = found["names"]
        port = by_compose(service, POSTGRES_PASSWORD="x").environment["ORDERRELAY_HEALTH_PORT"]
        assert found["port"] == int(port)
        asked.add(service)
    assert asked == {"worker", "outbox"}
    rules = (DEPLOY / "prometheus" / "orderrelay.rules.yml").read_text()
    assert set(re.findall(r'job="([\w-]+)"', rules)) == {job["job_name"] for job in scraped}


def test_workers_start_after_the_tables_are_made() -> None:
    """There is nothing that a worker would find half made."""
    assert compose()["services"]["worker"]["depends_on"]["init"] == {"condition": "service_completed_successfully"}


def test_the_example_has_every_setting_once() -> None:
    """Nobody has to read the code to find a setting, and none is offered that is not known."""
    assert sorted(name for name, _, _ in example_lines()) == sorted(settings_by_name())


def test_the_example_shows_the_true_defaults() -> None:
    """A line that is commented out says what holds without it."""
    known = settings_by_name()
    wrong = {
        name: (value, known[name].default)
        for name, value, _ in example_lines()
        if known[name].default and value != known[name].default
    }
    assert wrong == {}


def test_the_example_works_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it is a valid env file with one company, and all else as by default."""
    clear_environment(monkeypatch)
    monkeypatch.setenv("ORDERRELAY_ENV_FILE", str(EXAMPLE))
    settings = load_worker_settings()
    assert list(settings.companies) == ["acme"]
    assert settings.model_dump(exclude={"companies"}) == WorkerSettings().model_dump(exclude={"companies"})


def test_every_line_of_the_example_is_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whichever line an operator uncomments, the worker starts."""
    clear_environment(monkeypatch)
    everything = tmp_path / "everything.env"
    everything.write_text("".join(f"{name}={value}\n" for name, value, _ in example_lines()))
    monkeypatch.setenv("ORDERRELAY_ENV_FILE", str(everything))
    settings = load_worker_settings()
    assert settings.database_url.startswith("postgresql+psycopg://")
    assert settings.companies["acme"].token is not None


def test_systemd_gives_a_worker_time_and_one_place_to_write() -> None:
    """As long as Compose does; it writes to the folder made for it, and only wrong settings end it for good."""
    worker = unit("orderrelay-worker@.service")
    assert worker["TimeoutStopSec"] == [compose()["services"]["worker"]["stop_grace_period"].removesuffix("s")]
    assert worker["Restart"] == ["on-failure"]
    assert worker["RestartPreventExitStatus"] == ["2"]
    assert "orderrelay-init.service" in worker["Requires"][0].split()
    for name in ("orderrelay-worker@.service", "orderrelay-init.service"):
        said = unit(name)
        assert said["ProtectSystem"] == ["strict"]
        assert "XDG_STATE_HOME=/var/lib" in said["Environment"]
        assert said["StateDirectory"] == ["orderrelay"]


def test_a_relay_is_given_time_and_no_secrets() -> None:
    """A statement may take its 30 seconds. It is told of Redis and the outbox, how careful to be, and no more."""
    relay = unit("orderrelay-outbox@.service")
    grace = compose()["services"]["outbox"]["stop_grace_period"].removesuffix("s")
    assert relay["TimeoutStopSec"] == [grace]
    assert int(grace) > outbox_store._STATEMENT_SECONDS
    assert relay["RestartPreventExitStatus"] == ["2"]
    assert "StateDirectory" not in relay
    hardening = relay.keys() - {"SuccessExitStatus"}
    assert hardening <= unit("orderrelay-worker@.service").keys() | unit("orderrelay-init.service").keys()
    given = compose()["services"]["outbox"]
    assert "env_file" not in given
    defaults = {setting.name: setting.default for setting in describe(ProducerSettings)}
    told = by_compose("outbox").environment
    careful = ("ORDERRELAY_ACCEPT_REPLICAS", "ORDERRELAY_ACCEPT_ON_DISK", "ORDERRELAY_MAX_WAITING")
    assert {name: told[name] for name in careful} == {name: defaults[name] for name in careful}
    assert given["environment"].keys() == {"ORDERRELAY_REDIS_URL", "ORDERRELAY_OUTBOX_URL", *careful}


def test_every_unit_is_hardened_alike() -> None:
    """What one may not do, none may."""
    names = [file.name for file in (DEPLOY / "systemd").glob("*.service")]
    assert len(names) == 3
    kinds = ("Protect", "Private", "Restrict", "NoNew", "Lock", "Remove", "Capability", "Ambient", "System", "UMask")
    worker = unit("orderrelay-worker@.service")
    wanted = {key: value for key, value in worker.items() if key.startswith(kinds)}
    assert len(wanted) > 20
    for name in names:
        assert {key: value for key, value in unit(name).items() if key.startswith(kinds)} == wanted, name
