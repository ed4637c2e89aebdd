"""What is reckoned from instants: rates, the fullest second, gaps, and how near a learned rate is to a hidden limit."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: A learned rate is near enough to the limit within this share of it.
NEAR: Final = 0.1

#: One step of a hidden limit: seconds from the beginning, and orders a second from then on.
Step = tuple[float, float]


def most_in_any(times: Sequence[float], seconds: float = 1.0) -> int:
    """The most instants in any sliding window of so many seconds, its later end left out; instants ascend."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def between(times: Sequence[float], begin: float, end: float) -> Sequence[float]:
    """The instants from `begin` on and before `end`; instants ascend."""
    return times[bisect_left(times, begin) : bisect_left(times, end)]


def per_second(times: Sequence[float], begin: float, end: float, width: float = 1.0) -> list[float]:
    """How many a second in each whole window of so many seconds; instants ascend."""
    windows = math.floor((end - begin) / width + 1e-9)
    edges = [begin + number * width for number in range(windows + 1)]
    counts = [bisect_left(times, edge) for edge in edges]
    return [(after - before) / width for before, after in itertools.pairwise(counts)]


def gaps_ms(times: Sequence[float]) -> list[float]:
    """Milliseconds from each instant to the next."""
    return [(later - earlier) * 1000 for earlier, later in itertools.pairwise(times)]


def histogram(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """How many values lie from each edge to below the next; the last holds all above. Those below the first: none."""
    ordered = sorted(values)
    places = [bisect_left(ordered, edge) for edge in edges] + [len(ordered)]
    return [after - before for before, after in itertools.pairwise(places)]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that such a share of them does not exceed; 0.5 gives the median of an odd number."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def seconds_to_full_speed(times: Sequence[float], from_at: float, rate: float, window: float = 3.0) -> float | None:
    """How long after an instant the next few seconds hold nine tenths of the rate; None: they never do."""
    begins = [from_at, *between(times, from_at, math.inf)]
    wanted = 0.9 * rate * window
    found = (at for at in begins if bisect_left(times, at + window) - bisect_left(times, at) >= wanted)
    return next((at - from_at for at in found), None)


@dataclass(frozen=True, slots=True)
class StepFollowed:
    """How a learned rate followed one step of a hidden limit.

    Attributes:
        begins: Seconds from the beginning.
        limit: Orders a second that the vendor took from then on.
        seconds_until_near: How long until the rate was within a tenth of it for the first time; None: never.
        share_near: The share of the time after that in which it was.
        used: Orders taken a second after that, as a share of the limit.
        sent: Orders sent in the whole step.
        refused: How many of them were refused.
    """

    begins: float
    limit: float
    seconds_until_near: float | None
    share_near: float
    used: float
    sent: int
    refused: int


def follow(
    steps: Sequence[Step],
    end: float,
    rates: Sequence[tuple[float, float]],
    sent: Sequence[float],
    refused: Sequence[float],
) -> list[StepFollowed]:
    """Judge a learned rate step by step.

    Args:
        steps: The hidden limit.
        end: When it was over.
        rates: Instants and the rate that was in force from then on.
        sent: When orders were sent, ascending.
        refused: When those were sent that were refused, ascending.
    """
    found: list[StepFollowed] = []
    for (begins, limit), until in zip(steps, [*(step[0] for step in steps[1:]), end], strict=True):
        mine = [(at, rate) for at, rate in rates if begins <= at < until]
        near = [at for at, rate in mine if abs(rate - limit) <= NEAR * limit]
        since = near[0] if near else until
        later = [at for at, _ in mine if at >= since]
        taken = len(between(sent, since, until)) - len(between(refused, since, until))
        found.append(
            StepFollowed(
                begins,
                limit,
                near[0] - begins if near else None,
                len(near) / len(later) if later else 0.0,
                taken / (until - since) / limit if since < until else 0.0,
                len(between(sent, begins, until)),
                len(between(refused, begins, until)),
            )
        )
    return found


def table(rows: Sequence[dict[str, object]], show: Callable[[str], None] = print) -> None:
    """Print rows under their names, each column as wide as it must be."""
    if not rows:
        return
    lines = [list(rows[0]), *([_shown(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        show("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
