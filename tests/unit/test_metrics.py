"""What is counted, what it is called, and that people find every name where they look."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orderrelay_workers import metrics, metrics_of_gates
from orderrelay_workers.gate import GateState, Hold, Kind, Limits, Refusal, Report

if TYPE_CHECKING:
    from prometheus_client import Metric

ROOT = Path(__file__).parents[2]


def value(name: str, **labels: str) -> float:
    """A counter as it is told now; 0 if it is not told yet."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == f"orderrelay_{name}" and sample.labels == labels:
                return float(sample.value)
    return 0.0


def defined() -> dict[str, tuple[str, ...]]:
    """Every metric with its labels, as the modules define them."""
    own: list[Any] = list(metrics.REGISTRY._collector_to_names)
    of_gates: list[Any] = metrics_of_gates.families({}, complete=True)
    labels: dict[str, tuple[str, ...]] = {collector._name: tuple(collector._labelnames) for collector in own}
    labels |= {family.name: tuple(family._labelnames) for family in of_gates}
    counters = {name for name, kind in kinds().items() if kind == "counter"}
    return {f"{name}_total" if name in counters else name: given for name, given in labels.items()}


def kinds() -> dict[str, str]:
    """Which of them are counters, gauges and histograms."""
    families: list[Metric] = [*metrics.REGISTRY.collect(), *metrics_of_gates.families({}, complete=True)]
    return {family.name: family.type for family in families}


def test_the_table_in_the_documentation_has_every_metric() -> None:
    """Name and labels, each once, and none that does not exist."""
    section = (ROOT / "deploy" / "README.md").read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(orderrelay_\w+)` \| ([^|]*) \|", section, re.MULTILINE)
    assert {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == defined()
    assert len(rows) == len(defined())


def test_no_label_is_an_id() -> None:
    """Labels take a few values each, or Prometheus would choke on them."""
    allowed = {"company", "kind", "outcome", "refusal", "queue", "result", "decision"}
    assert {label for labels in defined().values() for label in labels} <= allowed


def test_permits_are_counted() -> None:
    """Those granted, those given back, and each refusal by its reason."""
    granted = value("permits_granted_total", company="m", kind="order")
    refused = value("permits_refused_total", company="m", kind="order", refusal="rate")
    metrics.admitted("m", Kind.ORDER, 7)
    metrics.admitted("m", Kind.ORDER, 0, Refusal.RATE)
    metrics.given_back("m", Kind.ORDER, 2)
    assert value("permits_granted_total", company="m", kind="order") == granted + 7
    assert value("permits_refused_total", company="m", kind="order", refusal="rate") == refused + 1
    assert value("permits_given_back_total", company="m", kind="order") >= 2


def test_reports_are_counted() -> None:
    """Good, unwell and other ends, and the vendor's wishes to wait."""
    metrics.reported("r", Kind.LOOKUP, Report(finished=6, good=3, unwell=2, throttle_seconds=5))
    metrics.circuit_opened("r", Kind.LOOKUP)
    ends = {o: value("reports_total", company="r", kind="lookup", outcome=o) for o in ("good", "unwell", "other")}
    assert ends == {"good": 3, "unwell": 2, "other": 1}
    assert value("throttles_total", company="r", kind="lookup") == 1
    assert value("circuit_openings_total", company="r", kind="lookup") == 1


def test_requests_are_counted_and_measured() -> None:
    """By outcome, and in a histogram in seconds."""
    for seconds in (0.2, 0.3, 99.0):
        metrics.request_ended("h", Kind.ORDER, "created", seconds)
    assert value("vendor_requests_total", company="h", kind="order", outcome="created") == 3
    assert value("vendor_request_seconds_bucket", company="h", kind="order", le="0.25") == 1
    assert value("vendor_request_seconds_sum", company="h", kind="order") == pytest.approx(99.5)


def test_a_gate_is_told_as_it_is() -> None:
    """Every gauge of a gate, and none of one that is not known here."""
    state = GateState(
        limits=Limits(10, 1, 50),
        paused="stocktaking",
        holds=(Hold(Kind.ORDER, 3.0, "HTTP 500", probing=False),),
        throttled_seconds=2.5,
        in_flight=4,
        rate_now=8.0,
        is_learned=True,
        drain_per_second=1.5,
        unwell_share={Kind.ORDER: 0.5},
        counts={"order_admitted": 12},
    )
    told = {
        (sample.name.removeprefix("orderrelay_"), *sample.labels.values()): sample.value
        for family in metrics_of_gates.families({"acme": (state, 17), "other": (None, None)}, complete=True)
        for sample in family.samples
    }
    assert told == {
        ("rate_per_second", "acme"): 8,
        ("rate_learned", "acme"): 1,
        ("drain_per_second", "acme"): 1.5,
        ("requests_in_flight", "acme"): 4,
        ("closed_seconds", "acme"): 0,
        ("throttled_seconds", "acme"): 2.5,
        ("paused", "acme"): 1,
        ("circuit_open", "acme", "order"): 1,
        ("circuit_open", "acme", "lookup"): 0,
        ("circuit_open", "acme", "login"): 0,
        ("unwell_share", "acme", "order"): 0.5,
        ("gate_decisions_total", "acme", "order_admitted"): 12,
        ("jobs_waiting", "acme"): 17,
        ("gates_readable",): 1,
    }
