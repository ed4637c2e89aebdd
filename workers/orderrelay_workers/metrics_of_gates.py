"""The gauges of Redis: what the gates and the intake say at the moment that somebody asks for metrics."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import ResponseError

from orderrelay_shared import keys, redis_connection
from orderrelay_workers.clock_difference import ahead_seconds, redis_seconds
from orderrelay_workers.gate import Gate, Kind
from orderrelay_workers.metrics import REGISTRY
from orderrelay_workers.readings_in_time import ReadingInTime

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable, Iterator

    from orderrelay_workers.gate.permits import GateState

#: The longest wait for one answer of Redis, in seconds.
_ANSWER_SECONDS: Final = 1.0

#: Name, meaning and how it is read, of each gauge with the label company; None: there is nothing to tell.
_GAUGES: Final[tuple[tuple[str, str, Callable[[GateState], float | None]], ...]] = (
    ("rate_per_second", "Requests per second that the gate lets through, as set or as learned.", lambda s: s.rate_now),
    ("rate_learned", "1 if the rate in force is learned from the vendor's answers, 0 if it is the one that is set.",
     lambda s: s.is_learned),
    ("drain_per_second", "Orders created or rejected per second, lately.", lambda s: s.drain_per_second),
    ("requests_in_flight", "Requests in flight, of all workers.", lambda s: s.in_flight),
    ("closed_seconds", "Seconds until the company's closed hours end; 0: it is open.", lambda s: s.closed_seconds),
    ("throttled_seconds", "Seconds that the vendor still wants to be left alone; 0: it does not.",
     lambda s: s.throttled_seconds),
    ("retries_left", "Retries that the retry budget still allows; missing while it is untouched.",
     lambda s: s.retries_left),
    ("paused", "1 if the company is paused, 0 if not.", lambda s: s.paused is not None),
)  # fmt: skip

_CIRCUIT: Final = ("circuit_open", "1 if the circuit of this kind of request is open, 0 if not.")
_UNWELL: Final = ("unwell_share", "Share of the last requests of this kind that went unwell, 0 to 1.")
_DECISIONS: Final = ("gate_decisions", "What the gate decided since it was made, over all workers.")
_WAITING: Final = ("jobs_waiting", "Jobs that wait to be sent, as last counted by a worker.")
_INTAKE: Final = ("intake_waiting", "Accepted orders that are not booked yet.")
_OLDEST: Final = (
    "intake_oldest_seconds",
    "How long the oldest accepted order has been waiting to be booked.",
)
_CLOCK: Final = ("redis_clock_ahead_seconds", "How far Redis' clock is ahead of this host's.")
_READABLE: Final = ("gates_readable", "1 if Redis told of all gates in time; 0: their gauges are missing here.")

#: A company's state and how many of its jobs wait, each None if it is not known.
Reading = tuple["GateState | None", int | None]


@dataclass(frozen=True, slots=True)
class IntakeReading:
    """What Redis says of the intake, and of its clock.

    Attributes:
        waiting: How many orders are accepted and not booked yet.
        oldest_seconds: How long the oldest has been so; 0: there is none.
        clock_ahead_seconds: How far Redis' clock is ahead of this host's.
    """

    waiting: int
    oldest_seconds: float
    clock_ahead_seconds: float


class GateGauges(Collector):
    """Reads the gates whenever metrics are asked for, over a connection of its own.

    Args:
        redis_url: Where the gates are.
        companies: Gives the aliases of the companies to tell of.
        boot_id: This worker's.
    """

    def __init__(self, redis_url: str, companies: Callable[[], Iterable[str]], boot_id: uuid.UUID) -> None:
        self._redis = redis_connection.connect(
            redis_url, timeout_seconds=_ANSWER_SECONDS, client_name="orderrelay-metrics"
        )
        self._gate = Gate(self._redis, boot_id, probe_lease_seconds=60)  # it only reads
        self._companies = companies
        self._reading = ReadingInTime("gates", self._read)

    def begin(self) -> None:
        """Be asked from now on."""
        REGISTRY.register(self)

    def close(self) -> None:
        """Be asked no more."""
        REGISTRY.unregister(self)
        self._redis.close()

    def describe(self) -> Iterable[Metric]:
        """The gauges without values; asked by the registry when this begins."""
        return families({}, complete=True)

    def collect(self) -> Iterable[Metric]:
        """The gauges as they are now; those of gates that could not be read in time are left out."""
        pieces, complete = self._reading.take()
        readings = dict(piece for piece in pieces if not isinstance(piece, IntakeReading))
        intake = next((piece for piece in pieces if isinstance(piece, IntakeReading)), None)
        return families(readings, intake, complete=complete)

    def _read(self) -> Iterator[tuple[str, Reading] | IntakeReading]:
        for company in sorted(self._companies()):
            waiting: Any = self._redis.get(keys.waiting(company))
            yield company, (self._gate.state(company), None if waiting is None else int(waiting))
        with contextlib.suppress(ResponseError):  # a user of Redis who may not ask for this
            yield self._read_intake()

    def _read_intake(self) -> IntakeReading:
        entries: Any = self._redis.xlen(keys.INTAKE)
        first: Any = self._redis.xrange(keys.INTAKE, count=1)
        ahead = ahead_seconds(lambda: redis_seconds(self._redis))
        # An entry's id begins with the time by Redis' clock at which it was accepted, in milliseconds.
        oldest = time.time() + ahead - int(first[0][0].split(b"-")[0]) / 1000 if first else 0.0
        return IntakeReading(entries, max(0.0, oldest), ahead)


def families(
    readings: dict[str, Reading], intake: IntakeReading | None = None, *, complete: bool
) -> list[Metric]:  # fmt: skip
    """What was read, as Prometheus is told it; a gate that is not known here has no gauges.

    Args:
        readings: By company.
        intake: What is known of the intake; None: nothing.
        complete: Whether all could be read in time.
    """
    known = {company: state for company, (state, _) in readings.items() if state is not None and not state.is_newer}
    told: list[Metric] = []
    for name, meaning, read in _GAUGES:
        family = _gauge(name, meaning, "company")
        for company, state in known.items():
            if (value := read(state)) is not None:
                family.add_metric([company], float(value))
        told.append(family)
    circuits, unwell = _gauge(*_CIRCUIT, "company", "kind"), _gauge(*_UNWELL, "company", "kind")
    decisions = CounterMetricFamily(f"orderrelay_{_DECISIONS[0]}", _DECISIONS[1], labels=("company", "decision"))
    for company, state in known.items():
        held = {hold.kind for hold in state.holds}
        for kind in Kind:
            circuits.add_metric([company, str(kind)], float(kind in held))
        for kind, share in state.unwell_share.items():
            unwell.add_metric([company, str(kind)], share)
        for decision, number in state.counts.items():
            decisions.add_metric([company, decision], number)
    waiting = _gauge(*_WAITING, "company")
    for company, (_, jobs) in readings.items():
        if jobs is not None:
            waiting.add_metric([company], jobs)
    entries, oldest, clock, readable = (_gauge(*what) for what in (_INTAKE, _OLDEST, _CLOCK, _READABLE))
    if intake is not None:
        entries.add_metric([], intake.waiting)
        oldest.add_metric([], intake.oldest_seconds)
        clock.add_metric([], intake.clock_ahead_seconds)
    readable.add_metric([], float(complete))
    return [*told, circuits, unwell, decisions, waiting, entries, oldest, clock, readable]


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orderrelay_{name}", meaning, labels=labels)
