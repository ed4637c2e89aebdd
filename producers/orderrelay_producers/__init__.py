"""What other services import to hand orders over to Orderrelay.

from orderrelay_producers import Order, OrderProducer, OrderRow

with OrderProducer() as producer:
    job = producer.enqueue(order)
    print(job.wait(timeout=60).order_number)

In an event loop `AsyncOrderProducer` has the same words, to be awaited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_producers import errors
from orderrelay_producers.errors import OrderConflict, OrderInvalid, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.estimate import Estimate
from orderrelay_producers.job import AsyncJob, Job
from orderrelay_producers.outbox import Outbox, OutboxJob
from orderrelay_producers.producer import OrderProducer
from orderrelay_producers.report import LineResult, Report, ReportLine
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.operation_results import OperationResult
from orderrelay_shared.orders import Order, OrderRow, Problem
from orderrelay_shared.states import JobState, Priority

if TYPE_CHECKING:
    from orderrelay_producers.async_producer import AsyncOrderProducer
else:

    def __getattr__(name: str) -> object:
        """Services without an event loop do not wait for asyncio to be imported."""
        if name != "AsyncOrderProducer":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from orderrelay_producers.async_producer import AsyncOrderProducer  # noqa: PLC0415

        return AsyncOrderProducer


__all__ = [
    "AsyncJob",
    "AsyncOrderProducer",
    "Estimate",
    "Job",
    "JobState",
    "JobStatus",
    "LineResult",
    "OperationResult",
    "Order",
    "OrderConflict",
    "OrderInvalid",
    "OrderProducer",
    "OrderRow",
    "Outbox",
    "OutboxJob",
    "Priority",
    "Problem",
    "QueueFull",
    "QueueUnavailable",
    "Report",
    "ReportLine",
    "UnknownCompany",
    "errors",
]
