"""The command `orderrelay simulator` as a process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.unit.simulator_client import call, order, post_order

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = "import typer; from orderrelay_workers.commands.simulator import simulator; typer.run(simulator)"


def command(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-c", _CODE, *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command as it serves, and its first line read."""
    with subprocess.Popen(
        command("--port", "0", "--json", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end the command with 0 and no word, though a request still waits for its answer."""
    with serving("--token", "fixed-token", "--fault", "hang-after") as (process, told):
        assert post_order(told["url"], order(), timeout=0.2).end == "silent"
        began = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert time.monotonic() - began < 3


def test_flags_make_the_plan() -> None:
    """Flags are put over the plan given, and the page is where the first line says."""
    plan = '{"rules":[{"fault":"403","times":1}],"seed":4}'
    flags = ("--plan", plan, "--fault", "429=0.25", "--latency-ms", "1-2", "--rate-limit", "9")
    with serving(*flags, "--lookup-lag-seconds", "0.5") as (_, told):
        shown = call(told["url"], "GET", "/books").json["plan"]
        page = call(told["url"], "GET", told["books"].removeprefix(told["url"]))
    assert shown == {
        "rules": [
            {"fault": "403", "times": 1, "from_seconds": 0.0},
            {"fault": "429", "share": 0.25, "from_seconds": 0.0},
        ],
        "latency_ms": [1.0, 2.0],
        "lookup_lag_seconds": 0.5,
        "lookup_failing_share": 0.0,
        "latency_rise_above": 0,
        "latency_rise_ms": 0.0,
        "rate_limit_per_second": 9,
        "rate_limit_retry_after": "none",
        "rate_limit_wait_seconds": 1.0,
        "seed": 4,
    }
    assert b"SoftOne GO simulator" in page.body


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fault", "hang-aftr=0.1"), "did you mean 'hang-after'?"),
        (("--fault", "429=often"), "'often' is no share; give a number from 0 to 1"),
        (("--latency-ms", "soon"), "give milliseconds, as 200 or 50-400"),
        (("--plan", "/nowhere/plan.json"), "cannot be read: No such file or directory"),
    ],
)
def test_wrong_plans_end_with_2_and_one_line(arguments: tuple[str, ...], told: str) -> None:
    """A wrong plan or fault ends the command with 2 and one line that says what is wrong."""
    done = run(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr


def test_taken_port_ends_with_2() -> None:
    """A port that is taken ends the command with 2 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "choose another with --host and --port" in done.stderr


def test_list_of_faults() -> None:
    """--list-faults prints each fault with its sentence."""
    lines = run("--list-faults").stdout.splitlines()
    assert any(line.startswith("reset-after ") and line.endswith("the order was created.") for line in lines)
