"""What is counted, what it is called, and that people find every name where they look."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orderrelay_workers import metrics, metrics_of_gates, metrics_of_ledger, metrics_of_process
from orderrelay_workers.gate import GateState, Hold, Kind, Limits, Refusal, Report
from orderrelay_workers.health import judge
from orderrelay_workers.ledger import credentials
from orderrelay_workers.metrics_of_gates import IntakeReading
from tests.known_metrics import Known, known_metrics

ROOT = Path(__file__).parents[2]


def value(name: str, **labels: str) -> float:
    """A counter as it is told now; 0 if it is not told yet."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == f"orderrelay_{name}" and sample.labels == labels:
                return float(sample.value)
    return 0.0


def test_the_tables_in_the_documentation_have_every_metric() -> None:
    """Name, type, labels and meaning, each once, and none that does not exist."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \| ([^|]+) \| [^|]+ \|$",
        (ROOT / "docs" / "metrics.md").read_text(),
        re.MULTILINE,
    )
    told = [Known(name, kind, tuple(re.findall(r"`(\w+)`", given)), meaning) for name, kind, given, meaning in rows]
    known = known_metrics()
    assert [row for row in told if row != known.get(row.name)] == []
    assert sorted(row.name for row in told) == sorted(known)


def test_every_kind_of_alarm_is_told_from_the_start() -> None:
    """A series that appears with its first alarm has not grown, so no rule could see it."""
    modules = (ROOT / "workers" / "orderrelay_workers").rglob("*.py")
    found: set[str] = set()
    for text in (module.read_text() for module in modules):
        found |= set(re.findall(r'"(\w+)",\s*alarm=(?!False)', text))
        if "Happening(NEW_REFUSED, alarm=True" in text:
            found.add(credentials.NEW_REFUSED)
    assert found == set(metrics_of_ledger.ALARMS)


def test_no_label_is_an_id() -> None:
    """Labels take a few values each, or Prometheus would choke on them."""
    allowed = {
        "company",
        "kind",
        "outcome",
        "refusal",
        "queue",
        "result",
        "decision",
        "duty",
        "alarm",
        "part",
        "end",
        "version",
    }
    assert {label for metric in known_metrics().values() for label in metric.labels} <= allowed


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
        for family in metrics_of_gates.families(
            {"acme": (state, 17), "other": (None, None)}, IntakeReading(5, 2.5, -0.5), complete=True
        )
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
        ("intake_waiting",): 5,
        ("intake_oldest_seconds",): 2.5,
        ("redis_clock_ahead_seconds",): -0.5,
        ("gates_readable",): 1,
    }


def test_a_process_tells_what_it_left_on_its_disk(tmp_path: Path) -> None:
    """Answers that wait for a start, bad ones, and free disk, also before the folder is made."""
    (tmp_path / "ledger" / "bad").mkdir(parents=True)
    (tmp_path / "ledger" / "a.jsonl").write_bytes(b"12345")
    (tmp_path / "ledger" / "bad" / "b.jsonl").write_bytes(b"1")
    assert metrics_of_process.spooled(tmp_path) == {"waiting": 5, "bad": 1}
    assert metrics_of_process.spooled(tmp_path / "missing") == {"waiting": 0, "bad": 0}
    assert metrics_of_process.free_bytes(tmp_path / "missing" / "too") == metrics_of_process.free_bytes(tmp_path)
    told = {f.name: f.samples[0].value for f in metrics_of_process.families(judge(None), "1.0", {}, None) if f.samples}
    assert told == {"orderrelay_live": 1, "orderrelay_ready": 0, "orderrelay_version_info": 1}
