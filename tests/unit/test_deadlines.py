"""Deadlines: who will hardly meet theirs, and what becomes of a job that has not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.deadlines import Pace, Waiter, missed, warning
from orderrelay_workers.people import resend
from orderrelay_workers.schedule import read_schedule
from tests.unit.test_decisions import NOW, a_job, seconds

TEN_A_SECOND = Pace(10.0)


@pytest.mark.parametrize(
    ("ahead", "due_in", "deadline_in", "is_told"),
    [
        (0, 0, 1, False),
        (99, 0, 11, False),
        (99, 0, 10, True),
        (1000, 0, 60, True),
        (0, 120, 60, True),
        (0, 30, 60, False),
    ],
)
def test_who_is_told(ahead: int, due_in: int, deadline_in: int, is_told: bool) -> None:
    """A job is at risk if what is ahead of it, or its own due time, takes it past its deadline."""
    waiter = Waiter(NOW + seconds(due_in), NOW + seconds(deadline_in), ahead)
    assert (warning(waiter, NOW, TEN_A_SECOND) is not None) == is_told


def test_the_warning_says_when_it_would_be_sent() -> None:
    """It is an alarm, and names the deadline, the expected time, and what that rests on."""
    told = warning(Waiter(NOW, NOW + seconds(60), 999), NOW, TEN_A_SECOND)
    assert told is not None
    assert (told.kind, told.alarm) == ("deadline_at_risk", True)
    assert told.detail == {
        "deadline": "2026-11-22T12:01:00+00:00",
        "expected_at": "2026-11-22T12:01:40+00:00",
        "ahead": 999,
        "per_second": 10.0,
    }


def test_closed_hours_are_reckoned_with() -> None:
    """What is left at closing time is done after the company opens again."""
    closed = Pace(10.0, read_schedule("UTC", "sun 12:00-13:00", ""))  # that Sunday
    told = warning(Waiter(NOW, NOW + seconds(600), 99), NOW, closed)
    assert told is not None
    assert told.detail["expected_at"] == "2026-11-22T13:00:10+00:00"


@pytest.mark.parametrize("per_second", [0.0, 1e-9])
def test_what_is_never_done_is_at_risk(per_second: float) -> None:
    """Without a pace, or at one that takes years, nobody can say when it is sent; that it is late can be said."""
    told = warning(Waiter(NOW, NOW + seconds(600), 99), NOW, Pace(per_second))
    assert told is not None
    assert told.detail["expected_at"] is None


def test_a_missed_deadline_parks() -> None:
    """A waiting job whose deadline has passed is parked with the reason, and what it waited for."""
    decision = missed(a_job(JobState.WAITING, deadline=NOW, reason="HTTP 429"), NOW + seconds(1))
    assert decision.job.state is JobState.PARKED
    assert decision.job.since == NOW + seconds(1)
    assert decision.job.reason == "its deadline 2026-11-22T12:00:00Z passed before it could be sent; HTTP 429"
    assert [h.kind for h in decision.happenings] == ["deadline_passed"]


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.WAITING])
def test_only_what_waits_is_parked(state: JobState) -> None:
    """What is being sent, in doubt, stopped or done with is decided by what comes of it, not by its deadline."""
    job = a_job(state, deadline=NOW)
    assert missed(job, NOW + seconds(1)).job == job


@pytest.mark.parametrize("deadline", [None, NOW + timedelta(seconds=1)])
def test_what_may_still_be_sent_is_left(deadline: None) -> None:
    """Without a deadline, or before it, nothing happens."""
    job = a_job(JobState.WAITING, deadline=deadline)
    assert missed(job, NOW).job == job


@pytest.mark.parametrize("has_lookup", [True, False])
def test_a_person_lifts_a_deadline_that_has_passed(has_lookup: bool) -> None:
    """Sent again by a person, it would be parked again at once; so it has no deadline any more, and that is told."""
    parked = a_job(JobState.PARKED, deadline=NOW)
    decision = resend(parked, NOW, "they agreed", has_lookup=has_lookup, surely_not_created=True)
    assert decision.job.deadline is None
    assert decision.happenings[0].detail["lifted_deadline"] == NOW.isoformat()


def test_a_person_leaves_a_deadline_that_is_ahead() -> None:
    """Sent again in time, it still is not sent after its deadline."""
    parked = a_job(JobState.PARKED, deadline=NOW + seconds(1))
    decision = resend(parked, NOW, "they agreed", has_lookup=True)
    assert decision.job.deadline == NOW + seconds(1)
    assert "lifted_deadline" not in decision.happenings[0].detail
