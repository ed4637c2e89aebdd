"""What spans of producers and workers are called, after OpenTelemetry's semantic conventions for messaging.

A span says where an order was and for how long. It holds no ExternalId, no part of an order's content, no address and
no text of an exception: the job id leads to all of that, in the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderrelay_shared import keys

if TYPE_CHECKING:
    import uuid

#: The instrumentation scope of all spans.
SCOPE: Final = "orderrelay"

#: Why a span ended badly: the kind of an error or an outcome, never its text.
ERROR: Final = "error.type"

#: How many orders a span is about, where it may be about several.
COUNT: Final = "messaging.batch.message_count"


def span_name(operation: str) -> str:
    """What the span of an operation on the intake is called."""
    return f"{operation} {keys.INTAKE}"


def words_of(operation: str, kind: str, company: str, job_id: uuid.UUID | None = None) -> dict[str, str | int]:
    """The attributes that every span but that of a request to the vendor has.

    Args:
        operation: What is done, in our words.
        kind: The same in OpenTelemetry's: create, send, receive, process or settle.
        company: The company's alias.
        job_id: The job of the one order that it is about; None: it is about several.
    """
    words: dict[str, str | int] = {
        "messaging.system": SCOPE,
        "messaging.destination.name": keys.INTAKE,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "orderrelay.company": company,
    }
    if job_id is not None:
        words["messaging.message.id"] = str(job_id)
    return words
