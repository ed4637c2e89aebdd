"""Telling a company's gate when it is closed, now or next."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog

from orderrelay_workers.gate import ClosedTime
from orderrelay_workers.limits import schedule_of

if TYPE_CHECKING:
    import redis

    from orderrelay_workers.gate import Gate, GateState
    from orderrelay_workers.ledger.companies import Company

_log = structlog.get_logger(__name__)


#: No closed time is known.
_NEVER: Final = ClosedTime(None, None)


def closed_time_of(client: redis.Redis, company: Company) -> ClosedTime | None:
    """The present or next closed time of a company; None if its hours cannot be read here.

    Args:
        client: Redis; its clock is asked, as the gate measures by it, so that hosts whose clocks differ do not
            contradict each other.
        company: As the ledger has it.
    """
    schedule = schedule_of(company)
    if schedule is None:  # a worker that can read it tells the gate; until then, what it knows holds
        _complain(company.alias, company.time_zone)
        return None
    seconds, _ = client.time()
    closed = schedule.present_or_next(datetime.fromtimestamp(seconds, UTC))
    if closed is None:
        return _NEVER
    return ClosedTime(closed.begins_at.timestamp(), closed.ends_at.timestamp(), closed.reason)


def mirror_closed_time(client: redis.Redis, gate: Gate, company: Company, state: GateState | None) -> None:
    """Tell the gate the present or next closed time of a company, if that is not what it knew just before."""
    closed = closed_time_of(client, company)
    known = (None, None) if state is None else (state.closed_begins_at, state.closed_ends_at)
    if closed is not None and known != (closed.begins_at, closed.ends_at):
        gate.set_closed(company.alias, closed)


@lru_cache(maxsize=64)
def _complain(company: str, time_zone: str) -> None:
    """Say it once, and not every few seconds."""
    _log.error("schedule_cannot_be_read", company=company, time_zone=time_zone)
