"""What follows from what was seen. Pure: every rule about a job's next state stands here and nowhere else.

`settle` takes the end of an order request, `weigh` the end of a look-up, `lapse` a claim whose worker is gone. Each
takes the job as it is now, under the row lock (or as it was claimed, where the write is on condition that it still is),
and gives the job as it shall be, with what is to be told about it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers import lanes

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable

    from orderrelay_workers.vendor.answers import LookupVerdict, Verdict


class Job(msgspec.Struct, frozen=True):
    """All of a job that may change, as the ledger holds it."""

    id: uuid.UUID
    company_id: int
    state: JobState
    since: datetime
    due_at: datetime
    attempts: int = 0
    requests: int = 0
    token: uuid.UUID | None = None
    owner: uuid.UUID | None = None
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    if_absent: JobState | None = None
    absent_at: datetime | None = None
    lookups: int = 0
    lookup_failing_since: datetime | None = None
    vendor_id: int | None = None
    order_number: str | None = None
    reference: str | None = None
    error_number: int | None = None
    reason: str | None = None
    cleared_at: datetime | None = None
    lane: int = 2
    not_before: datetime | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to write into the events, and to log."""

    kind: str
    alarm: bool = False
    detail: dict[str, object] = field(default_factory=dict[str, object])

    def for_log(self) -> dict[str, object]:
        """The detail without raw bytes: those are kept in the ledger, and no mask would see a secret in them."""
        return {name: value for name, value in self.detail.items() if not name.endswith("_base64")}


@dataclass(frozen=True, slots=True)
class Decision:
    """The job as it shall be, and what is to be told."""

    job: Job
    happenings: tuple[Happening, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """When to try again, and when to stop.

    Attributes:
        max_attempts: After so many requests that may have created the order, it is parked.
        backoff_first_seconds: Ceiling of the wait before the second attempt; doubles with each further one.
        backoff_cap_seconds: Ceiling of the ceiling.
        retryable_error_numbers: The vendor's ErrorNumbers that are worth another attempt.
        settling_seconds: How long the vendor may take to show an order that it has created.
        lookup_failing_seconds: After failing for so long the look-up is given up and the job parked.
        chance: Gives a number from 0 to 1; the source of jitter.
    """

    max_attempts: int = 10
    backoff_first_seconds: float = 5.0
    backoff_cap_seconds: float = 3600.0
    retryable_error_numbers: frozenset[int] = frozenset()
    settling_seconds: float = 120.0
    lookup_failing_seconds: float = 3600.0
    chance: Callable[[], float] = random.random

    def backoff(self, attempts: int) -> timedelta:
        """How long to wait after so many attempts: exponential with full jitter, never less than half a second."""
        ceiling = min(self.backoff_cap_seconds, self.backoff_first_seconds * 2.0 ** min(max(attempts - 1, 0), 60))
        return timedelta(seconds=max(0.5, ceiling * self.chance()))

    def breather(self) -> timedelta:
        """A short wait after an answer that says nothing about the order: half a second to two."""
        return timedelta(seconds=0.5 + 1.5 * self.chance())


def settle(
    job: Job, token: uuid.UUID, verdict: Verdict, now: datetime, policy: Policy, holder: uuid.UUID | None
) -> Decision:
    """Decide what the end of an order request does to its job.

    Args:
        job: The job as it is now.
        token: The fencing token of the claim under which the request went out.
        verdict: What its answer means.
        now: By the shared clock.
        policy: The retry rules.
        holder: Another job that already holds the verdict's vendor id, if any.
    """
    # A job that the sweep called unknown still waits for this very request, so its answer decides as if on time.
    on_time = job.token == token and job.state in (JobState.IN_PROGRESS, JobState.UNKNOWN)
    counted = on_time and job.state is JobState.UNKNOWN  # the sweep counted the request already
    if verdict.outcome is Outcome.CREATED:
        return _created(_count(job, spent=True) if on_time and not counted else job, on_time, verdict, now, holder)
    if not on_time:
        return _late(job, token, verdict, now)
    spent = verdict.outcome in (Outcome.REJECTED, Outcome.UNKNOWN)
    left = verdict.outcome is not Outcome.NOT_CREATED
    if counted:
        unspent, unsent = int(not spent), int(not left)
        job = replace(job, attempts=max(job.attempts - unspent, 0), requests=max(job.requests - unsent, 0))
    elif left:
        job = _count(job, spent=spent)
    after = _refused_or_unclear(job, verdict, now, policy)
    if after.state is not JobState.UNKNOWN and job.state is JobState.IN_PROGRESS and job.if_absent is not None:
        reason = f"an earlier request has perhaps created it; the last: {verdict.reason}"
        after = _doubt(job, now, after.state, reason, after.error_number)
    return Decision(after)


def _count(job: Job, *, spent: bool) -> Job:
    return replace(job, attempts=job.attempts + int(spent), requests=job.requests + 1)


def _created(job: Job, on_time: bool, verdict: Verdict, now: datetime, holder: uuid.UUID | None) -> Decision:
    told: dict[str, object] = {"vendor_id": verdict.vendor_id, "order_number": verdict.order_number}
    if job.state is JobState.SUCCEEDED:
        # A look-up found it first, and the answer knows the number too; or a person named it by its number alone.
        by_number = job.vendor_id is None and job.order_number == verdict.order_number and holder is None
        if job.vendor_id == verdict.vendor_id or by_number:
            return Decision(
                replace(
                    job,
                    vendor_id=verdict.vendor_id,
                    order_number=job.order_number or verdict.order_number,
                    reference=job.reference or verdict.reference,
                )
            )
        return Decision(job, (Happening("doubled", alarm=True, detail={**told, "first": job.vendor_id}),))
    if holder is not None and holder != job.id:
        parked = _park(job, now, f"the vendor named id {verdict.vendor_id}, which job {holder} already holds")
        return Decision(parked, (Happening("vendor_id_held", alarm=True, detail={**told, "holder": str(holder)}),))
    late = not on_time and job.state is not JobState.UNKNOWN
    # A request under another claim may still be out. No token is kept then, so that whatever comes of it is told.
    kept = job if on_time else replace(job, token=None)
    succeeded = _succeed(kept, now, verdict.vendor_id, verdict.order_number, verdict.reference)
    return Decision(
        succeeded,
        (Happening("late_success", alarm=True, detail={**told, "was": str(job.state)}),) if late else (),
    )


def _late(job: Job, token: uuid.UUID, verdict: Verdict, now: datetime) -> Decision:
    """An answer under a claim that is not the job's any more, and that proves no creation."""
    if verdict.outcome is Outcome.NOT_CREATED:  # the sweep had counted it for sent
        job = replace(job, attempts=max(job.attempts - 1, 0), requests=max(job.requests - 1, 0))
        return Decision(replace(job, lane=lanes.after_requests(job.lane, job.requests)))
    if verdict.outcome is not Outcome.UNKNOWN:
        return Decision(job)
    told: dict[str, object] = {"was": str(job.state), "reason": verdict.reason}
    if job.state in (JobState.WAITING, JobState.UNKNOWN):
        # Two requests are in doubt now, so no answer to one of them says "not created" for both: a look-up decides.
        doubted = _doubt(replace(job, token=None), now, verdict.if_absent, verdict.reason)
        return Decision(doubted, (Happening("late_doubt", detail=told),))
    if job.state is JobState.SUCCEEDED and job.token == token:  # the look-up found what this very request created
        return Decision(job)
    if job.state is JobState.IN_PROGRESS:  # remembered, so that it does not wait for another request after this one
        job = replace(job, if_absent=_stricter(job.if_absent, verdict.if_absent))
    return Decision(job, (Happening("late_doubt", alarm=True, detail=told),))


def _refused_or_unclear(job: Job, verdict: Verdict, now: datetime, policy: Policy) -> Job:
    match verdict.outcome:
        case Outcome.UNKNOWN:
            return _doubt(job, now, verdict.if_absent, verdict.reason, verdict.error_number)
        case Outcome.REJECTED:
            if verdict.error_number in policy.retryable_error_numbers:
                return _again(job, now, policy, verdict.reason, verdict.error_number)
            return _reject(job, now, verdict.reason, verdict.error_number)
        case Outcome.THROTTLED:
            wait = policy.breather()
            if verdict.retry_after_seconds is not None:
                wait = timedelta(seconds=verdict.retry_after_seconds)
            return _wait(job, now, now + wait, verdict.reason)
        case Outcome.UNAUTHORIZED:
            return _wait(job, now, now, verdict.reason)
        case _:  # nothing was sent, or the address or permission is wrong; the gate holds the company
            return _wait(job, now, now + policy.breather(), verdict.reason)


def weigh(
    job: Job,
    verdict: LookupVerdict,
    now: datetime,
    policy: Policy,
    *,
    asked_at: datetime,
    control: bool,
    holder: uuid.UUID | None,
) -> Decision:
    """Decide what a look-up's answer does to an unknown job.

    Args:
        job: The job as it is now; one that is no longer unknown keeps its state, unless the order is found.
        verdict: What the look-up said.
        now: By the shared clock.
        policy: Settling and failing times.
        asked_at: When the job was taken for this look-up, by the shared clock: an empty list says nothing of later.
        control: Whether this look-up has lately found an order of this company that is known to exist.
        holder: Another job that already holds the found vendor id, if any.
    """
    if verdict.kind == "found":
        return _found(job, verdict.vendor_ids, now, holder)
    if job.state is not JobState.UNKNOWN:
        return Decision(job)
    job = replace(job, lookups=job.lookups + 1, owner=None)
    match verdict.kind:
        case "absent" if control:
            return Decision(_absent(replace(job, lookup_failing_since=None), asked_at, now, policy))
        case "unauthorized" | "throttled":
            wait = timedelta(seconds=verdict.retry_after_seconds or 0.0)
            if verdict.kind == "throttled" and verdict.retry_after_seconds is None:
                wait = policy.breather()
            return Decision(replace(job, due_at=now + wait))  # the next login, or the gate, is the wait of a 401
        case "absent":
            reason = "the look-up found nothing, but has not found a known order of this company either"
            return _lookup_failed(job, now, policy, reason)
        case _:
            return _lookup_failed(job, now, policy, f"the look-up fails: {verdict.reason}")


def _found(job: Job, vendor_ids: tuple[int, ...], now: datetime, holder: uuid.UUID | None) -> Decision:
    told: dict[str, object] = {"vendor_ids": list(vendor_ids)}
    first, *others = vendor_ids
    if job.state is JobState.SUCCEEDED:
        if job.vendor_id is None and not others and holder in (None, job.id):  # a person named it by its number alone
            return Decision(replace(job, vendor_id=first))
        extra = [i for i in vendor_ids if i != job.vendor_id]
        return Decision(job, (Happening("doubled", alarm=True, detail=told),) if extra else ())
    if holder is not None and holder != job.id:
        parked = _park(job, now, f"the look-up found id {first}, which job {holder} already holds")
        return Decision(parked, (Happening("vendor_id_held", alarm=True, detail={**told, "holder": str(holder)}),))
    doubled = (Happening("doubled", alarm=True, detail=told),) if others else ()
    late = job.state is not JobState.UNKNOWN
    # As with a late success: a request under another claim may still be out, and shall be told of.
    kept = replace(job, lookups=job.lookups + 1, token=None if late else job.token)
    found = Happening("late_find", alarm=True, detail={**told, "was": str(job.state)}) if late else Happening(
        "found", detail=told
    )  # fmt: skip
    return Decision(_succeed(kept, now, first, None, None), (found, *doubled))


def _absent(job: Job, asked_at: datetime, now: datetime, policy: Policy) -> Job:
    lease_until = job.lease_until or job.since
    settling = timedelta(seconds=policy.settling_seconds)
    if asked_at < max(lease_until, job.since):  # the request may still have been out: an empty list proves nothing yet
        return replace(job, due_at=max(lease_until, now))
    absent_at = job.absent_at or now
    decided_at = max(lease_until + settling, absent_at + settling / 2)
    if job.absent_at is None or asked_at < decided_at:
        return replace(job, absent_at=absent_at, due_at=decided_at)
    reason = f"{job.reason}; two look-ups found nothing" if job.reason else "two look-ups found nothing"
    match job.if_absent:
        case JobState.REJECTED:
            return _reject(job, now, reason, job.error_number)
        case JobState.PARKED:
            return _park(job, now, reason)
        case _:
            return _again(replace(job, cleared_at=now), now, policy, reason)


def _lookup_failed(job: Job, now: datetime, policy: Policy, reason: str) -> Decision:
    since = job.lookup_failing_since or now
    if now - since >= timedelta(seconds=policy.lookup_failing_seconds):
        return Decision(_park(job, now, f"{job.reason}; {reason}" if job.reason else reason), (Happening("gave_up"),))
    # Each wait is half of the time that it has failed so far, so a single failure costs half a second, and an outage
    # is asked about once a minute in the end; the gate's circuit keeps it from being asked by all jobs at once.
    wait = min(60.0, max(0.5, (now - since).total_seconds() / 2)) * (0.75 + 0.5 * policy.chance())
    return Decision(replace(job, lookup_failing_since=since, due_at=now + timedelta(seconds=wait)))


def give_up(job: Job, now: datetime, policy: Policy) -> Decision:
    """Decide about an unknown job whose look-up has failed for too long: a person must."""
    too_long = timedelta(seconds=policy.lookup_failing_seconds)
    out = job.lease_until is not None and now < job.lease_until
    if job.state is not JobState.UNKNOWN or out or now - (job.lookup_failing_since or now) < too_long:
        return Decision(job)
    reason = f"{job.reason or 'perhaps created'}; the look-up has failed for {policy.lookup_failing_seconds:.0f} s"
    return Decision(_park(job, now, reason), (Happening("gave_up"),))


def without_lookup(job: Job, now: datetime) -> Decision:
    """Decide about an unknown job where there is no look-up: a person must, once no request can be out any more."""
    if job.state is not JobState.UNKNOWN:
        return Decision(job)
    if job.lease_until is not None and now < job.lease_until:
        return Decision(replace(job, due_at=job.lease_until))
    return Decision(_park(job, now, f"{job.reason or 'perhaps created'}; there is no look-up to find out"))


def lapse(job: Job, now: datetime, reason: str) -> Job:
    """An in-progress job whose worker is gone or whose lease is over: perhaps created."""
    job = _count(job, spent=True)
    if job.if_absent is not None:  # an earlier request is in doubt too, so this one's answer alone decides nothing
        job = replace(job, token=None)
    return _doubt(job, now, JobState.WAITING, reason)


def _doubt(job: Job, now: datetime, if_absent: JobState, reason: str, error_number: int | None = None) -> Job:
    # The first look-up comes at once, as finding the order decides; finding nothing counts only after the lease. An
    # answer that comes after it shows that the request was out for longer.
    return replace(
        job,
        state=JobState.UNKNOWN,
        since=now,
        due_at=now,
        owner=None,
        lease_until=max(job.lease_until or now, now),
        if_absent=_stricter(job.if_absent, if_absent),
        absent_at=None,
        lookups=0,
        lookup_failing_since=None,
        error_number=error_number,
        reason=reason,
    )


def _stricter(one: JobState | None, other: JobState) -> JobState:
    """Of two requests in doubt, the one that asks for more care decides what becomes of the job."""
    order = (JobState.WAITING, JobState.REJECTED, JobState.PARKED)
    return other if one is None else max(one, other, key=order.index)


def _succeed(
    job: Job, now: datetime, vendor_id: int | None, order_number: str | None, reference: str | None
) -> Job:  # fmt: skip
    return replace(
        _let_go(job),
        state=JobState.SUCCEEDED,
        token=job.token,
        since=now,
        vendor_id=vendor_id,
        order_number=order_number,
        reference=reference,
        error_number=None,
        reason=None,
    )


def _again(job: Job, now: datetime, policy: Policy, reason: str, error_number: int | None = None) -> Job:
    if job.attempts >= policy.max_attempts:
        return _park(job, now, f"{job.attempts} attempts, the last: {reason}")
    return _wait(job, now, now + policy.backoff(job.attempts), reason, error_number)


def _wait(job: Job, now: datetime, due_at: datetime, reason: str, error_number: int | None = None) -> Job:
    return replace(queued(_let_go(job), due_at), since=now, reason=reason, error_number=error_number)


def queued(job: Job, due_at: datetime) -> Job:
    """A job that waits: in the lane that what has left of it puts it into, and due no earlier than it may be sent."""
    due_at = due_at if job.not_before is None else max(due_at, job.not_before)
    return replace(job, state=JobState.WAITING, due_at=due_at, lane=lanes.after_requests(job.lane, job.requests))


def _reject(job: Job, now: datetime, reason: str, error_number: int | None) -> Job:
    return replace(_let_go(job), state=JobState.REJECTED, since=now, reason=reason, error_number=error_number)


def _park(job: Job, now: datetime, reason: str) -> Job:
    return replace(_let_go(job), state=JobState.PARKED, since=now, reason=reason)


def _let_go(job: Job) -> Job:
    return replace(job, token=None, owner=None, if_absent=None, absent_at=None, lookup_failing_since=None)
