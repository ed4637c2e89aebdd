"""The commands `orderrelay outbox init|relay|status|retry`, as a shell calls them."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from orderrelay_producers import Outbox
from orderrelay_producers.outbox import layout
from orderrelay_producers.outbox_commands import app
from orderrelay_shared import keys
from orderrelay_shared.settings import ProducerSettings, SettingsInvalid
from tests.outboxes import counts, lay_out, run_sql, service
from tests.servers import free_port, wait_until
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis
    from typer.testing import Result

    from tests.processes import Processes

_COMMAND = ("-c", "from orderrelay_shared.command import main; main()", "outbox")


@pytest.fixture
def run(redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line with an empty Redis and an outbox that has no table yet."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.setenv("ORDERRELAY_OUTBOX_URL", database_url)
    return invoke


def invoke(*words: object) -> Result:
    """Run the command line with these words; anything but an exit is an error of the test."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def fill(url: str, *external_ids: str, company: str = "acme") -> None:
    """Commit orders."""
    with Outbox(settings=ProducerSettings()) as outbox, service("driver", url).begin() as (connection, _):
        for external_id in external_ids:
            outbox.enqueue(connection, order(external_id), company=company)


def ask(port: int, path: str) -> str:
    """What a relay answers on its health port; "" before it listens."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as told:
        return str(told.read().decode())
    return ""


def scrape(port: int) -> dict[str, float]:
    """A relay's metrics as Prometheus reads them, without what their names begin with."""
    families = text_string_to_metric_families(ask(port, "/metrics"))
    return {s.name.removeprefix("orderrelay_outbox_"): s.value for family in families for s in family.samples}


def answer(result: Result) -> Any:
    """The JSON object that is the last line."""
    return json.loads(result.stdout.splitlines()[-1])


def test_the_table_is_made_once_and_emptied(
    run: Callable[..., Result], database_url: str, redis_client: redis.Redis
) -> None:
    """From nothing: init, orders, status, relay, and status again."""
    assert run("init", "--apply").exit_code == 0
    assert run("init", "--apply").exit_code == 0
    fill(database_url, "A-1", "A-2")
    before = run("status", "--json")
    assert before.exit_code == 0
    assert answer(before)["waiting"] == 2
    assert 0 <= answer(before)["oldest_seconds"] < 600
    done = run("relay", "--once", "--json")
    assert done.exit_code == 0
    assert answer(done) == {"taken": 2, "set_aside": 0, "full": [], "away": None}
    assert redis_client.xlen(keys.INTAKE) == 2
    assert run("status").stdout == "0 waiting; 0 set aside\n"


def test_what_was_set_aside_is_shown_and_tried_again(
    run: Callable[..., Result], database_url: str, redis_client: redis.Redis
) -> None:
    """An order of a company that nobody serves goes when somebody does."""
    run("init", "--apply")
    fill(database_url, "B-1", company="beta")
    redis_client.zadd(keys.COMPANIES, {"acme": time.time()})
    refused = run("relay", "--once")
    assert refused.exit_code == 1
    assert "set aside: row 1, 'B-1' of company 'beta': no worker serves this company" in refused.stderr
    shown = run("status")
    assert shown.exit_code == 1
    assert "0 waiting; 1 set aside\n  row 1  'B-1' of company 'beta': no worker serves this company" in shown.stdout
    redis_client.zadd(keys.COMPANIES, {"beta": time.time()})
    assert run("retry", 1, 2).exit_code == 1
    assert answer(run("retry", "--all", "--json")) == {"retried": 0}
    assert run("retry").exit_code == 2
    assert run("relay", "--once").exit_code == 0
    assert redis_client.xlen(keys.INTAKE) == 1


def test_what_is_printed_makes_the_table(tmp_path: Path, run: Callable[..., Result]) -> None:
    """The SQL of `init` is that of `layout`, and SQLite takes it as it is printed."""
    printed = run("init", "--for", "sqlite")
    assert printed.exit_code == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript(printed.stdout)
        assert connection.execute("SELECT count(*) FROM orderrelay_outbox").fetchone() == (0,)
    assert "bigint GENERATED BY DEFAULT AS IDENTITY" in run("init", "--for", "postgresql").stdout
    assert run("init", "--for", "postgresql").stdout == "".join(f"{statement};\n" for statement in layout("postgresql"))


def test_mistakes_are_told_with_what_to_do(
    run: Callable[..., Result], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No table, no address, an unreachable database: one line each, and the exit code says which kind it is."""
    if database_url.startswith("sqlite"):
        assert run("status").exit_code == 3  # there is no such file, and none is made
    run_sql_of_nothing = run("init", "--apply")
    assert run_sql_of_nothing.exit_code == 0
    run_sql(database_url, "DROP TABLE orderrelay_outbox")
    for words in (("status",), ("relay", "--once"), ("relay",), ("retry", "1")):
        missing = run(*words)
        assert missing.exit_code == 2
        assert missing.stderr.splitlines()[-1] == (
            "the outbox cannot be used: the table orderrelay_outbox is not there; "
            "make it: orderrelay outbox init --apply"
        )
    monkeypatch.setenv("ORDERRELAY_OUTBOX_URL", f"postgresql://shop:hush@127.0.0.1:{free_port()}/shop")
    away = run("relay", "--once")
    assert away.exit_code == 3
    assert "postgresql://…@127.0.0.1" in away.stderr
    assert "hush" not in away.output
    monkeypatch.setenv("ORDERRELAY_OUTBOX_URL", "mysql://shop:hush@db/shop")
    with pytest.raises(SettingsInvalid, match="ORDERRELAY_OUTBOX_URL: has the scheme 'mysql'"):
        run("status")
    monkeypatch.delenv("ORDERRELAY_OUTBOX_URL")
    with pytest.raises(SettingsInvalid, match="ORDERRELAY_OUTBOX_URL: is missing"):
        run("status")
    assert run("init").exit_code == 2


def test_once_says_that_redis_is_away(
    run: Callable[..., Result], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is taken off the table, and the exit code is 3."""
    lay_out(database_url)
    fill(database_url, "A-1")
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    result = run("relay", "--once", "--json")
    assert result.exit_code == 3
    assert answer(result)["taken"] == 0
    assert counts(database_url).waiting == 1


def test_a_relay_runs_until_sigterm(
    sqlite_url: str, redis_url: str, redis_client: redis.Redis, processes: Processes
) -> None:
    """It takes what comes while it runs, and ends with 0 and what it has done."""
    lay_out(sqlite_url)
    environment = {"ORDERRELAY_REDIS_URL": redis_url, "ORDERRELAY_OUTBOX_URL": sqlite_url}
    relay = processes.start_python([*_COMMAND, "relay", "--json", "--poll-seconds", "0.05"], environment)
    wait_until(lambda: "relaying from" in relay.log, 30, what="the relay runs")
    fill(sqlite_url, "A-1")
    wait_until(lambda: redis_client.xlen(keys.INTAKE) == 1, what="the order is handed over")
    relay.sigterm()
    assert relay.wait() == 0, relay.log
    assert json.loads(relay.log.splitlines()[-1])["taken"] == 1


def test_a_relay_tells_prometheus_how_the_outbox_stands(
    run: Callable[..., Result], database_url: str, redis_url: str, redis_client: redis.Redis, processes: Processes
) -> None:
    """What waits and for how long while Redis is away, then what was handed over and what was set aside."""
    lay_out(database_url)
    fill(database_url, "A-1", "A-2")
    fill(database_url, "B-1", company="beta")
    redis_client.zadd(keys.COMPANIES, {"acme": time.time()})
    port, nobody = free_port(), free_port()
    environment = {"ORDERRELAY_OUTBOX_URL": database_url, "ORDERRELAY_HEALTH_PORT": str(port)}
    words = [*_COMMAND, "relay", "--poll-seconds", "0.05"]
    waits = processes.start_python(words, environment | {"ORDERRELAY_REDIS_URL": f"redis://127.0.0.1:{nobody}/0"})
    wait_until(lambda: scrape(port).get("failures_total", 0) > 0, 30, what="Redis is away")
    found = scrape(port)
    assert (found["readable"], found["waiting"], found["set_aside"], found["newer"]) == (1, 3, 0, 0)
    assert 0 < found["oldest_seconds"] < 600
    assert found["handed_over_total"] == 0
    assert json.loads(ask(port, "/live")) == {"live": True, "not_live": []}
    waits.sigterm()
    assert waits.wait() == 0, waits.log
    relay = processes.start_python(words, environment | {"ORDERRELAY_REDIS_URL": redis_url})
    wait_until(lambda: scrape(port).get("waiting") == 0, 30, what="all is handed over, and counted")
    found = scrape(port)
    assert (found["handed_over_total"], found["refused_total"], found["set_aside"]) == (2, 1, 1)
    assert (found["oldest_seconds"], found["failures_total"]) == (0, 0)
    relay.sigterm()
    assert relay.wait() == 1, relay.log  # as it set one aside


def test_a_port_that_is_taken_is_told(
    run: Callable[..., Result], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two relays of one host need a port each."""
    lay_out(database_url)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("ORDERRELAY_HEALTH_PORT", str(taken.getsockname()[1]))
        with pytest.raises(SettingsInvalid, match="ORDERRELAY_HEALTH_PORT: nothing can listen"):
            run("relay")
        assert run("relay", "--once").exit_code == 0  # that one opens no port


def test_postgres_without_its_driver_is_told(redis_url: str) -> None:
    """The base install has no psycopg, and the command says how to get it."""
    program = (
        "import sys; sys.modules['psycopg'] = None; sys.argv[1:] = ['outbox', 'status']\n"
        "from orderrelay_shared.command import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"ORDERRELAY_OUTBOX_URL": "postgresql://shop@db/shop", "ORDERRELAY_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == "an outbox on PostgreSQL needs psycopg: pip install 'orderrelay[outbox]'\n"


def test_help_has_examples() -> None:
    """Each command shows how it is called."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"orderrelay outbox {name}" in command.help, name
