"""What is to be expected of a company's orders: how fast, until when, and when one that is enqueued now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orderrelay_shared.outlook import Outlook
from orderrelay_workers.audit.backlog import Backlog
from orderrelay_workers.gate.permits import GateState, Hold, Kind, Limits
from orderrelay_workers.ledger.companies import Company
from orderrelay_workers.outlook import outlook_of

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ACME = Company(1, "acme", b"k", 10.0, 1, 50, None, None, None, None, None)
OPEN = GateState(limits=Limits(10, 1, 50), rate_now=10.0, drain_per_second=4.0)
#: 100 urgent orders, 300 normal ones of which 100 are retries, and 1,000 in bulk.
BUSY = Backlog(NOW, {0: 100, 2: 200, 3: 100, 4: 1000}, NOW - timedelta(minutes=1), workers=1)
HELD = replace(OPEN, holds=(Hold(Kind.ORDER, 5.0, "503", probing=False),))


def after(seconds: float) -> datetime:
    """So many seconds from now."""
    return NOW + timedelta(seconds=seconds)


def going_since(seconds_ago: float) -> Outlook:
    """The outlook of a moment ago, when orders had been going for a while."""
    return Outlook(at=after(-5), waiting=1500, draining_since=after(-seconds_ago))


def test_at_first_the_rate_tells_how_fast() -> None:
    """Before orders have been going for a minute, what came to an end lately says little."""
    outlook = outlook_of(OPEN, ACME, BUSY, None)
    assert (outlook.expected_per_second, outlook.done_at, outlook.draining_since) == (10.0, after(140), NOW)
    assert (outlook.waiting, outlook.by_priority) == (1400, {"urgent": 100, "normal": 300, "bulk": 1000})


def test_later_the_drain_tells_how_fast() -> None:
    """What came to an end lately is what will."""
    outlook = outlook_of(OPEN, ACME, BUSY, going_since(60))
    assert (outlook.expected_per_second, outlook.done_at) == (4.0, after(350))
    assert outlook.draining_since == after(-60)


def test_a_rate_that_was_lowered_holds_at_once() -> None:
    """What came to an end lately came at the rate of before."""
    assert outlook_of(replace(OPEN, rate_now=2.0), ACME, BUSY, going_since(60)).expected_per_second == 2.0


def test_orders_that_share_requests_go_faster_than_the_rate() -> None:
    """The rate counts requests; what is told is how fast orders go."""
    shared = replace(OPEN, drain_per_second=45.0, orders_per_request=5.0)
    assert outlook_of(shared, ACME, BUSY, None).expected_per_second == 50.0
    assert outlook_of(shared, ACME, BUSY, going_since(60)).expected_per_second == 45.0
    assert outlook_of(shared, ACME, BUSY, None).rate_per_second == 50.0


def test_what_waits_before_depends_on_the_priority() -> None:
    """An order enqueued now waits for its own priority and those that go first."""
    outlook = outlook_of(OPEN, ACME, BUSY, None)
    assert [outlook.before(name) for name in ("urgent", "normal", "bulk")] == [100, 400, 1400]
    assert outlook.done_at_by_priority == {"urgent": after(10.1), "normal": after(40.1), "bulk": after(140.1)}


def test_lanes_of_a_newer_version_count_to_the_last() -> None:
    """Nothing that waits is left out."""
    assert outlook_of(OPEN, ACME, replace(BUSY, by_lane={9: 5}), None).by_priority == {"bulk": 5}


@pytest.mark.parametrize(
    ("state", "company", "backlog"),
    [
        (None, ACME, BUSY),
        (GateState(limits=None), ACME, BUSY),
        (replace(OPEN, paused="x"), ACME, BUSY),
        (OPEN, replace(ACME, paused_reason="x"), BUSY),
        (HELD, ACME, BUSY),
        (OPEN, ACME, replace(BUSY, workers=0)),
    ],
)
def test_nobody_knows_when_what_stands_goes_on(state: GateState | None, company: Company, backlog: Backlog) -> None:
    """A number would be a guess; the words say what stands in the way."""
    outlook = outlook_of(state, company, backlog, going_since(3600))
    assert (outlook.expected_per_second, outlook.done_at, outlook.done_at_by_priority) == (None, None, {})
    assert outlook.draining_since is None
    assert outlook.why_slow


def test_nothing_that_comes_to_an_end_is_no_speed() -> None:
    """After a minute in which orders could go and none did, nobody knows."""
    assert outlook_of(replace(OPEN, drain_per_second=0.0), ACME, BUSY, going_since(61)).done_at is None


def test_closed_hours_are_waited_for() -> None:
    """The end lies behind the night, and the night is no time in which orders go slowly."""
    company = replace(ACME, closed_hours="daily 12:01-20:00")
    outlook = outlook_of(OPEN, company, BUSY, None)
    assert outlook.done_at == NOW.replace(hour=20) + timedelta(seconds=80)
    closed = outlook_of(
        replace(OPEN, closed_seconds=60.0, closed_reason="closed hours"), company, BUSY, going_since(99)
    )
    assert (closed.expected_per_second, closed.draining_since) == (10.0, None)


def test_what_the_vendor_asked_for_is_waited_for() -> None:
    """Work begins when the vendor wants to hear of it again."""
    assert outlook_of(replace(OPEN, throttled_seconds=30.0), ACME, BUSY, None).done_at == after(170)


def test_a_schedule_that_cannot_be_read_foretells_nothing() -> None:
    """Such as hours in a time zone that only other hosts know."""
    assert outlook_of(OPEN, replace(ACME, time_zone="Mars/Olympus"), BUSY, None).done_at is None


def test_without_a_backlog_an_order_goes_at_once() -> None:
    """There is no end to wait for, but an order still takes its slot."""
    outlook = outlook_of(OPEN, ACME, Backlog(NOW, workers=1), None)
    assert (outlook.done_at, outlook.draining_since) == (None, None)
    assert outlook.done_at_by_priority["normal"] == after(0.1)
    assert outlook.why_slow == ("nothing waits",)


def test_what_is_due_later_is_done_later() -> None:
    """The end cannot come before the first of them is due."""
    later = Backlog(NOW, {2: 1}, after(3600), workers=1)
    assert outlook_of(OPEN, ACME, later, None).done_at == after(3600)


def test_an_outlook_survives_redis() -> None:
    """What is published is what is read; anything else is nothing."""
    outlook = outlook_of(OPEN, ACME, BUSY, going_since(60))
    assert Outlook.from_json(outlook.to_json()) == outlook
    assert Outlook.from_json(b"{}") is None
    assert Outlook.from_json(b'{"at":"2026-11-23T12:00:00Z","waiting":1,"later":true}') == Outlook(NOW, 1)
