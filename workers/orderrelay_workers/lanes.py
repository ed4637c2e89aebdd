"""Lanes: in which order waiting jobs have their turn. Pure.

A job's lane is twice its priority (0 urgent, 1 normal, 2 bulk), and 1 more once an order request of it has left. Urgent
goes first, but of every eight turns one is normal's and of every 32 one is bulk's, so that none of them waits for ever.
Within a priority retries go before fresh orders, as they are older; but of every three turns one is the fresh ones'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    from collections.abc import Collection

_PRIORITIES: Final = (Priority.URGENT, Priority.NORMAL, Priority.BULK)

#: All lanes that this version knows. What a newer one puts into another is left for newer workers.
LANES: Final = tuple(range(2 * len(_PRIORITIES)))


def lane_of(priority: Priority, *, requests: int = 0) -> int:
    """The lane of a job of which so many order requests have left."""
    return 2 * _PRIORITIES.index(priority) + int(requests > 0)


def priority_of(lane: int) -> Priority:
    """The priority of a lane's jobs; of a lane that only newer versions know, the last."""
    return _PRIORITIES[min(max(lane, 0) // 2, len(_PRIORITIES) - 1)]


def after_requests(lane: int, requests: int) -> int:
    """The lane of a job that goes back to waiting after so many order requests have left."""
    return lane | 1 if requests > 0 else lane & ~1


def is_retry(lane: int) -> bool:
    """Whether order requests of the lane's jobs have left before."""
    return lane % 2 == 1


def before(lane: int) -> list[int]:
    """The lanes that have their turn before this one, but for the shares of the later ones."""
    return [other for other in LANES if _rank(other) < _rank(lane)]


def share(permits: int, turn: int, due: Collection[int], retries: int | None = None) -> list[tuple[int, int]]:
    """Share permits among the lanes that have due jobs.

    Args:
        permits: How many jobs may be taken.
        turn: Grows by one with every call, and says whose turn comes first this time.
        due: The lanes that have due jobs.
        retries: How many of the taken may be retries; None: all.

    Returns:
        How many to take from which lane, in this order; never more in all than `permits`, and fewer only if nothing but
        retries is due, and not so many may be taken.
    """
    retries = permits if retries is None else retries
    if len(due) == 1:
        [lane] = due
        permits = min(permits, retries) if is_retry(lane) else permits
        return [(lane, permits)] if permits > 0 else []
    counts = dict.fromkeys(LANES, 0)
    for number in range(turn, turn + permits):
        choices = [
            lane for lane in _ORDERS[number % len(_ORDERS)] if lane in due and (retries > 0 or not is_retry(lane))
        ]
        if not choices:
            break
        counts[choices[0]] += 1
        retries -= int(is_retry(choices[0]))
    return [(lane, counts[lane]) for lane in sorted(LANES, key=_rank) if counts[lane]]


def _rank(lane: int) -> tuple[int, bool]:
    return lane // 2, not is_retry(lane)


def _order_of(number: int) -> list[int]:
    """In which order the lanes are asked at one turn."""
    first = Priority.NORMAL if number % 8 == 7 else Priority.BULK if number % 32 == 3 else Priority.URGENT
    # Counted in eights, so that each priority's own turns fall to its fresh orders and to its retries as well.
    fresh_first = number // 8 % 3 == 2
    priorities = sorted(_PRIORITIES, key=lambda priority: (priority is not first, _PRIORITIES.index(priority)))
    return [lane_of(p, requests=int(retry)) for p in priorities for retry in (not fresh_first, fresh_first)]


#: The order at each turn; after so many turns it begins again.
_ORDERS: Final = tuple(_order_of(number) for number in range(96))
