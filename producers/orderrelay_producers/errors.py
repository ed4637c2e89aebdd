"""What can go wrong when an order is enqueued, and what the caller does then.

    Exception
    ├── ValueError
    │   └── OrderInvalid      the order breaks the rules; correct it (from orderrelay_shared)
    ├── OrderConflict         its ExternalId belongs to an order with other content; use another, or keep the first
    ├── UnknownCompany        no worker serves that company; correct the alias
    ├── QueueFull             too many orders wait; enqueue the same object again later
    └── QueueUnavailable      Redis or the workers did not answer; enqueue the same object again

After `QueueFull` and `QueueUnavailable` enqueue *the same Order object* again (`error.order`): it carries its
ExternalId, so it stays one order however often it arrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_shared.orders import OrderInvalid

if TYPE_CHECKING:
    import uuid

    from orderrelay_shared.orders import Order

__all__ = ["OrderConflict", "OrderInvalid", "QueueFull", "QueueUnavailable", "UnknownCompany"]


class OrderConflict(Exception):
    """The ExternalId was lately accepted with other content; the first order stays, and the conflict is recorded.

    Attributes:
        order: The order that was refused.
        job_id: The job of the order that holds the ExternalId.
    """

    def __init__(self, order: Order, job_id: uuid.UUID) -> None:
        super().__init__(order, job_id)
        self.order = order
        self.job_id = job_id

    def __str__(self) -> str:
        return (
            f"ExternalId {self.order.external_id!r} was already accepted with other content (job {self.job_id}); "
            "the first order stays. If this is another order, give it an ExternalId of its own."
        )


class QueueFull(Exception):
    """More orders wait than `ORDERRELAY_MAX_WAITING` allows; the order was not taken.

    Attributes:
        order: The order, with its ExternalId; enqueue this same object again later.
        waiting: How many orders wait.
        max_waiting: How many may.
    """

    def __init__(self, order: Order, waiting: int, max_waiting: int) -> None:
        super().__init__(order, waiting, max_waiting)
        self.order = order
        self.waiting = waiting
        self.max_waiting = max_waiting

    def __str__(self) -> str:
        return (
            f"{self.waiting} orders wait, and {self.max_waiting} may (ORDERRELAY_MAX_WAITING); "
            "the order was not taken. Enqueue this same object again later."
        )


class QueueUnavailable(Exception):
    """Redis, or a worker where its answer was asked for, did not answer in time.

    Attributes:
        order: The order, with its ExternalId; enqueue this same object again. None where a status was asked for.
        maybe_taken: Whether the order may be in the queue nevertheless. False is proved, True is not.
        reason: What was seen.
    """

    def __init__(self, order: Order | None, maybe_taken: bool, reason: str) -> None:
        super().__init__(order, maybe_taken, reason)
        self.order = order
        self.maybe_taken = maybe_taken
        self.reason = reason

    def __str__(self) -> str:
        if self.order is None:
            return self.reason
        taken = "may have been taken" if self.maybe_taken else "was not taken"
        joint = " The" if self.reason.endswith("?") else "; the"
        return (
            f"{self.reason}{joint} order {taken}. Enqueueing the order of this error (`.order`) again is safe: "
            f"its ExternalId {self.order.external_id!r} keeps it one order."
        )


class UnknownCompany(Exception):
    """No worker serves the company; the order was not taken.

    Attributes:
        company: The alias as it was given.
        reason: What is wrong with it.
    """

    def __init__(self, company: str, reason: str) -> None:
        super().__init__(company, reason)
        self.company = company
        self.reason = reason

    def __str__(self) -> str:
        return f"company {self.company!r}: {self.reason}"
