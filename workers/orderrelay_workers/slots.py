"""Keeping to the slots that the gate gave: waiting for them, and asking for others when they were missed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from orderrelay_workers import metrics

if TYPE_CHECKING:
    import threading

    from orderrelay_workers.gate import Gate, Kind, Permits

#: A request that is later than this for its slot asks for another one: else what was held up goes out in a burst.
_LATE_SECONDS = 0.01

#: What a saved burst allows at one instant no process can begin at one instant: it is late only after so long, in
#: seconds, and as far as the burst was saved up.
_LATE_OF_BURST_SECONDS = 0.1

#: However busy this process is, nothing goes out later than this for its slot, in seconds.
LATEST_SECONDS = 1.0

#: No slot is reserved further ahead than this for a claim that takes long, in seconds.
_LONGEST_LEAD_SECONDS = 0.5

_FIRST_LEAD_SECONDS = 0.005

#: Draining is noticed so soon, in seconds.
_NAP_SECONDS = 0.1

_log = structlog.get_logger(__name__)


class Lead:
    """How long after the gate's answer a request can start: until its job is claimed, as that took lately."""

    def __init__(self) -> None:
        self.seconds = _FIRST_LEAD_SECONDS

    def learn(self, took_seconds: float) -> None:
        """A claim has taken so long; the next will take about as long."""
        expected = 0.7 * self.seconds + 0.3 * (1.25 * took_seconds)
        self.seconds = min(expected, _LONGEST_LEAD_SECONDS)


async def wait_for_slot(
    at: float, draining: threading.Event | None = None, *, tries: int = 0, patience_seconds: float = 0.0
) -> bool:
    """Wait until a slot begins, by `time.monotonic()`. False if it was missed, or the worker drains before.

    Args:
        at: When it begins.
        draining: Set when the worker drains.
        tries: How many slots were missed before: each makes it twice as patient, as a process that is always late would
            else send nothing, and waste the others' slots.
        patience_seconds: How late it may be in any case, as `Slot` has it.
    """
    while (wait := at - time.monotonic()) > 0:
        if draining is not None and draining.is_set():
            return False
        await asyncio.sleep(min(wait, _NAP_SECONDS))
    patience = max(_LATE_SECONDS * float(2**tries), patience_seconds)
    return -wait <= min(patience, LATEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Slot:
    """When a request may begin.

    Attributes:
        at: By `time.monotonic()`.
        patience_seconds: How late it may begin, if that is more than usual: where the slot has been lying unused, or
            was given to one that may have to wait for a place in flight.
    """

    at: float
    patience_seconds: float = 0.0

    @property
    def latest(self) -> float:
        """Who has no place in flight by then does not begin any more."""
        return self.at + max(self.patience_seconds, _LATE_SECONDS)


def slots_of(permits: Permits, granted_at: float) -> list[Slot]:
    """The slots of a grant that came at an instant by `time.monotonic()`."""
    return [
        Slot(
            granted_at + permits.wait_of(i),
            max(min(permits.saved_of(i), _LATE_OF_BURST_SECONDS), permits.late_seconds),
        )
        for i in range(permits.granted)
    ]


def other_slots(gate: Gate, company: str, kind: Kind, number: int) -> list[Slot]:
    """Other slots for requests that missed theirs; fewer, if the gate says "not now"."""
    try:
        permits = gate.admit_again(company, kind, number)
    except RedisError as error:
        _log.warning("late_requests_not_sent", requests=number, error=type(error).__name__)
        return []
    return slots_of(permits, time.monotonic())


def give_back(gate: Gate, permits: Permits, unused: int) -> None:
    """Give unused permits back. If Redis is away the beat tells it later, and what was claimed starts all the same."""
    metrics.given_back(permits.company, permits.kind, unused)
    try:
        gate.give_back(permits, unused)
    except RedisError as error:
        _log.warning("gate_not_told", error=type(error).__name__)
