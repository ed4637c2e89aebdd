"""The Celery tasks. Each is a hint and nothing more: what it does is found in the ledger."""

from __future__ import annotations

from celery import shared_task

from orderrelay_workers import processes, reconciliation, submission
from orderrelay_workers.audit import results


@shared_task(name="orderrelay.submit", ignore_result=True)
def submit(company: str) -> None:
    """Submit due orders of a company."""
    submission.submit(processes.this_worker(), company)


@shared_task(name="orderrelay.reconcile", ignore_result=True)
def reconcile(company: str) -> None:
    """Look up unknown orders of a company."""
    reconciliation.reconcile(processes.this_worker(), company)


@shared_task(name="orderrelay.store_results", ignore_result=True)
def store_results() -> None:
    """Store the vendor's answers as typed operation results."""
    worker = processes.this_worker()
    results.store_all(worker.engine)
