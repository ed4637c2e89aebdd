"""What a comparison found, as tables with ratios: pure functions over its records."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Record = Mapping[str, Any]

BEGIN: Final = "<!-- bench: begin -->"
END: Final = "<!-- bench: end -->"

#: Up to so many cores' worth of other processes a run is taken for calm; one that is not only counts if none is.
CALM_CORES: Final = 0.25

_NOTHING: Final = "–"

_NOT_CALM: Final = (
    "- Other processes were busy during some runs (last column): their orders a second are too low, and not all by as "
    "much. The CPU columns are steadier."
)


@dataclass(frozen=True)
class Contender:
    """A row of the tables.

    Attributes:
        name: Under which its records are.
        label: What the row is called.
        in_flight: How many orders it had in flight at most where the vendor takes 200 ms.
        ours: Whether it is Orderrelay.
        plain_celery: Whether ratios to plain Celery are to this one, or a faster one of the kind.
        weaker: What it gives up that the others have; such a one is never "the fastest peer".
    """

    name: str
    label: str
    in_flight: int
    ours: bool = False
    plain_celery: bool = False
    weaker: str = ""


@dataclass(frozen=True)
class Column:
    """A measure.

    Attributes:
        title: The column's head.
        what: Which records it is taken from.
        value: Which of their values.
        more_is_better: Whether the best is the largest.
    """

    title: str
    what: str
    value: str
    more_is_better: bool = True

    def text(self, number: float) -> str:
        """A value as it is shown."""
        return f"{number:,.0f}" if self.more_is_better else f"{number:.2f}"


COLUMNS: Final = (
    Column("enqueue one by one", "enqueue one", "per_second"),
    Column("enqueue in bulk", "enqueue bulk", "per_second"),
    Column("drain, 0 ms", "drain 0", "per_second"),
    Column("drain, 200 ms", "drain 200", "per_second"),
    Column("CPU: drain, 0 ms", "drain 0", "cpu_s_per_1000", more_is_better=False),
    Column("CPU: drain, 200 ms", "drain 200", "cpu_s_per_1000", more_is_better=False),
    Column("CPU: one by one", "enqueue one", "cpu_s_per_1000", more_is_better=False),
    Column("CPU: in bulk", "enqueue bulk", "cpu_s_per_1000", more_is_better=False),
)


def figure(records: Iterable[Record], name: str, column: Column) -> float | None:
    """The median of a contender's good runs, of the calm ones if there are any; None: no run counts."""
    good = [r for r in records if r["name"] == name and r["what"] == column.what and r["good"]]
    calm = [r for r in good if r["foreign_cores"] <= CALM_CORES]
    values = [float(r[column.value]) for r in calm or good]
    return statistics.median(values) if values else None


def best(figures: Iterable[float | None], column: Column) -> float | None:
    """The best of these figures; None: there is none."""
    known = [number for number in figures if number is not None]
    return (max if column.more_is_better else min)(known, default=None)


def ratio(number: float | None, base: float | None) -> str:
    """How many times the base a number is."""
    if number is None or not base:
        return _NOTHING
    times = number / base
    return f"{times:.1f}" if times >= 10 else f"{times:.2f}"


def render(contenders: Sequence[Contender], records: Sequence[Record]) -> str:
    """The table of figures, the table of ratios, and what did not count."""
    figures = {(c.name, column): figure(records, c.name, column) for c in contenders for column in COLUMNS}
    parts = [
        "Orders a second, and CPU seconds per 1000 orders, of all workers or of the process that enqueues:",
        markdown(["", "in flight at 200 ms", *(column.title for column in COLUMNS), "foreign cores"], [
            [_label(c), f"{c.in_flight:,}", *(_figure(figures[c.name, column], column) for column in COLUMNS),
             _foreign(records, c.name)]
            for c in contenders
        ]),
        "The same as multiples of plain Celery (the better of its rows) / of the fastest peer (without †):",
        markdown(["", *(column.title for column in COLUMNS)], [
            [_label(c), *(_ratios(figures, contenders, c, column) for column in COLUMNS)] for c in contenders
        ]),
        *_notes(contenders, records),
    ]  # fmt: skip
    return "\n\n".join(parts)


def render_ours(contenders: Sequence[Contender], records: Sequence[Record]) -> str:
    """Our own drains in more detail, the median of each value."""
    titles = {
        "per_second": "to settled, orders/s",
        "per_second_until_typed": "to typed, orders/s",
        "share_of_cap": "share of in flight ÷ latency",
        "cpu_s_per_1000": "workers, CPU s per 1000",
        "booking_cpu_s_per_1000": "booking before",
        "redis_cpu_s_per_1000": "Redis",
        "database_cpu_s_per_1000": "database server",
        "stub_cores": "stub, cores",
        "rss": "RSS a worker, MB",
    }
    rows: list[list[str]] = []
    for contender in (c for c in contenders if c.ours):
        for what in ("drain 0", "drain 200"):
            runs = [_detailed(r) for r in records if r["name"] == contender.name and r["what"] == what and r["good"]]
            if runs:
                medians = [statistics.median(float(run[key]) for run in runs) for key in titles]
                rows.append([f"{contender.label}, {what.removeprefix('drain ')} ms", *map(_short, medians)])
    return markdown(["", *titles.values()], rows)


def replace_section(document: str, section: str) -> str:
    """The document with what stands between the two marks replaced.

    Raises:
        ValueError: The marks are not there, each once.
    """
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise ValueError(f"the document must have {BEGIN} and {END} once each")
    before, _, rest = document.partition(BEGIN)
    return f"{before}{BEGIN}\n{section.strip()}\n{END}{rest.partition(END)[2]}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " --: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _label(contender: Contender) -> str:
    return f"{contender.label} †" if contender.weaker else contender.label


def _figure(number: float | None, column: Column) -> str:
    return _NOTHING if number is None else column.text(number)


def _ratios(
    figures: Mapping[tuple[str, Column], float | None],
    contenders: Iterable[Contender],
    contender: Contender,
    column: Column,
) -> str:
    own = figures[contender.name, column]
    if own is None:
        return _NOTHING
    celery = best((figures[c.name, column] for c in contenders if c.plain_celery), column)
    fastest = best((figures[c.name, column] for c in contenders if not c.ours and not c.weaker), column)
    return f"{ratio(own, celery)} / {ratio(own, fastest)}"


def _foreign(records: Iterable[Record], name: str) -> str:
    """From the calmest to the least calm run."""
    values = [r["foreign_cores"] for r in records if r["name"] == name and r["good"]]
    return f"{min(values):.1f}–{max(values):.1f}" if values else _NOTHING


def _notes(contenders: Iterable[Contender], records: Iterable[Record]) -> list[str]:
    weaker = [f"- † {c.label}: {c.weaker}." for c in contenders if c.weaker]
    bad = [f"- Does not count: {r['name']}, {r['what']}: {r['problem']}." for r in records if not r["good"]]
    least_calm = max((r["foreign_cores"] for r in records if r["good"]), default=0.0)
    calm = [] if least_calm <= CALM_CORES else [_NOT_CALM]
    return ["\n".join([*weaker, *calm, *bad])] if weaker or calm or bad else []


def _detailed(record: Record) -> dict[str, Any]:
    cap = record["cap_per_second"]
    share = record["per_second"] / cap if cap else float("nan")
    return {**record, "share_of_cap": share, "rss": max(record["rss_mb"])}


def _short(number: float) -> str:
    if number != number:  # noqa: PLR0124  not a number: there is no cap at 0 ms
        return _NOTHING
    return f"{number:,.0f}" if number >= 20 else f"{number:.2f}"
