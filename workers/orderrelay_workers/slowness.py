"""Why a company's orders are not sent faster, in sentences for people. Pure."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from orderrelay_workers.gate.permits import Kind
from orderrelay_workers.schedule import read_zone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from orderrelay_workers.audit.backlog import Backlog
    from orderrelay_workers.gate.permits import GateState, Limits
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.schedule import ClosedTime

#: What is said of a company that has nothing to do.
NOTHING_WAITS: Final = "nothing waits"

#: Orders that go slower than this share of the rate are not slow because of the rate.
_NEAR_THE_RATE: Final = 0.8


def explain(
    state: GateState | None,
    company: Company,
    backlog: Backlog,
    *,
    done_at: datetime | None = None,
    is_steady: bool = False,
    closed: ClosedTime | None = None,
    redis_is_away: bool = False,
) -> list[str]:
    """Why a company's orders are not sent faster right now, the most important reason first.

    Args:
        state: Its gate; None if that is not seeded.
        company: As the ledger has it.
        backlog: What waits, and who could work on it.
        done_at: When all that waits will be done; None if that is not known.
        is_steady: Whether orders have been going for long enough for the drain rate to mean something.
        closed: Its present or next closed time.
        redis_is_away: Whether the gate could not be asked at all.

    Returns:
        Sentences without a full stop; never none.
    """
    if redis_is_away:
        return ["Redis does not answer: nothing is sent while it is away"]
    stops = list(_stops(state, company, backlog, closed))
    if stops:
        return stops
    if backlog.waiting == 0:
        return [NOTHING_WAITS]
    brakes = list(_brakes(state, backlog, done_at, is_steady=is_steady))
    if closed is not None and (done_at is None or closed.begins_at < done_at):
        brakes.append(f"{closed.reason} from {clock(closed.begins_at, company)} until {clock(closed.ends_at, company)}")
    return brakes


def _stops(
    state: GateState | None, company: Company, backlog: Backlog, closed: ClosedTime | None
) -> Iterator[str]:  # fmt: skip
    """What stops all orders."""
    if backlog.workers == 0:
        yield "no worker is running; start one with: orderrelay worker"
    if company.paused_reason is not None:
        since = f" since {clock(company.paused_at, company)}" if company.paused_at else ""
        yield (
            f"paused by {company.paused_by or 'nobody knows whom'}{since}: {company.paused_reason}; "
            f"go on with: orderrelay resume {company.alias}"
        )
    if state is None:
        yield "its gate in Redis is not made yet, and so is closed; a worker makes it within seconds"
        return
    if state.limits is None:
        yield "its gate is of a newer version: workers of this version send nothing; bring all to the newer version"
        return
    if state.paused is not None and company.paused_reason is None:
        yield f"its gate is still paused ({state.paused}); a worker opens it within seconds"
    if state.closed_seconds > 0:
        until = f" until {clock(closed.ends_at, company)}" if closed is not None else ""
        yield f"{state.closed_reason or 'closed'}{until}, for {about(state.closed_seconds)} more"
    if state.throttled_seconds > 0:
        yield f"the vendor asked to wait, for {about(state.throttled_seconds)} more"
    yield from _holds(state)
    if backlog.waiting > 0 and not backlog.has_due and backlog.next_due_at is not None:
        wait = (backlog.next_due_at - backlog.now).total_seconds()
        yield f"nothing is due: the first of {backlog.waiting:,} waiting orders is in {about(wait)}"


def _holds(state: GateState) -> Iterator[str]:
    """Open circuits. Without a login nothing goes; without look-ups only what is unknown stays so."""
    for kind in (Kind.ORDER, Kind.LOGIN):
        for hold in state.holds:
            if hold.kind is kind:
                share = f" ({state.unwell_share[kind]:.0%} of requests go wrong)" if kind in state.unwell_share else ""
                soon = (
                    f"the next try is in {about(hold.seconds_left)}" if hold.seconds_left > 0 else "the next one tries"
                )
                then = "one is out to see" if hold.probing else soon
                yield f"{kind} requests are held, as the vendor is unwell{share}: {hold.reason}; {then}"


def _brakes(
    state: GateState | None, backlog: Backlog, done_at: datetime | None, *, is_steady: bool
) -> Iterator[str]:  # fmt: skip
    """What makes orders slow that do go."""
    if state is None or state.limits is None:
        return
    limits = state.limits
    if backlog.is_cautious:
        yield "cautious mode: every order is looked up at the vendor before it is sent"
    is_full = state.in_flight >= cap_of_orders(limits)
    if is_full:
        are = "request is" if state.in_flight == 1 else "requests are"
        yield (
            f"{state.in_flight} {are} in flight, and {limits.max_in_flight} may be: the vendor answers slowly, "
            "or --max-in-flight is too low for the rate"
        )
    if state.retries_left is not None and state.retries_left < 1 and any(lane % 2 for lane in backlog.by_lane):
        yield "too many retries fail: further ones wait until orders succeed, or go one by one"
    if state.is_learned and state.rate_now < limits.rate_per_second:
        yield (
            f"the rate is learned from what the vendor bears: {state.rate_now:.3g} requests/s now, "
            f"at most {limits.rate_per_second:g}"
        )
    wait = f"{backlog.waiting:,} {'waits' if backlog.waiting == 1 else 'wait'}"
    done = f", done in about {about((done_at - backlog.now).total_seconds())}" if done_at is not None else ""
    may = state.orders_may_per_second
    if is_steady and state.drain_per_second < _NEAR_THE_RATE * may:
        why = "" if is_full else f": {_where_it_goes(backlog)}"
        yield f"{state.drain_per_second:.3g} orders/s come to an end, though {may:.3g} may{why}; {wait}{done}"
    elif is_full and not is_steady:  # How fast orders go is not known yet, but the rate is not what limits them.
        yield f"{wait}{done} if {state.rate_now:.3g} requests/s are reached" if done else wait
    else:
        several = f", {state.orders_per_request:.3g} orders in each," if state.orders_per_request > 1 else ""
        yield f"the rate of {state.rate_now:.3g} requests/s{several} is the limit: {wait}{done}"


def _where_it_goes(backlog: Backlog) -> str:
    """What takes the rest of the rate. Look-ups only where there is something to look up."""
    if backlog.unknown:
        are = "order is" if backlog.unknown == 1 else "orders are"
        return f"{backlog.unknown:,} unknown {are} looked up, which takes a share of the rate"
    if backlog.is_cautious:
        return "look-ups take their share"
    return "workers do not keep up; start more, or see whether the database or their CPUs are busy"


def cap_of_orders(limits: Limits) -> int:
    """How many requests in flight leave no order a place: a tenth of all places is kept for other kinds."""
    return max(1, limits.max_in_flight - limits.max_in_flight // 10)


def orders(count: int) -> str:
    """So many orders, as a person says it: `1 order`, `1,200 orders`."""
    return f"{count:,} order{'' if count == 1 else 's'}"


def about(seconds: float) -> str:
    """A length of time in round figures: `5 s`, `20 min`, `3 h`, `2 d`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"


def clock(at: datetime, company: Company) -> str:
    """An instant as the company's clocks show it."""
    try:
        local = at.astimezone(read_zone(company.time_zone))
    except ValueError:  # a zone that only other hosts know
        return f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
    return f"{local:%Y-%m-%dT%H:%M} {company.time_zone}"
