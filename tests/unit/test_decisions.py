"""The rules about a job's next state, row by row, and what holds after any sequence of events."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.decisions import Decision, Job, Policy, lapse, settle, weigh, without_lookup
from orderrelay_workers.vendor.answers import LookupVerdict, Verdict

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OURS, OTHERS, OLDER = uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)
HOLDER = uuid.UUID(int=9)
POLICY = Policy(max_attempts=3, retryable_error_numbers=frozenset({16}), chance=lambda: 0.5)
PATIENT = dataclasses.replace(POLICY, max_attempts=100)
LEASE = timedelta(seconds=40)
SETTLING = timedelta(seconds=POLICY.settling_seconds)

#: Where a late answer may find a job that is not created yet.
OPEN = [s for s in JobState if s is not JobState.SUCCEEDED]
NO_PROOF = [o for o in Outcome if o not in (Outcome.CREATED, Outcome.UNKNOWN)]
ABSENT = LookupVerdict("absent", reason="nothing")


def seconds(number: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=number)


def a_job(state: JobState, **columns: Any) -> Job:
    """A job as the ledger would hold it in that state; one in progress is claimed under `OURS`."""
    claimed: dict[str, Any] = {}
    if state is JobState.IN_PROGRESS:
        claimed = {"token": OURS, "owner": uuid.UUID(int=7), "claimed_at": NOW, "lease_until": NOW + LEASE}
    usual: dict[str, Any] = {"id": uuid.UUID(int=5), "company_id": 1, "state": state, "since": NOW, "due_at": NOW}
    return Job(**(usual | claimed | columns))


def an_answer(outcome: Outcome, **more: Any) -> Verdict:
    """What the end of a request means."""
    named: dict[str, Any] = (
        {"vendor_id": 77, "order_number": "211", "reference": "r"} if outcome is Outcome.CREATED else {}
    )
    return Verdict(outcome, "because", **(named | more))


def end(job: Job, outcome: Outcome, *, token: uuid.UUID = OURS, now: datetime = NOW, **more: Any) -> Decision:
    """What the end of a request does to a job."""
    return settle(job, token, an_answer(outcome, **more), now, POLICY, None)


def look(
    job: Job, verdict: LookupVerdict, now: datetime, *, asked_at: datetime | None = None, control: bool = True
) -> Decision:  # fmt: skip
    """What a look-up's answer does to a job."""
    return weigh(job, verdict, now, POLICY, asked_at=asked_at or now, control=control, holder=None)


def kinds(decision: Decision) -> list[tuple[str, bool]]:
    """What is told, and whether it alarms."""
    return [(h.kind, h.alarm) for h in decision.happenings]


@pytest.mark.parametrize(
    ("outcome", "state", "attempts", "requests"),
    [
        (Outcome.CREATED, JobState.SUCCEEDED, 1, 1),
        (Outcome.REJECTED, JobState.REJECTED, 1, 1),
        (Outcome.NOT_CREATED, JobState.WAITING, 0, 0),
        (Outcome.THROTTLED, JobState.WAITING, 0, 1),
        (Outcome.UNAUTHORIZED, JobState.WAITING, 0, 1),
        (Outcome.MISCONFIGURED, JobState.WAITING, 0, 1),
        (Outcome.UNKNOWN, JobState.UNKNOWN, 1, 1),
    ],
)
def test_what_each_outcome_leads_to(outcome: Outcome, state: JobState, attempts: int, requests: int) -> None:
    """Each outcome leads to its state, and costs an attempt only if it may have created or was refused."""
    decision = end(a_job(JobState.IN_PROGRESS), outcome)
    assert (decision.job.state, decision.job.attempts, decision.job.requests) == (state, attempts, requests)
    assert decision.happenings == ()


@pytest.mark.parametrize("outcome", Outcome)
def test_a_false_alarm_is_harmless(outcome: Outcome) -> None:
    """An answer that comes after the sweep took its worker for dead leads to the same as on time."""
    on_time = end(a_job(JobState.IN_PROGRESS), outcome).job
    swept = end(lapse(a_job(JobState.IN_PROGRESS), NOW, "gone"), outcome).job
    assert (swept.state, swept.attempts, swept.requests) == (on_time.state, on_time.attempts, on_time.requests)


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.CREATED, Outcome.UNKNOWN)])
def test_a_claim_ends_with_its_request(outcome: Outcome) -> None:
    """A job that is over or waits has neither token nor owner, so a late answer is known for late."""
    job = end(a_job(JobState.IN_PROGRESS), outcome).job
    assert (job.token, job.owner, job.if_absent, job.absent_at) == (None, None, None, None)


def test_what_a_created_order_is_called_is_kept() -> None:
    """A success keeps the vendor's id, number and reference, and forgets earlier reasons."""
    job = end(a_job(JobState.IN_PROGRESS, reason="earlier", error_number=4), Outcome.CREATED).job
    assert (job.vendor_id, job.order_number, job.reference) == (77, "211", "r")
    assert (job.reason, job.error_number) == (None, None)


def test_a_retryable_refusal_waits() -> None:
    """An error number that is named as worth another attempt makes the job wait its backoff."""
    job = end(a_job(JobState.IN_PROGRESS), Outcome.REJECTED, error_number=16).job
    assert (job.state, job.due_at, job.error_number) == (JobState.WAITING, NOW + POLICY.backoff(1), 16)


def test_the_last_attempt_parks() -> None:
    """After the last allowed attempt a job is parked, with the last reason."""
    job = end(a_job(JobState.IN_PROGRESS, attempts=2, requests=9), Outcome.REJECTED, error_number=16).job
    assert job.state is JobState.PARKED
    assert job.reason == "3 attempts, the last: because"


@pytest.mark.parametrize(("told", "wait"), [(None, POLICY.breather()), (7.5, seconds(7.5)), (0.0, seconds(0))])
def test_throttled_waits_as_asked(told: float | None, wait: timedelta) -> None:
    """A throttled order waits as long as the vendor asks, else takes a short breath."""
    job = end(a_job(JobState.IN_PROGRESS), Outcome.THROTTLED, retry_after_seconds=told).job
    assert job.due_at == NOW + wait


def test_a_refused_token_costs_no_wait() -> None:
    """After a 401 the job is due at once, for another token."""
    assert end(a_job(JobState.IN_PROGRESS), Outcome.UNAUTHORIZED).job.due_at == NOW


@pytest.mark.parametrize("if_absent", [JobState.WAITING, JobState.REJECTED, JobState.PARKED])
def test_doubt_is_looked_up_at_once(if_absent: JobState) -> None:
    """An unclear answer makes the job unknown, due for a look-up now, with its way on if absent."""
    job = end(a_job(JobState.IN_PROGRESS), Outcome.UNKNOWN, if_absent=if_absent).job
    assert (job.state, job.due_at, job.if_absent, job.owner) == (JobState.UNKNOWN, NOW, if_absent, None)
    assert job.lease_until == NOW + LEASE


@pytest.mark.parametrize("state", OPEN)
def test_a_late_success_wins(state: JobState) -> None:
    """A success under a token that is not the job's any more wins from any state, with an alarm unless unknown."""
    decision = end(a_job(state, **({"token": OTHERS} if state is JobState.IN_PROGRESS else {})), Outcome.CREATED)
    assert (decision.job.state, decision.job.token, decision.job.vendor_id) == (JobState.SUCCEEDED, None, 77)
    assert kinds(decision) == ([] if state is JobState.UNKNOWN else [("late_success", True)])


@pytest.mark.parametrize("state", OPEN)
def test_found_wins_from_any_state(state: JobState) -> None:
    """An order that a look-up finds is created, whatever its job has become meanwhile; it must not be sent again."""
    decision = look(a_job(state), LookupVerdict("found", (77,)), NOW)
    assert (decision.job.state, decision.job.vendor_id) == (JobState.SUCCEEDED, 77)
    assert kinds(decision) == ([("found", False)] if state is JobState.UNKNOWN else [("late_find", True)])


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("outcome", NO_PROOF)
def test_a_late_answer_without_proof_changes_nothing(state: JobState, outcome: Outcome) -> None:
    """A late "not created" is no proof about the present claim, so the job stays as it is."""
    job = a_job(state, **({"token": OTHERS} if state is JobState.IN_PROGRESS else {}))
    assert end(job, outcome) == Decision(job)


def test_a_late_doubt_takes_a_waiting_job_back() -> None:
    """A late "perhaps created" moves a waiting job back to unknown, and the settling time begins anew."""
    decision = end(a_job(JobState.WAITING, lease_until=NOW - seconds(900)), Outcome.UNKNOWN)
    assert (decision.job.state, decision.job.lease_until) == (JobState.UNKNOWN, NOW)
    assert kinds(decision) == [("late_doubt", False)]


def test_a_late_doubt_begins_the_evidence_anew() -> None:
    """A second request in doubt makes the empty list of before worthless, and the first's answer decide nothing."""
    job = a_job(JobState.UNKNOWN, token=OURS, absent_at=NOW - seconds(60), if_absent=JobState.PARKED)
    decision = end(job, Outcome.UNKNOWN, token=OLDER)
    assert (decision.job.absent_at, decision.job.token) == (None, None)
    assert decision.job.if_absent is JobState.PARKED
    assert end(decision.job, Outcome.NOT_CREATED).job.state is JobState.UNKNOWN


@pytest.mark.parametrize("outcome", [Outcome.NOT_CREATED, Outcome.THROTTLED, Outcome.UNAUTHORIZED])
def test_a_late_doubt_is_remembered_over_a_claim(outcome: Outcome) -> None:
    """A job in progress that an older request perhaps created does not wait for a third request: it is looked up."""
    doubted = end(a_job(JobState.IN_PROGRESS), Outcome.UNKNOWN, token=OLDER)
    assert (doubted.job.state, doubted.job.token) == (JobState.IN_PROGRESS, OURS)
    assert kinds(doubted) == [("late_doubt", True)]
    assert end(doubted.job, outcome).job.state is JobState.UNKNOWN


@pytest.mark.parametrize(
    ("attempts", "error_number", "if_absent"), [(0, 26, JobState.REJECTED), (2, 16, JobState.PARKED)]
)
def test_a_late_doubt_is_remembered_over_a_refusal(attempts: int, error_number: int, if_absent: JobState) -> None:
    """The vendor refuses the second request, perhaps as the first created the order: it is looked up before it ends."""
    doubted = end(a_job(JobState.IN_PROGRESS, attempts=attempts), Outcome.UNKNOWN, token=OLDER).job
    after = end(doubted, Outcome.REJECTED, error_number=error_number).job
    assert (after.state, after.if_absent) == (JobState.UNKNOWN, if_absent)


def test_a_late_doubt_is_remembered_over_a_lapse() -> None:
    """When the present claim lapses too, its own "not sent" does not clear the older request."""
    doubted = end(a_job(JobState.IN_PROGRESS), Outcome.UNKNOWN, token=OLDER).job
    lapsed = lapse(doubted, NOW, "gone")
    assert lapsed.token is None
    assert end(lapsed, Outcome.NOT_CREATED).job.state is JobState.UNKNOWN


@pytest.mark.parametrize("state", [JobState.REJECTED, JobState.PARKED, JobState.CANCELLED, JobState.SUCCEEDED])
def test_a_late_doubt_about_an_ended_job_alarms(state: JobState) -> None:
    """A late "perhaps created" about a job that has ended changes nothing and is told as an alarm."""
    decision = end(a_job(state), Outcome.UNKNOWN)
    assert decision.job == a_job(state)
    assert kinds(decision) == [("late_doubt", True)]


def test_a_found_order_explains_its_own_late_doubt() -> None:
    """When the look-up has found what this very request created, its unclear answer is no news."""
    swept = lapse(a_job(JobState.IN_PROGRESS), NOW, "gone")
    found = look(swept, LookupVerdict("found", (77,)), NOW).job
    assert end(found, Outcome.UNKNOWN) == Decision(found)


def test_a_found_order_learns_its_number() -> None:
    """The answer that comes after the look-up found the order adds the number that a look-up cannot tell."""
    found = look(a_job(JobState.UNKNOWN, token=OURS), LookupVerdict("found", (77,)), NOW).job
    decision = end(found, Outcome.CREATED)
    assert (decision.job.order_number, decision.job.reference) == ("211", "r")
    assert decision.happenings == ()


def test_an_order_that_a_person_named_by_its_number_learns_its_id() -> None:
    """A look-up that was out when the person decided tells the id, which is no second order."""
    decision = look(a_job(JobState.SUCCEEDED, order_number="211"), LookupVerdict("found", (77,)), NOW)
    assert (decision.job.vendor_id, decision.happenings) == (77, ())


@pytest.mark.parametrize("token", [OURS, OTHERS])
def test_a_second_vendor_id_is_a_double(token: uuid.UUID) -> None:
    """A success that names another id than the job's is told as doubled, and the first stays."""
    first = end(a_job(JobState.IN_PROGRESS), Outcome.CREATED).job
    decision = end(first, Outcome.CREATED, token=token, vendor_id=78)
    assert decision.job == first
    assert kinds(decision) == [("doubled", True)]


def test_a_request_under_another_claim_settles_as_late() -> None:
    """After a late success the present claim's own success is a double, not a second job."""
    late = end(a_job(JobState.IN_PROGRESS), Outcome.CREATED, token=OLDER).job
    assert late.token is None
    assert kinds(end(late, Outcome.CREATED, vendor_id=78)) == [("doubled", True)]


@pytest.mark.parametrize("state", OPEN)
def test_a_held_vendor_id_decides_nothing(state: JobState) -> None:
    """A vendor id that another job holds parks the job with an alarm, told by an answer or by a look-up."""
    told = settle(a_job(state), OURS, an_answer(Outcome.CREATED), NOW, POLICY, HOLDER)
    found = weigh(
        a_job(state), LookupVerdict("found", (77,)), NOW, POLICY, asked_at=NOW, control=True, holder=HOLDER
    )  # fmt: skip
    for decision in (told, found):
        assert (decision.job.state, decision.job.vendor_id) == (JobState.PARKED, None)
        assert kinds(decision) == [("vendor_id_held", True)]


def test_several_found_are_a_double() -> None:
    """More than one order found: succeeded with the first, and an alarm."""
    decision = look(a_job(JobState.UNKNOWN), LookupVerdict("found", (77, 78)), NOW)
    assert (decision.job.state, decision.job.vendor_id) == (JobState.SUCCEEDED, 77)
    assert kinds(decision) == [("found", False), ("doubled", True)]


@pytest.mark.parametrize(("vendor_ids", "alarms"), [((77,), []), ((77, 78), [("doubled", True)])])
def test_looking_a_created_order_up_finds_doubles(vendor_ids: tuple[int, ...], alarms: list[tuple[str, bool]]) -> None:
    """A look-up of a succeeded job changes nothing, and tells if there is another order beside it."""
    job = a_job(JobState.SUCCEEDED, vendor_id=77)
    decision = look(job, LookupVerdict("found", vendor_ids), NOW)
    assert (decision.job, kinds(decision)) == (job, alarms)


def an_unknown_job(**columns: Any) -> Job:
    """Unknown since `NOW`, its lease ending 40 s later."""
    known: dict[str, Any] = {"token": OURS, "lease_until": NOW + LEASE, "if_absent": JobState.WAITING, "attempts": 1}
    return a_job(JobState.UNKNOWN, **(known | columns))


def test_an_empty_list_before_the_lease_is_nothing() -> None:
    """While the request may be out, an empty list is no evidence: asked again when the lease is over."""
    job = look(an_unknown_job(), ABSENT, NOW + seconds(39)).job
    assert (job.state, job.absent_at, job.due_at) == (JobState.UNKNOWN, None, NOW + LEASE)


def test_an_empty_list_is_as_old_as_its_question() -> None:
    """A look-up that was asked before the lease ended proves nothing, however late its answer is weighed."""
    job = look(an_unknown_job(), ABSENT, NOW + seconds(41), asked_at=NOW + seconds(39)).job
    assert (job.absent_at, job.due_at) == (None, NOW + seconds(41))


@pytest.mark.parametrize(
    ("first_at", "second_at"),
    [
        (LEASE, LEASE + SETTLING),
        (LEASE + SETTLING - seconds(1), LEASE + SETTLING * 1.5 - seconds(1)),
        (LEASE + SETTLING * 9, LEASE + SETTLING * 9.5),
    ],
)
def test_two_empty_lists_decide_in_time(first_at: timedelta, second_at: timedelta) -> None:
    """Absent is believed from the instant that both time rules are kept, and not a moment before."""
    first = look(an_unknown_job(), ABSENT, NOW + first_at).job
    assert (first.state, first.due_at) == (JobState.UNKNOWN, NOW + second_at)
    early = look(first, ABSENT, NOW + second_at, asked_at=NOW + second_at - seconds(0.001)).job
    assert early.state is JobState.UNKNOWN
    second = look(first, ABSENT, NOW + second_at).job
    assert (second.state, second.reason) == (JobState.WAITING, "two look-ups found nothing")


@pytest.mark.parametrize("if_absent", [JobState.REJECTED, JobState.PARKED])
def test_absent_leads_where_the_answer_said(if_absent: JobState) -> None:
    """Two empty lists lead a job to what its answer had said: rejected or parked, never sent again by itself."""
    job = an_unknown_job(if_absent=if_absent, absent_at=NOW + LEASE, error_number=9)
    after = look(job, ABSENT, NOW + LEASE + SETTLING).job
    assert (after.state, after.error_number) == (if_absent, 9)


def test_absent_after_the_last_attempt_parks() -> None:
    """A job whose attempts are spent is parked when it proves absent."""
    job = an_unknown_job(absent_at=NOW + LEASE, attempts=POLICY.max_attempts)
    assert look(job, ABSENT, NOW + LEASE + SETTLING).job.state is JobState.PARKED


def test_an_empty_list_without_control_is_failing() -> None:
    """Where the look-up finds no order that is known to exist, its empty list counts as failing."""
    job = look(an_unknown_job(absent_at=NOW + LEASE), ABSENT, NOW + LEASE + SETTLING, control=False).job
    assert (job.state, job.lookup_failing_since) == (JobState.UNKNOWN, NOW + LEASE + SETTLING)


@pytest.mark.parametrize("kind", ["failing", "misconfigured", "not_sent"])
def test_failing_too_long_parks(kind: Literal["failing", "misconfigured", "not_sent"]) -> None:
    """A look-up that fails keeps the job unknown, and after an hour parks it for a person."""
    verdict = LookupVerdict(kind, reason="no use")
    job = look(an_unknown_job(), verdict, NOW).job
    assert (job.state, job.lookup_failing_since) == (JobState.UNKNOWN, NOW)
    assert NOW < job.due_at <= NOW + seconds(75)
    decision = look(job, verdict, NOW + seconds(3600))
    assert decision.job.state is JobState.PARKED
    assert kinds(decision) == [("gave_up", False)]


def test_a_single_failing_look_up_is_asked_again_within_a_second() -> None:
    """However often a job was looked up before, one failure in between costs it less than a second."""
    job = look(an_unknown_job(lookups=9), LookupVerdict("failing"), NOW).job
    assert NOW < job.due_at < NOW + seconds(1)


@pytest.mark.parametrize(("failing_for", "wait"), [(1, 0.5), (20, 10), (600, 60)])
def test_a_look_up_that_goes_on_failing_is_asked_ever_more_seldom(failing_for: float, wait: float) -> None:
    """The wait is half of the time that the look-up has failed so far, half a second at least and a minute at most."""
    job = an_unknown_job(lookup_failing_since=NOW - seconds(failing_for))
    assert look(job, LookupVerdict("failing"), NOW).job.due_at == NOW + seconds(wait)


def test_a_refused_token_costs_a_look_up_no_time() -> None:
    """After a 401 the look-up is due at once: the next login is the wait."""
    assert look(an_unknown_job(), LookupVerdict("unauthorized"), NOW).job.due_at == NOW


@pytest.mark.parametrize("kind", ["unauthorized", "throttled"])
def test_not_now_is_not_failing(kind: Literal["unauthorized", "throttled"]) -> None:
    """A refused token or "later" postpones the look-up, and never gives it up."""
    job = look(an_unknown_job(), LookupVerdict(kind, retry_after_seconds=30), NOW).job
    assert (job.state, job.lookup_failing_since, job.due_at) == (JobState.UNKNOWN, None, NOW + seconds(30))


def test_a_good_look_up_ends_the_failing() -> None:
    """Failing is counted from the last good look-up."""
    failing = look(an_unknown_job(), LookupVerdict("failing"), NOW).job
    assert look(failing, ABSENT, NOW + seconds(50)).job.lookup_failing_since is None


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.UNKNOWN])
def test_only_found_concerns_a_decided_job(state: JobState) -> None:
    """An empty list about a job that is not unknown any more changes nothing."""
    assert look(a_job(state), ABSENT, NOW + SETTLING) == Decision(a_job(state))


def test_without_look_up_a_person_decides() -> None:
    """Where there is no look-up an unknown job is parked, once its request cannot be out any more."""
    waiting = without_lookup(an_unknown_job(), NOW).job
    assert (waiting.state, waiting.due_at) == (JobState.UNKNOWN, NOW + LEASE)
    assert without_lookup(waiting, NOW + LEASE).job.state is JobState.PARKED


@pytest.mark.parametrize("state", [s for s in JobState if s is not JobState.UNKNOWN])
def test_without_look_up_others_stay(state: JobState) -> None:
    """Only unknown jobs are parked for want of a look-up."""
    assert without_lookup(a_job(state), NOW) == Decision(a_job(state))


def test_a_lapsed_claim_is_unknown() -> None:
    """A claim whose worker is gone is unknown, costs an attempt, and keeps its token for its late answer."""
    job = lapse(a_job(JobState.IN_PROGRESS), NOW, "gone")
    assert (job.state, job.token, job.owner, job.if_absent) == (JobState.UNKNOWN, OURS, None, JobState.WAITING)
    assert (job.attempts, job.requests, job.reason) == (1, 1, "gone")


@pytest.mark.parametrize(("attempts", "ceiling"), [(0, 5), (1, 5), (2, 10), (5, 80), (11, 3600), (5000, 3600)])
def test_backoff_doubles_up_to_its_cap(attempts: int, ceiling: float) -> None:
    """The wait's ceiling doubles with each attempt, up to the cap; chance takes any part of it."""
    assert Policy(chance=lambda: 1.0).backoff(attempts) == seconds(ceiling)
    assert Policy(chance=lambda: 0.5).backoff(attempts) == seconds(ceiling / 2)
    assert Policy(chance=lambda: 0.0).backoff(attempts) == seconds(0.5)


@dataclass
class Story:
    """A job's life under arbitrary events, beside an independent account of what is in doubt."""

    job: Job = field(default_factory=lambda: a_job(JobState.WAITING))
    now: datetime = NOW
    issued: list[uuid.UUID] = field(default_factory=list[uuid.UUID])
    #: Requests that have perhaps created the order, and that nothing has cleared.
    in_doubt: set[uuid.UUID] = field(default_factory=set[uuid.UUID])
    answered: set[uuid.UUID] = field(default_factory=set[uuid.UUID])
    asked: list[datetime] = field(default_factory=list[datetime])
    #: Empty lists with control since the last doubt: when asked, when weighed.
    absents: list[tuple[datetime, datetime]] = field(default_factory=list[tuple[datetime, datetime]])

    def claim(self) -> None:
        """Claim the job, if it waits."""
        if self.job.state is not JobState.WAITING:
            return
        assert not self.in_doubt, "sent again while another request is in doubt"
        self.issued.append(uuid.UUID(int=100 + len(self.issued)))
        self.job = replace(
            self.job, state=JobState.IN_PROGRESS, since=self.now, token=self.issued[-1], claimed_at=self.now,
            lease_until=self.now + LEASE,
        )  # fmt: skip

    def sweep(self) -> None:
        """Take the job's worker for dead."""
        if self.job.state is JobState.IN_PROGRESS:
            assert self.job.token is not None
            self._doubt(self.job.token)
            self._become(lapse(self.job, self.now, "gone"))

    def answer(self, which: int, outcome: Outcome, if_absent: JobState, vendor_id: int) -> None:
        """Let one of the requests that are out end."""
        open_requests = [t for t in self.issued if t not in self.answered]
        if not open_requests:
            return
        token = open_requests[which % len(open_requests)]
        self.answered.add(token)
        if outcome is Outcome.UNKNOWN:
            self._doubt(token)
        else:
            self.in_doubt.discard(token)
        verdict = an_answer(outcome, if_absent=if_absent, vendor_id=vendor_id if outcome is Outcome.CREATED else None)
        self._become(settle(self.job, token, verdict, self.now, PATIENT, None).job)

    def _doubt(self, token: uuid.UUID) -> None:
        self.in_doubt.add(token)
        self.absents.clear()

    def ask(self) -> None:
        """Ask the vendor; the answer is weighed later."""
        self.asked.append(self.now)

    def look_up(self, kind: Any, control: bool) -> None:
        """Weigh the answer to the oldest question, or to one asked just now."""
        asked_at = self.asked.pop(0) if self.asked else self.now
        before = self.job
        verdict = LookupVerdict(kind, (77,) if kind == "found" else ())
        after = weigh(before, verdict, self.now, PATIENT, asked_at=asked_at, control=control, holder=None).job
        if kind == "absent" and control and asked_at >= before.since:
            self.absents.append((asked_at, self.now))
        if kind == "absent" and before.state is JobState.UNKNOWN and after.state is not JobState.UNKNOWN:
            self._assert_absent_is_proved(before)
            self.in_doubt.clear()
        self._become(after)

    def _assert_absent_is_proved(self, before: Job) -> None:
        assert before.lease_until is not None
        *earlier, (last_asked_at, _) = [a for a in self.absents if a[0] >= before.lease_until]
        assert earlier, "absent believed from one empty list"
        assert last_asked_at >= before.lease_until + SETTLING
        assert any(last_asked_at - weighed_at >= SETTLING / 2 for _, weighed_at in earlier)

    def _become(self, after: Job) -> None:
        before, self.job = self.job, after
        if before.state is JobState.SUCCEEDED:
            assert after.state is JobState.SUCCEEDED
            assert after.vendor_id == before.vendor_id
        if after.state is JobState.IN_PROGRESS:
            assert after.token == self.issued[-1]
        assert (after.state is JobState.SUCCEEDED) == (after.vendor_id is not None)
        assert 0 <= after.attempts <= after.requests <= len(self.issued)
        assert after.state is JobState.UNKNOWN or after.absent_at is None
        assert not (after.state is JobState.WAITING and self.in_doubt), "waits while a request is in doubt"


_ABSENT_WITH_CONTROL = ("look_up", "absent", True)
#: Successes end a story, so they are rare here; doubt and empty lists are what makes it go on.
_OUTCOMES = [Outcome.UNKNOWN] * 3 + [Outcome.NOT_CREATED] * 3 + [o for o in Outcome if o is not Outcome.REJECTED]
_STEPS: list[tuple[Any, ...]] = [
    *[("claim",)] * 4,
    *[("sweep",)] * 3,
    ("ask",),
    *[_ABSENT_WITH_CONTROL] * 4,
    ("look_up", "absent", False),
    ("look_up", "failing", True),
    ("look_up", "throttled", True),
    ("look_up", "found", True),
    *[("pass", wait) for wait in (0.001, 1, 39, 40, 60, 60, 120, 120, 120)],
    *[
        ("answer", which, outcome, if_absent, 77)
        for which in (0, 1)
        for outcome in _OUTCOMES[:8]
        for if_absent in (JobState.WAITING, JobState.WAITING, JobState.REJECTED)
        if outcome is Outcome.UNKNOWN or if_absent is JobState.REJECTED
    ],
    ("answer", 0, Outcome.REJECTED, JobState.WAITING, 77),
    ("answer", 0, Outcome.CREATED, JobState.WAITING, 78),
]
#: Whole pieces of a story, so that long ones are reached often.
_PIECES: list[list[tuple[Any, ...]]] = [
    [("claim",), ("sweep",)],
    [("claim",), ("pass", 41), ("sweep",), _ABSENT_WITH_CONTROL, ("pass", 121), _ABSENT_WITH_CONTROL],
    [
        ("claim",),
        ("sweep",),
        *[("pass", 161), _ABSENT_WITH_CONTROL] * 2,
        ("claim",),
        ("answer", 0, Outcome.UNKNOWN, JobState.WAITING, 77),
    ],
    [("ask",), ("pass", 121), _ABSENT_WITH_CONTROL],
]
_EVENTS = st.one_of(st.sampled_from(_STEPS).map(lambda step: [step]), st.sampled_from(_PIECES))


@given(st.lists(_EVENTS, max_size=30))
@settings(max_examples=1000, deadline=None)
def test_the_invariants_hold_after_any_events(events: list[list[tuple[Any, ...]]]) -> None:
    """Whatever comes in whatever order: success stays, doubt is never sent again blindly, no count goes wrong."""
    story = Story()
    for name, *arguments in (step for piece in events for step in piece):
        if name == "pass":
            story.now += seconds(arguments[0])
        else:
            getattr(story, name)(*arguments)


def test_the_invariants_are_reached() -> None:
    """The story above can come to its interesting end: two empty lists let a lapsed job wait again."""
    story = Story()
    story.claim()
    story.sweep()
    for wait in (LEASE, SETTLING):
        story.now += wait
        story.look_up("absent", control=True)
    reached = [story.job.state]
    story.answer(0, Outcome.UNKNOWN, JobState.WAITING, 77)
    assert [*reached, story.job.state] == [JobState.WAITING, JobState.UNKNOWN]


def test_a_late_not_sent_is_not_counted_as_sent() -> None:
    """The sweep counted a request that never left; when that is told, the counts are right again."""
    moved_on = a_job(JobState.WAITING, attempts=1, requests=1)
    told = end(moved_on, Outcome.NOT_CREATED, token=OLDER).job
    assert (told.state, told.attempts, told.requests) == (JobState.WAITING, 0, 0)
