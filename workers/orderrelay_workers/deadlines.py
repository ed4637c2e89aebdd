"""Deadlines: which jobs will hardly meet theirs, and what becomes of those that have not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from orderrelay_shared.states import JobState
from orderrelay_workers.decisions import Decision, Happening, Job

if TYPE_CHECKING:
    from orderrelay_workers.schedule import Schedule

#: Nothing is said of what would be further ahead than this, in seconds: a year.
_FURTHEST_SECONDS: Final = 365 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a company's orders go.

    Attributes:
        per_second: How many orders a second are done while it is open.
        schedule: When it is closed; None if that is not known, and so not reckoned with.
    """

    per_second: float
    schedule: Schedule | None = None

    def done_at(self, now: datetime, orders: int) -> datetime | None:
        """When so many orders will be done; None if that is further ahead than can be said."""
        if self.per_second <= 0:
            return None
        seconds = orders / self.per_second
        if self.schedule is not None:
            return self.schedule.done_at(now, seconds)
        return now + timedelta(seconds=seconds) if seconds <= _FURTHEST_SECONDS else None


@dataclass(frozen=True, slots=True)
class Waiter:
    """A waiting job with a deadline, and how many jobs have their turn before it."""

    due_at: datetime
    deadline: datetime
    ahead: int


def warning(waiter: Waiter, now: datetime, pace: Pace) -> Happening | None:
    """What is to be told of a job that will hardly be sent before its deadline; None if it will."""
    done_at = pace.done_at(now, waiter.ahead + 1)
    expected_at = None if done_at is None else max(done_at, waiter.due_at)
    if expected_at is not None and expected_at < waiter.deadline:
        return None
    detail: dict[str, object] = {
        "deadline": waiter.deadline.isoformat(),
        "expected_at": None if expected_at is None else expected_at.isoformat(timespec="seconds"),
        "ahead": waiter.ahead,
        "per_second": round(pace.per_second, 3),
    }
    return Happening("deadline_at_risk", alarm=True, detail=detail)


def missed(job: Job, now: datetime) -> Decision:
    """Decide about a waiting job whose deadline has passed: it is not sent any more, and a person must know."""
    if job.state is not JobState.WAITING or job.deadline is None or now < job.deadline:
        return Decision(job)
    reason = f"its deadline {job.deadline:%Y-%m-%dT%H:%M:%SZ} passed before it could be sent"
    parked = replace(job, state=JobState.PARKED, since=now, reason=f"{reason}; {job.reason}" if job.reason else reason)
    return Decision(parked, (Happening("deadline_passed", detail={"deadline": job.deadline.isoformat()}),))
