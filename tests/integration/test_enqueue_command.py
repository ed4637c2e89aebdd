"""The commands `orderrelay enqueue` and `orderrelay status`, on a real Redis."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer
from typer.testing import CliRunner

from orderrelay_producers.commands import enqueue, status
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Envelope, read_entry
from orderrelay_shared.job_status import UNHEARD_OF, JobStatus
from orderrelay_shared.states import JobState
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis
    from typer.testing import Result

app = typer.Typer()
app.command()(enqueue)
app.command()(status)


@pytest.fixture
def run(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line against an empty Redis."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    return invoke


def invoke(*words: object, stdin: bytes = b"") -> Result:
    """Run the command line with these words; anything but an exit is an error of the test."""
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def line(external_id: str | None = None, *, quantity: int = 3, **more: object) -> bytes:
    """One order as a line of a file."""
    row = {"CustomerRowType": 2, "ProductNr": "1", "Quantity": quantity, "Amount": 1}
    order = {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [row], "ExternalId": external_id, **more}
    return json.dumps(order).encode() + b"\n"


def arrived(client: redis.Redis) -> list[str]:
    """The ExternalIds in the intake."""
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.INTAKE))
    entries = [read_entry(fields) for _, fields in found]
    return [entry.external_id for entry in entries if isinstance(entry, Envelope)]


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Where a file of orders is written."""
    return tmp_path / "orders.jsonl"


def test_a_file_is_taken(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """Every line becomes an order in the intake; the summary says how many, and how to follow them."""
    orders.write_bytes(line("A-1") + b"\n" + line("A-2"))
    result = run("enqueue", orders)
    assert result.exit_code == 0
    assert arrived(redis_client) == ["A-1", "A-2"]
    job = ids.job_id("default", "A-1")
    assert result.stdout == f"2 accepted, 0 refused, 0 already there; follow with: orderrelay status {job}\n"


def test_standard_input_is_taken(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """`-` reads from a pipe."""
    assert run("enqueue", "-", stdin=line("A-1")).exit_code == 0
    assert arrived(redis_client) == ["A-1"]


def test_the_same_file_again_adds_nothing(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """Orders without ExternalId get the same one at every run, so a second run finds them all there."""
    orders.write_bytes(line() + line() + line(quantity=5))
    run("enqueue", orders)
    again = run("enqueue", orders)
    assert again.stdout.startswith("0 accepted, 0 refused, 3 already there")
    assert again.exit_code == 0
    assert len(arrived(redis_client)) == 6
    assert len(set(arrived(redis_client))) == 3


def test_a_line_that_was_there_is_told(run: Callable[..., Result], orders: Path) -> None:
    """Each order that had been taken before is named with its line and job."""
    orders.write_bytes(line("A-1") + line("A-1"))
    job = ids.job_id("default", "A-1")
    assert run("enqueue", orders).stderr == f"{orders} line 2: already there, job {job}\n"


def test_another_batch_is_other_orders(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """The same content in another batch is another order."""
    orders.write_bytes(line())
    run("enqueue", orders, "--batch", "monday")
    assert run("enqueue", orders, "--batch", "tuesday").stdout.startswith("1 accepted")
    assert len(set(arrived(redis_client))) == 2


def test_refused_lines_are_told_and_kept(
    run: Callable[..., Result], orders: Path, tmp_path: Path, redis_client: redis.Redis
) -> None:
    """Each mistake is named with its line and place, refused lines are kept as they were, the rest is taken."""
    bad_row = line("A-2", quantity=3).replace(b'"Quantity": 3', b'"Quantity": "many"')
    rejects = tmp_path / "rejects.jsonl"
    orders.write_bytes(line("A-1") + bad_row + b"\nnonsense\n" + line("A-3"))
    result = run("enqueue", orders, "--rejects", rejects)
    assert result.exit_code == 1
    assert rejects.read_bytes() == bad_row + b"nonsense\n"
    assert f"{orders} line 2: InvoiceRows[0].Quantity: " in result.stderr
    assert f"{orders} line 4: " in result.stderr
    assert f"2 accepted, 2 refused (see {rejects}), 0 already there" in result.stdout
    assert arrived(redis_client) == ["A-1", "A-3"]


def test_a_conflict_is_told_and_refused(run: Callable[..., Result], orders: Path, tmp_path: Path) -> None:
    """Another order under a known ExternalId is refused, with the first one's job named."""
    second = line("A-1", quantity=2)
    rejects = tmp_path / "rejects.jsonl"
    orders.write_bytes(line("A-1", quantity=1) + second)
    result = run("enqueue", orders, "--rejects", rejects, "--json")
    assert result.exit_code == 1
    job = ids.job_id("default", "A-1")
    assert result.stderr.startswith(
        f"{orders} line 2: ExternalId 'A-1' was already accepted with other content (job {job})"
    )
    assert rejects.read_bytes() == second
    counts = json.loads(result.stdout.splitlines()[-1])
    assert (counts["accepted"], counts["refused"], counts["conflicts"]) == (1, 0, 1)


def test_json_ends_with_the_counts(run: Callable[..., Result], orders: Path) -> None:
    """With `--json` the last line of stdout is one object."""
    orders.write_bytes(line("A-1") + line("A-1") + b"{}\n")
    expected = {"accepted": 1, "refused": 1, "already": 1, "conflicts": 0, "maybe_taken": 0}
    result = run("enqueue", orders, "--company", "ACME", "--json")
    assert json.loads(result.stdout) == {**expected, "company": "acme", "format": "jsonl", "finished": True}


def test_a_file_from_windows(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """A byte-order mark and CRLF line ends do no harm."""
    orders.write_bytes(b"\xef\xbb\xbf" + line("Å-1").replace(b"\n", b"\r\n"))
    assert run("enqueue", orders).exit_code == 0
    assert arrived(redis_client) == ["Å-1"]


def test_more_lines_than_a_batch(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """A line's number is right in any batch."""
    orders.write_bytes(b"".join(line(f"A-{number}") for number in range(700)) + b"nonsense\n")
    result = run("enqueue", orders)
    assert result.stdout.startswith("700 accepted, 1 refused")
    assert f"{orders} line 701: " in result.stderr
    assert len(arrived(redis_client)) == 700


def test_a_missing_file_is_wrong_usage(run: Callable[..., Result], orders: Path) -> None:
    """A file that cannot be read is told by name."""
    result = run("enqueue", orders)
    assert result.exit_code == 2
    assert result.stderr == f"{orders}: cannot be read: No such file or directory\n"


def test_rejects_never_overwrite_the_orders(run: Callable[..., Result], orders: Path) -> None:
    """Writing the refused lines into the file that is read would lose orders."""
    orders.write_bytes(line("A-1"))
    assert run("enqueue", orders, "--rejects", orders).exit_code == 2
    assert orders.read_bytes() == line("A-1")


def test_lines_before_an_unreadable_one_are_taken(
    run: Callable[..., Result], orders: Path, redis_client: redis.Redis
) -> None:
    """A file that ends in something endless: what stands before is taken, and the summary says so."""
    orders.write_bytes(line("A-1") + b"x" * (17 * 1024 * 1024))
    result = run("enqueue", orders)
    assert result.exit_code == 2
    assert "line 2 is longer" in result.stderr
    assert "1 orders are taken" in result.stderr
    assert arrived(redis_client) == ["A-1"]


def test_an_unknown_company_is_wrong_usage(run: Callable[..., Result], orders: Path, redis_client: redis.Redis) -> None:
    """A company that no worker serves is told once, and not once a line."""
    redis_client.zadd(keys.COMPANIES, {"acme": dt.datetime.now(dt.UTC).timestamp()})
    orders.write_bytes(line("A-1") + line("A-2"))
    result = run("enqueue", orders, "--company", "amce")
    assert result.exit_code == 2
    assert result.stderr == "company 'amce': no worker serves it; workers serve acme\n"


def test_redis_away_is_told_with_what_was_taken(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis unreachable: exit code 3, how many orders are taken, and that running it again is safe."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    orders.write_bytes(line("A-1") + line("A-2"))
    result = invoke("enqueue", orders, "--timeout", "0.5", "--json")
    assert result.exit_code == 3
    assert "Redis cannot be reached (ORDERRELAY_REDIS_URL: " in result.stderr
    assert "--from-line" not in result.stderr  # it would be the same command
    assert "0 orders are taken, 0 refused. Running the same command again is safe" in result.stderr
    assert json.loads(result.stdout)["finished"] is False


def test_a_full_queue_stops_the_run(
    run: Callable[..., Result], orders: Path, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    """A full queue ends the run at that line; the same command goes on later."""
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "2")
    orders.write_bytes(b"".join(line(f"A-{number}") for number in range(3)))
    result = run("enqueue", orders)
    assert result.exit_code == 3
    assert "2 orders wait, and 2 may (ORDERRELAY_MAX_WAITING) at line 3. 2 orders are taken" in result.stderr


def test_a_run_that_was_stopped_is_gone_on_with(
    run: Callable[..., Result], orders: Path, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    """The line that is told is where to go on: nothing is sent twice, and ids are those that one run would give."""
    orders.write_bytes(line() * 3 + line("A-4") + line())
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "2")
    stopped = run("enqueue", orders, "--json")
    assert "add --from-line 3" in stopped.stderr
    assert json.loads(stopped.stdout)["next_line"] == 3
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "100")
    assert run("enqueue", orders, "--from-line", 3).stdout.startswith("3 accepted, 0 refused, 0 already there")
    assert len(arrived(redis_client)) == len(set(arrived(redis_client))) == 5
    assert run("enqueue", orders).stdout.startswith("0 accepted, 0 refused, 5 already there")


def test_a_line_behind_the_end_is_a_mistake(run: Callable[..., Result], orders: Path) -> None:
    """A mistyped number does not look like success; but the line behind the last is where a whole run stopped."""
    orders.write_bytes(line("A-1") + line("A-2"))
    beyond = run("enqueue", orders, "--from-line", 9)
    assert beyond.exit_code == 2
    assert "there is no line 9: the last order is at line 2" in beyond.stderr
    assert run("enqueue", orders, "--from-line", 3).exit_code == 0


def test_going_on_keeps_what_was_refused_before(
    run: Callable[..., Result], orders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refused lines of both runs are in the file, each once, also one that stands just behind the stop."""
    rejects = tmp_path / "rejects.jsonl"
    orders.write_bytes(b"{bad 1\n" + line("A-1") + line("A-2") + b"bad 2\n")
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "1")
    stopped = run("enqueue", orders, "--rejects", rejects)
    assert "add --from-line 3" in stopped.stderr
    assert rejects.read_bytes() == b"{bad 1\n"
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "100")
    assert run("enqueue", orders, "--rejects", rejects, "--from-line", 3).exit_code == 1
    assert rejects.read_bytes() == b"{bad 1\nbad 2\n"


def test_of_many_lines_that_were_there_only_some_are_told(run: Callable[..., Result], orders: Path) -> None:
    """A large file that is run again does not fill the screen; the summary counts."""
    orders.write_bytes(b"".join(line(f"A-{number}") for number in range(100)))
    run("enqueue", orders)
    again = run("enqueue", orders)
    assert len(again.stderr.splitlines()) == 21
    assert "only counted" in again.stderr.splitlines()[-1]
    assert "100 already there" in again.stdout


def test_ctrl_c_tells_where_to_go_on(redis_url: str) -> None:
    """A person who stops a run is told how many orders are taken, and the line to go on with."""
    program = "import typer, orderrelay_producers.commands as c; typer.run(c.enqueue)"
    command = [sys.executable, "-c", program, "-", "--json"]
    environment = {**os.environ, "ORDERRELAY_REDIS_URL": redis_url}
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"".join(line(f"A-{number}") for number in range(499)) + b"bad\n" + line("B-1") * 200)
        process.stdin.flush()
        assert (
            b"standard input line 500: " in process.stderr.readline()
        )  # A batch is settled; the rest of the next is awaited.
        process.send_signal(signal.SIGINT)
        process.wait(30.0)
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert err.startswith(b"standard input: stopped: interrupted at line 501. 499 orders are taken")
    assert b"add --from-line 501" in err
    assert json.loads(out)["next_line"] == 501


def test_progress_is_shown_on_a_terminal(redis_url: str, tmp_path: Path) -> None:
    """Where a person looks on, a bar shows how far the file is; messages stand above it, stdout stays clean."""
    orders = tmp_path / "orders[red].jsonl"  # Which a terminal library might take for a colour.
    orders.write_bytes(line("A-1") + line("A-1") + b"nonsense\n")
    program = "import typer, orderrelay_producers.commands as c; typer.run(c.enqueue)"
    terminal, end = os.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as screen:
        environment = {**os.environ, "ORDERRELAY_REDIS_URL": redis_url, "TERM": "xterm", "COLUMNS": "200"}
        command = [sys.executable, "-c", program, str(orders)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=end, env=environment) as process:
            os.close(end)
            seen = b""
            with contextlib.suppress(OSError):  # Linux says so when the other end of a terminal is closed.
                while read := screen.read(4096):
                    seen += read
            out, _ = process.communicate(timeout=30.0)
    assert out.startswith(b"1 accepted, 1 refused, 1 already there")
    assert b"enqueue" in seen
    assert b"100%" in seen
    assert f"{orders} line 2: already there".encode() in seen


def publish(client: redis.Redis, **more: Any) -> JobStatus:
    """Publish the status of order A-1 of company default."""
    at = dt.datetime(2026, 1, 30, 12, 0, 5, tzinfo=dt.UTC)
    told = JobStatus(**{"state": JobState.REJECTED, "company": "default", "external_id": "A-1", "at": at, **more})
    client.set(keys.status(ids.job_id(told.company, told.external_id)), told.to_json(), ex=60)
    return told


def test_a_status_for_people(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """All that is known of a job, a fact a line."""
    publish(redis_client, attempts=2, error_number=295, reason="Artikel saknas", order_number="211", vendor_id=12614169)
    job = ids.job_id("default", "A-1")
    result = run("status", job)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"Job:          {job}",
        "Company:      default",
        "ExternalId:   A-1",
        "State:        rejected since 2026-01-30T12:00:05Z",
        "Order:        number 211, vendor id 12614169",
        "Attempts:     2",
        "Error number: 295",
        "Reason:       Artikel saknas",
    ]


@pytest.mark.parametrize("external_id", ["A-1", "5f2b7c0e-9a41-5f0e-8f3c-2a6d1c7e4b90"])
def test_a_status_by_external_id(run: Callable[..., Result], redis_client: redis.Redis, external_id: str) -> None:
    """An ExternalId names the job as well, even one that looks like a job id."""
    publish(redis_client, external_id=external_id, company="acme")
    looks_like_a_job = f"orderrelay:status:{external_id.replace('-', '')}"
    redis_client.set(looks_like_a_job, UNHEARD_OF, ex=60)
    result = run("status", external_id, "--company", "Acme", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "job": str(ids.job_id("acme", external_id)),
        "state": "rejected",
        "company": "acme",
        "external_id": external_id,
        "at": "2026-01-30T12:00:05Z",
        "attempts": 0,
        "order_number": None,
        "vendor_id": None,
        "reference": None,
        "error_number": None,
        "reason": None,
        "content": None,
        "priority": "normal",
        "due_at": None,
        "deadline": None,
    }


def test_no_such_job(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """A job that the ledger does not have ends with 1."""
    redis_client.set(keys.status(ids.job_id("default", "A-1")), UNHEARD_OF, ex=60)
    result = run("status", "A-1")
    assert result.exit_code == 1
    assert "no job 'A-1' of company 'default'" in result.stderr


def test_a_status_that_nobody_tells(run: Callable[..., Result]) -> None:
    """Without workers and a published status the answer is not "no such job"."""
    result = run("status", "A-1", "--timeout", "0.2")
    assert result.exit_code == 3
    assert "is a worker running" in result.stderr
