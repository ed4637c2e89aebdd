"""What people may decide about stopped jobs."""

from __future__ import annotations

import pytest

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.people import NotForPeople, drop, resend, resolve, resolve_as_not_created
from tests.unit.test_decisions import HOLDER, NOW, a_job, end, kinds

STOPPED = [JobState.PARKED, JobState.REJECTED]
OTHERS = [state for state in JobState if state not in STOPPED]


@pytest.mark.parametrize("state", STOPPED)
def test_sent_again_is_looked_up_first(state: JobState) -> None:
    """With a look-up, a stopped job becomes unknown, due now, with its attempts counted anew."""
    job = resend(a_job(state, attempts=9), NOW, "why", has_lookup=True).job
    assert (job.state, job.if_absent, job.attempts, job.due_at) == (JobState.UNKNOWN, JobState.WAITING, 0, NOW)


@pytest.mark.parametrize("state", STOPPED)
def test_without_lookup_a_persons_word_is_needed(state: JobState) -> None:
    """Without a look-up a stopped job waits again only if a person vouches that it was not created."""
    with pytest.raises(NotForPeople, match="--not-created"):
        resend(a_job(state), NOW, "why", has_lookup=False)
    sure = resend(a_job(state), NOW, "why", has_lookup=False, surely_not_created=True)
    assert sure.job.state is JobState.WAITING


@pytest.mark.parametrize("state", OTHERS)
def test_only_stopped_jobs_are_for_people(state: JobState) -> None:
    """A job that is moving, created or ended is nobody's to send again or drop."""
    with pytest.raises(NotForPeople, match=f"it is {state}"):
        resend(a_job(state), NOW, "why", has_lookup=True)
    with pytest.raises(NotForPeople, match=f"it is {state}"):
        drop(a_job(state), NOW, "why")


def test_only_a_parked_job_is_resolved() -> None:
    """What the vendor refused by a rule cannot be there, so it cannot be resolved."""
    with pytest.raises(NotForPeople, match="only a parked order"):
        resolve(a_job(JobState.REJECTED), NOW, "why", order_number="211")

    with pytest.raises(NotForPeople, match="only a parked order"):
        resolve_as_not_created(a_job(JobState.REJECTED), NOW, "why", has_lookup=True)


@pytest.mark.parametrize(("has_lookup", "state"), [(True, JobState.UNKNOWN), (False, JobState.WAITING)])
def test_what_a_person_did_not_find_is_sent(has_lookup: bool, state: JobState) -> None:
    """A person's word that an order is not there sends it: looked up first where that is possible, else at once."""
    decision = resolve_as_not_created(a_job(JobState.PARKED), NOW, "looked", has_lookup=has_lookup)
    assert decision.job.state is state
    detail = {"why": "looked", "was": "parked", "looked_up": has_lookup, "not_created": True}
    assert [(h.kind, h.detail) for h in decision.happenings] == [("resent_by_person", detail)]


def test_an_id_is_one_jobs() -> None:
    """A person cannot give a job the vendor id of another."""
    with pytest.raises(NotForPeople, match="already that of job"):
        resolve(a_job(JobState.PARKED), NOW, "why", vendor_id=77, holder=HOLDER)


def test_what_was_decided_is_told_with_its_reason() -> None:
    """Each decision leaves an event with the person's words."""
    decisions = [
        resolve(a_job(JobState.PARKED), NOW, "seen", order_number="211"),
        resend(a_job(JobState.PARKED), NOW, "again", has_lookup=True),
        drop(a_job(JobState.PARKED), NOW, "old"),
    ]
    assert [(d.happenings[0].kind, d.happenings[0].detail["why"]) for d in decisions] == [
        ("resolved_by_person", "seen"),
        ("resent_by_person", "again"),
        ("dropped_by_person", "old"),
    ]


def test_the_late_answer_of_a_resolved_order_is_no_second_one() -> None:
    """If the answer comes after a person named the order by its number, it adds the id and alarms nobody."""
    resolved = resolve(a_job(JobState.PARKED), NOW, "seen", order_number="211").job
    late = end(resolved, Outcome.CREATED)
    assert (late.job.vendor_id, kinds(late)) == (77, [])


def test_a_late_answer_with_another_number_is_a_second_order() -> None:
    """If the answer names another order than the person did, there are two, and an alarm."""
    resolved = resolve(a_job(JobState.PARKED), NOW, "seen", order_number="999").job
    assert kinds(end(resolved, Outcome.CREATED)) == [("doubled", True)]
