"""The Celery tasks. Each is a hint and nothing more: what it does is found in the ledger."""

from __future__ import annotations

import structlog
from celery import shared_task
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers import processes, reconciliation, submission
from orderrelay_workers.audit import results

_log = structlog.get_logger(__name__)


@shared_task(name="orderrelay.submit", ignore_result=True)
def submit(company: str) -> None:
    """Submit due orders of a company."""
    with processes.at_work() as worker:
        submission.submit(worker, company)


@shared_task(name="orderrelay.reconcile", ignore_result=True)
def reconcile(company: str) -> None:
    """Look up unknown orders of a company."""
    with processes.at_work() as worker:
        reconciliation.reconcile(worker, company)


@shared_task(name="orderrelay.store_results", ignore_result=True)
def store_results() -> None:
    """Store the vendor's answers as typed operation results. Returns at once if this process is at it already."""
    with processes.at_work() as worker:
        if not worker.storing.acquire(blocking=False):  # else a slow database would fill all threads with this
            return
        try:
            results.store_all(worker.engine, stop=worker.draining.is_set)
        except SQLAlchemyError as error:  # the promoter asks again
            _log.warning("nothing_stored", error=type(error).__name__)
        finally:
            worker.storing.release()


@shared_task(name="orderrelay.canary", ignore_result=True)
def canary() -> None:
    """Come round, which proves that this worker is not deaf."""
    with processes.at_work():
        pass
