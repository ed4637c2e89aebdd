"""This process as a worker: begun and ended by Celery's signals, found by its tasks."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import structlog

from orderrelay_workers.runtime import Runtime
from orderrelay_workers.sidecar.sidecar import Sidecar

if TYPE_CHECKING:
    from celery import Celery

    from orderrelay_workers.settings import WorkerSettings

_log = structlog.get_logger(__name__)
_running: list[tuple[Runtime, Sidecar]] = []


def this_worker() -> Runtime:
    """The worker that this process is.

    Raises:
        RuntimeError: This process is none: its task was called outside `orderrelay worker`.
    """
    if not _running:
        raise RuntimeError("this process is no Orderrelay worker; start one with: orderrelay worker")
    return _running[0][0]


def begin(settings: WorkerSettings, app: Celery) -> Runtime:
    """Become a worker: open the ledger, register, and begin the duties. Errors are those of `Runtime`."""
    worker = Runtime(settings, app)
    sidecar = Sidecar(worker, _give_up)
    _running.append((worker, sidecar))
    sidecar.start()
    _log.info(
        "worker_started",
        worker=worker.name,
        boot_id=str(worker.boot_id),
        ledger=str(worker.ledger_id),
        companies=sorted(worker.companies),
    )
    return worker


def drain() -> None:
    """Claim nothing more, hand back what is unsent; what is out comes to its end."""
    for worker, _ in _running:
        worker.draining.set()
        _log.info("worker_draining", worker=worker.name)


def end() -> None:
    """Stop being a worker; nothing is in progress any more."""
    while _running:
        worker, sidecar = _running.pop()
        worker.draining.set()
        sidecar.stop()
        worker.close()
        _log.info("worker_stopped", worker=worker.name)


def _give_up(reason: str) -> None:
    """This worker must not go on; drain as if an operator had asked for it."""
    worker = this_worker()
    if not worker.draining.is_set():
        _log.error("worker_gives_up", reason=reason)
        worker.draining.set()
        os.kill(os.getpid(), signal.SIGTERM)
