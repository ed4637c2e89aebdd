"""What people may decide about jobs that were stopped for them. Pure, as `decisions` is.

A person may say that an order was created, send it again, or drop it. Sending again goes through the look-up wherever
there is one, because a person can be wrong too; only without a look-up does their word decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from orderrelay_shared.states import JobState
from orderrelay_workers.decisions import Decision, Happening, Job, queued

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

#: States in which a job waits for a person.
STOPPED = frozenset({JobState.PARKED, JobState.REJECTED})


class NotForPeople(ValueError):
    """What a person asked for cannot be done with this job; the text says why, and what can."""


def resolve(
    job: Job,
    now: datetime,
    why: str,
    *,
    vendor_id: int | None = None,
    order_number: str | None = None,
    holder: uuid.UUID | None = None,
) -> Decision:
    """A person has found the order at the vendor.

    Args:
        job: A parked job.
        now: By the shared clock.
        why: How the person knows.
        vendor_id: The vendor's id of it, if known.
        order_number: The vendor's order number, if known; one of both must be.
        holder: Another job that already holds the vendor id, if any.

    Raises:
        NotForPeople: The job is not parked, nothing names the order, or another job holds that id.
    """
    if job.state is not JobState.PARKED:
        raise NotForPeople(f"it is {job.state}; only a parked order can be resolved")
    if vendor_id is None and not order_number:
        raise NotForPeople(
            "say which order it is at the vendor: its order number, or its id; or that it is not there: --not-created"
        )
    if holder is not None and holder != job.id:
        raise NotForPeople(f"id {vendor_id} is already that of job {holder}")
    detail: dict[str, object] = {"why": why, "vendor_id": vendor_id, "order_number": order_number}
    succeeded = replace(
        _freed(job),
        state=JobState.SUCCEEDED,
        since=now,
        vendor_id=vendor_id,
        order_number=order_number,
        error_number=None,
        reason=None,
    )
    return Decision(succeeded, (Happening("resolved_by_person", detail=detail),))


def resolve_as_not_created(job: Job, now: datetime, why: str, *, has_lookup: bool) -> Decision:
    """A person has looked at the vendor, and the order is not there: so it is sent, as by `resend`.

    Args:
        job: A parked job.
        now: By the shared clock.
        why: How the person knows.
        has_lookup: Whether the vendor can be asked first all the same.

    Raises:
        NotForPeople: The job is not parked.
    """
    if job.state is not JobState.PARKED:
        raise NotForPeople(f"it is {job.state}; only a parked order can be resolved")
    return resend(job, now, why, has_lookup=has_lookup, surely_not_created=True)


def resend(job: Job, now: datetime, why: str, *, has_lookup: bool, surely_not_created: bool = False) -> Decision:
    """Send a stopped order again, with its attempts counted from the beginning.

    A deadline that has passed is lifted, as the person wants it sent nevertheless; one that has not still holds.

    Args:
        job: A parked or rejected job.
        now: By the shared clock.
        why: Why the person wants that.
        has_lookup: Whether the vendor can be asked first; then the job becomes unknown, and is.
        surely_not_created: The person vouches that the vendor does not have the order.

    Raises:
        NotForPeople: The job is not stopped, or there is no look-up and nobody vouches.
    """
    if job.state not in STOPPED:
        raise NotForPeople(f"it is {job.state}; only a parked or rejected order can be sent again")
    detail: dict[str, object] = {"why": why, "was": str(job.state), "looked_up": has_lookup}
    begun_anew = replace(_freed(job), since=now, due_at=now, attempts=0, error_number=None)
    if job.deadline is not None and job.deadline <= now:
        detail["lifted_deadline"] = job.deadline.isoformat()
        begun_anew = replace(begun_anew, deadline=None)
    happening = Happening("resent_by_person", detail={**detail, "not_created": surely_not_created})
    if has_lookup:
        unknown = replace(
            begun_anew,
            state=JobState.UNKNOWN,
            if_absent=JobState.WAITING,
            lookups=0,
            reason=f"sent again by a person, looked up first: {why}",
        )
        return Decision(unknown, (happening,))
    if not surely_not_created:
        raise NotForPeople(
            "there is no look-up that could tell whether the vendor has it; look there yourself, "
            "and say --not-created if it does not"
        )
    reason = f"sent again by a person: {why}"
    waiting = replace(queued(begun_anew, now), reason=reason, cleared_at=now)  # cautious mode believes it too
    return Decision(waiting, (happening,))


def drop(job: Job, now: datetime, why: str) -> Decision:
    """End a stopped order without creating it.

    Raises:
        NotForPeople: The job is not stopped.
    """
    if job.state not in STOPPED:
        raise NotForPeople(f"it is {job.state}; only a parked or rejected order can be dropped")
    dropped = replace(_freed(job), state=JobState.CANCELLED, since=now, reason=f"dropped by a person: {why}")
    return Decision(dropped, (Happening("dropped_by_person", detail={"why": why, "was": str(job.state)}),))


def _freed(job: Job) -> Job:
    return replace(
        job, token=None, owner=None, lease_until=None, if_absent=None, absent_at=None, lookup_failing_since=None
    )
