"""What is to be expected of a company's orders: how fast they go and when they will be done. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from orderrelay_shared.outlook import PRIORITIES, Outlook
from orderrelay_workers.gate.permits import Kind
from orderrelay_workers.limits import schedule_of
from orderrelay_workers.slowness import explain

if TYPE_CHECKING:
    from orderrelay_workers.audit.backlog import Backlog
    from orderrelay_workers.gate.permits import GateState
    from orderrelay_workers.ledger.companies import Company

#: The drain rate is weighted over half a minute; after so long without a stop it says how fast orders go, in seconds.
STEADY_SECONDS: Final = 60.0


def outlook_of(
    state: GateState | None,
    company: Company,
    backlog: Backlog,
    before: Outlook | None = None,
    *,
    redis_is_away: bool = False,
) -> Outlook:
    """A company's outlook.

    Args:
        state: Its gate; None if that is not seeded.
        company: As the ledger has it.
        backlog: What waits, and who could work on it.
        before: The outlook of a moment ago, if there was one: it knows since when orders have been going.
        redis_is_away: Whether the gate could not be asked at all.
    """
    now = backlog.now
    schedule = schedule_of(company)
    closed = schedule.present_or_next(now) if schedule is not None else None
    since = _draining_since(state, company, backlog, before)
    is_steady = since is not None and now - since >= timedelta(seconds=STEADY_SECONDS)
    speed = _expected_per_second(state, company, backlog, is_steady=is_steady)
    by_priority = _by_priority(backlog)

    def done_at(orders: int) -> datetime | None:
        """When so many orders will be done, whatever is enqueued behind them."""
        if speed is None or schedule is None or state is None:
            return None
        start = now + timedelta(seconds=state.throttled_seconds)
        return schedule.done_at(start, orders / speed)

    all_done = done_at(backlog.waiting) if backlog.waiting else None
    if all_done is not None and backlog.next_due_at is not None:
        all_done = max(all_done, backlog.next_due_at)
    ahead = {name: sum(by_priority.get(n, 0) for n in PRIORITIES[: i + 1]) for i, name in enumerate(PRIORITIES)}
    by_priority_done = {name: done_at(orders + 1) for name, orders in ahead.items()}
    return Outlook(
        at=now,
        waiting=backlog.waiting,
        by_priority=by_priority,
        drain_per_second=0.0 if state is None else state.drain_per_second,
        rate_per_second=0.0 if state is None else state.orders_may_per_second,
        expected_per_second=speed,
        done_at=all_done,
        done_at_by_priority={name: done for name, done in by_priority_done.items() if done is not None},
        why_slow=tuple(
            explain(
                state,
                company,
                backlog,
                done_at=all_done,
                is_steady=is_steady,
                closed=closed,
                redis_is_away=redis_is_away,
            )
        ),
        draining_since=since,
    )


def _by_priority(backlog: Backlog) -> dict[str, int]:
    """What waits by the name of its priority; lanes that only newer versions know count to the last one."""
    found: dict[str, int] = {}
    for lane, count in sorted(backlog.by_lane.items()):
        name = PRIORITIES[min(max(lane // 2, 0), len(PRIORITIES) - 1)]
        found[name] = found.get(name, 0) + count
    return found


def _stands(state: GateState | None, company: Company, backlog: Backlog) -> bool:
    """Whether nothing goes, and nobody can know until when."""
    if state is None or state.limits is None or backlog.workers == 0:
        return True
    if company.paused_reason is not None or state.paused is not None:
        return True
    return any(hold.kind in (Kind.ORDER, Kind.LOGIN) for hold in state.holds)


def _draining_since(
    state: GateState | None, company: Company, backlog: Backlog, before: Outlook | None
) -> datetime | None:  # fmt: skip
    """Since when orders have been waiting and could go, as far as is known."""
    could_go = not _stands(state, company, backlog) and backlog.has_due
    if state is None or not could_go or state.closed_seconds > 0 or state.throttled_seconds > 0:
        return None
    return before.draining_since if before is not None and before.draining_since is not None else backlog.now


def _expected_per_second(
    state: GateState | None, company: Company, backlog: Backlog, *, is_steady: bool
) -> float | None:  # fmt: skip
    """How fast orders will go when they go: as lately if that says something, else as fast as they may."""
    if state is None or _stands(state, company, backlog):
        return None
    # A rate that was lowered a moment ago shows in the drain only later.
    may = state.orders_may_per_second
    speed = min(state.drain_per_second, may) if is_steady else may
    return speed if speed > 0 else None
