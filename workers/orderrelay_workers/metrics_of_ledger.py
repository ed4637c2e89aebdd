"""The gauges of the ledger: what waits too long, what has stopped, and what a person has to see.

They are read when somebody asks for metrics, but not more often than every five seconds by one worker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orderrelay_workers.audit import facts
from orderrelay_workers.audit.watched import CompanyWatched, Watched, read_watched
from orderrelay_workers.clock_difference import ahead_seconds
from orderrelay_workers.metrics import REGISTRY
from orderrelay_workers.readings_in_time import ReadingInTime
from orderrelay_workers.sidecar.resting import seconds_to_rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import sqlalchemy as sa

#: What was read is told again for so long, in seconds; longer where reading it takes long.
_REST_SECONDS: Final = 5

#: Every kind of alarm, so that each is told as 0 from the start: of a series that appears later, nothing has grown.
ALARMS: Final = (
    "answer_of_forgotten_order",
    "answer_set_aside",
    "cautious_began",
    "company_not_served",
    "company_paused",
    "deadline_at_risk",
    "doubled",
    "late_doubt",
    "late_find",
    "late_success",
    "new_credentials_refused",
    "set_aside",
    "vendor_id_held",
)

#: Name, meaning and how it is read, of each gauge with the label company.
_GAUGES: Final[tuple[tuple[str, str, Callable[[CompanyWatched], float]], ...]] = (
    ("jobs_unknown", "Orders that perhaps were created at the vendor; a look-up finds out.", lambda c: c.unknown),
    ("jobs_parked", "Orders that wait for a person's decision.", lambda c: c.parked),
    ("oldest_due_seconds", "How long the waiting order that has been due longest has been due; 0: none is due.",
     lambda c: c.oldest_due_seconds),
    ("oldest_unknown_seconds", "How long the order that has been unknown longest has been so; 0: none is unknown.",
     lambda c: c.oldest_unknown_seconds),
)  # fmt: skip

_CAUTIOUS: Final = ("cautious", "1 if cautious mode is on: every order is looked up before it is sent; 0 if not.")
_WORKERS: Final = ("workers_alive", "Workers that the ledger knows to be alive.")
_UNSTORED: Final = ("results_unstored", "Answers that are settled, and not stored as operation results yet.")
_ALARMS: Final = ("alarms_raised", "Alarms that the ledger holds, by what was noticed; see orderrelay audit list.")
_CLOCK: Final = ("database_clock_ahead_seconds", "How far the database's clock is ahead of this host's.")
_READABLE: Final = ("ledger_readable", "1 if the database answered in time; 0: the ledger's gauges are missing here.")


class LedgerGauges(Collector):
    """Reads the ledger when metrics are asked for.

    Args:
        engine: The ledger.
        companies: Gives the ids of the companies to tell of, by alias.
    """

    def __init__(self, engine: sa.Engine, companies: Callable[[], Mapping[str, int]]) -> None:
        self._engine = engine
        self._companies = companies
        self._reading = ReadingInTime("ledger", self._read)
        self._last: tuple[Watched, float] | None = None
        self._rests_until = float("-inf")

    def begin(self) -> None:
        """Be asked from now on."""
        REGISTRY.register(self)

    def close(self) -> None:
        """Be asked no more."""
        REGISTRY.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """The gauges without values; asked by the registry when this begins."""
        return families(None)

    def collect(self) -> Iterable[Metric]:
        """The gauges as they were within the last seconds; none of them if the database does not answer in time."""
        pieces, complete = self._reading.take()
        if not (complete and pieces):
            return families(None)
        watched, ahead = pieces[0]
        return families(watched, ahead=ahead)

    def _read(self) -> Iterator[tuple[Watched, float]]:
        if self._last is None or time.monotonic() >= self._rests_until:
            began = time.monotonic()
            watched = read_watched(self._engine, self._companies())
            took = time.monotonic() - began
            self._last = watched, ahead_seconds(lambda: facts.now(self._engine).timestamp())
            self._rests_until = time.monotonic() + seconds_to_rest(took, at_least=_REST_SECONDS)
        yield self._last


def families(watched: Watched | None, *, ahead: float = 0.0) -> list[Metric]:
    """What was read, as Prometheus is told it.

    Args:
        watched: What was read; None: the database did not answer.
        ahead: How many seconds its clock is ahead of this host's.
    """
    of_companies = [_gauge(name, meaning, "company") for name, meaning, _ in _GAUGES]
    cautious, workers, unstored, clock = (_gauge(*what) for what in (_CAUTIOUS, _WORKERS, _UNSTORED, _CLOCK))
    alarms, readable = _gauge(*_ALARMS, "alarm"), _gauge(*_READABLE)
    readable.add_metric([], float(watched is not None))
    if watched is not None:
        for family, (_, _, read) in zip(of_companies, _GAUGES, strict=True):
            for company, found in watched.companies.items():
                family.add_metric([company], float(read(found)))
        for kind in sorted({*ALARMS, *watched.alarms}):
            alarms.add_metric([kind], watched.alarms.get(kind, 0))
        cautious.add_metric([], float(watched.is_cautious))
        workers.add_metric([], watched.workers)
        unstored.add_metric([], watched.results_unstored)
        clock.add_metric([], ahead)
    return [*of_companies, cautious, workers, unstored, alarms, clock, readable]


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orderrelay_{name}", meaning, labels=labels)
