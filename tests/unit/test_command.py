"""The root of the command: what it finds, what it says, how it ends."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import EntryPoint

import pytest
import redis
import typer
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner, Result

from orderrelay_shared import command
from orderrelay_shared.settings import SettingsInvalid

HERE = __name__


def greet(name: str = "you") -> None:
    """Say hello."""
    command.print_json({"hello": name})


def wrong_settings() -> None:
    """Fail on settings."""
    raise SettingsInvalid(["ORDERRELAY_A: is wrong (allowed: right)", "ORDERRELAY_B: is wrong (allowed: right)"])


def no_redis() -> None:
    """Fail on Redis."""
    raise redis.ConnectionError("no route to redis://u:hunter2@host:1/0?password=hunter2. Refused.")


def slow_redis() -> None:
    """Fail on a slow Redis."""
    raise redis.TimeoutError("Timeout reading from host:1")


def no_database() -> None:
    """Fail on the database."""
    raise OperationalError("INSERT hunter2", {"body": "hunter2"}, Exception("connection refused\nmore"))


def no_package() -> None:
    """Fail on a package."""
    importlib.import_module("not_installed_anywhere")


def interrupted() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


def some_refused() -> None:
    """Refuse some."""
    raise typer.Exit(1)


def mistake() -> None:
    """Have a bug."""
    raise ZeroDivisionError("a bug")


app = typer.Typer(help="Two words.")


@app.command("one")
def one() -> None:
    """Be the first."""
    typer.echo("one")


@app.command("two")
def two() -> None:
    """Be the second."""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # With --import-mode=importlib this module has a name that `EntryPoint.load` finds only here.
    monkeypatch.setitem(sys.modules, "commands_under_test", sys.modules[HERE])


def point(name: str, target: str) -> EntryPoint:
    """An entry point of the group, as a package would declare it."""
    return EntryPoint(name, target, command.GROUP)


POINTS = [
    point("zebra", "commands_under_test:greet"),
    point("status", "commands_under_test:greet"),
    point("enqueue", "commands_under_test:greet"),
    point("audit", "commands_under_test:app"),
    point("worker", "not_installed_anywhere:worker"),
    point("demo", "orderrelay_nowhere:demo"),
    *(
        point(name, f"commands_under_test:{name}")
        for name in (
            *("wrong_settings", "no_redis", "slow_redis", "no_database", "no_package"),
            *("interrupted", "some_refused", "mistake"),
        )
    ),
]


def run(*words: str) -> Result:
    """Run one command line."""
    return CliRunner().invoke(command.build(POINTS, words[0] if words else None), list(words), prog_name="orderrelay")


def test_help_lists_commands_in_a_sensible_order() -> None:
    """Daily commands come first, unknown ones last."""
    listed = [line.split()[0] for line in run("--help").stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed[:5] == ["demo", "enqueue", "status", "worker", "audit"]
    assert listed[-1] == "zebra"


def test_help_tells_what_is_missing() -> None:
    """A command whose packages are missing is listed, with what to install."""
    lines = {line.split()[0]: line for line in run("--help").stdout.splitlines() if line.strip()}
    assert lines["worker"].endswith("(needs: pip install 'orderrelay[worker]')")
    assert "cannot be loaded: No module named 'orderrelay_nowhere'" in lines["demo"]


@pytest.mark.parametrize("words", [("worker",), ("worker", "--concurrency", "3", "x"), ("worker", "--help")])
def test_a_missing_command_says_so(words: tuple[str, ...]) -> None:
    """Whatever follows, the answer is what to install."""
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "orderrelay worker: needs: pip install 'orderrelay[worker]'\n"


def test_only_the_called_command_is_imported() -> None:
    """One command does not pay for the others."""
    groups = command.build(POINTS, "status")
    assert [c.name for c in groups.registered_commands] == ["status"]
    assert groups.registered_groups == []


def test_function_and_app() -> None:
    """An entry point may be a function or an app of several."""
    assert run("status", "--name", "x").stdout == '{"hello":"x"}\n'
    assert run("audit", "one").stdout == "one\n"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("wrong_settings", 2, "ORDERRELAY_A: is wrong (allowed: right)\nORDERRELAY_B: is wrong (allowed: right)\n"),
        (
            "no_redis",
            3,
            "Redis is not reachable; check ORDERRELAY_REDIS_URL: no route to redis://…@host:1/0?… Refused.\n",
        ),
        ("slow_redis", 3, "Redis does not answer in time; check ORDERRELAY_REDIS_URL: Timeout reading from host:1\n"),
        ("no_database", 3, "The database is not usable; check ORDERRELAY_DATABASE_URL: connection refused\n"),
        ("no_package", 2, f"The package 'not_installed_anywhere' is missing ({command.NEEDS_WORKER})\n"),
        ("interrupted", 130, ""),
        ("some_refused", 1, ""),
    ],
)
def test_ends(name: str, code: int, said: str) -> None:
    """What can go wrong outside ends in words and an exit code, with no traceback and no secret."""
    result = run(name)
    assert (result.exit_code, result.stderr, result.stdout) == (code, said, "")


def test_a_mistake_in_the_program_is_not_hidden() -> None:
    """A bug keeps its traceback."""
    assert isinstance(run("mistake").exception, ZeroDivisionError)


@pytest.mark.parametrize("words", [("nothing",), ("status", "--nothing"), ("audit", "nothing")])
def test_usage(words: tuple[str, ...]) -> None:
    """A word that nobody knows is a mistake in the call: exit code 2."""
    assert run(*words).exit_code == 2


def test_version() -> None:
    """The version can be asked for."""
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("orderrelay ")


def test_the_help_page_offers_completion() -> None:
    """Who types commands every day finds how the shell can help."""
    assert "--install-completion" in run("--help").stdout


def test_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Values of orders and jobs print as one line."""
    command.print_json(
        {"id": uuid.UUID(int=1), "at": datetime(2026, 1, 2, tzinfo=UTC), "amount": Decimal("1.10"), "x": "ö"}
    )
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert '"amount":1.10' in out
    assert json.loads(out)["at"] == "2026-01-02T00:00:00Z"
    assert "ö" in out


def test_root_imports_nothing_heavy() -> None:
    """The help page waits for neither Celery, nor SQL, nor Redis, nor settings."""
    heavy = "{'celery', 'sqlalchemy', 'redis', 'pydantic_settings', 'structlog', 'httpx', 'rich'}"
    code = f"import sys, orderrelay_shared.command; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == "[]"
