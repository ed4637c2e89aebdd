"""`orderrelay enqueue` with CSV, JSON arrays and gzip, and as a dry run."""

from __future__ import annotations

import gc
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.command import main
from tests.integration.test_enqueue_command import arrived, invoke, line
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    import redis
    from typer.testing import Result

HEADER = "OrderKey;ExternalId;CustomerNr;InvoiceDate;CustomerRowType;ProductNr;Quantity;Amount\n"


@pytest.fixture
def run(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `enqueue` against an empty Redis."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    return lambda *words, stdin=b"": invoke("enqueue", *words, stdin=stdin)


@pytest.fixture
def run_dry(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `enqueue --dry-run` where no Redis is."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    return lambda *words, stdin=b"": invoke("enqueue", "--dry-run", *words, stdin=stdin)


def rows(key: int, external_id: str = "", *, quantity: str = "3", count: int = 2) -> str:
    """One order as lines of a table; what belongs to the order stands in the first."""
    first = f"{key};{external_id};013;2026-01-30;2;1;{quantity};1,50\n"
    return first + f"{key};;;;2;1;{quantity};1,50\n" * (count - 1)


def array(*orders: bytes) -> bytes:
    """Orders as a JSON array."""
    return b"[\n" + b",".join(orders) + b"]\n"


def test_a_table_is_taken(run: Callable[..., Result], tmp_path: Path, redis_client: redis.Redis) -> None:
    """Its orders are the same as those of JSON lines, so both files give the same jobs."""
    (tmp_path / "orders.csv").write_text(HEADER + rows(1, "A-1", count=1) + rows(2) + rows(3), encoding="utf-8")
    assert run(tmp_path / "orders.csv").stdout.startswith("3 accepted, 0 refused, 0 already there")
    assert len(set(arrived(redis_client))) == 3
    same = line("A-1").replace(b'"Amount": 1', b'"Amount": 1.50')
    assert run("-", stdin=same).stdout.startswith("0 accepted, 0 refused, 1 already there")
    assert run(tmp_path / "orders.csv").stdout.startswith("0 accepted, 0 refused, 3 already there")


def test_a_large_table_is_not_searched_for_garbage(run: Callable[..., Result], tmp_path: Path) -> None:
    """Python would go through all that is loaded for every few hundred orders; afterwards it does as before."""
    table = tmp_path / "orders.csv"
    table.write_text(HEADER + "".join(rows(key) for key in range(5000)))
    before = (gc.get_threshold(), gc.get_freeze_count())
    searches: list[str] = []
    gc.callbacks.append(lambda phase, _: searches.append(phase))
    try:
        result = run(str(table))
    finally:
        del gc.callbacks[-1]
    assert result.exit_code == 0, result.output
    assert len(searches) < 60
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_an_array_is_taken(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """One bad order of it is one refused order."""
    result = run("-", stdin=array(line("A-1"), line("A-2", quantity=-3, Nte="x"), line("A-3")))
    assert result.exit_code == 1
    assert "standard input order 2 (line 3): Nte: is unknown: did you mean `Note`?" in result.stderr
    assert arrived(redis_client) == ["A-1", "A-3"]


@pytest.mark.parametrize("packed", [line("A-1"), array(line("A-1")), (HEADER + rows(1, "A-1")).encode()])
def test_gzip_is_told_by_what_stands_there(
    run: Callable[..., Result], tmp_path: Path, redis_client: redis.Redis, packed: bytes
) -> None:
    """Whatever the file is called, and from a pipe too; several packed files one behind the other are one."""
    (tmp_path / "orders.txt").write_bytes(gzip.compress(packed[:10]) + gzip.compress(packed[10:]))
    assert run(tmp_path / "orders.txt").exit_code == 0
    assert run("-", stdin=gzip.compress(packed)).stdout.startswith("0 accepted, 0 refused, 1 already there")
    assert set(arrived(redis_client)) == {"A-1"}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda packed: packed[:-10], "the gzip data ends too early: the file is cut off"),
        (lambda packed: packed[:-8] + b"12345678", "the gzip data is damaged: CRC check failed"),
        (lambda packed: packed[:3], "the gzip data ends too early"),
    ],
)
def test_damaged_gzip_is_told(run: Callable[..., Result], damage: Callable[[bytes], bytes], problem: str) -> None:
    """A download that broke off is no shorter file."""
    result = run("-", stdin=damage(gzip.compress(line("A-1") * 3)))
    assert result.exit_code == 2
    assert problem in result.stderr


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"[]", HEADER.encode()], ids=["nothing", "a line end", "an array", "names"]
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["sent", "tried"])
def test_a_file_without_an_order_is_told(run: Callable[..., Result], content: bytes, more: tuple[str, ...]) -> None:
    """It is well as it is, but whoever exported it may have expected more."""
    result = run("-", *more, stdin=content)
    assert result.exit_code == 0
    assert result.stderr == "standard input: there is no order in it\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PK\x03\x04...", "an Excel workbook"),
        ((HEADER + rows(1)).encode("utf-16"), "this is UTF-16"),
        (b"Hello world\n", "say what it is with --format"),
        (b"Namn;Datum\nx;y\n", "Not known: Namn, Datum; name each column after its property"),
        (b"Customer;Quantity\n1;2\n", "Not known: Customer (did you mean CustomerNr?); known: Quantity; name each"),
        ((HEADER.replace("CustomerNr", "CustomerNo") + rows(1)).encode(), "did you mean CustomerNr? Nothing was sent"),
    ],
)
def test_what_holds_no_orders_is_told_once(run: Callable[..., Result], content: bytes, problem: str) -> None:
    """And not once a line."""
    result = run("-", stdin=content)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert result.stderr.endswith((". Nothing was sent\n", "? Nothing was sent\n"))
    assert "--from-line" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_person_may_say_the_format(run: Callable[..., Result]) -> None:
    """What begins like something else is read as it was said."""
    result = run("-", "--format", "jsonl", stdin=b"[1]\n" + line("A-1"))
    assert result.stdout.startswith("1 accepted, 1 refused")
    assert "no JSON array begins here" in run("-", "--format", "json", stdin=line("A-1")).stderr


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_run_that_was_stopped_is_gone_on_with(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis, form: str
) -> None:
    """At the place that is told, in each format's own words: nothing is sent twice, and the ids are the same."""
    table = (HEADER + rows(1) + rows(2) + rows(3) + rows(4)).encode()
    data, where, next_number = {"csv": (table, "line", 6), "json": (array(line(), line(), line(), line()), "order", 3)}[
        form
    ]
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "2")
    stopped = run("-", "--json", stdin=data)
    assert stopped.exit_code == 3
    assert f"add --from-{where} {next_number}" in stopped.stderr
    assert json.loads(stopped.stdout)[f"next_{where}"] == next_number
    monkeypatch.setenv("ORDERRELAY_MAX_WAITING", "100")
    gone_on = run("-", f"--from-{where}", next_number, stdin=data)
    assert gone_on.stdout.startswith("2 accepted, 0 refused, 0 already there")
    assert len(arrived(redis_client)) == len(set(arrived(redis_client))) == 4


def test_a_place_that_cannot_be_is_a_mistake(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """Within an order, counted in something else, or in two ways."""
    table = (HEADER + rows(1) + rows(2)).encode()
    assert "the order at line 2 goes on in line 3" in run("-", "--from-line", 3, stdin=table).stderr
    assert "counted in lines: use --from-line" in run("-", "--from-order", 2, stdin=table).stderr
    assert "counted in orders: use --from-order" in run("-", "--from-line", 2, stdin=array(line())).stderr
    assert run("-", "--from-order", 2, "--from-line", 2, stdin=table).exit_code == 2
    assert arrived(redis_client) == []


#: Order 1 has its last row behind order 2.
APART = HEADER + rows(1, "A-1") + rows(2, "A-2") + rows(1, "A-1", count=1) + rows(3, "A-3")


def test_a_table_whose_rows_stand_apart_is_refused_whole(
    run: Callable[..., Result], tmp_path: Path, redis_client: redis.Redis
) -> None:
    """Before the first rows of an order are taken as all of it: nothing is sent, and each place is told."""
    file = tmp_path / "orders.csv"
    file.write_text(APART + rows(2, "A-2", count=1), encoding="utf-8")
    result = run(file)
    assert result.exit_code == 1
    assert result.stdout == ""
    why = "the rows of one order must stand together"
    assert result.stderr == (
        f"{file} line 6, column OrderKey: was the key of the order at line 2: {why}\n"
        f"{file} line 9, column OrderKey: was the key of the order at line 4: {why}\n"
        f"{file}: refused, nothing was sent: orders would lack rows, because of 2 places. Give each row the key of "
        "its order, sort the file by that column, and enqueue all of it\n"
    )
    counts = json.loads(run(file, "--json").stdout)
    assert (counts["astray"], counts["finished"], counts["accepted"], counts["format"]) == (2, False, 0, "csv")
    assert "next_line" not in counts
    assert arrived(redis_client) == []


def test_a_table_with_a_row_of_no_order_is_refused_whole(run: Callable[..., Result], redis_client: redis.Redis) -> None:
    """It may belong to the order above, as people leave cells empty that would say the same again."""
    table = (HEADER + rows(1, "A-1") + ";;;;3;;;\n" + rows(2, "A-2")).encode()
    result = run("-", stdin=table)
    assert result.exit_code == 1
    assert "line 4, column OrderKey: is empty: it tells in each row which order that belongs to" in result.stderr
    assert arrived(redis_client) == []


def test_of_many_rows_that_stand_apart_only_some_are_told(
    run: Callable[..., Result], redis_client: redis.Redis
) -> None:
    """A table that is sorted by something else does not fill the screen; the last line counts."""
    result = run("-", stdin=(HEADER + "".join(rows(key, count=1) for key in [*range(30), *range(30)])).encode())
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 21
    assert "orders would lack rows, because of 30 places, of which 20 are told" in result.stderr.splitlines()[-1]
    assert arrived(redis_client) == []


@pytest.mark.parametrize("from_line", [4, 7])
def test_rows_before_the_beginning_count_as_well(
    run: Callable[..., Result], redis_client: redis.Redis, from_line: int
) -> None:
    """Where a run goes on, a row of an order that was taken may return, or one may have returned before."""
    result = run("-", "--from-line", from_line, stdin=APART.encode())
    assert result.exit_code == 1
    assert "line 6, column OrderKey: was the key of the order at line 2" in result.stderr
    assert arrived(redis_client) == []


def test_a_table_that_cannot_be_looked_through_is_not_begun(
    run: Callable[..., Result], redis_client: redis.Redis
) -> None:
    """What stands behind a quote that is not closed may belong to an order before it."""
    result = run("-", stdin=(HEADER + rows(1, "A-1") + rows(2) + '3;"' + rows(1, "A-1")).encode())
    assert result.exit_code == 2
    assert "line 6 cannot be read as CSV" in result.stderr
    assert "Nothing was sent" in result.stderr
    assert arrived(redis_client) == []


@contextmanager
def piped(folder: Path, data: bytes) -> Generator[Path, None, None]:
    """A pipe that can be read once, by name."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[data], daemon=True)
    writer.start()
    yield pipe
    writer.join(30.0)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_table_from_a_pipe_is_looked_through_too(
    run: Callable[..., Result], tmp_path: Path, redis_client: redis.Redis, pack: Callable[[bytes], bytes]
) -> None:
    """It is copied first, as it cannot be read twice."""
    sound = HEADER + "".join(rows(key, f"B-{key}") for key in range(3000))  # More than a pipe holds, or any buffer.
    for name, table, exit_code in [("sound", sound, 0), ("apart", sound + APART.removeprefix(HEADER), 1)]:
        folder = tmp_path / name
        folder.mkdir()
        with piped(folder, pack(table.encode())) as pipe:
            assert run(pipe).exit_code == exit_code
    assert arrived(redis_client) == [f"B-{key}" for key in range(3000)]


def test_a_pipe_that_cannot_be_copied_is_told(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis
) -> None:
    """With the way out; a file by name needs no copy."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    table = (HEADER + rows(1, "A-1")).encode()
    with piped(tmp_path, table) as pipe:
        result = run(pipe)
    assert result.exit_code == 2
    assert "cannot be copied into a temporary file: No such file or directory; let TMPDIR name a" in result.stderr
    assert arrived(redis_client) == []
    (tmp_path / "orders.csv").write_bytes(table)
    assert run(tmp_path / "orders.csv").exit_code == 0


def test_a_dry_run_tells_of_rows_that_stand_apart_in_the_same_words(run_dry: Callable[..., Result]) -> None:
    """Beside all other mistakes, each time as one refused order."""
    result = run_dry("-", stdin=(APART + rows(4, quantity="x")).encode())
    assert result.exit_code == 1
    assert "line 6, column OrderKey: was the key of the order at line 2: the rows of one" in result.stderr
    assert "line 9, column Quantity" in result.stderr
    assert result.stdout == "3 valid, 2 refused; nothing was sent\n"


def test_refused_orders_of_a_table_are_a_table(run: Callable[..., Result], tmp_path: Path) -> None:
    """Whole orders below the header, each once, so that they are corrected and enqueued in place."""
    rejects = tmp_path / "rejects.csv"
    table = HEADER + rows(1, "A-1") + rows(2, "A-2", quantity="x") + rows(3, "A-1", quantity="4") + rows(4)
    result = run("-", "--rejects", rejects, stdin=table.encode("utf-8-sig"))
    assert result.exit_code == 1
    assert f"2 accepted, 1 refused, 1 in conflict (see {rejects}), 0 already there" in result.stdout
    assert rejects.read_text(encoding="utf-8-sig") == (
        HEADER + rows(2, "A-2", quantity="x") + rows(3, "A-1", quantity="4")
    )
    corrected = rejects.read_text(encoding="utf-8").replace(";x;", ";5;").replace("A-1", "A-3")
    assert run("-", stdin=corrected.encode()).stdout.startswith("2 accepted, 0 refused")


def test_refused_orders_of_an_array_are_lines(run: Callable[..., Result], tmp_path: Path) -> None:
    """However many lines they had."""
    rejects = tmp_path / "rejects.jsonl"
    run("-", "--rejects", rejects, stdin=array(line("A-1"), b'{"a":\n1}', b"{}"))
    assert rejects.read_bytes() == b'{"a": 1}\n{}\n'


def test_a_dry_run_needs_no_redis_and_sends_nothing(run_dry: Callable[..., Result]) -> None:
    """It finds what a real run would, also what is wrong between the orders of the file."""
    data = line("A-1") + line("A-1") + line("a-1", quantity=4) + line() + line() + b"{}\n"
    result = run_dry("-", stdin=data)
    assert result.exit_code == 1
    assert result.stdout == "3 valid, 1 refused, 1 in conflict, 1 twice in the file; nothing was sent\n"
    assert "standard input line 2: stands in this file twice" in result.stderr
    assert "standard input line 3: ExternalId 'a-1' stands further up in this file with other content" in result.stderr
    counts = json.loads(run_dry("-", "--json", stdin=data).stdout)
    expected = {"valid": 3, "refused": 1, "already": 1, "conflicts": 1, "company": "default", "format": "jsonl"}
    assert counts == {**expected, "finished": True}


def test_a_dry_run_of_sound_orders_is_good(run_dry: Callable[..., Result]) -> None:
    """Exit code 0 says that a real run would refuse none; what cannot be read is told as there."""
    assert run_dry("-", stdin=line("A-1") + line()).exit_code == 0
    cut = run_dry("-", stdin=array(line("A-1"))[:-2])
    assert cut.exit_code == 2
    assert "not closed: it ends after order 1. 1 orders are valid, 0 refused; nothing was sent" in cut.stderr


def test_a_dry_run_knows_the_length_of_an_external_id(
    run_dry: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting holds for it as well."""
    monkeypatch.setenv("ORDERRELAY_EXTERNAL_ID_MAX_LENGTH", "40")
    assert run_dry("-", stdin=line("A" * 41)).stdout.startswith("0 valid, 1 refused")


@pytest.mark.parametrize("option", ["--priority", "--format", "--decimal"])
def test_a_wrong_word_is_told_in_words(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """And not in those of the library that reads it."""
    with pytest.raises(SystemExit) as caught:
        main(["enqueue", "-", option, "hurry"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert f"Invalid value for '{option}': 'hurry' is not one of " in err
    assert "Value error" not in err


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """A line each, ready to be typed."""
    with pytest.raises(SystemExit):
        main(["enqueue", "--help"])
    assert "\n    orderrelay enqueue orders.csv --dry-run\n" in capsys.readouterr().out


@pytest.mark.parametrize("moment", ["importing", "opening"])
def test_an_early_ctrl_c_shows_no_traceback(tmp_path: Path, moment: str) -> None:
    """Before the modules are there, or while the file is opened: exit code 130, and one line at most."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Tells when it is there, and then waits for a signal that is certain to come.
    stop = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    hook = "import builtins, sys; real = builtins.__import__\n" + (
        "def slow(name, *rest):\n"
        "    if name == 'orderrelay_producers.files.run' and name not in sys.modules:\n"
        f"        {stop}\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = slow\n"
        if moment == "importing"
        else "import orderrelay_producers.commands as c; real_open = c._reading\n"
        f"def opening(file):\n    {stop}\n    return real_open(file)\nc._reading = opening\n"
    )
    program = f"{hook}from orderrelay_shared.start import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "enqueue", str(pipe)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert done.stderr == (
        "" if moment == "importing" else f"{pipe}: interrupted before it was read; nothing is taken\n"
    )
