"""What other services import to hand orders over to Orderrelay.

from orderrelay_producers import Order, OrderProducer, OrderRow

with OrderProducer() as producer:
    job = producer.enqueue(order)
    print(job.wait(timeout=60).order_number)

In an event loop `AsyncOrderProducer` has the same words, to be awaited.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from orderrelay_producers import errors
from orderrelay_producers.errors import OrderConflict, OrderInvalid, QueueFull, QueueUnavailable, UnknownCompany
from orderrelay_producers.estimate import Estimate
from orderrelay_producers.job import AsyncJob, Job
from orderrelay_producers.producer import OrderProducer
from orderrelay_producers.report import LineResult, Report, ReportLine
from orderrelay_shared.job_status import JobStatus
from orderrelay_shared.orders import Order, OrderRow, Problem
from orderrelay_shared.states import JobState, Priority

if TYPE_CHECKING:
    from orderrelay_producers.async_producer import AsyncOrderProducer
    from orderrelay_producers.outbox import Outbox, OutboxJob
    from orderrelay_shared.operation_results import OperationResult
else:
    _SELDOM = {
        "AsyncOrderProducer": "orderrelay_producers.async_producer",
        "OperationResult": "orderrelay_shared.operation_results",
        "Outbox": "orderrelay_producers.outbox",
        "OutboxJob": "orderrelay_producers.outbox",
    }

    def __getattr__(name: str) -> object:
        """What only some services need is imported when it is asked for."""
        if name not in _SELDOM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_SELDOM[name]), name)

    def __dir__() -> list[str]:
        """With what was not asked for yet."""
        return sorted({*globals(), *_SELDOM})


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
