"""The threads beside the tasks. A duty that fails is told once, tried again, and told once more when it works."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers import metrics
from orderrelay_workers.health import BEAT, LISTEN, words_for
from orderrelay_workers.ledger.identity import OtherLedger
from orderrelay_workers.sidecar import duties
from orderrelay_workers.sidecar.deadline_watch import DeadlineWatch
from orderrelay_workers.sidecar.intake import Intake
from orderrelay_workers.sidecar.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_workers.health import Vitals
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.sidecar.listening import Listening

_BEAT_SECONDS = 1.0
_PROMOTE_SECONDS = 0.5
_SWEEP_SECONDS = 1.0
_MIRROR_SECONDS = 2.0
_DEADLINES_SECONDS = 1.0
_ROTATE_SECONDS = 1.0

#: A worker that stops waits so long for its duties, in seconds; what they are at is done again by others.
_STOP_SECONDS = 10.0
_LISTEN_SECONDS = 1.0

#: After a failure the intake waits so long before it tries again, in seconds.
_INTAKE_PAUSE_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class Sidecar:
    """This worker's duties, each in its own thread, so that a slow one holds up no other.

    Args:
        worker: The worker process.
        listening: The duty to hear.
        vitals: Told whenever a duty has come to its end.
        give_up: Called when this worker must not go on, with the reason in words.
    """

    def __init__(self, worker: Runtime, listening: Listening, vitals: Vitals, give_up: Callable[[str], None]) -> None:
        self._worker = worker
        self._vitals = vitals
        self._give_up = give_up
        self._stop = threading.Event()
        self._intake = Intake(worker)
        self._rotation = Rotation(worker)
        self._threads = [
            threading.Thread(target=self._periodically, name=name, args=(name, duty, seconds), daemon=True)
            for name, duty, seconds in (
                (BEAT, duties.beat, _BEAT_SECONDS),
                ("promote", duties.promote, _PROMOTE_SECONDS),
                ("sweep", duties.sweep, _SWEEP_SECONDS),
                ("mirror", duties.mirror, _MIRROR_SECONDS),
                ("deadlines", DeadlineWatch().watch, _DEADLINES_SECONDS),
                (LISTEN, listening.listen, _LISTEN_SECONDS),
                ("rotate", self._rotate, _ROTATE_SECONDS),
            )
        ]
        self._threads.append(threading.Thread(target=self._book, name="intake", daemon=True))

    def start(self) -> None:
        """Begin all duties."""
        metrics.begin(self._worker.settings.companies, (thread.name for thread in self._threads))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all duties; each finishes what it is at, unless that takes longer than ten seconds for all of them."""
        self._stop.set()
        ends_at = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(timeout=max(0.0, ends_at - time.monotonic()))
        self._intake.close()

    def _rotate(self, _: Runtime) -> None:
        self._rotation.look()

    def _periodically(self, name: str, duty: Callable[[Runtime], None], seconds: float) -> None:
        failing: str | None = None
        while not self._stop.is_set():
            failing = self._try(name, lambda: duty(self._worker), failing)
            self._stop.wait(seconds)

    def _book(self) -> None:
        failing: str | None = None

        def book_next() -> None:
            self._intake.book_next()

        while not (self._stop.is_set() or self._worker.draining.is_set()):
            failing = self._try("intake", book_next, failing)
            if failing is not None:
                self._stop.wait(_INTAKE_PAUSE_SECONDS)

    def _try(self, name: str, work: Callable[[], None], failing: str | None) -> str | None:
        """Do a duty; give the name of the error that it fails with, or None."""
        try:
            work()
        except OtherLedger as error:
            self._vitals.duty_ended(name, "this Redis belongs to another ledger")
            self._give_up(str(error))
            return "OtherLedger"
        except (RedisError, SQLAlchemyError, OSError) as error:
            self._vitals.duty_ended(name, words_for(error))
            metrics.duty_failed(name)
            if isinstance(error, RedisError):
                self._drop_idle_connections()
            if failing != type(error).__name__:
                _log.warning("duty_fails", duty=name, error=type(error).__name__)
            return type(error).__name__
        except Exception as error:  # noqa: BLE001  a duty must outlive whatever one round of it meets
            self._vitals.duty_ended(name, words_for(error))
            metrics.duty_failed(name)
            _log.exception("duty_broke", duty=name)
            return "Exception"
        self._vitals.duty_ended(name, None)
        if failing is not None:
            _log.info("duty_works_again", duty=name)
        return None

    def _drop_idle_connections(self) -> None:
        """Where one connection to Redis was silently dead, others are; each would cost its own wait to find out."""
        self._worker.redis.connection_pool.disconnect(inuse_connections=False)
        self._worker.hints.drop_idle_connections()
