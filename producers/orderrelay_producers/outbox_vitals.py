"""What a relay of an outbox tells whoever watches over it: `GET /live` and `GET /metrics` on its health port.

The relay itself notes what it sees, between its batches, so a question costs nothing and never waits. Metrics are
written by hand: a few numbers without labels need no library, and the base install has none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderrelay_shared.probe_server import Answer, ProbeServer, as_json
from orderrelay_shared.settings import ListenHost, ListenPort, ProducerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_producers.outbox_relay import Done
    from orderrelay_producers.outbox_table import Counts

#: A relay whose last round ended longer ago hangs, in seconds: a batch with the database and Redis at their slowest,
#: and the longest time between two looks, end sooner.
_HANGS_AFTER_SECONDS: Final = 180.0

#: The table is counted so often at most, in seconds, and may take so large a share of the relay's time.
_COUNT_EVERY_SECONDS: Final = 5.0
_SHARE_OF_TIME: Final = 0.05

#: Prometheus' text format.
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class RelaySettings(ProducerSettings):
    """What a relay needs: all that a producer does, and where it answers probes."""

    health_port: ListenPort = 0
    """The port where the relay answers `GET /live` and `/metrics`; 0: it does not."""

    health_host: ListenHost = "127.0.0.1"
    """The address that HEALTH_PORT is opened on; 0.0.0.0 where probes come from outside, as in Kubernetes."""


class Vitals:
    """What a relay has noted of itself. Written by the relay's thread alone, and read by any.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._round_ended_at = clock()
        self._counts_again_at = clock()
        self._counts: Counts | None = None
        self.handed_over = 0
        self.set_aside = 0
        self.failures = 0

    def round_ended(self, done: Done) -> None:
        """A round has come to its end, well or not."""
        self._round_ended_at = self._clock()
        self.handed_over += done.taken
        self.set_aside += done.set_aside
        self.failures += done.away is not None

    def count(self, counting: Callable[[], Counts]) -> None:
        """Have the table counted, if that is due; what counting it raises is raised on, and the counts are unknown.

        A failed count is as long ago as another before the next: orders are handed over meanwhile, if those can be.
        """
        began_at = self._clock()
        if began_at < self._counts_again_at:
            return
        self._counts = None
        try:
            self._counts = counting()
        finally:
            ended_at = self._clock()
            self._counts_again_at = ended_at + max(_COUNT_EVERY_SECONDS, (ended_at - began_at) / _SHARE_OF_TIME)

    def database_is_away(self) -> None:
        """The counts are not known any more."""
        self._counts = None

    @property
    def hangs(self) -> bool:
        """Whether the last round ended so long ago that a restart would help."""
        return self._clock() - self._round_ended_at > _HANGS_AFTER_SECONDS

    @property
    def counts(self) -> Counts | None:
        """How full the table was seconds ago; None: the database is away, or the relay hangs."""
        return None if self.hangs else self._counts


@dataclass(frozen=True, slots=True)
class Metric:
    """What one metric is; it has no labels.

    Attributes:
        name: As Prometheus shows it.
        kind: counter or gauge.
        meaning: Its help text.
        read: Its value; None: it is not known now, and left out.
    """

    name: str
    kind: str
    meaning: str
    read: Callable[[Vitals], float | None]


def _of_table(read: Callable[[Counts], float]) -> Callable[[Vitals], float | None]:
    def value(vitals: Vitals) -> float | None:
        counts = vitals.counts  # once, as another thread may change it
        return None if counts is None else read(counts)

    return value


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "orderrelay_outbox_readable",
        "gauge",
        "1 if the outbox's database answers this relay; 0: the gauges of its table are missing here.",
        lambda v: float(v.counts is not None),
    ),
    Metric(
        "orderrelay_outbox_waiting",
        "gauge",
        "Committed orders on the outbox's table that a relay is to hand over.",
        _of_table(lambda counts: counts.waiting),
    ),
    Metric(
        "orderrelay_outbox_oldest_seconds",
        "gauge",
        "How long the first of them has waited; 0: none waits.",
        _of_table(lambda counts: counts.oldest_seconds or 0),
    ),
    Metric(
        "orderrelay_outbox_newer",
        "gauge",
        "Those of them that only a relay of a newer version can read.",
        _of_table(lambda counts: counts.newer),
    ),
    Metric(
        "orderrelay_outbox_set_aside",
        "gauge",
        "Orders on the outbox's table that cannot be handed over, and wait for a person.",
        _of_table(lambda counts: counts.set_aside),
    ),
    Metric(
        "orderrelay_outbox_handed_over_total",
        "counter",
        "Orders that this relay handed over to the workers.",
        lambda v: v.handed_over,
    ),
    Metric(
        "orderrelay_outbox_refused_total",
        "counter",
        "Orders that this relay set aside.",
        lambda v: v.set_aside,
    ),
    Metric(
        "orderrelay_outbox_failures_total",
        "counter",
        "Times that this relay found Redis or the outbox's database away.",
        lambda v: v.failures,
    ),
)


def exposition(vitals: Vitals) -> bytes:
    """All metrics in Prometheus' text format."""
    lines: list[str] = []
    for metric in METRICS:
        value = metric.read(vitals)
        if value is not None:
            lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}"]
            lines.append(f"{metric.name} {value}")
    return "\n".join([*lines, ""]).encode()


def health_server(host: str, port: int, vitals: Vitals) -> ProbeServer:
    """The server of a relay.

    Raises:
        SettingsInvalid: Nothing can listen there.
    """

    def live() -> Answer:
        reasons = ["the relay hangs: no round has ended for minutes"] if vitals.hangs else []
        return as_json({"live": not reasons, "not_live": reasons}, is_good=not reasons)

    return ProbeServer(host, port, {"/live": live, "/metrics": lambda: Answer(exposition(vitals), _CONTENT_TYPE)})
