"""What a worker counts and measures, for Prometheus: told at `GET /metrics` of its health port.

Counters are of this process. Gauges of the gates and of the ledger are read when somebody asks, so they are the same at
every worker. Labels are companies, kinds and short words, never ids.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orderrelay_workers.gate.permits import Kind, Permits, Report

#: Upper bounds in seconds: the vendor answers in tenths of seconds on good days, and in tens of them on bad ones.
_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)

_Metric = TypeVar("_Metric", Counter, Histogram)

#: Everything that this process tells.
REGISTRY: Final = CollectorRegistry()


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"orderrelay_{name}", help_text, labels, registry=REGISTRY)


_granted = _counter("permits_granted", "Permits that the gate granted to this worker.", "company", "kind")
_refused = _counter("permits_refused", "Times that the gate said not now, by its reason.", "company", "kind", "refusal")
_given_back = _counter("permits_given_back", "Permits given back, as nothing was started.", "company", "kind")
_reported = _counter("reports", "Ends told to the gate: good, unwell or other.", "company", "kind", "outcome")
_opened = _counter("circuit_openings", "Times that a circuit opened on this worker's report.", "company", "kind")
_throttled = _counter("throttles", "Answers by which the vendor asked to wait.", "company", "kind")
_requests = _counter("vendor_requests", "Requests to the vendor that ended, by outcome.", "company", "kind", "outcome")
_request_seconds = Histogram(
    "orderrelay_vendor_request_seconds",
    "How long requests to the vendor took, from their connection to the last byte.",
    ("company", "kind"),
    buckets=_BUCKETS,
    registry=REGISTRY,
)
_claimed = _counter("orders_claimed", "Orders claimed to be sent.", "company")
_settled = _counter("orders_settled", "Answers to order requests brought into the ledger.", "company", "outcome")
_booked = _counter("orders_booked", "Orders booked from the intake: new, already or conflict.", "company", "result")
_set_aside = _counter("intake_set_aside", "Unreadable entries of the intake that were set aside.")
_hints = _counter("hints", "Hints to workers, by what came of them: sent, enough or failed.", "queue", "outcome")
_fallbacks = _counter("credentials_refused", "Times that the vendor refused a company's credentials.", "company")
_rotations = _counter("settings_taken_over", "Changed settings taken over while running.", "company")
_duty_failures = _counter("duty_failures", "Times that a duty of this worker failed; it is tried again.", "duty")
_settings_invalid = Gauge(
    "orderrelay_settings_invalid",
    "1 if the changed env file or secrets folder has a mistake, so that the settings before stay in force; 0 if not.",
    registry=REGISTRY,
)

ProcessCollector(registry=REGISTRY)  # CPU, memory, open files and the start, by the names that dashboards know


def begin(companies: Iterable[str], duties: Iterable[str]) -> None:
    """Tell 0 of what alerts watch: of a series that appears with its first event, Prometheus sees no growth.

    Args:
        companies: The aliases that this worker serves.
        duties: The names of its duties.
    """
    for company in companies:
        _child(_fallbacks, company)
        _child(_rotations, company)
        for result in ("new", "already", "conflict"):
            _child(_booked, company, result)
    for duty in duties:
        _child(_duty_failures, duty)


@cache  # finding a child by its labels costs more than counting, and there are few
def _child(metric: _Metric, *labels: str) -> _Metric:
    return metric.labels(*labels)


def admitted(company: str, kind: Kind, granted: int, refusal: str | None = None) -> None:
    """The gate has answered: so many permits, or why none.

    Args:
        company: The company's alias.
        kind: The kind of requests.
        granted: How many permits.
        refusal: The reason for none, a `Refusal` or its text; None if there were some.
    """
    if granted:
        _child(_granted, company, str(kind)).inc(granted)
    if refusal is not None:
        _child(_refused, company, str(kind), str(refusal)).inc()


def answered(permits: Permits) -> None:
    """The gate has answered with these permits; the same as `admitted` with what is in them."""
    admitted(permits.company, permits.kind, permits.granted, permits.refusal)


def given_back(company: str, kind: Kind, unused: int) -> None:
    """So many permits were given back."""
    if unused:
        _child(_given_back, company, str(kind)).inc(unused)


def reported(company: str, kind: Kind, report: Report) -> None:
    """Ends of requests were told to the gate."""
    other = max(0, report.finished - report.good - report.unwell)
    for outcome, number in (("good", report.good), ("unwell", report.unwell), ("other", other)):
        if number:
            _child(_reported, company, str(kind), outcome).inc(number)
    if throttled := report.throttled or int(report.throttle_seconds is not None):
        _child(_throttled, company, str(kind)).inc(throttled)


def circuit_opened(company: str, kind: Kind) -> None:
    """The circuit of a kind has just opened, by this worker's report."""
    _child(_opened, company, str(kind)).inc()


def request_ended(company: str, kind: Kind, outcome: str, seconds: float) -> None:
    """A request to the vendor has ended.

    Args:
        company: The company's alias.
        kind: The kind of request.
        outcome: An order's `Outcome`; of a look-up or a login, the kind of its verdict. A short word, never a text.
        seconds: How long it took.
    """
    _child(_requests, company, str(kind), str(outcome)).inc()
    _child(_request_seconds, company, str(kind)).observe(max(0.0, seconds))


def claimed(company: str, orders: int) -> None:
    """So many orders were claimed."""
    if orders:
        _child(_claimed, company).inc(orders)


def settled(company: str, outcomes: Mapping[str, int]) -> None:
    """Answers to order requests are in the ledger: how many of each outcome."""
    for outcome, number in outcomes.items():
        _child(_settled, company, str(outcome)).inc(number)


def booked(company: str, result: str, orders: int) -> None:
    """Orders are in the ledger, or were already, or contradict one that is."""
    _child(_booked, company, result).inc(orders)


def set_aside(entries: int = 1) -> None:
    """Entries of the intake could not be read."""
    _set_aside.inc(entries)


def hinted(queue: str, outcome: str) -> None:
    """A hint was to be sent: it was, or there are enough in its queue, or the broker was away."""
    _child(_hints, queue, outcome).inc()


def credentials_refused(company: str) -> None:
    """The vendor refused credentials of the company: at a login, or by refusing the tokens that they bring."""
    _child(_fallbacks, company).inc()


def settings_taken_over(company: str) -> None:
    """Changed settings of the company are in force, without a restart."""
    _child(_rotations, company).inc()


def duty_failed(duty: str) -> None:
    """A duty of this worker has failed, and will be tried again."""
    _child(_duty_failures, duty).inc()


def settings_read(*, invalid: bool) -> None:
    """The changed settings were read: they have a mistake, or not."""
    _settings_invalid.set(float(invalid))


def exposition() -> bytes:
    """Everything there is to tell, in Prometheus' text format; it takes two seconds for each server that is away."""
    return generate_latest(REGISTRY)
