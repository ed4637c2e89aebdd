"""What an attack on the gate found, each mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import keys
from orderrelay_workers.gate import ClosedTime, Gate, Kind, Limits, Refusal, Report
from tests.gates import ACME, open_circuit, pass_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


def epoch(client: redis.Redis) -> float:
    """The gate's clock in epoch seconds."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1_000_000


def test_an_earlier_versions_wait_is_kept(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A wait that a worker of an earlier version wrote, without saying when, is not cut to the one before it."""
    gate.report(ACME, Kind.ORDER, Report(throttled=1))
    until = round((epoch(fake_or_real_redis) + 3600) * 1_000_000)
    fake_or_real_redis.hset(keys.gate(ACME), "throttled_until_us", str(until))
    assert gate.admit(ACME, Kind.ORDER, 1).wait_seconds == pytest.approx(3600, abs=5)
    pass_time(fake_or_real_redis, 1800)
    assert gate.admit(ACME, Kind.ORDER, 1).wait_seconds == pytest.approx(1800, abs=5)


def test_a_heavy_request_is_paid_in_full(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """What costs a hundred orders holds the next one up for as long, even at a slow rate."""
    gate.set_limits(ACME, Limits(0.5, 1, 50, login_weight=100))
    assert gate.admit(ACME, Kind.LOGIN, 1).granted == 1
    pass_time(fake_or_real_redis, 120)
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.RATE
    pass_time(fake_or_real_redis, 85)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


@pytest.mark.parametrize("rate", [1 / 60, 0.1])
def test_look_ups_leave_orders_most_of_a_slow_rate(gate: Gate, fake_or_real_redis: redis.Redis, rate: float) -> None:
    """However slow the rate, look-ups that are always due, and always ask first, do not crowd orders out."""
    gate.set_limits(ACME, Limits(rate, 1, 1000))
    got = dict.fromkeys((Kind.LOOKUP, Kind.ORDER), 0)
    for _ in range(400):
        for kind, horizon in ((Kind.LOOKUP, 2.0), (Kind.ORDER, 1.0)):
            permits = gate.admit(ACME, kind, 1, horizon_seconds=horizon)
            gate.report(ACME, kind, Report(finished=permits.granted))
            got[kind] += permits.granted
        pass_time(fake_or_real_redis, 0.1 / rate)
    assert got[Kind.ORDER] >= 0.6 * sum(got.values()) >= 15


def test_nothing_starts_after_closing(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """What could only be claimed by the time that it closes gets no slot, though a burst is saved up."""
    gate.set_limits(ACME, Limits(10, 20, 50))
    pass_time(fake_or_real_redis, 10)
    at = epoch(fake_or_real_redis)
    gate.set_closed(ACME, ClosedTime(at + 0.1, at + 60, "maintenance"))
    assert gate.admit(ACME, Kind.ORDER, 9, lead_seconds=0.5).refusal is Refusal.CLOSED


def test_a_probe_that_hangs_does_not_keep_others_waiting(
    gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """Another kind is probed after ten seconds at most, though the first probe has no answer yet."""
    for kind in (Kind.LOOKUP, Kind.ORDER):
        open_circuit(gate, kind)
    pass_time(fake_or_real_redis, 5)
    assert new_gate().admit(ACME, Kind.LOOKUP, 1).probe
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.PROBING
    pass_time(fake_or_real_redis, 10.1)
    assert gate.admit(ACME, Kind.ORDER, 1).probe


def test_logins_heed_what_they_were_told(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A login that is told to come back later holds the logins of all workers as well."""
    gate.report(ACME, Kind.LOGIN, Report(throttle_seconds=600, throttled=1))
    refused = gate.admit(ACME, Kind.LOGIN, 1)
    assert (refused.refusal, refused.reason) == (Refusal.HELD, "the vendor asked to wait")
    pass_time(fake_or_real_redis, 601)
    assert gate.admit(ACME, Kind.LOGIN, 1).probe


def test_look_ups_that_find_nothing_to_do_keep_their_share(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Permits given back go back into the look-ups' share as well."""
    gate.set_limits(ACME, Limits(50, 1, 1000))
    for _ in range(50):
        permits = gate.admit(ACME, Kind.LOOKUP, 10, horizon_seconds=2)
        gate.give_back(permits, permits.granted)
    while gate.admit(ACME, Kind.ORDER, 250).granted:
        pass
    assert gate.admit(ACME, Kind.LOOKUP, 5, horizon_seconds=2).granted == 5
