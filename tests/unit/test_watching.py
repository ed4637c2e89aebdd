"""Rules and dashboard ask only for what exists, and the runbook only says what can be typed."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from orderrelay_workers.metrics_of_ledger import ALARMS
from tests.documents import command_line, parse, spans, words_of
from tests.known_metrics import known_metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "orderrelay.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "orderrelay.json"
RUNBOOK = DEPLOY / "RUNBOOK.md"

#: What Prometheus itself adds to every series, and its own series with their labels.
OF_TARGETS = {"job", "instance"}
OF_PROMETHEUS = {"up": set[str](), "ALERTS": {"alertname", "alertstate"}}


@cache
def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    groups: Any = YAML(typ="safe").load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Those that raise alerts."""
    return [rule for rule in rules() if "alert" in rule]


@cache
def dashboard_queries() -> dict[str, str]:
    """Every expression of the dashboard by what shows it, with Grafana's own variables filled in."""
    content = json.loads(DASHBOARD.read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in content["panels"]
        for target in panel.get("targets", [])
    }
    found |= {item["name"]: item["expr"] for item in content["annotations"]["list"]}
    return {name: expr.replace("$__rate_interval", "1m").replace("$company", ".*") for name, expr in found.items()}


@cache
def scaler_query() -> str:
    """What KEDA scales by."""
    scaled = YAML(typ="safe").load((DEPLOY / "kubernetes" / "scaling" / "scaledobject.yaml").read_text())
    return str(scaled["spec"]["triggers"][0]["metadata"]["query"])


@cache
def expressions() -> dict[str, str]:
    """All that is asked of Prometheus anywhere."""
    found = {rule.get("alert") or rule["record"]: str(rule["expr"]) for rule in rules()}
    return {**found, **dashboard_queries(), "KEDA": scaler_query()}


@cache
def labels_of() -> dict[str, set[str]]:
    """Which labels each series has."""
    known = {series: set(m.labels) for m in known_metrics().values() for series in m.series}
    known |= {series: labels | {"le"} for series, labels in known.items() if series.endswith("_bucket")}
    recorded = {
        "orderrelay:orders_waiting": set[str](),
        "company:orderrelay_orders_settled:rate5m": {"company", "outcome"},
    }
    return known | recorded | OF_PROMETHEUS


def walk(node: Any) -> list[Any]:
    """A parsed expression with all its parts."""
    parts = [getattr(node, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
    parts += list(getattr(node, "args", None) or [])
    return [node, *(deeper for part in parts if part is not None for deeper in walk(part))]


@pytest.mark.parametrize("name", sorted(expressions()))
def test_every_expression_asks_for_what_exists(name: str) -> None:
    """It parses, and its metrics and the labels that they are chosen and grouped by are told by the code."""
    expression = expressions()[name]
    nodes = walk(promql_parser.parse(expression))
    known = labels_of()
    selectors = [node for node in nodes if isinstance(node, promql_parser.VectorSelector)]
    assert selectors
    present = {label for s in selectors for label in known[str(s.name)]} | OF_TARGETS
    for selector in selectors:
        chosen = {matcher.name for matcher in selector.matchers.matchers}
        assert chosen <= known[str(selector.name)] | OF_TARGETS, selector.name
    for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in labels.split(",") if label.strip()} <= present, labels


def test_workers_are_scaled_by_what_the_dashboards_call_waiting() -> None:
    """KEDA asks for the same as the recorded rule, so that it needs no rules."""
    [recorded] = [rule["expr"] for rule in rules() if rule.get("record") == "orderrelay:orders_waiting"]
    assert scaler_query() == recorded


def test_alarms_in_rules_are_raised_by_the_code() -> None:
    """Each kind of alarm has an alert, or one that tells the same in another way."""
    asked = {
        kind
        for rule in alerts()
        for kinds in re.findall(r'alarm=~"([\w|]+)"', rule["expr"])
        for kind in kinds.split("|")
    }
    told_otherwise = {"cautious_began", "company_not_served", "company_paused", "new_credentials_refused"}
    assert asked | told_otherwise == set(ALARMS)
    assert not asked & told_otherwise


def test_every_alert_says_what_it_is_and_leads_to_its_entry() -> None:
    """A summary, a severity, and a heading in the runbook that names the alert; the table there has all of them."""
    text = RUNBOOK.read_text()
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    anchors = {title.lower().replace(" ", "-"): body for title, body in sections.items()}
    told: list[tuple[str, str, str]] = []
    for rule in alerts():
        annotations = rule["annotations"]
        file, _, anchor = annotations["runbook"].partition("#")
        assert file == "deploy/RUNBOOK.md"
        assert rule["alert"] in anchors[anchor], rule["alert"]
        assert annotations["summary"]
        assert annotations["description"]
        told.append((rule["alert"], rule["labels"]["severity"], anchor))
    assert re.findall(r"^\| `(\w+)` \((\w+)\) \| \[[^]]+\]\(#([\w-]+)\) \|$", text, re.MULTILINE) == told
    assert {severity for _, severity, _ in told} == {"page", "ticket"}


def test_links_into_the_runbook_lead_somewhere() -> None:
    """From the runbook itself and from the metrics' document."""
    headings = {
        title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", RUNBOOK.read_text(), re.MULTILINE)
    }
    metrics_document = (DEPLOY.parent / "docs" / "metrics.md").read_text()
    linked = set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK.read_text()))
    linked |= set(re.findall(r"RUNBOOK\.md#([\w-]+)", metrics_document))
    assert linked <= headings


def test_every_command_of_the_runbook_can_be_typed() -> None:
    """Also those in its sentences: subcommand, options, values and what is required are as the program wants them."""
    command = command_line()
    shown = [span for document, span in spans() if document == "deploy/RUNBOOK.md"]
    lines = sorted({words for span in shown if (words := words_of(span)) is not None})
    assert len(lines) >= 30
    for line in lines:
        parse(command, shlex.split(line))
