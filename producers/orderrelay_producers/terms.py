"""On what terms an order is to be sent: whose turn it is first, not before when, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from orderrelay_shared.intake import Envelope
from orderrelay_shared.orders import seal
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orderrelay_shared.orders import Order


_PRIORITIES: Final = tuple(Priority)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms that all orders of one call have. They are no part of an order's content.

    Attributes:
        priority: Whose turn it is first; a plain word is taken too.
        due_at: Not to be sent before; one that has passed means at once.
        deadline: Not to be sent after.

    Raises:
        ValueError: A time is no datetime or has no zone, the deadline has passed or is not after `due_at`, or there is
            no such priority.
    """

    priority: Priority | str = Priority.NORMAL
    due_at: datetime | None = None
    deadline: datetime | None = None

    def __post_init__(self) -> None:
        if self.priority is Priority.NORMAL and self.due_at is self.deadline is None:
            return  # As nearly all are.
        if self.priority not in _PRIORITIES:
            raise ValueError(f"priority is {self.priority!r}; it may be {', '.join(Priority)}")
        _check_time("due_at", self.due_at)
        _check_time("deadline", self.deadline)
        if self.deadline is None:
            return
        if self.deadline <= (now := datetime.now(UTC)):
            raise ValueError(
                f"deadline is {self.deadline.isoformat()}, which has passed: it is {now:%Y-%m-%dT%H:%M:%SZ}"
            )
        if self.due_at is not None and self.deadline <= self.due_at:
            raise ValueError(
                f"deadline is {self.deadline.isoformat()}, which is not after due_at, {self.due_at.isoformat()}"
            )

    def envelope(self, company: str, order: Order | Mapping[str, object]) -> Envelope:
        """An order with these terms, as it travels; it gets an ExternalId if it has none.

        Raises:
            OrderInvalid: The order breaks the rules.
        """
        external_id, content_digest, body = seal(order)
        return Envelope(
            company,
            external_id,
            content_digest,
            body,
            priority=self.priority if isinstance(self.priority, Priority) else Priority(self.priority),
            due_at=self.due_at,
            deadline=self.deadline,
        )


def _check_time(name: str, at: Any) -> None:
    if at is None:
        return
    if not isinstance(at, datetime):
        raise ValueError(f"{name} is {at!r}; it must be a datetime with a time zone")  # noqa: TRY004  as documented
    if at.utcoffset() is None:
        raise ValueError(f"{name} is {at.isoformat()}, which has no time zone; give one, as in {at.isoformat()}+00:00")
