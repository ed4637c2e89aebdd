"""What becomes of a job that its producer wants cancelled: a table."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.cancelling import cancel
from orderrelay_workers.decisions import Job

NOW = datetime(2026, 1, 30, 12, tzinfo=UTC)
BEFORE = NOW - timedelta(seconds=1)


def a_job(state: JobState, requests: int = 0) -> Job:
    """A job in some state, of which so many requests have left."""
    return Job(uuid.UUID(int=1), 1, state, BEFORE, BEFORE, requests=requests, if_absent=None)


@pytest.mark.parametrize(
    ("job", "is_cautious", "becomes", "told"),
    [
        (a_job(JobState.WAITING), False, JobState.CANCELLED, "cancelled_by_producer"),
        (a_job(JobState.WAITING, 3), False, JobState.CANCELLED, "cancelled_by_producer"),
        (a_job(JobState.WAITING), True, JobState.WAITING, "cancel_refused"),
        (a_job(JobState.PARKED), False, JobState.CANCELLED, "cancelled_by_producer"),
        (a_job(JobState.PARKED, 1), False, JobState.PARKED, "cancel_refused"),
        (a_job(JobState.IN_PROGRESS), False, JobState.IN_PROGRESS, "cancel_refused"),
        (a_job(JobState.UNKNOWN, 1), False, JobState.UNKNOWN, "cancel_refused"),
        (a_job(JobState.SUCCEEDED, 1), False, JobState.SUCCEEDED, "cancel_refused"),
        (a_job(JobState.REJECTED, 1), False, JobState.REJECTED, "cancel_refused"),
        (a_job(JobState.CANCELLED), False, JobState.CANCELLED, None),
    ],
    ids=str,
)
def test_a_job_is_cancelled_where_the_vendor_surely_lacks_it(
    job: Job, is_cautious: bool, becomes: JobState, told: str | None
) -> None:
    """Everywhere else nothing happens to it, and that is told."""
    decision = cancel(job, NOW, "why", asked_at=NOW, accepted_at=BEFORE, is_cautious=is_cautious)
    assert decision.job.state is becomes
    assert [happening.kind for happening in decision.happenings] == ([told] if told else [])
    assert decision.job == job or decision.job.reason == "cancelled by its producer: why"


def test_a_parked_job_in_cautious_mode_is_left_to_people() -> None:
    """The ledger may have forgotten its requests."""
    decision = cancel(a_job(JobState.PARKED), NOW, "", asked_at=NOW, accepted_at=BEFORE, is_cautious=True)
    assert decision.job.state is JobState.PARKED


def test_an_order_that_came_later_is_not_meant() -> None:
    """Whoever cancels and then enqueues wants the order, whichever a worker looks at first."""
    decision = cancel(a_job(JobState.WAITING), NOW, "", asked_at=BEFORE, accepted_at=NOW, is_cautious=False)
    assert decision.job.state is JobState.WAITING
    assert decision.happenings[0].detail["because"] == "it was enqueued only after that"
