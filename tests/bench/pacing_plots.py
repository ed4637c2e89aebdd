"""Pictures of what the pacing scenarios found, one idea each: `python -m tests.bench.pacing plot --help`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.layout_engine import ConstrainedLayoutEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that people who see few colours can tell apart.
_BLUE, _ORANGE, _GREEN, _RED = "#0b62a8", "#d9730d", "#2e7d4f", "#b3261e"
_INK, _SOFT, _LINE, _SHADE = "#1c2430", "#5d6b7c", "#dfe4ea", "#f3e3d3"

#: For matplotlib, whose own type of it names three hundred keys.
_STYLE: Final[Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "text.color": _INK,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "font.size": 10.5,
    "legend.frameon": False,
}
#: 8 inches at 100 dots: 800 pixels wide on paper; kept at twice that for sharp screens.
_WIDE, _DOTS = 8.0, 200


def plot_all(folder: Path, into: Path) -> list[Path]:
    """Draw every scenario whose series are in the folder; gives the pictures."""
    into.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    made: list[Path] = []
    with mpl.rc_context(_STYLE):
        for name, draw in _PICTURES.items():
            source = folder / f"{name}.json"
            if source.exists():
                figure = draw(json.loads(source.read_text()))
                path = into / f"{name}.png"
                figure.savefig(path, dpi=_DOTS)
                plt.close(figure)
                made.append(path)
    return made


def _figure(title: str, subtitle: str, heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Panels over each other with one statement above them; heights in inches."""
    tall = sum(heights) + 0.9
    figure, axes = plt.subplots(
        len(heights),
        1,
        figsize=(_WIDE, tall),
        sharex=True,
        squeeze=False,
        height_ratios=list(heights),
        layout=ConstrainedLayoutEngine(rect=(0.005, 0, 0.985, 1 - 0.75 / tall)),
    )
    figure.text(0.012, 1 - 0.16 / tall, title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.45 / tall, subtitle, fontsize=10, color=_SOFT, va="top")
    return figure, list(axes[:, 0])


def _seconds(count: int) -> list[float]:
    return [number + 0.5 for number in range(count)]


def _database(found: Mapping[str, Any]) -> str:
    return str(found["settings"].get("database", ""))


def _arrivals(found: Mapping[str, Any]) -> Figure:
    rate = found["settings"]["rate"]
    most = max(row["most in any second"] for row in found["rows"])
    figure, panels = _figure(
        f"1, 4 and 8 workers: at most {most} orders in any second",
        f"Orders a second at the vendor, {rate:g} allowed, burst 1, endless work; {_database(found)}",
        [1.35] * len(found["rows"]),
    )
    seconds = found["settings"]["seconds"]
    for panel, row in zip(panels, found["rows"], strict=True):
        counts = found["series"][str(row["workers"])]["per_second"]
        panel.axhline(rate, color=_ORANGE, linewidth=1.2, linestyle="--")
        panel.step(_seconds(len(counts)), counts, where="mid", color=_BLUE, linewidth=1.6)
        panel.set_ylim(0, rate * 1.25)
        panel.set_ylabel("orders/s")
        name = "1 worker" if row["workers"] == 1 else f"{row['workers']} workers"
        text = f"{name}: {row['mean a second']:.2f} a second on average, {row['most in any second']} at most"
        panel.text(0.01, 0.12, text, transform=panel.transAxes, fontweight="bold")
    panels[0].text(seconds, rate * 1.03, "allowed", color=_ORANGE, ha="right", va="bottom")
    panels[-1].set_xlabel("seconds")
    panels[-1].set_xlim(0, seconds)
    return figure


def _learning(found: Mapping[str, Any], title: str, subtitle: str) -> Figure:
    """A learned rate against a hidden limit, with what was refused below."""
    steps, end = found["settings"]["steps"], found["settings"]["seconds"]
    figure, (above, below) = _figure(title, subtitle, [3.1, 1.1])
    edges = [begins for begins, _ in steps] + [end]
    limits = [limit for _, limit in steps]
    for begins, until, limit in zip(edges, edges[1:], limits, strict=False):
        above.fill_between([begins, until], limit * 0.9, limit * 1.1, color=_SHADE, linewidth=0)
        above.plot([begins, until], [limit, limit], color=_ORANGE, linestyle="--", linewidth=1.4)
    above.text(edges[0] + end * 0.005, limits[0] * 1.13, "hidden limit ± 10 %", color=_ORANGE, va="bottom")
    times, rates = zip(*found["series"]["rate"], strict=True)
    above.plot(times, rates, color=_BLUE, linewidth=1.8)
    above.text(edges[1] * 0.6, limits[0] * 0.7, "learned rate", color=_BLUE, fontweight="bold", ha="center")
    above.set_ylabel("orders/s")
    above.set_ylim(0, max(limits) * 1.25)
    refused = found["series"]["refused_per_second"]
    below.bar(_seconds(len(refused)), refused, width=1.0, color=_RED)
    below.set_ylabel("refused/s")
    below.set_ylim(0, max(10.0, *refused) * 1.1)
    below.set_xlabel("seconds")
    below.set_xlim(0, end)
    return figure


def _slowest_near(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    waits = [row[name] for row in rows]
    return "not always" if None in waits else f"within {math.ceil(max(waits))} s"


def _limit(found: Mapping[str, Any]) -> Figure:
    near = _slowest_near(found["rows"], "near after s")
    return _learning(
        found,
        f"The learned rate finds a hidden limit {near}, also after it has moved",
        f"{found['settings']['refused_percent']:g} % of all orders were refused; floor 5, ceiling 200 orders/s; "
        f"{found['settings']['workers']} workers, {_database(found)}",
    )


def _model(found: Mapping[str, Any]) -> Figure:
    near = _slowest_near(found["rows"], "seconds_until_near")
    return _learning(
        found,
        f"Simulated ten minutes: near a moving limit {near}",
        f"The gate's own scripts with a simulated clock, {found['settings']['workers']} workers; "
        f"{found['settings']['refused_percent']:.2f} % refused",
    )


def _outage(found: Mapping[str, Any]) -> Figure:
    series, row = found["series"], found["rows"][0]
    begins, ends, back = series["begins"], series["ends"], row["full speed after s"] or math.inf
    figure, (above, below) = _figure(
        f"In an outage: a request each {10 / row['mean in 10 s']:.0f} s; full speed {back:.0f} s after its end",
        f"{found['settings']['waiting']:,} orders waiting, {found['settings']['workers']} workers; {_database(found)}",
        [2.6, 1.5],
    )
    for panel in (above, below):
        panel.axvspan(begins, ends, color=_SHADE, linewidth=0)
    every = [sum(counts) for counts in zip(*series["per_second"].values(), strict=True)]
    above.fill_between(_seconds(len(every)), every, step="mid", color=_BLUE, alpha=0.85, linewidth=0)
    asked = [at for times in series["asked"].values() for at in times if at >= begins + 10]
    above.plot(asked, [max(every) * 0.06] * len(asked), "|", color=_RED, markersize=9, markeredgewidth=1.2)
    above.text(
        (begins + ends) / 2, max(every) * 0.95, "every request is answered 503", ha="center", va="top", color=_INK
    )
    above.text((begins + ends) / 2, max(every) * 0.14, "single requests that ask", ha="center", color=_RED)
    above.set_ylabel("requests/s")
    above.set_ylim(0, max(every) * 1.1)
    for (name, memory), colour in zip(series["rss_mb"].items(), (_BLUE, _GREEN, _ORANGE, _RED), strict=False):
        below.plot(*zip(*memory, strict=True), color=colour, linewidth=1.6, label=name)
    below.set_ylim(0, max(mb for memory in series["rss_mb"].values() for _, mb in memory) * 1.3)
    below.set_ylabel("memory, MB")
    below.legend(loc="lower right", ncols=4)
    below.set_xlabel("seconds")
    below.set_xlim(0, len(every))
    return figure


def _brownout(found: Mapping[str, Any]) -> Figure:
    with_budget, without = found["series"]["0.2"], found["series"]["1"]
    shown = {"with RETRY_SHARE 0.2": (with_budget, _BLUE), "without a retry budget": (without, _ORANGE)}
    rows = found["rows"]
    figure, (above, below) = _figure(
        f"In a brown-out: {rows[0]['requests a second']:.0f} requests a second with the retry budget, "
        f"{rows[1]['requests a second']:.0f} without",
        f"{found['settings']['share']:.0%} of answers are {found['settings']['fault'][:3]} in the shaded time; "
        f"{found['settings']['orders_per_second']:g} new orders a second; {_database(found)}",
        [2.5, 1.8],
    )
    for panel in (above, below):
        panel.axvspan(with_budget["begins"], with_budget["ends"], color=_SHADE, linewidth=0)
    for name, (series, colour) in shown.items():
        every = [sum(counts) for counts in zip(*series["per_second"].values(), strict=True)]
        above.plot(_seconds(len(every)), every, color=colour, linewidth=1.6, label=name)
        retries = series["retries_per_second"]
        below.plot(_seconds(len(retries)), retries, color=colour, linewidth=1.6)
    above.set_ylabel("all requests/s")
    below.set_ylabel("retries/s")
    for panel in (above, below):
        panel.set_ylim(bottom=0)
    above.legend(loc="upper left", bbox_to_anchor=(0.17, 1.0))
    below.set_xlabel("seconds")
    below.set_xlim(0, len(with_budget["retries_per_second"]))
    return figure


def _fair(found: Mapping[str, Any]) -> Figure:
    row, delays = found["rows"][0], sorted(found["series"]["delays"])
    figure, (panel,) = _figure(
        f"A single order waits {row['longest s']:.2f} s at most behind another company's backlog",
        f"Company A has {found['settings']['waiting']:,} orders waiting, company B gets one now and then; "
        f"{_database(found)}",
        [2.8],
    )
    panel.axhline(2.0, color=_ORANGE, linestyle="--", linewidth=1.2)
    panel.text(len(delays) + 0.4, 2.03, "promised", color=_ORANGE, ha="right", va="bottom")
    panel.bar(range(1, len(delays) + 1), delays, width=0.7, color=_BLUE)
    panel.set_ylim(0, max(2.4, *delays) * 1.05)
    panel.set_xlim(0.3, len(delays) + 0.7)
    panel.set_xticks(range(1, len(delays) + 1))
    panel.set_ylabel("seconds from enqueue\nto the vendor")
    panel.set_xlabel("company B's single orders, quickest first")
    return figure


_PICTURES: Final[Mapping[str, Callable[[Mapping[str, Any]], Figure]]] = {
    "arrivals": _arrivals,
    "limit": _limit,
    "model": _model,
    "outage": _outage,
    "brownout": _brownout,
    "fair": _fair,
}
