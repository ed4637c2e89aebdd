"""How long an order will take that is enqueued now, as workers last said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from orderrelay_producers.errors import QueueUnavailable
from orderrelay_producers.round_trip import ErrorReply, NoReply
from orderrelay_producers.steps import Exchange
from orderrelay_shared import keys
from orderrelay_shared.outlook import PRIORITIES, Outlook

if TYPE_CHECKING:
    from orderrelay_producers.steps import Steps


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be expected of an order that is enqueued now. Workers reckon it anew every few seconds.

    It is no promise: it knows nothing of orders that come later and go first, nor of what the vendor will do.

    Attributes:
        waiting_before: How many orders wait that go before it; None if no worker has said so for a minute.
        per_second: How many orders per second are expected to go, while they may go; None if that is not known.
        seconds: How long until the order is done, through closed hours too; None if that is not known.
        done_at: When that will be, UTC, never in the past; None if that is not known.
        why_slow: Why it is not faster, in sentences, the most important first; never empty.
        at: When workers reckoned it, UTC; None if no worker has for a minute. `waiting_before` is of that instant.
    """

    waiting_before: int | None
    per_second: float | None
    seconds: float | None
    done_at: datetime | None
    why_slow: tuple[str, ...]
    at: datetime | None = None


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
    reply, clock = yield Exchange([[("GET", keys.outlook(company)), ("TIME",)]], deadline)
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
    now = _instant(clock, outlook.at)
    done_at = _not_before(now, outlook, outlook.done_at_by_priority.get(priority))
    return Estimate(
        waiting_before=outlook.before(priority),
        per_second=outlook.expected_per_second,
        seconds=None if done_at is None else (done_at - now).total_seconds(),
        done_at=done_at,
        why_slow=outlook.why_slow,
        at=outlook.at,
    )


def _instant(clock: object, at: datetime) -> datetime:
    """Now, by Redis' clock; the outlook is not from the future, however the clocks go."""
    if not isinstance(clock, list):  # a Redis user that may not ask for the time
        return at
    seconds, _ = cast("list[bytes | int]", clock)
    return max(at, datetime.fromtimestamp(int(seconds), UTC))


def _not_before(now: datetime, outlook: Outlook, done_at: datetime | None) -> datetime | None:
    """When an order is done that is enqueued now: the outlook may be old, and its backlog gone since."""
    if done_at is None:
        return None
    alone = 1 / outlook.expected_per_second if outlook.expected_per_second else 0.0
    return max(done_at, now + timedelta(seconds=alone))
