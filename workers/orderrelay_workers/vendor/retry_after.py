"""How long the vendor asks to wait."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The longest wait that is heeded, in seconds: a day.
CEILING_SECONDS: Final = 86_400.0


def read_retry_after(headers: Mapping[str, str], received_at: datetime) -> float | None:
    """The wait that an answer's Retry-After asks for, in seconds from 0 to `CEILING_SECONDS`.

    Args:
        headers: The answer's headers, names in lower case. A date in Retry-After is measured from the answer's own
            Date, so that clocks need not agree.
        received_at: Aware UTC; stands in where there is no readable Date.

    Returns:
        None if there is no Retry-After, or none that can be read.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        # More digits than a day has are more than a day; Python refuses to read thousands of them.
        return min(float(value[:20]), CEILING_SECONDS)
    until = _read_date(value)
    if until is None:
        return None
    since = _read_date(headers.get("date", "")) or received_at
    return min(max((until - since).total_seconds(), 0.0), CEILING_SECONDS)


def _read_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
        # "-0000" stands for a date without a zone, which HTTP has not: all its dates are GMT.
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
