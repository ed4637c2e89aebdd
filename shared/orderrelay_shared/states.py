"""The closed sets of words for where a job is and how an attempt ended."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where one order's journey is. The ledger decides; everything else is a copy."""

    WAITING = "waiting"  #: Booked, and not at the vendor; submitted when it is due and the gate admits it.
    IN_PROGRESS = "in_progress"  #: Claimed by one worker, which may be sending it right now.
    SUCCEEDED = "succeeded"  #: The vendor has the order, by its own answer or by a look-up.
    REJECTED = "rejected"  #: The vendor refused the order; kept for correction.
    UNKNOWN = "unknown"  #: Perhaps created; never sent again before a look-up has decided.
    PARKED = "parked"  #: Stopped, and kept for a person with all that is known.
    CANCELLED = "cancelled"  #: Ended by its producer or by a person, and not sent any more.

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self in _SETTLED


class Priority(StrEnum):
    """Whose turn it is first when more orders wait than may be sent; each keeps a share, so none waits for ever."""

    URGENT = "urgent"  #: Before all others.
    NORMAL = "normal"  #: What nothing was said of.
    BULK = "bulk"  #: After all others.


_SETTLED = frozenset({JobState.SUCCEEDED, JobState.REJECTED, JobState.PARKED, JobState.CANCELLED})


class Outcome(StrEnum):
    """How one order request ended."""

    CREATED = "created"  #: The vendor says that it created the order, and names it.
    REJECTED = "rejected"  #: The vendor refused the order; a retry cannot help.
    NOT_CREATED = "not_created"  #: Provably nothing of the request was sent.
    THROTTLED = "throttled"  #: The vendor said "later" (429, or 503 with Retry-After).
    UNAUTHORIZED = "unauthorized"  #: 401: the token was refused, and nothing was created.
    MISCONFIGURED = "misconfigured"  #: 403, 404, 405, 3xx: permission, path or address is wrong.
    UNKNOWN = "unknown"  #: Perhaps created.
