"""What is told about a job outside the ledger: the status that workers publish and producers read."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  msgspec reads the annotations at run time
from typing import Final

import msgspec

from orderrelay_shared.states import JobState, Priority

#: Published in answer to an ask for a job that the ledger does not have.
UNHEARD_OF: Final = b'{"state":null}'


def content_mark(content_digest: bytes) -> str:
    """What tells an order's content from another's under the same ExternalId, in short: 16 hexadecimal digits."""
    return content_digest[:8].hex()


class JobStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a job is, and what the vendor said.

    Attributes:
        state: The job's state.
        company: The company's alias.
        external_id: The order's ExternalId as given.
        at: When the job came into this state, UTC.
        attempts: Order requests that began to leave so far.
        order_number: The vendor's order number (a string of digits), if told.
        vendor_id: The vendor's own id of the order, if told.
        reference: The vendor's reference GUID, if told.
        error_number: The vendor's ErrorNumber, if it refused the order.
        reason: In words: why rejected, unknown or parked, or what the job waits for.
        content: The `content_mark` of the order that holds the ExternalId; None from workers of 0.1.
        priority: Whose turn it is first.
        due_at: Before this the order is not sent; None: nothing was asked.
        deadline: After this the order is not sent any more, but parked; None: nothing was asked.
    """

    state: JobState
    company: str
    external_id: str
    at: datetime
    attempts: int = 0
    order_number: str | None = None
    vendor_id: int | None = None
    reference: str | None = None
    error_number: int | None = None
    reason: str | None = None
    content: str | None = None
    priority: Priority = Priority.NORMAL
    due_at: datetime | None = None
    deadline: datetime | None = None

    def to_json(self) -> bytes:
        """As stored in Redis."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> JobStatus | None:
        """The status, or None for `UNHEARD_OF` and for anything that cannot be read."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError:
            return None
