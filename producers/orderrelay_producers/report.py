"""The report on orders that were enqueued together: a line per order, in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic

from typing_extensions import TypeVar

from orderrelay_producers.job import AsyncJob, Job

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The kind of job that a report tells of: `Job`, if none is named, or `AsyncJob`.
JobT = TypeVar("JobT", bound=Job | AsyncJob, default=Job)


class LineResult(StrEnum):
    """What became of one order among many."""

    ACCEPTED = "accepted"  #: Taken.
    ALREADY = "already"  #: Taken, and the same order was lately taken before: the same job.
    REFUSED = "refused"  #: Not taken: the order breaks the rules, or no worker serves the company.
    CONFLICT = "conflict"  #: Its ExternalId belongs to an order with other content, which stays.
    FULL = "full"  #: Not taken: too many wait. Enqueue the order in `error.order` again later.
    UNAVAILABLE = "unavailable"  #: Redis did not answer. Enqueue the order in `error.order` again.


@dataclass(frozen=True, slots=True)
class ReportLine(Generic[JobT]):
    """What became of one order among many.

    Attributes:
        index: Which order, counted from 0.
        result: What became of it.
        job: Its job, also where it is not known whether it was taken; None if the order was refused.
            With `CONFLICT`, the job of the first order.
        error: What `OrderProducer.enqueue` would have raised, or None.
    """

    index: int
    result: LineResult
    job: JobT | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Report(Generic[JobT]):
    """What became of many orders.

    Attributes:
        lines: One for each order, in order.
    """

    lines: tuple[ReportLine[JobT], ...]

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[ReportLine[JobT]]:
        return iter(self.lines)

    @property
    def all_taken(self) -> bool:
        """Whether every order is accepted, now or before."""
        return all(line.error is None for line in self.lines)

    @property
    def failed(self) -> tuple[ReportLine[JobT], ...]:
        """The lines with an error."""
        return tuple(line for line in self.lines if line.error is not None)

    def count(self, result: LineResult) -> int:
        """How many lines ended so."""
        return sum(line.result is result for line in self.lines)

    def __str__(self) -> str:
        counts = Counter(line.result for line in self.lines)
        return ", ".join(f"{counts[result]} {result}" for result in LineResult if counts[result]) or "no orders"
