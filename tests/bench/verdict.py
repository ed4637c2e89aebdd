"""Whether a run counts: one that lost or doubled something does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.stub import Counts


def problem_of(orders: int, counts: Counts, stored: tuple[int, int]) -> str:
    """What was lost or doubled, in words; empty: nothing.

    Args:
        orders: How many were enqueued.
        counts: What the stub saw.
        stored: How many answers are stored, and of how many orders.
    """
    problems: list[str] = []
    if counts.distinct != orders:
        problems.append(f"lost: {counts.distinct} of {orders} orders arrived")
    if counts.duplicates:
        problems.append(f"doubled: {counts.duplicates} orders arrived again")
    if counts.refused:
        problems.append(f"the stub refused {counts.refused} requests")
    if stored != (orders, orders):
        problems.append(f"stored: {stored[0]} answers of {stored[1]} of {orders} orders")
    return "; ".join(problems)
