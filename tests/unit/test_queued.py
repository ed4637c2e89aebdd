"""What goes back to waiting: into the lane of what was sent before, and never due before it may be sent."""

from __future__ import annotations

import pytest

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.decisions import Job, queued, weigh
from orderrelay_workers.people import resend
from tests.unit.test_decisions import ABSENT, LEASE, NOW, PATIENT, SETTLING, a_job, end, seconds

LATER = NOW + seconds(7200)

#: After these a job waits again: outcome, and whether a request has left.
WAITS_AGAIN = [
    (Outcome.NOT_CREATED, False),
    (Outcome.THROTTLED, True),
    (Outcome.UNAUTHORIZED, True),
    (Outcome.MISCONFIGURED, True),
]


@pytest.mark.parametrize(("outcome", "has_left"), WAITS_AGAIN)
@pytest.mark.parametrize("lane", [0, 2, 4])
def test_what_has_left_waits_as_a_retry(outcome: Outcome, has_left: bool, lane: int) -> None:
    """A job of which a request left is in its priority's second lane; one of which nothing left is where it was."""
    job = end(a_job(JobState.IN_PROGRESS, lane=lane), outcome).job
    assert (job.state, job.lane) == (JobState.WAITING, lane + int(has_left))


@pytest.mark.parametrize(("outcome", "_"), WAITS_AGAIN)
def test_nothing_becomes_due_before_its_time(outcome: Outcome, _: bool) -> None:
    """However a request ends, the job is due no earlier than it may be sent."""
    assert end(a_job(JobState.IN_PROGRESS, not_before=LATER), outcome).job.due_at == LATER


def test_a_time_that_has_passed_hastens_nothing() -> None:
    """A wait after a failure is not cut short by the time from which the order might have been sent."""
    job = end(a_job(JobState.IN_PROGRESS, not_before=NOW - seconds(60)), Outcome.NOT_CREATED).job
    assert job.due_at > NOW


def _looked_up_twice(**columns: object) -> Job:
    first_at = NOW + LEASE + seconds(1)
    second_at = first_at + SETTLING
    job = a_job(JobState.UNKNOWN, if_absent=JobState.WAITING, lease_until=NOW + LEASE, **columns)
    for at in (first_at, second_at):
        job = weigh(job, ABSENT, at, PATIENT, asked_at=at, control=True, holder=None).job
    return job


@pytest.mark.parametrize(("requests", "lane"), [(0, 2), (1, 3)])
def test_what_is_looked_up_and_absent_waits_in_its_lane(requests: int, lane: int) -> None:
    """Perhaps sent and not created, it is a retry; only looked up for caution, it is as fresh as before."""
    job = _looked_up_twice(requests=requests)
    assert (job.state, job.lane) == (JobState.WAITING, lane)


def test_what_is_looked_up_early_still_waits_for_its_time() -> None:
    """Cautious mode looks orders up that are not due yet; they are sent no sooner for that."""
    assert _looked_up_twice(not_before=LATER).due_at == LATER


def test_a_late_word_that_nothing_was_sent_makes_it_fresh_again() -> None:
    """What the sweep had counted for sent was not, so the job is no retry."""
    job = end(a_job(JobState.WAITING, lane=3, requests=1, attempts=1), Outcome.NOT_CREATED).job
    assert (job.requests, job.lane) == (0, 2)


def test_sent_again_by_a_person_it_waits_for_its_time() -> None:
    """A person's word that it was not created does not send it before its time; it is a retry all the same."""
    parked = a_job(JobState.PARKED, not_before=LATER, requests=2, lane=5)
    job = resend(parked, NOW, "why", has_lookup=False, surely_not_created=True).job
    assert (job.state, job.due_at, job.lane) == (JobState.WAITING, LATER, 5)


def test_due_when_asked() -> None:
    """Without a time of its own a job is due when it is said to be."""
    assert queued(a_job(JobState.UNKNOWN), NOW).due_at == NOW
