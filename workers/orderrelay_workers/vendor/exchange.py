"""What was seen of one request to the vendor: the facts, before anything is decided about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

#: The most that is read of an answer, in bytes; a longer one counts as unreadable.
ANSWER_MAX_BYTES: Final = 10 * 1024 * 1024

#: The most that is kept of an incomplete answer, in bytes.
PARTIAL_MAX_BYTES: Final = 64 * 1024


class Failure(StrEnum):
    """Why there is no complete answer: the only words an `Exchange` uses, so that none can hold an address or key.

    They are for people. Whether anything was sent is told by `Exchange.sent` alone.
    """

    FENCED = "start fence passed"  #: The claim was too old to start sending; nothing left.
    NO_NAME = "not sent: host name not found"
    REFUSED = "not sent: connection refused"
    TLS = "not sent: TLS failed"
    NO_CONNECTION = "not sent: no connection"
    NO_CONNECTION_IN_TIME = "not sent: no connection before the deadline"
    NOT_SENT_UNFORESEEN = "not sent: unforeseen error"
    DEADLINE = "deadline passed"
    RESET = "reset"  #: The connection broke before the head of an answer had come.
    CLOSED = "closed without an answer"
    MALFORMED = "malformed"  #: What came is not HTTP.
    TRUNCATED = "truncated"  #: The connection ended inside the answer's body.
    OVERSIZED = "oversized"  #: The body is longer than `ANSWER_MAX_BYTES`.
    ENCODED = "unreadable encoding"  #: The body is compressed, unasked, in a way that cannot be undone here.
    UNFORESEEN = "unforeseen error"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was seen of one request.

    Attributes:
        sent: Whether the first byte of the request may have left; False is proof that none did.
        status: The HTTP status, or None if no head of an answer came.
        headers: Of the answer, names in lower case: only content-type, content-length, date and retry-after.
        body: The complete answer's body, or None if the answer is not complete.
        partial: What came of an incomplete body, at most `PARTIAL_MAX_BYTES`.
        failure: Why there is no complete answer, one of `Failure`; None if there is one.
        began_at: When the request was begun, aware UTC.
        ended_at: When the answer or the failure was there, aware UTC.
    """

    sent: bool
    status: int | None
    headers: Mapping[str, str]
    # Kept out of the repr: the answer to a login holds the token.
    body: bytes | None = field(repr=False)
    partial: bytes = field(repr=False)
    failure: str | None
    began_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended_at - self.began_at).total_seconds()
