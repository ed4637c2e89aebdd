"""How long an order will take that is enqueued now, as workers last said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderrelay_producers.errors import QueueUnavailable
from orderrelay_producers.round_trip import ErrorReply, NoReply
from orderrelay_producers.steps import ask_redis
from orderrelay_shared import keys
from orderrelay_shared.outlook import PRIORITIES, Outlook

if TYPE_CHECKING:
    from datetime import datetime

    from orderrelay_producers.steps import Steps


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be expected of an order that is enqueued now. Workers reckon it anew every few seconds.

    It is no promise: it knows nothing of orders that come later and go first, nor of what the vendor will do.

    Attributes:
        waiting_before: How many orders wait that go before it; None if no worker has said so for a minute.
        per_second: How many orders per second are expected to go, while they may go; None if that is not known.
        seconds: How long until the order is done, through closed hours too; None if that is not known.
        done_at: When that will be, UTC; None if that is not known.
        why_slow: Why it is not faster, in sentences, the most important first; never empty.
    """

    waiting_before: int | None
    per_second: float | None
    seconds: float | None
    done_at: datetime | None
    why_slow: tuple[str, ...]


def read_estimate(company: str, priority: str, *, deadline: float) -> Steps[Estimate]:
    """What workers last published of a company, for one priority.

    Args:
        company: The alias in its normal form.
        priority: One of `PRIORITIES`.
        deadline: By `time.monotonic()`.

    Raises:
        QueueUnavailable: Redis did not answer in time.
        ValueError: There is no such priority.
    """
    if priority not in PRIORITIES:
        raise ValueError(f"priority is {priority!r}; it may be {', '.join(PRIORITIES)}")
    reply = yield from ask_redis("GET", keys.outlook(company), deadline=deadline)
    match reply:
        case NoReply(reason):
            raise QueueUnavailable(None, False, reason)
        case ErrorReply(_, text):
            raise QueueUnavailable(None, False, f"Redis refuses: {text}")
        case _:
            outlook = Outlook.from_json(reply) if isinstance(reply, bytes) else None
    if outlook is None:
        why = f"no worker has told of company {company!r} for a minute: is a worker running ('orderrelay worker')?"
        return Estimate(None, None, None, None, (why,))
    done_at = outlook.done_at_by_priority.get(priority)
    return Estimate(
        waiting_before=outlook.before(priority),
        per_second=outlook.expected_per_second,
        seconds=None if done_at is None else max(0.0, (done_at - outlook.at).total_seconds()),
        done_at=done_at,
        why_slow=outlook.why_slow,
    )
