"""What the audit tells of an order's priority, due time and deadline, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orderrelay_workers.deadlines import Pace
from orderrelay_workers.ledger import deadlines, schema
from tests.integration.booked_orders import orderrelay
from tests.integration.test_audit_command import ledger, shown, text_of

if TYPE_CHECKING:
    import pytest

    from tests.integration.booked_orders import Ledger

__all__ = ["ledger"]  # fixture

DEADLINE = datetime(2126, 1, 30, 8, 0, tzinfo=UTC)


def give(ledger: Ledger, **columns: Any) -> int:
    """Give the one order terms; gives its company's id."""
    with ledger.engine.begin() as connection:
        connection.execute(sa.update(schema.job).values(columns))
        company_id: int = connection.execute(sa.select(schema.job.c.company_id)).scalar_one()
        return company_id


def test_an_order_without_terms_shows_none(ledger: Ledger) -> None:
    """What was not asked for is not shown to people; a program finds every name."""
    ledger.book("A-1")
    told = text_of("audit", "show", "A-1")
    for name in ("Priority", "Not before", "Deadline"):
        assert name not in told
    facts = shown("A-1")
    assert (facts["priority"], facts["not_before"], facts["deadline"]) == ("normal", None, None)


def test_an_orders_terms_are_shown(ledger: Ledger) -> None:
    """The order's page has its priority, its time and its deadline, and says what the deadline means."""
    ledger.book("A-1")
    give(ledger, lane=1, not_before=DEADLINE - timedelta(days=1), deadline=DEADLINE, due_at=DEADLINE)
    told = text_of("audit", "show", "A-1")
    assert "Priority: urgent Not before: 2126-01-29T08:00:00Z Deadline: 2126-01-30T08:00:00Z" in told
    assert "After 2126-01-30T08:00:00Z it is not sent any more, but parked." in told
    assert shown("A-1")["priority"] == "urgent"


def test_a_deadlines_story_is_told(ledger: Ledger) -> None:
    """That it was at risk and that it passed is in the timeline; what is to be done is said at the end."""
    ledger.book("A-1")
    company_id = give(ledger, deadline=datetime.now(UTC) + timedelta(seconds=60))
    deadlines.warn(ledger.engine, company_id, Pace(0.001), actor="worker one")
    give(ledger, deadline=datetime.now(UTC) - timedelta(seconds=60))
    deadlines.park_passed(ledger.engine, company_id, actor="worker one")
    told = text_of("audit", "show", "A-1")
    assert "ALARM it will hardly be sent before its deadline" in told
    assert "event its deadline passed before it could be sent" in told
    assert "somebody must decide whether it is to be sent nevertheless: orderrelay parked resend, or drop." in told


def test_sent_nevertheless_it_has_no_deadline(
    ledger: Ledger, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A person who has it sent after its deadline lifts the deadline, and that is on record."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    ledger.book("A-1")
    company_id = give(ledger, deadline=datetime.now(UTC) - timedelta(seconds=60))
    deadlines.park_passed(ledger.engine, company_id, actor="worker one")
    resent = orderrelay("parked", "resend", "A-1", "--why", "they still want it", "--yes")
    assert resent.exit_code == 0, resent.stderr
    assert shown("A-1")["deadline"] is None
    assert "lifted deadline" in text_of("audit", "show", "A-1")
