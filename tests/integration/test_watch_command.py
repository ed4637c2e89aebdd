"""The command `orderrelay watch`, on both databases and a real Redis."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from orderrelay_workers.commands import picture
from orderrelay_workers.commands.rounds import Rounds
from orderrelay_workers.gate import Gate, Kind, Limits, Report
from orderrelay_workers.ledger import companies
from orderrelay_workers.ledger.liveness import LifeSign
from orderrelay_workers.settings import load_worker_settings
from tests.integration.booked_orders import WORKER, Ledger, json_lines, orderrelay
from tests.servers import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

COMMAND = [sys.executable, "-c", "from orderrelay_shared.command import main; main()", "watch"]


@pytest.fixture
def ledger(
    database_url: str, redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledger]:
    """A ledger with three orders of acme that wait, one that is unknown and one of beta; a worker and an open gate."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    opened = Ledger(database_url)
    companies.ensure(opened.engine, ["acme", "beta"])
    opened.book("A-0")
    opened.answer(None)
    opened.book("A-1", "A-2", "A-3")
    opened.book("B-1", company="beta")
    life_sign = LifeSign(opened.engine, WORKER, "host:1", "0")
    life_sign.begin()
    Gate(redis_client, uuid.uuid4(), probe_lease_seconds=40.0).seed("acme", Limits(10, 1, 50), None, {})
    yield opened
    life_sign.end()
    opened.engine.dispose()


def test_one_look_is_a_line_for_each_company(ledger: Ledger) -> None:
    """Whoever pipes it gets what waits, what is out, what stopped, and why it is not faster."""
    result = orderrelay("watch", "--once")
    assert result.exit_code == 0
    acme, beta = result.stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ acme: .*", acme)
    assert acme.partition("acme: ")[2] == (
        "3 waiting, 0 in flight, 1 unknown, 0 parked, 0 orders/s lately, 10 expected; "
        "the rate of 10 requests/s is the limit: 3 wait, done in about 1 s"
    )
    assert "beta: 1 waiting, – in flight, 0 unknown, 0 parked; its gate in Redis is not made yet" in beta


def test_one_company_as_json(ledger: Ledger) -> None:
    """An object a line, with every name."""
    [told] = json_lines(orderrelay("watch", "ACME", "--once", "--json"))
    assert (told["company"], told["waiting"], told["waiting_urgent"], told["waiting_normal"]) == ("acme", 3, 0, 3)
    assert (told["in_flight"], told["max_in_flight"], told["unknown"], told["parked"]) == (0, 50, 1, 0)
    assert (told["rate_per_second"], told["expected_per_second"], told["redis_answers"]) == (10.0, 10.0, True)
    assert told["done_at"] > told["at"]
    assert told["why_slow"] == ["the rate of 10 requests/s is the limit: 3 wait, done in about 1 s"]


def test_an_unknown_company_names_the_known_ones(ledger: Ledger) -> None:
    """A misspelt alias ends with 1."""
    result = orderrelay("watch", "amce")
    assert (result.exit_code, result.stderr) == (1, "company 'amce' is not in the ledger; known: acme, beta\n")


def test_without_redis_it_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the ledger knows is told, and what is away, without its password."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://u:hunter2@127.0.0.1:{free_port()}/0")
    result = orderrelay("watch", "acme", "--once")
    assert result.exit_code == 3
    assert "acme: 3 waiting, – in flight, 1 unknown, 0 parked; Redis does not answer" in result.stdout
    assert re.search(r"Redis at redis://…@127.0.0.1:\d+/0 does not answer", result.stderr)


def test_without_the_database_it_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look ends with 3 then."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x")
    result = orderrelay("watch", "--once", "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "is not usable" in result.stderr
    assert "hunter2" not in result.output


def test_without_a_ledger_it_says_what_to_do(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Neither a missing file nor an empty one is made into a ledger."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
    missing = orderrelay("watch")
    assert (missing.exit_code, "run: orderrelay init" in missing.stderr) == (2, True)
    (tmp_path / "none.db").touch()
    empty = orderrelay("watch")
    assert (empty.exit_code, "run: orderrelay init" in empty.stderr) == (2, True)


def test_it_goes_on_when_redis_is_back(ledger: Ledger, redis_server: RedisServer) -> None:
    """The connections of a watch that saw Redis go away serve again when it is back."""
    with Rounds(load_worker_settings(), "acme") as rounds:
        assert rounds.look().trouble is None
        redis_server.kill9()
        trouble = rounds.look()
        assert trouble.trouble is not None
        assert trouble.companies[0].view.outlook.waiting == 3
        redis_server.start()
        assert rounds.look().trouble is None


def test_lines_tell_trouble_once(ledger: Ledger, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A log is not filled with what is away, and says when it is back."""
    lines = picture.Lines()
    with Rounds(load_worker_settings(), "acme") as rounds:
        lines.show(rounds.look())
        redis_server.kill9()
        lines.show(rounds.look())
        lines.show(rounds.look())
        redis_server.start()
        lines.show(rounds.look())
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert [line.split(maxsplit=1)[1].split()[0] for line in told.err.splitlines()] == ["Redis", "all"]


def drawn(ledger: Ledger, *, width: int, height: int) -> list[str]:
    """What is drawn on a terminal of this size."""
    with Rounds(load_worker_settings(), None) as rounds:
        seen = rounds.look()
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(picture.picture(seen, seen, 2.0, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_picture_has_a_block_for_each_company(ledger: Ledger) -> None:
    """A fact a line, and the reasons below."""
    lines = drawn(ledger, width=100, height=40)
    assert lines[2] == "acme  goes"
    facts = {line[:13].strip(): line[13:].strip() for line in lines[3:9]}
    assert facts["waiting"] == "3 orders  (0 urgent, 3 normal, 0 bulk)"
    assert (facts["in flight"], facts["errors"]) == ("0 of 50 requests", "1 unknown, 0 parked")
    assert facts["rate"] == "0 of 10 requests/s  ──────────────────── 0%"
    assert facts["speed"] == "0 orders/s lately, 10 expected"
    assert re.fullmatch(r"in about 1 s, \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", facts["done"])
    assert "beta  stands" in lines
    assert lines[9] == "  why        the rate of 10 requests/s is the limit: 3 wait, done in about 1 s"


def test_nothing_is_wider_than_a_narrow_terminal(ledger: Ledger) -> None:
    """Long sentences go on under themselves, and lose nothing."""
    lines = drawn(ledger, width=40, height=60)
    assert max(map(len, lines)) <= 40
    words = " ".join(" ".join(lines).split())
    assert "its gate in Redis is not made yet, and so is closed; a worker makes it within seconds" in words


def test_the_rate_is_told_beside_its_limit(ledger: Ledger, redis_client: redis.Redis) -> None:
    """Requests beside requests, orders beside orders, however many orders share a request; and what goes wrong."""
    gate = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=40.0)
    gate.report("acme", Kind.ORDER, Report(finished=5, good=4, unwell=1, orders=12))
    lines = drawn(ledger, width=80, height=40)
    facts = {line[:13].strip(): line[13:].strip() for line in lines[3:9]}
    went, unit, _, full = re.fullmatch(r"(\S+) of 10 (requests/s)  (━*)─* (\d+)%", facts["rate"]).groups()  # type: ignore[union-attr]  # a failure, if not
    assert unit == "requests/s"
    assert int(full) == pytest.approx(10 * float(went), abs=1)  # both are rounded
    speed = re.fullmatch(r"(\S+) orders/s lately, 30 expected; 3 orders in each request", facts["speed"])
    assert speed is not None
    assert float(speed[1]) == pytest.approx(3 * float(went), rel=0.02)
    assert "20% of the last order requests went wrong" in facts["errors"]


def test_companies_that_do_not_fit_have_a_line_each(ledger: Ledger) -> None:
    """On a low terminal there is a table of the companies, those that stand first, and no wider than 80."""
    lines = drawn(ledger, width=80, height=11)
    assert lines[2].split() == ["COMPANY", "WAITING", "FLIGHT", "ORDERS/S", "UNKNOWN", "PARKED", "DONE", "IN"]
    assert [line.split() for line in lines[3:5]] == [
        ["beta", "stands", "1", "–", "–", "0", "0", "–"],
        ["acme", "goes", "3", "0", "0", "1", "0", "1", "s"],
    ]
    companies.ensure(ledger.engine, [f"company-{number}" for number in range(20)])
    lines = drawn(ledger, width=80, height=11)
    assert len(lines) <= 11
    assert lines[-1].startswith("and 17 more")


def test_on_a_terminal_it_redraws_until_interrupted(ledger: Ledger) -> None:
    """A look stands where the one before stood; Ctrl-C ends it with 0, and leaves the last."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    running = subprocess.Popen(
        [*COMMAND, "acme", "--every", "0.2"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        close_fds=True,
    )
    os.close(theirs)
    try:
        text = read_until(ours, lambda text: text.count("3 normal") >= 3)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0
    finally:
        running.kill()
        running.wait()
        os.close(ours)
    assert "\x1b[2K\x1b[1A" in text  # the lines of the look before are wiped
    assert "Traceback" not in text


def read_until(terminal: int, enough: Callable[[str], bool]) -> str:
    """What a program writes to its terminal, until that is enough."""
    text, until = "", time.monotonic() + 30
    while not enough(text):
        assert time.monotonic() < until, text
        if select.select([terminal], [], [], 0.5)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
    return text


def test_json_is_one_object_a_line_for_as_long_as_it_runs(ledger: Ledger) -> None:
    """A program that reads it gets each look at once."""
    running = subprocess.Popen([*COMMAND, "acme", "--json", "--every", "0.2"], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        seen = [json.loads(running.stdout.readline()) for _ in range(3)]
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 0
    finally:
        running.kill()
        running.wait()
        if running.stdout is not None:
            running.stdout.close()
    assert [one["waiting"] for one in seen] == [3, 3, 3]
    assert sorted(one["at"] for one in seen) == [one["at"] for one in seen]
