"""What a comparison makes of its records: which runs count, ratios, tables, and the section of the document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench import drain, table
from tests.bench.load import Reading, load_between
from tests.bench.orders import bench_order
from tests.bench.peers.catalogue import PEERS
from tests.bench.stub import Counts
from tests.bench.verdict import problem_of

OURS = table.Contender("ours", "Ours", 400, ours=True)
CELERY = table.Contender("celery", "Celery", 400, plain_celery=True)
FAST = table.Contender("fast", "Fast", 400)
CARELESS = table.Contender("careless", "Careless", 400, weaker="it loses orders in a crash")

DRAIN = next(column for column in table.COLUMNS if column.what == "drain 0" and column.more_is_better)
CPU = next(column for column in table.COLUMNS if column.what == "drain 0" and not column.more_is_better)


def record(name: str, per_second: float, foreign: float = 0.0, *, problem: str = "", **more: Any) -> dict[str, Any]:
    """One drain at 0 ms."""
    return {
        "name": name,
        "what": "drain 0",
        "good": not problem,
        "problem": problem,
        "per_second": per_second,
        "cpu_s_per_1000": 1000 / per_second,
        "foreign_cores": foreign,
        **more,
    }


def test_calm_runs_are_preferred_and_bad_ones_do_not_count() -> None:
    """The median is of the calm good runs, and of the others only where there is no calm one."""
    records = [record("a", 100), record("a", 300), record("a", 10, foreign=1.0), record("a", 900, problem="lost: 1")]
    assert table.figure(records, "a", DRAIN) == 200
    assert table.figure(records[2:], "a", DRAIN) == 10
    assert table.figure(records[3:], "a", DRAIN) is None


@pytest.mark.parametrize(
    ("number", "base", "text"),
    [(300, 100, "3.00"), (55, 100, "0.55"), (2500, 100, "25.0"), (None, 100, "–"), (1, None, "–"), (1, 0, "–")],
)
def test_ratio(number: float | None, base: float | None, text: str) -> None:
    """A ratio has as many digits as mean something; without one of its numbers it is a dash."""
    assert table.ratio(number, base) == text


def test_best_is_largest_or_smallest() -> None:
    """More orders a second are better, more CPU is worse; what is not known is no candidate."""
    assert table.best([1.0, None, 3.0], DRAIN) == 3.0
    assert table.best([1.0, None, 3.0], CPU) == 1.0
    assert table.best([None], CPU) is None


def test_tables_show_ratios_to_plain_celery_and_to_the_fastest_that_promises_as_much() -> None:
    """One that promises less is shown and marked, but is no base of a ratio."""
    records = [record("ours", 3000), record("celery", 300), record("fast", 1500), record("careless", 6000)]
    text = table.render([OURS, CELERY, FAST, CARELESS], records)
    figures, ratios = text.split("The same as multiples")
    assert "| Ours | 400 | – | – | 3,000 | – | 0.33 | – | – | – | 0.0–0.0 |" in figures
    assert "| Ours | – | – | 10.0 / 2.00 | – | 0.10 / 0.50 | – | – | – |" in ratios
    assert "| Careless † | – | – | 20.0 / 4.00 |" in ratios
    assert "† Careless: it loses orders in a crash." in ratios


def test_tables_say_which_runs_do_not_count() -> None:
    """A run that lost an order has no figure, and is named."""
    text = table.render([FAST], [record("fast", 1500, problem="lost: 9 of 10 orders arrived")])
    assert "| Fast | 400 | – | – | – |" in text
    assert "- Does not count: fast, drain 0: lost: 9 of 10 orders arrived." in text


def test_tables_say_that_the_machine_was_not_calm() -> None:
    """Whoever reads them must know which columns to trust."""
    assert "Other processes were busy" in table.render([FAST], [record("fast", 1500, foreign=0.5)])
    assert "Other processes were busy" not in table.render([FAST], [record("fast", 1500, foreign=0.1)])


def test_our_own_runs_are_told_in_detail() -> None:
    """The share of what the latency allows, and who used the processor."""
    ours = record(
        "ours",
        900.0,
        per_second_until_typed=800,
        cap_per_second=2000,
        booking_cpu_s_per_1000=0.2,
        redis_cpu_s_per_1000=0.03,
        database_cpu_s_per_1000=0.0,
        stub_cores=0.1,
        rss_mb=[100.0, 120.0],
    )
    text = table.render_ours([OURS, CELERY], [ours, record("celery", 300)])
    assert text.splitlines()[2:] == ["| Ours, 0 ms | 900 | 800 | 0.45 | 1.11 | 0.20 | 0.03 | 0.00 | 0.10 | 120 |"]


def test_the_section_is_replaced_and_nothing_else() -> None:
    """What stands before and after the marks is kept."""
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.replace_section(document, "new\n") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"


@pytest.mark.parametrize("document", ["", table.BEGIN, f"{table.BEGIN}{table.END}{table.BEGIN}{table.END}"])
def test_a_document_without_marks_is_not_written(document: str) -> None:
    """Nobody's words are overwritten by guess."""
    with pytest.raises(ValueError, match="once each"):
        table.replace_section(document, "new")


@pytest.mark.parametrize(
    ("counts", "stored", "problem"),
    [
        (Counts(distinct=10), (10, 10), ""),
        (Counts(distinct=9), (9, 9), "lost: 9 of 10 orders arrived; stored: 9 answers of 9 of 10 orders"),
        (Counts(distinct=10, duplicates=1), (10, 10), "doubled: 1 orders arrived again"),
        (Counts(distinct=10), (11, 10), "stored: 11 answers of 10 of 10 orders"),
        (Counts(distinct=10, refused=2), (10, 10), "the stub refused 2 requests"),
    ],
)
def test_what_was_lost_or_doubled_is_a_problem(counts: Counts, stored: tuple[int, int], problem: str) -> None:
    """Both at the stub and in what is stored."""
    assert problem_of(10, counts, stored) == problem


def test_foreign_load_is_what_the_bench_did_not_use() -> None:
    """The machine's time less the bench's own, in cores; never less than none."""
    first = Reading(10.0, machine=100.0, own=1.0, groups={"workers": 5.0})
    load = load_between(first, Reading(12.0, machine=104.0, own=1.5, groups={"workers": 7.5}))
    assert (load.seconds, load.groups, load.foreign_cores) == (2.0, {"workers": 2.5}, 0.5)
    assert load_between(first, Reading(12.0, machine=101.0, own=1.5, groups={"workers": 7.5})).foreign_cores == 0.0


def test_a_case_is_read_from_the_command_line() -> None:
    """At a latency there are enough orders for full speed to show."""
    case = drain.read_case("postgres:200:2000", 10_000)
    assert (case.database, case.latency_ms, case.in_flight, case.orders) == ("postgres", 200, 2000, 16_000)
    assert drain.read_case("sqlite:0:400", 1000).orders == 1000
    with pytest.raises(ValueError, match="sqlite or postgres"):
        drain.read_case("mysql:0:400", 1000)


def test_the_order_of_the_benches_is_as_large_as_is_told() -> None:
    """Three rows, about 700 bytes."""
    order = bench_order(1)
    assert len(order["InvoiceRows"]) == 3  # type: ignore[arg-type]
    assert 660 <= len(json.dumps([order], ensure_ascii=False, separators=(",", ":")).encode()) <= 740


def test_peers_are_told_apart_and_have_400_in_flight_if_they_can() -> None:
    """Names are unique; only those that need a process for each order have fewer in flight."""
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert {peer.name for peer in PEERS if peer.slow.in_flight != 400} == {"celery-prefork", "rq"}
    assert [peer.name for peer in PEERS if peer.plain_celery and not peer.weaker] == [
        "celery-prefork",
        "celery-threads",
    ]
