"""Priorities, due times and deadlines, with real workers and a real vendor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from tests.servers import wait_until
from tests.stack import company, order

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orderrelay_producers import Priority
    from tests.stack import Stack


def _enqueue(
    stack: Stack,
    external_ids: Iterable[str],
    *,
    priority: Priority | str = "normal",
    due_at: datetime | None = None,
    deadline: datetime | None = None,
) -> list[str]:
    given = list(external_ids)
    report = stack.producer.enqueue_many(
        [order(external_id) for external_id in given],
        company="acme",
        priority=priority,
        due_at=due_at,
        deadline=deadline,
    )
    assert report.all_taken
    return given


def _created(stack: Stack, orders: Iterable[str]) -> int:
    created = stack.created()
    return sum(name in created for name in orders)


@pytest.mark.timeout(240)
def test_urgent_orders_overtake_and_bulk_is_not_starved(stack: Stack) -> None:
    """With 2,000 normal orders waiting, urgent ones go at once, and bulk ones have their small share."""
    stack.environment |= company("acme", RATE_PER_SECOND="100", BURST="5", MAX_IN_FLIGHT="50")
    normal = _enqueue(stack, (f"normal-{number}" for number in range(2000)))
    bulk = _enqueue(stack, (f"bulk-{number}" for number in range(60)), priority="bulk")
    stack.workers(2)
    wait_until(lambda: len(stack.states()) == 2060, 30, what="all are booked")
    urgent = _enqueue(stack, (f"urgent-{number}" for number in range(20)), priority="urgent")
    stack.wait_for(urgent, JobState.SUCCEEDED, timeout=15)
    assert _created(stack, normal) < 1200
    wait_until(lambda: _created(stack, normal) > 900, 30, what="half of the normal ones are created")
    assert 5 < _created(stack, bulk) < 60
    everything = [*normal, *bulk, *urgent]
    stack.wait_for(everything, JobState.SUCCEEDED, timeout=60)
    stack.assert_all_created_once(everything)


def test_nothing_is_sent_before_its_time(sqlite_stack: Stack) -> None:
    """An order with a due time waits for it, however little there is to do, and is sent soon after."""
    stack = sqlite_stack
    stack.worker()
    due_at = datetime.now(UTC) + timedelta(seconds=4)
    later = _enqueue(stack, ["later"], due_at=due_at, priority="urgent")
    at_once = _enqueue(stack, ["at-once"])
    stack.wait_for(at_once, JobState.SUCCEEDED)
    assert stack.states()["later"] == JobState.WAITING
    status = stack.producer.find(external_id="later", company="acme")
    assert status is not None
    assert status.due_at is not None
    assert abs(status.due_at - due_at) <= timedelta(milliseconds=1)
    stack.wait_for(later, JobState.SUCCEEDED, timeout=15)
    [began_at] = [attempt["began_at"] for attempt in stack.attempts() if attempt["external_id"] == "later"]
    assert due_at <= began_at < due_at + timedelta(seconds=5)
    stack.assert_all_created_once(later + at_once)


def test_a_deadline_that_passes_parks(sqlite_stack: Stack) -> None:
    """An order behind too many others is not sent after its deadline: it is parked, and its producer is told so."""
    stack = sqlite_stack
    stack.environment |= company("acme", RATE_PER_SECOND="20", BURST="1", MAX_IN_FLIGHT="50")
    others = _enqueue(stack, (f"normal-{number}" for number in range(300)))
    in_time = _enqueue(stack, ["in-time"], deadline=datetime.now(UTC) + timedelta(seconds=120))
    worker = stack.worker()
    wait_until(lambda: len(stack.states()) == 301, what="they are booked")
    too_late = _enqueue(stack, ["too-late"], deadline=datetime.now(UTC) + timedelta(seconds=4))
    stack.wait_for(too_late, JobState.PARKED, timeout=20)
    status = stack.producer.find(external_id="too-late", company="acme")
    assert status is not None
    assert (status.state, status.attempts) == (JobState.PARKED, 0)
    assert "passed before it could be sent" in (status.reason or "")
    stack.wait_for(others + in_time, JobState.SUCCEEDED, timeout=60)
    assert "too-late" not in stack.created()
    assert stack.alarms() in ([], ["deadline_at_risk"])  # it is looked for every five seconds
    assert worker.is_running
