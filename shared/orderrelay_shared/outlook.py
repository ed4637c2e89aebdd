"""What workers expect of a company's orders: how many wait, how fast they go, when they will be done, and why."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  msgspec reads the annotations at run time
from typing import Final

import msgspec

from orderrelay_shared.states import Priority

#: The names of the priorities, in the order in which they go first.
PRIORITIES: Final = tuple(str(priority) for priority in Priority)

#: How long a published outlook lives, in seconds: one that is older would be no knowledge.
OUTLOOK_TTL_SECONDS: Final = 60


class Outlook(msgspec.Struct, frozen=True, omit_defaults=True):
    """A company's outlook at one instant, as one worker published it.

    Attributes:
        at: When it was made, UTC.
        waiting: How many orders wait, due or not.
        by_priority: How many of them wait in which of `PRIORITIES`; those with none are left out.
        drain_per_second: Orders that came to an end per second, lately.
        rate_per_second: Orders per second that the gate allows now, if as many share a request as lately; 0 while it is
            not known.
        expected_per_second: How fast orders are expected to go when they go; None if that is not known.
        done_at: When all that waits will be done; None if that is not known.
        done_at_by_priority: When an order would be done that is enqueued now with that priority; those of which it is
            not known are left out.
        why_slow: Why it is not faster, in sentences, the most important first.
        draining_since: Since when orders have been waiting and could go; None if none could.
    """

    at: datetime
    waiting: int
    by_priority: dict[str, int] = {}
    drain_per_second: float = 0.0
    rate_per_second: float = 0.0
    expected_per_second: float | None = None
    done_at: datetime | None = None
    done_at_by_priority: dict[str, datetime] = {}
    why_slow: tuple[str, ...] = ()
    draining_since: datetime | None = None

    def before(self, priority: str) -> int:
        """How many orders wait that go before one of this priority which is enqueued now."""
        first = PRIORITIES[: PRIORITIES.index(priority) + 1]
        return sum(self.by_priority.get(name, 0) for name in first)

    def to_json(self) -> bytes:
        """As stored in Redis."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Outlook | None:
        """The outlook, or None for anything that cannot be read."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return None
