"""Until when the certificates of what is reached by TLS are good, for Prometheus.

They are looked at by a thread of its own, as metrics must not wait for it: at the start and every hour. Nothing but the
handshake is sent, so no request leaves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers.audit import facts
from orderrelay_workers.certificates import certificate_of, expiry, tls_ends
from orderrelay_workers.metrics import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import sqlalchemy as sa

    from orderrelay_workers.settings import WorkerSettings

_EVERY_SECONDS: Final = 3600.0

#: How soon it is tried again if not all could be looked at, in seconds.
_AGAIN_SECONDS: Final = 600.0

_EXPIRES: Final = (
    "certificate_expires_timestamp_seconds",
    "When the certificate of what is reached by TLS ends, the soonest where there are several, since unix epoch.",
)

_log = structlog.get_logger(__name__)


class CertificateGauges(Collector):
    """Looks at certificates and tells of them; what was read last stands while something cannot be reached.

    Args:
        settings: They name the addresses.
        engine: The ledger, which says whether it is reached by TLS.
    """

    def __init__(self, settings: WorkerSettings, engine: sa.Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._expires_at: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, name="certificates", daemon=True)

    def begin(self) -> None:
        """Look from now on, and be asked."""
        REGISTRY.register(self)
        self._thread.start()

    def close(self) -> None:
        """Look and be asked no more; a handshake that is under way is left to itself."""
        self._ended.set()
        REGISTRY.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """The gauge without values; asked by the registry when this begins."""
        return families({})

    def collect(self) -> Iterable[Metric]:
        """The gauge as it was read last."""
        return families(self._expires_at)

    def _look_again_and_again(self) -> None:
        seconds = 0.0
        while not self._ended.wait(seconds):
            seconds = _EVERY_SECONDS if self.look() else _AGAIN_SECONDS

    def look(self) -> bool:
        """Look at all of them once; whether all could be read."""
        try:
            ends = tls_ends(self._settings, database_over_tls=facts.is_over_tls(self._engine))
        except SQLAlchemyError:
            return False
        found: dict[str, float] = {}
        missing: set[str] = set()
        for end in ends:
            try:
                expires_at = expiry(certificate_of(end)).timestamp()
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                missing.add(end.subject)
                _log.info("certificate_not_read", end=end.subject, error=type(error).__name__)
            else:
                found[end.subject] = min(expires_at, found.get(end.subject, expires_at))
        before = self._expires_at
        for subject in missing & before.keys():
            found[subject] = min(before[subject], found.get(subject, before[subject]))
        self._expires_at = found
        return not missing


def families(expires_at: Mapping[str, float]) -> list[Metric]:
    """What was read, as Prometheus is told it.

    Args:
        expires_at: End of each certificate in epoch seconds, by what people call its server.
    """
    name, meaning = _EXPIRES
    gauge = GaugeMetricFamily(f"orderrelay_{name}", meaning, labels=["end"])
    for end, instant in expires_at.items():
        gauge.add_metric([end], instant)
    return [gauge]
