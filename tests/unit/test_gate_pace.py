"""The gate's pace: turns of workers, missed slots, the look-ups' share, weights, closed times and the retry budget."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.gate import ClosedTime, Gate, Kind, Limits, Refusal, Report
from tests.gates import ACME, in_flight, pass_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


def now(client: redis.Redis) -> float:
    """The gate's clock in epoch seconds."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1_000_000


# Turns


def test_eager_workers_get_as_much(new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """Eight workers that ask again as soon as half of their grant has begun share the rate to 2 %."""
    gates = [new_gate() for _ in range(8)]
    gates[0].seed(ACME, Limits(50, 1, 1000), None, {})
    ask_at = dict.fromkeys(range(8), 0.0)
    got: Counter[int] = Counter()
    clock = 0.0
    while clock < 60:
        worker = min(ask_at, key=ask_at.__getitem__)
        pass_time(fake_or_real_redis, max(0.0, ask_at[worker] - clock))
        clock = max(clock, ask_at[worker])
        permits = gates[worker].admit(ACME, Kind.ORDER, 250)
        got[worker] += permits.granted
        wait = permits.wait_of(permits.granted // 2) if permits.granted else permits.wait_seconds
        ask_at[worker] = clock + wait
        gates[worker].report(ACME, Kind.ORDER, Report(finished=permits.granted))
    assert sum(got.values()) >= 49 * 60
    assert all(abs(number - sum(got.values()) / 8) <= 0.02 * sum(got.values()) / 8 for number in got.values())


def test_a_grant_is_worth_a_twentieth_of_a_second(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Orders are granted by small turns; a burst that has been saved up goes at once on top of that."""
    gate.set_limits(ACME, Limits(1000, 1, 500))
    assert gate.admit(ACME, Kind.ORDER, 250).granted == 49
    gate.set_limits(ACME, Limits(10, 1, 500))
    assert gate.admit(ACME, Kind.ORDER, 250, horizon_seconds=5).granted == 1
    gate.set_limits(ACME, Limits(1000, 100, 500))
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.ORDER, 250, horizon_seconds=5).granted == 99 + 49


def test_no_slot_lies_before_the_claim(gate: Gate) -> None:
    """What has to be claimed first gets no slot that would be over by then."""
    permits = gate.admit(ACME, Kind.LOOKUP, 3, lead_seconds=0.2)
    assert [permits.wait_of(i) for i in range(3)] == pytest.approx([0.2, 0.301011, 0.402022])
    following = gate.admit(ACME, Kind.ORDER, 1)
    assert following.wait_of(0) == pytest.approx(0.503, abs=0.05)


# Missed slots


def test_missed_slots_are_replaced(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """Requests that missed their slots get others behind all that were given away, and keep their places in flight."""
    gate.set_limits(ACME, Limits(100, 1, 50))
    missed = gate.admit(ACME, Kind.LOOKUP, 3)
    taken = new_gate().admit(ACME, Kind.LOOKUP, 2)
    again = gate.admit_again(ACME, Kind.LOOKUP, 3)
    assert again.granted == 3
    assert again.end_us - again.granted * round(again.interval_seconds * 1e6) >= taken.end_us > missed.end_us
    assert in_flight(gate) == 5


def test_missed_slots_heed_what_happened_since(gate: Gate) -> None:
    """Where the company was paused, held or asked to wait meanwhile, there are no other slots."""
    gate.admit(ACME, Kind.ORDER, 1)
    gate.report(ACME, Kind.ORDER, Report(trip="403"))
    assert gate.admit_again(ACME, Kind.ORDER, 1).refusal is Refusal.HELD
    gate.resume(ACME)
    gate.report(ACME, Kind.ORDER, Report(throttle_seconds=9, throttled=1))
    assert gate.admit_again(ACME, Kind.ORDER, 1).refusal is Refusal.THROTTLED
    gate.pause(ACME, "lunch")
    assert gate.admit_again(ACME, Kind.ORDER, 1).refusal is Refusal.PAUSED


# Shares and weights


def test_neither_orders_nor_look_ups_crowd_the_other_out(
    new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """However many of both wait, look-ups get a fifth of the rate, and orders the rest; alone, each gets all of it."""
    orders, lookups = new_gate(), new_gate()
    orders.seed(ACME, Limits(50, 1, 1000), None, {})
    got: Counter[Kind] = Counter()
    for tick in range(1200):
        for gate, kind, horizon in (lookups, Kind.LOOKUP, 2.0), (orders, Kind.ORDER, 1.0):
            if kind is Kind.ORDER or tick < 600:
                permits = gate.admit(ACME, kind, 20, horizon_seconds=horizon)
                gate.report(ACME, kind, Report(finished=permits.granted))
                got[kind] += permits.granted
        if tick == 599:
            shared = got.copy()
        pass_time(fake_or_real_redis, 0.025)
    assert 0.19 <= shared[Kind.LOOKUP] / shared.total() <= 0.25
    assert got[Kind.ORDER] - shared[Kind.ORDER] >= 49 * 14


def test_orders_do_not_take_the_look_ups_share(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Where orders have reserved all that they can reach, a look-up still gets its slot at once, again and again."""
    gate.set_limits(ACME, Limits(50, 1, 1000))
    for _ in range(100):
        while gate.admit(ACME, Kind.ORDER, 250).granted:
            pass
        assert gate.admit(ACME, Kind.LOOKUP, 1, horizon_seconds=2).granted == 1
        pass_time(fake_or_real_redis, 0.1)


@pytest.mark.parametrize(("weight", "steps"), [(0.0, 0), (0.5, 0.5), (1.0, 1), (3.0, 3)])
def test_weights(gate: Gate, weight: float, steps: float) -> None:
    """A look-up takes of the rate what its weight says."""
    gate.set_limits(ACME, Limits(10, 1, 50, lookup_weight=weight))
    before = gate.admit(ACME, Kind.ORDER, 1).end_us
    assert gate.admit(ACME, Kind.LOOKUP, 2, horizon_seconds=2).end_us - before == pytest.approx(
        2 * steps * 101_011, abs=2
    )


# Closed times


def test_closed_times_refuse_every_kind(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """While it is closed nothing goes, and people see until when and why; afterwards all go again."""
    at = now(fake_or_real_redis)
    gate.set_closed(ACME, ClosedTime(at - 10, at + 600, "closed hours"))
    for kind in Kind:
        permits = gate.admit(ACME, kind, 1)
        assert (permits.refusal, permits.reason) == (Refusal.CLOSED, "closed hours")
        assert 590 < permits.wait_seconds <= 600
    state = gate.state(ACME)
    assert state is not None
    assert (590 < state.closed_seconds <= 600, state.closed_reason, state.closes_in_seconds) == (
        True,
        "closed hours",
        None,
    )
    pass_time(fake_or_real_redis, 601)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


def test_no_slot_lies_in_a_closed_time(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A moment before it closes only what can still start before is granted."""
    at = now(fake_or_real_redis)
    gate.set_closed(ACME, ClosedTime(at + 0.45, at + 60, "maintenance"))
    permits = gate.admit(ACME, Kind.LOOKUP, 20, horizon_seconds=5)
    assert 3 <= permits.granted <= 5
    assert permits.wait_of(permits.granted - 1) < 0.45
    assert gate.admit(ACME, Kind.LOOKUP, 1, horizon_seconds=5).refusal is Refusal.CLOSED
    state = gate.state(ACME)
    assert state is not None
    assert state.closed_seconds == 0
    assert state.closes_in_seconds is not None
    assert 0.2 < state.closes_in_seconds <= 0.45


def test_a_wiped_gate_is_seeded_closed(new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """A gate that is made again in a closed time does not open for a moment."""
    gate, at = new_gate(), now(fake_or_real_redis)
    gate.seed(ACME, Limits(10, 1, 50), None, {}, ClosedTime(at - 10, at + 600, "closed hours"))
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.CLOSED


def test_closed_times_can_be_taken_back(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Without any closed time it is open."""
    at = now(fake_or_real_redis)
    gate.set_closed(ACME, ClosedTime(at - 10, at + 600, "closed hours"))
    gate.set_closed(ACME, ClosedTime(None, None))
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


# Later, without a time


def test_later_without_a_time_backs_off_together(
    gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """A second at first, twice as long each time that it was too short, ten at most; and a second again after calm."""
    waits: list[float] = []
    for _ in range(6):
        new_gate().report(ACME, Kind.ORDER, Report(throttled=3))
        new_gate().report(ACME, Kind.ORDER, Report(throttled=3))
        waits.append(gate.admit(ACME, Kind.ORDER, 1).wait_seconds)
        pass_time(fake_or_real_redis, waits[-1] + 0.01)
    assert waits == pytest.approx([1, 2, 4, 8, 10, 10], abs=0.2)
    pass_time(fake_or_real_redis, 30)
    gate.report(ACME, Kind.ORDER, Report(throttled=1))
    assert gate.admit(ACME, Kind.ORDER, 1).wait_seconds == pytest.approx(1, abs=0.2)


# Retry budget


def ask(gate: Gate, number: int) -> int:
    """Ask for so many orders, all of which could be retries; how many may be."""
    permits = gate.admit(ACME, Kind.ORDER, number)
    gate.report(ACME, Kind.ORDER, Report(finished=permits.granted))
    return permits.retries


def test_retries_are_a_share_of_successes(gate: Gate) -> None:
    """Ten retries are there to begin with; beyond them there are as many as a fifth of what went well."""
    gate.set_limits(ACME, Limits(1000, 500, 500, retry_share=0.0))
    assert ask(gate, 50) == 10
    gate.set_limits(ACME, Limits(1000, 500, 500, retry_share=0.2))
    gate.report(ACME, Kind.ORDER, Report(good=40))
    assert ask(gate, 50) == 8
    assert ask(gate, 50) == 0


def test_retries_that_succeed_take_nothing_of_the_budget(gate: Gate) -> None:
    """A vendor that is well again gets all that is left to be retried, at full speed."""
    gate.set_limits(ACME, Limits(10, 50, 500))
    sent = 0
    for _ in range(100):
        retries = ask(gate, 1)
        gate.report(ACME, Kind.ORDER, Report(good=retries, retries_good=retries))
        sent += retries
    assert sent >= 40


def test_unused_retries_go_back(gate: Gate) -> None:
    """Permits that were not used for retries leave the budget as it was."""
    gate.set_limits(ACME, Limits(10, 1, 500))
    for _ in range(50):
        permits = gate.admit(ACME, Kind.ORDER, 1, horizon_seconds=50)
        assert permits.retries == permits.granted == 1
        gate.retries_unused(ACME, permits.retries)


def test_some_retries_come_back_with_time(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Without any success one retry in five seconds is left, so that the vendor's recovery is noticed."""
    gate.set_limits(ACME, Limits(10, 100, 500, retry_share=0.0))
    while ask(gate, 50):
        pass
    pass_time(fake_or_real_redis, 26)
    assert ask(gate, 50) == 5


# What people see


def test_drain_rate(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """The drain rate is what ends well in a second, lately, from the first seconds on, and falls off in the quiet."""
    for second in range(1, 61):
        gate.report(ACME, Kind.ORDER, Report(finished=7, good=7))
        pass_time(fake_or_real_redis, 1)
        if second in (5, 60):
            state = gate.state(ACME)
            assert state is not None
            assert state.drain_per_second == pytest.approx(7, rel=0.15)
    pass_time(fake_or_real_redis, 120)
    state = gate.state(ACME)
    assert state is not None
    assert state.drain_per_second < 0.3


def test_the_drain_rate_counts_orders(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Where several orders share a request, the drain is orders a second, and it is told how many share one."""
    state = gate.state(ACME)
    assert state is not None
    assert state.orders_per_request == 1
    for _ in range(60):
        gate.report(ACME, Kind.ORDER, Report(finished=2, good=2, orders=12))
        pass_time(fake_or_real_redis, 1)
    state = gate.state(ACME)
    assert state is not None
    assert state.drain_per_second == pytest.approx(12, rel=0.15)
    assert state.orders_per_request == pytest.approx(6, rel=0.01)
    assert state.orders_may_per_second == pytest.approx(60, rel=0.01)
    assert state.counts["order_good"] == 120


def test_decisions_are_counted(gate: Gate) -> None:
    """What the gate granted and why it did not can be read as numbers."""
    for _ in itertools.takewhile(bool, (gate.admit(ACME, Kind.ORDER, 1).granted for _ in range(99))):
        pass
    gate.report(ACME, Kind.ORDER, Report(good=2, unwell=1))
    state = gate.state(ACME)
    assert state is not None
    assert state.counts["order_admitted"] >= 10
    assert state.counts["order_refused_rate"] == 1
    assert (state.counts["order_good"], state.counts["order_unwell"]) == (2, 1)
    assert state.unwell_share == {Kind.ORDER: pytest.approx(1 / 3)}
