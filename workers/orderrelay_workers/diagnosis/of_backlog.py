"""Whether what is booked has somebody to send it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderrelay_workers.audit.backlog import read_backlog
from orderrelay_workers.diagnosis.findings import Finding, problem
from orderrelay_workers.slowness import about, orders

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from orderrelay_workers.audit.backlog import Backlog
    from orderrelay_workers.gate import Gate, GateState
    from orderrelay_workers.ledger.companies import Company

#: Orders that are due for longer, while nothing moves, have nobody to send them, in seconds.
_OVERDUE_SECONDS: Final = 60.0

#: Fewer orders per second that came to an end lately are none, as what is told is weighted over half a minute.
_NOTHING_MOVES: Final = 0.01


def look_at_backlogs(engine: sa.Engine, gate: Gate, known: Mapping[str, Company]) -> list[Finding]:
    """Look for companies of the ledger whose booked orders wait for nobody.

    Args:
        engine: The ledger.
        gate: A gate over Redis.
        known: The companies of the ledger.
    """
    found = (
        judge_backlog(company, read_backlog(engine, company.id), gate.state(alias)) for alias, company in known.items()
    )
    return [finding for finding in found if finding is not None]


def judge_backlog(company: Company, backlog: Backlog, state: GateState | None) -> Finding | None:
    """Whether a company's orders are due, free to go, and nevertheless not sent; without any worker that is told else.

    Args:
        company: As the ledger has it.
        backlog: What waits.
        state: Its gate; None if no worker has made it.
    """
    if backlog.workers == 0 or not backlog.has_due or backlog.next_due_at is None:
        return None
    overdue = (backlog.now - backlog.next_due_at).total_seconds()
    if overdue < _OVERDUE_SECONDS or company.paused_reason is not None:
        return None
    if state is not None and (_stands(state) or state.in_flight or state.drain_per_second >= _NOTHING_MOVES):
        return None
    name = f"ORDERRELAY_COMPANIES__{company.alias.upper()}__…"
    return problem(
        company.alias,
        f"{orders(backlog.waiting)} {'is' if backlog.waiting == 1 else 'are'} booked and due for {about(overdue)}, but "
        "no running worker serves the company: nothing is sent",
        f"set {name} in the workers' environment, or leave -Q away that keeps them from it; if the alias is a "
        "producer's mistake, correct it there",
    )


def _stands(state: GateState) -> bool:
    """Whether something else is known to keep its orders back; that is told of its gate."""
    if state.limits is None or state.paused is not None or state.holds:
        return True
    return state.throttled_seconds > 0 or state.closed_seconds > 0
