"""This process as a worker: begun and ended by Celery's signals, found by its tasks."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from celery.worker import state

from orderrelay_workers import memory
from orderrelay_workers.ears import Ears
from orderrelay_workers.health import Vitals
from orderrelay_workers.health_server import health_server
from orderrelay_workers.metrics_of_certificates import CertificateGauges
from orderrelay_workers.metrics_of_process import ProcessGauges
from orderrelay_workers.runtime import Runtime
from orderrelay_workers.sidecar.listening import Listening
from orderrelay_workers.sidecar.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from orderrelay_shared.probe_server import ProbeServer
    from orderrelay_workers.settings import WorkerSettings

#: Exit codes of a worker that ends by itself: it must not go on with these settings; it may be started again.
_WRONG_SETUP = 2
_START_AGAIN = 3

#: A worker that ends by itself, and whose tasks have ended, is ended by force after so long, in seconds.
_STUCK_SECONDS = 20.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What this process is made of."""

    worker: Runtime
    ears: Ears
    sidecar: Sidecar | None
    health: ProbeServer | None
    gauges: list[ProcessGauges | CertificateGauges]
    told: list[str] = field(default_factory=list[str])  # to drain, and by what

    def stop_claiming(self, why: str) -> bool:
        """Have the worker drain. False if it was told so before.

        A signal may come while this runs, and call it again in this very thread: an Event that is just being set is
        locked, so nobody would ever go on.
        """
        if self.told:
            return False
        self.told.append(why)
        self.worker.draining.set()
        return True


_running: list[_Parts] = []
_consumers: list[Any] = []
_exit_codes: list[int] = []


def this_worker() -> Runtime:
    """The worker that this process is.

    Raises:
        RuntimeError: This process is none: its task was called outside `orderrelay worker`.
    """
    return _this().worker


def _this() -> _Parts:
    if not _running:
        raise RuntimeError("this process is no Orderrelay worker; start one with: orderrelay worker")
    return _running[0]


@contextlib.contextmanager
def at_work() -> Iterator[Runtime]:
    """A task of this worker runs. Errors are those of `this_worker`."""
    parts = _this()
    with parts.ears.at_work():
        yield parts.worker


def begin(settings: WorkerSettings, app: Celery, threads: int) -> Runtime:
    """Become a worker: open the ledger, register, and begin the duties.

    Args:
        settings: Of this worker.
        app: Sends the hints.
        threads: So many tasks run at once at most.

    Raises:
        SettingsInvalid: Also if nothing can listen on the health port. All others are those of `Runtime`.
    """
    vitals = Vitals()
    health = _serve_health(settings, vitals)
    worker = Runtime(settings, app, threads=threads)
    ears = Ears(threads)
    listening = Listening(ears, _reconnect, lambda reason: _give_up(reason, _START_AGAIN))
    sidecar = Sidecar(worker, listening, vitals, lambda reason: _give_up(reason, _WRONG_SETUP))
    gauges: list[ProcessGauges | CertificateGauges]
    gauges = [ProcessGauges(vitals, settings.spool_folder), CertificateGauges(settings, worker.engine)]
    for gauge in gauges:
        gauge.begin()
    _running.append(_Parts(worker, ears, sidecar, health, gauges))
    vitals.begin(ears, worker.draining.is_set)
    sidecar.start()
    _log.info(
        "worker_started",
        worker=worker.name,
        boot_id=str(worker.boot_id),
        ledger=str(worker.ledger_id),
        companies=sorted(worker.companies),
    )
    return worker


def _serve_health(settings: WorkerSettings, vitals: Vitals) -> ProbeServer | None:
    """Answer from the very start, as bringing a ledger up to date may take longer than a probe waits."""
    if not settings.health_port:
        return None
    name = f"{socket.gethostname()}:{os.getpid()}"
    health = health_server(settings.health_host, settings.health_port, vitals, name)
    health.start()
    return health


def consuming(consumer: Any) -> None:
    """Celery's consumer takes messages from now on."""
    _consumers[:] = [consumer]
    memory.look_for_garbage_seldom()
    for parts in _running:
        parts.ears.open()


def drain() -> None:
    """Claim nothing more, hand back what is unsent; what is out comes to its end."""
    for parts in _running:
        if parts.stop_claiming("drain"):
            _log.info("worker_draining", worker=parts.worker.name)


def end() -> None:
    """Stop being a worker; nothing is in progress any more."""
    with contextlib.suppress(IndexError):  # two may end it at once
        while parts := _running.pop():
            parts.stop_claiming("end")
            if parts.sidecar is not None:
                parts.sidecar.stop()
            parts.worker.close()
            for gauge in parts.gauges:
                gauge.close()
            if parts.health is not None:
                parts.health.close()
            _log.info("worker_stopped", worker=parts.worker.name)


def ended_by_celery(code: int | None) -> None:
    """Celery has ended the worker with this exit code."""
    _exit_codes.append(code or 0)
    end()


def exit_code() -> int:
    """What this process is to exit with, once Celery has ended the worker; Celery itself keeps it to itself."""
    return max(_exit_codes, default=0)


def _reconnect() -> None:
    """Have Celery connect to its broker anew, as if the connection had just been lost."""

    def lose_connection() -> None:
        raise ConnectionError("no hint came round")

    for consumer in _consumers:
        consumer.hub.call_soon(lose_connection)


def _give_up(reason: str, code: int) -> None:
    """This worker must not go on; drain as if an operator had asked for it, and exit with this code."""
    parts = _this()
    if not parts.worker.draining.is_set():
        _log.error("worker_gives_up", reason=reason, exit_code=code)
        drain()
        celery: Any = state
        celery.should_stop = code  # what Celery's own handler of SIGTERM sets
        threading.Thread(target=_end_by_force, args=(parts, code), name="end", daemon=True).start()


def _end_by_force(parts: _Parts, code: int) -> None:
    """End this process even if Celery's main thread is stuck, once its tasks have ended."""
    latest = time.monotonic() + parts.worker.settings.lease_seconds
    while parts.ears.tasks_running and time.monotonic() < latest:
        time.sleep(0.1)
    time.sleep(_STUCK_SECONDS)
    _log.error("worker_is_stuck", exit_code=code)
    end()
    logging.shutdown()
    os._exit(code)
