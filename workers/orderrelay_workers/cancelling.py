"""What becomes of a job that its producer wants cancelled. Pure, as `decisions` is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from orderrelay_shared.states import JobState
from orderrelay_workers.decisions import Decision, Happening, Job

if TYPE_CHECKING:
    from datetime import datetime

#: Entries of one millisecond have so many places at most; from there on they share the last. There are so many only
#: where Redis' clock was set back, or the one of a replica that took over is behind: until it has caught up, the
#: stream counts on in the millisecond that it was in.
LAST_PLACE: Final = 999


def cancel(
    job: Job, now: datetime, why: str, *, asked_at: datetime, accepted_at: datetime, is_cautious: bool
) -> Decision:
    """Cancel a job if it is certain that the vendor does not have its order.

    Args:
        job: In any state.
        now: By the shared clock.
        why: The producer's words; may be empty.
        asked_at: When the stream took the request.
        accepted_at: When the stream took the order.
        is_cautious: Whether the ledger may have forgotten requests of this job.

    Returns:
        The job, cancelled or as it was; nothing to be told if it was cancelled already.
    """
    if job.state is JobState.CANCELLED:
        return Decision(job)
    detail: dict[str, object] = {"was": str(job.state), "why": why}
    refusal = _refusal(job, asked_at, accepted_at, is_cautious)
    if refusal is not None:
        return Decision(job, (Happening("cancel_refused", detail={**detail, "because": refusal}),))
    reason = f"cancelled by its producer: {why}" if why else "cancelled by its producer"
    cancelled = replace(job, state=JobState.CANCELLED, since=now, reason=reason, if_absent=None, absent_at=None)
    return Decision(cancelled, (Happening("cancelled_by_producer", detail=detail),))


def _refusal(job: Job, asked_at: datetime, accepted_at: datetime, is_cautious: bool) -> str | None:
    if accepted_at > asked_at:
        return "it was enqueued only after that"
    if accepted_at == asked_at and asked_at.microsecond % 1000 == LAST_PLACE:
        return "which of both came first cannot be told, so ask again"
    match job.state:
        case JobState.WAITING | JobState.PARKED if is_cautious:
            return "in cautious mode its requests may be forgotten"
        case JobState.WAITING:  # Whatever left before, it is proved that it created nothing.
            return None
        case JobState.PARKED if job.requests == 0:
            return None
        case JobState.PARKED:
            return "a request has left for it, so a person decides"
        case state:
            return f"it is {state}"
