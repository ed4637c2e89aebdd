"""Which claimed orders share a request. Pure.

Only orders of which no request has ever left travel together, so that one bad order never sinks or doubles its
neighbours: whatever a request of several leaves in doubt is looked up, and goes out by itself if it is not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orderrelay_workers.ledger.claims import Claim

#: The most that several orders in one request come to, in bytes.
MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Packed:
    """Claims as they go out.

    Attributes:
        groups: The claims of each request, one or several.
        left: Claims for which there is no permit; they are to be given back.
        fitted: How many orders there were at most in a group that had no room for another; None if all had.
    """

    groups: tuple[tuple[Claim, ...], ...]
    left: tuple[Claim, ...] = ()
    fitted: int | None = None


def pack(claims: Sequence[Claim], requests: int, size: int) -> Packed:
    """Put claims into requests.

    Args:
        claims: What was claimed, in the order in which it is to go.
        requests: How many requests there may be.
        size: How many orders may share one.
    """
    if size <= 1:
        return Packed(tuple((claim,) for claim in claims[:requests]), tuple(claims[requests:]))
    groups = [[claim] for claim in claims if claim.alone]
    fitted: int | None = None
    group: list[Claim] = []
    room = 0
    for claim in (claim for claim in claims if not claim.alone):
        needed = len(claim.body) + 1
        if not group or len(group) >= size or needed > room:
            if group and len(group) < size:
                fitted = max(fitted or 0, len(group))
            group, room = [], MOST_BYTES - 1
            groups.append(group)
        group.append(claim)
        room -= needed
    return Packed(tuple(tuple(one) for one in groups[:requests]), tuple(_flat(groups[requests:])), fitted)


def _flat(groups: Iterable[list[Claim]]) -> Iterable[Claim]:
    return (claim for group in groups for claim in group)
