"""Keeping to slots: patience grows with each that was missed, and a claim's time is learned."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from orderrelay_workers.gate import Kind, Permits
from orderrelay_workers.slots import Lead, Slot, slots_of, wait_for_slot


def in_slot(
    late_seconds: float, tries: int = 0, draining: threading.Event | None = None, patience_seconds: float = 0.0
) -> bool:
    """Whether a request that is so late is still in its slot."""
    at = time.monotonic() - late_seconds
    return asyncio.run(wait_for_slot(at, draining, tries=tries, patience_seconds=patience_seconds))


@pytest.mark.parametrize(
    ("late_seconds", "tries", "is_in_slot"),
    [(0.0, 0, True), (0.1, 0, False), (0.1, 2, False), (0.1, 6, True), (0.9, 50, True), (1.5, 50, False)],
)
def test_patience_grows(late_seconds: float, tries: int, is_in_slot: bool) -> None:
    """A process that is always late sends all the same, after some missed slots; but never more than a second late."""
    assert in_slot(late_seconds, tries) is is_in_slot


@pytest.mark.parametrize(
    ("late_seconds", "saved_seconds", "is_in_slot"),
    [(0.05, 0.0, False), (0.05, 1.0, True), (0.05, 0.02, False), (0.3, 5.0, False)],
)
def test_a_saved_burst_takes_a_while_to_begin(late_seconds: float, saved_seconds: float, is_in_slot: bool) -> None:
    """What may begin at one instant is late only after a tenth of a second, as far as it had been saved up."""
    permits = Permits("acme", Kind.ORDER, 1, -saved_seconds, 0.1, None, 0.0, "", False, 0, 1, 1)
    [slot] = slots_of(permits, 0.0)
    assert in_slot(late_seconds, patience_seconds=slot.patience_seconds) is is_in_slot


def test_who_goes_ahead_may_wait_for_a_place() -> None:
    """Its slot is as patient as the gate says, and no longer."""
    permits = Permits("acme", Kind.ORDER, 2, 0.0, 0.1, None, 0.0, "", False, 0, 2, 1, ahead=1, late_seconds=0.25)
    slots = slots_of(permits, 100.0)
    assert [slot.latest for slot in slots] == pytest.approx([100.25, 100.35])
    assert in_slot(0.2, patience_seconds=slots[1].patience_seconds)
    assert not in_slot(0.3, patience_seconds=slots[1].patience_seconds)
    assert Slot(100.0).latest == pytest.approx(100.01)


def test_only_a_saved_burst_is_saved() -> None:
    """Permits tell how long their slots have been lying unused; of paced ones that is nothing."""
    burst = Permits("acme", Kind.ORDER, 3, -0.2, 0.1, None, 0.0, "", False, 0, 3, 3)
    assert [burst.saved_of(index) for index in range(3)] == pytest.approx([0.2, 0.1, 0.0])
    assert [burst.wait_of(index) for index in range(3)] == [0.0, 0.0, 0.0]
    paced = Permits("acme", Kind.ORDER, 2, 0.0, 0.1, None, 0.0, "", False, 0, 2, 2)
    assert [paced.saved_of(index) for index in range(2)] == [0.0, 0.0]


def test_a_slot_ahead_is_waited_for() -> None:
    """It is not used before its time."""
    began_at = time.monotonic()
    assert in_slot(-0.15, tries=5)
    assert time.monotonic() - began_at >= 0.15


def test_draining_ends_the_wait() -> None:
    """A worker that drains uses no slot that is still ahead."""
    draining = threading.Event()
    draining.set()
    assert not in_slot(-60, draining=draining)


def test_the_lead_follows_the_claims() -> None:
    """It comes near what claims take, with something to spare, and never goes beyond half a second."""
    lead = Lead()
    for _ in range(20):
        lead.learn(0.1)
    assert lead.seconds == pytest.approx(0.125, rel=0.01)
    for _ in range(20):
        lead.learn(9.0)
    assert lead.seconds == 0.5
