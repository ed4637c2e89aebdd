"""The panels of deploy/grafana's dashboard with their own queries, as a picture; Grafana itself is not needed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import matplotlib as mpl
from matplotlib import pyplot as plt

from tests.bench.pacing_plots import _STYLE as STYLE
from tests.deployed import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

_DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "orderrelay.json"

#: Of Grafana's units: what a value is divided by, and what stands behind it.
_UNITS: Final = {"ops": (1.0, "/s"), "s": (1.0, "s"), "percentunit": (0.01, "%"), "bytes": (1e6, "MB")}
_WORDS: Final = {"bool_on_off": ("off", "on"), "bool_yes_no": ("no", "yes")}

_COLUMNS: Final = 24
_INCHES_WIDE, _INCHES_A_LINE = 15.0, 0.33


@dataclass
class Panel:
    """One panel: what Grafana says of it, and the series by their legends."""

    said: dict[str, Any]
    series: dict[str, tuple[list[float], list[float]]]


def asked(url: str, begin: float, end: float) -> list[Panel]:
    """Ask Prometheus what each panel shows between two instants, a point a second."""
    panels: list[Panel] = []
    for said in json.loads(_DASHBOARD.read_text())["panels"]:
        series: dict[str, tuple[list[float], list[float]]] = {}
        for target in said.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "15s").replace("$company", ".*")
            parameters: dict[str, str | float] = {"query": query, "start": begin, "end": end, "step": 1}
            answer = httpx.get(f"{url}/api/v1/query_range", params=parameters, trust_env=False, timeout=60)
            for found in answer.raise_for_status().json()["data"]["result"]:
                points = [(at - begin, float(value)) for at, value in found["values"] if value != "NaN"]
                times, values = [at for at, _ in points], [value for _, value in points]
                series[_legend(target.get("legendFormat") or "", found["metric"])] = (times, values)
        panels.append(Panel(said, series))
    return panels


def _legend(pattern: str, labels: dict[str, str]) -> str:
    named = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), pattern)
    return re.sub(r"127\.0\.0\.1:\d+", "worker", named) if len(named) > 24 else named


def draw(panels: list[Panel], path: Path) -> None:
    """Draw all of them at their places, over the seconds since the beginning."""
    seconds = max(at for panel in panels for times, _ in panel.series.values() for at in times)
    mpl.use("Agg")
    lines = max(panel.said["gridPos"]["y"] + panel.said["gridPos"]["h"] for panel in panels)
    with mpl.rc_context({**STYLE, "font.size": 8}):
        figure = plt.figure(figsize=(_INCHES_WIDE, lines * _INCHES_A_LINE))
        for panel in panels:
            place = panel.said["gridPos"]
            left, bottom = place["x"] / _COLUMNS, 1 - (place["y"] + place["h"]) / lines
            wide, high = place["w"] / _COLUMNS, place["h"] / lines
            if panel.said["type"] == "row":
                figure.text(left + 0.01, bottom + high * 0.2, panel.said["title"], fontsize=13, weight="bold")
                continue
            inner = (left + 0.035, bottom + high * 0.2, wide - 0.045, high * 0.62)
            axes = figure.add_axes(inner)
            axes.set_title(panel.said["title"], fontsize=9, loc="left", weight="bold")
            if panel.said["type"] == "timeseries":
                _curves(axes, panel, seconds)
            else:
                _text(axes, panel)
        figure.savefig(path, dpi=90)
        plt.close(figure)


def _text(axes: Axes, panel: Panel) -> None:
    """A single number, or a list."""
    axes.axis("off")
    if panel.said["type"] == "table":
        axes.text(0, 0.8, "\n".join(panel.series), fontsize=10, va="top")
        return
    [(_, values)] = panel.series.values()
    words = _WORDS.get(panel.said["fieldConfig"]["defaults"].get("unit", ""))
    shown = words[int(values[-1])] if words else f"{values[-1]:,.0f}"
    axes.text(0.5, 0.35, shown, fontsize=20, ha="center", va="center")


def _curves(axes: Axes, panel: Panel, seconds: float) -> None:
    """Series over time; those that lie on the axis have no legend."""
    by, unit = _UNITS.get(panel.said["fieldConfig"]["defaults"].get("unit", ""), (1.0, ""))
    highest = {legend: max(values, default=0.0) for legend, (_, values) in panel.series.items()}
    # Room is scarce: those that can be seen.
    told = [legend for legend, value in highest.items() if value > 0.03 * max(highest.values())]
    for legend, (times, values) in panel.series.items():
        label = legend if legend in told else "_"
        axes.plot(times, [value / by for value in values], linewidth=1.2, label=label)
    axes.set_xlim(0, seconds)
    axes.margins(y=0.3)  # for the legend
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit, fontsize=8)
    if told:
        axes.legend(fontsize=6.5, loc="upper right", frameon=True, framealpha=0.6, edgecolor="none")
    else:
        words = "all are 0" if panel.series else "nothing to show"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color="#5d6b7c")
