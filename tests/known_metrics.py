"""Every metric that a worker or a relay tells Prometheus, as the code defines it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orderrelay_producers import outbox_vitals
from orderrelay_workers import (
    metrics,
    metrics_of_certificates,
    metrics_of_gates,
    metrics_of_ledger,
    metrics_of_process,
)
from orderrelay_workers.health import judge

if TYPE_CHECKING:
    from prometheus_client import Metric


@dataclass(frozen=True)
class Known:
    """One metric.

    Attributes:
        name: As Prometheus shows it; of a counter with `_total`.
        kind: counter, gauge or histogram.
        labels: In their order.
        meaning: Its help text.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def series(self) -> frozenset[str]:
        """The names that may be asked for."""
        if self.kind != "histogram":
            return frozenset({self.name})
        return frozenset({f"{self.name}_{part}" for part in ("bucket", "sum", "count")})


def known_metrics() -> dict[str, Known]:
    """All of them by name."""
    health = judge(None)
    families: list[Metric] = [
        *metrics.REGISTRY.collect(),
        *metrics_of_gates.families({}, complete=True),
        *metrics_of_ledger.families(None),
        *metrics_of_certificates.families({}),
        *metrics_of_process.families(health, "1.0", metrics_of_process.spooled(Path("/nowhere")), 0),
    ]
    own: list[Any] = list(metrics.REGISTRY._collector_to_names)
    labels = {c._name: tuple(c._labelnames) for c in own if hasattr(c, "_labelnames")}
    found: dict[str, Known] = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        given: Any = labels.get(family.name, getattr(family, "_labelnames", ()))
        found[name] = Known(name, family.type, tuple(given), family.documentation)
    return found | {m.name: Known(m.name, m.kind, (), m.meaning) for m in outbox_vitals.METRICS}
