"""Permits for places that are still in use: the rate and the cap hold, and workers share the places."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderrelay_workers.gate import Gate, Kind, Limits, Permits, Refusal, Report
from tests.bench.pacing_numbers import most_in_any
from tests.gates import ACME, LEASE_SECONDS, in_flight, pass_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

_companies = itertools.count()

#: Orders have nine tenths of the places.
_CAP, _FOR_ORDERS = 20, 18


@pytest.fixture
def pair(new_gate: Callable[[], Gate]) -> tuple[Gate, Gate]:
    """Two workers' gates of one company that goes as fast as its places allow."""
    one, other = new_gate(), new_gate()
    one.seed(ACME, Limits(10_000, 100, _CAP), None, {})
    return one, other


def test_more_are_granted_than_places_are_free(pair: tuple[Gate, Gate]) -> None:
    """Idle places come first, then free ones; what is granted beyond takes none, and may be late for its slot."""
    gate, _ = pair
    first = gate.admit(ACME, Kind.ORDER, 10, ahead=3)
    assert (first.granted, first.places, first.ahead, first.late_seconds) == (10, 10, 0, 0.0)
    assert (first.keep, first.is_full) == (_FOR_ORDERS, False)
    more = gate.admit(ACME, Kind.ORDER, 50, idle=2, ahead=5)
    assert (more.granted, more.places, more.ahead) == (15, 8, 5)
    assert (more.is_full, more.late_seconds) == (True, 0.25)
    assert in_flight(gate) == _FOR_ORDERS
    only_ahead = gate.admit(ACME, Kind.ORDER, 50, ahead=4)
    assert (only_ahead.granted, only_ahead.places, only_ahead.ahead) == (4, 0, 4)
    assert in_flight(gate) == _FOR_ORDERS


def test_what_is_given_back_were_the_last(pair: tuple[Gate, Gate]) -> None:
    """Permits without a place are given back first; the count of places is exact all the time."""
    gate, _ = pair
    permits = gate.admit(ACME, Kind.ORDER, 50, ahead=5)
    assert (permits.granted, permits.places, permits.ahead) == (23, 18, 5)
    assert [permits.places_of(unused) for unused in (0, 5, 6, 23)] == [0, 0, 1, 18]
    gate.give_back(permits, 4)
    assert in_flight(gate) == 18
    again = gate.admit(ACME, Kind.ORDER, 50, ahead=5)
    assert (again.places, again.ahead) == (0, 5)
    gate.give_back(permits, 8)
    assert in_flight(gate) == 18 - 3


@pytest.mark.parametrize("kind", [Kind.LOOKUP, Kind.LOGIN])
def test_only_orders_go_ahead(pair: tuple[Gate, Gate], kind: Kind) -> None:
    """Look-ups and logins have the places that are free, and no more."""
    permits = pair[0].admit(ACME, kind, 50, ahead=5, horizon_seconds=10)
    assert (permits.granted, permits.places, permits.ahead) == (_CAP, _CAP, 0)
    assert permits.keep == 0


def test_a_probe_goes_alone(pair: tuple[Gate, Gate], fake_or_real_redis: redis.Redis) -> None:
    """While the circuit is open one request goes out, and nothing waits behind it."""
    gate, _ = pair
    gate.report(ACME, Kind.ORDER, Report(trip="broken"))
    pass_time(fake_or_real_redis, 6)
    probe = gate.admit(ACME, Kind.ORDER, 5, ahead=5)
    assert (probe.granted, probe.places, probe.ahead, probe.probe, probe.keep) == (1, 1, 0, True, 0)


def test_fewer_places_than_before_let_none_go_ahead(pair: tuple[Gate, Gate]) -> None:
    """Else what is in flight would stay above a cap that was lowered."""
    gate, _ = pair
    gate.admit(ACME, Kind.ORDER, 18)
    gate.set_limits(ACME, Limits(10_000, 100, 10))
    permits = gate.admit(ACME, Kind.ORDER, 5, ahead=5)
    assert (permits.granted, permits.refusal, permits.keep) == (0, Refusal.IN_FLIGHT, 0)


def test_a_rate_that_is_used_lets_none_go_ahead(new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """Beyond seven tenths of the rate every request keeps to its slot; below, slots lie a quarter further apart."""
    gate = new_gate()
    limits = Limits(100, 1, 30)
    gate.seed(ACME, limits, None, {})
    slow = gate.admit(ACME, Kind.ORDER, 50, ahead=2)  # a turn of 50 ms has four at this rate
    assert (slow.granted, slow.ahead, slow.interval_seconds) == (4, 0, limits.interval_us / 1e6)
    assert slow.keep == 27
    for _ in range(150):  # as many as the rate allows, for three seconds
        pass_time(fake_or_real_redis, 0.02)
        permits = gate.admit(ACME, Kind.ORDER, 4, ahead=2)
        gate.report(ACME, Kind.ORDER, Report(finished=permits.granted, good=permits.granted))
    assert permits.keep == 0
    pass_time(fake_or_real_redis, 3)
    gate.admit(ACME, Kind.ORDER, 30)
    ahead = gate.admit(ACME, Kind.ORDER, 30, ahead=2)
    while not ahead.ahead:
        pass_time(fake_or_real_redis, 0.2)
        ahead = gate.admit(ACME, Kind.ORDER, 30, ahead=2)
    assert ahead.interval_seconds == pytest.approx(limits.interval_us / 0.8e6, rel=1e-3)
    pass_time(fake_or_real_redis, 0.5)
    assert gate.admit(ACME, Kind.LOOKUP, 1).interval_seconds == ahead.interval_seconds
    pass_time(fake_or_real_redis, 1.3)
    assert gate.admit(ACME, Kind.LOOKUP, 1).interval_seconds == limits.interval_us / 1e6


def test_who_has_more_than_its_share_leaves_some(pair: tuple[Gate, Gate], fake_or_real_redis: redis.Redis) -> None:
    """While a worker with less than its share waits for places, the other keeps its share only, and gets no more."""
    rich, poor = pair
    first = rich.admit(ACME, Kind.ORDER, 50, ahead=5)
    assert (first.places, first.ahead, first.keep, first.wait_seconds) == (18, 5, 18, 0.25)
    refused = poor.admit(ACME, Kind.ORDER, 50)
    assert (refused.refusal, refused.keep, refused.wait_seconds) == (Refusal.IN_FLIGHT, 18, 0.02)
    rich.report(ACME, Kind.ORDER, Report(finished=2, good=2))
    # Of the sixteen that it has, six are in use: so it may use three of the ten that lie idle.
    limited = rich.admit(ACME, Kind.ORDER, 50, idle=10, ahead=12)
    assert (limited.granted, limited.places, limited.ahead, limited.keep) == (3 + 9, 0, 9, 9)
    assert poor.admit(ACME, Kind.ORDER, 50).places == 2
    rich.report(ACME, Kind.ORDER, Report(finished=7, good=7))
    assert rich.admit(ACME, Kind.ORDER, 50).refusal is Refusal.IN_FLIGHT
    granted = poor.admit(ACME, Kind.ORDER, 50, ahead=2)
    assert (granted.places, granted.ahead, granted.wait_seconds) == (7, 2, 0.25)  # so each has nine
    for gate in pair:
        permits = gate.admit(ACME, Kind.ORDER, 50, ahead=5)
        assert (permits.places, permits.ahead, permits.is_full) == (0, 5, True)
    poor.report(ACME, Kind.ORDER, Report(finished=9, good=9))  # it has nothing more to do, and does not say so
    assert rich.admit(ACME, Kind.ORDER, 50).granted == 0
    pass_time(fake_or_real_redis, 0.4)
    assert rich.admit(ACME, Kind.ORDER, 50).places == 9


def test_a_wish_that_came_true_is_forgotten(pair: tuple[Gate, Gate]) -> None:
    """As soon as the one that wanted places has as many as it asks for, the others may have more than their share."""
    rich, poor = pair
    rich.admit(ACME, Kind.ORDER, 50)
    poor.admit(ACME, Kind.ORDER, 50)
    rich.report(ACME, Kind.ORDER, Report(finished=3, good=3))
    assert rich.admit(ACME, Kind.ORDER, 1).granted == 0
    assert poor.admit(ACME, Kind.ORDER, 1).places == 1
    assert rich.admit(ACME, Kind.ORDER, 1).places == 1


@pytest.mark.parametrize("cap", [1, 2, 9])
@pytest.mark.parametrize("kind", [Kind.LOOKUP, Kind.LOGIN])
def test_orders_leave_a_place_to_others_that_want_one(
    pair: tuple[Gate, Gate], fake_or_real_redis: redis.Redis, kind: Kind, cap: int
) -> None:
    """Where a tenth of the places is none, a worker does not keep all of them for as long as orders are due."""
    orders, other = pair
    limits = Limits(10_000, 100, cap)
    orders.set_limits(ACME, limits)
    assert orders.admit(ACME, Kind.ORDER, 50).places == cap
    kept = orders.admit(ACME, Kind.ORDER, 1, idle=1)
    assert (kept.granted, kept.places, kept.keep) == (1, 0, cap)
    refused = other.admit(ACME, kind, 1)
    assert (refused.refusal, refused.wait_seconds) == (Refusal.IN_FLIGHT, 0.02)
    left = orders.admit(ACME, Kind.ORDER, 1, idle=1, ahead=cap)
    assert (left.refusal, left.keep, left.wait_seconds) == (Refusal.IN_FLIGHT, 0, 0.02)
    orders.report(ACME, Kind.ORDER, Report(finished=1, good=1))
    assert orders.admit(ACME, Kind.ORDER, 50).refusal is Refusal.IN_FLIGHT
    assert other.admit(ACME, kind, 1).places == 1
    other.report(ACME, kind, Report(finished=1, good=1))
    assert orders.admit(ACME, Kind.ORDER, 50).places == 1  # nobody else wants it any more
    assert other.admit(ACME, kind, 1).refusal is Refusal.IN_FLIGHT
    pass_time(fake_or_real_redis, 0.4)  # it has nothing more to do, and does not say so
    assert orders.admit(ACME, Kind.ORDER, 1, idle=1).granted == 1


_step = st.tuples(
    st.integers(0, 2),  # whose turn it is
    st.integers(1, 30),  # how many it wants
    st.integers(0, 12),  # how many of them ahead
    st.integers(0, 30),  # how many of its requests have ended
    st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.6]),  # how much time passes before
    st.booleans(),  # whether it keeps the places of these
    st.floats(0, 1),  # how late those start that may be late
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=st.sampled_from([20.0, 60.0, 300.0]), cap=st.integers(2, 40), steps=st.lists(_step, max_size=60))
def test_whatever_starts_late_no_second_holds_more_than_the_rate(
    fake_or_real_redis: redis.Redis,
    rate: float,
    cap: int,
    steps: list[tuple[int, int, int, int, float, bool, float]],
) -> None:
    """Places are never more than the cap allows; no second holds more starts than the rate, but for the burst."""
    company = f"ahead-{next(_companies)}"
    limits = Limits(rate, 1, cap)
    gates = [Gate(fake_or_real_redis, uuid.uuid4(), probe_lease_seconds=LEASE_SECONDS) for _ in range(3)]
    gates[0].seed(company, limits, None, {})
    held, idle, starts = [0, 0, 0], [0, 0, 0], list[float]()
    passed_us = 0
    for worker, want, at_most_ahead, may_end, seconds, keeps, late in steps:
        pass_time(fake_or_real_redis, seconds, company)
        passed_us += round(seconds * 1_000_000)
        ended = min(may_end, held[worker] - idle[worker])
        idle[worker] += ended
        given_up = 0 if keeps else idle[worker]
        gates[worker].report(company, Kind.ORDER, Report(finished=given_up))
        held[worker] -= given_up
        idle[worker] -= given_up
        # It goes ahead only for places that it has.
        ahead = min(at_most_ahead, held[worker] - idle[worker])
        permits = gates[worker].admit(company, Kind.ORDER, want, idle=idle[worker], ahead=ahead)
        assert permits.granted <= want
        assert permits.ahead <= ahead
        if permits.granted:
            used = permits.granted - permits.places - permits.ahead
            assert 0 <= used <= idle[worker]
            held[worker] += permits.places
            idle[worker] -= used
            starts += _starts(permits, late, passed_us)
        assert in_flight(gates[0], company) == sum(held) <= max(cap - cap // 10, 0)
    assert most_in_any(sorted(starts), 1_000_000) <= rate + 1


def test_full_speed_comes_after_the_last_late_start(
    new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """When places are free all at once, what is still late for its slot counts in the second that then begins."""
    gate = new_gate()
    gate.seed(ACME, Limits(300, 1, _CAP), None, {})
    gate.admit(ACME, Kind.ORDER, 15)
    pass_time(fake_or_real_redis, 0.1)
    gate.admit(ACME, Kind.ORDER, 15)
    starts: list[float] = []
    passed_us = 0
    for turn in range(150):
        if turn == 50:
            gate.set_limits(ACME, Limits(300, 1, 10_000))
        pass_time(fake_or_real_redis, 0.02)
        passed_us += 20_000
        permits = gate.admit(ACME, Kind.ORDER, 4 if turn < 50 else 50, ahead=4 if turn < 50 else 0)
        assert permits.ahead == (permits.granted if turn < 50 else 0)
        if permits.granted:
            starts += _starts(permits, 1.0, passed_us)
    assert 270 <= most_in_any(sorted(starts), 1_000_000) <= 301


def _starts(permits: Permits, late: float, passed_us: int) -> list[float]:
    """The instants at which permits of a burst of one start, if all are so late as a share of what they may be."""
    step_us = round(permits.interval_seconds * 1_000_000)
    first_us = round(permits.first_wait_seconds * 1_000_000)
    now_us = permits.end_us - permits.granted * step_us - first_us + passed_us
    late_us = late * permits.late_seconds * 1_000_000
    return [now_us + max(0, first_us + index * step_us) + late_us for index in range(permits.granted)]
