"""The gate's promises, on fakeredis and on a real server: seeding, rate, places in flight, pause and Retry-After."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from orderrelay_shared import keys
from orderrelay_workers.gate import Gate, Kind, Limits, Refusal, Report
from tests.gates import ACME, LEASE_SECONDS, STEP_US, in_flight, open_circuit, pass_time, write_in_flight
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis


def open_circuit_of(gate: Gate, kind: Kind) -> None:
    """Let a kind's requests go unwell until it is held."""
    gate.report(ACME, kind, Report(trip="broken"))


# Seeding


def test_unseeded_is_closed(new_gate: Callable[[], Gate]) -> None:
    """Without a gate in Redis nothing is granted, whatever the kind."""
    gate = new_gate()
    for kind in Kind:
        permits = gate.admit(ACME, kind, 3)
        assert (permits.granted, permits.refusal) == (0, Refusal.UNSEEDED)
        assert permits.wait_seconds > 0
    assert gate.state(ACME) is None


def test_seed_only_once(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """A second seed changes nothing, though it says otherwise."""
    assert not new_gate().seed(ACME, Limits(99, 9, 9), "paused by mistake", {"ab": 7})
    state = gate.state(ACME)
    assert state is not None
    assert (state.limits, state.paused, state.in_flight) == (Limits(10, 1, 50), None, 0)


def test_seed_brings_the_pause(new_gate: Callable[[], Gate]) -> None:
    """A company that is paused in the ledger is paused in a gate that was made again."""
    gate = new_gate()
    gate.seed(ACME, Limits(10, 1, 50), "credentials", {})
    permits = gate.admit(ACME, Kind.LOGIN, 1)
    assert (permits.refusal, permits.reason) == (Refusal.PAUSED, "credentials")


def test_seed_counts_the_claims_of_others(new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """What others have in flight by the ledger takes places, but not against their own later word."""
    spoke, silent, seeding = new_gate(), new_gate(), new_gate()
    spoke.seed(ACME, Limits(1000, 50, 20), None, {})
    spoke.admit(ACME, Kind.ORDER, 2)
    fake_or_real_redis.delete(keys.gate(ACME))
    spoke.sync_in_flight()
    seeding.seed(ACME, Limits(1000, 50, 20), None, {spoke._boot: 9, silent._boot: 4, seeding._boot: 5})
    assert in_flight(seeding) == 2 + 4


def test_seed_forgets_who_is_dead(new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """Places left behind by a worker that the ledger no longer knows are free after a seed."""
    dead, seeding = new_gate(), new_gate()
    dead.seed(ACME, Limits(1000, 50, 20), None, {})
    dead.admit(ACME, Kind.ORDER, 7)
    fake_or_real_redis.delete(keys.gate(ACME))
    seeding.seed(ACME, Limits(1000, 50, 20), None, {})
    assert in_flight(seeding) == 0


def test_seed_over_requests_in_flight_begins_later(new_gate: Callable[[], Gate]) -> None:
    """After a wipe under load the first slot lies behind those that may still be waited for."""
    gate = new_gate()
    gate.seed(ACME, Limits(10, 5, 50), None, {"ab": 3})
    assert 0.9 < gate.admit(ACME, Kind.ORDER, 1, horizon_seconds=2).wait_of(0) <= 1.0


# Rate


def test_slots_are_spaced_exactly(gate: Gate) -> None:
    """A grant's slots, and the next grant's, lie exactly a tenth of a second apart at ten a second, and a hundredth."""
    first = gate.admit(ACME, Kind.LOOKUP, 3)
    second = gate.admit(ACME, Kind.LOOKUP, 2)
    assert (first.granted, first.first_wait_seconds, first.interval_seconds) == (3, 0.0, STEP_US / 1e6)
    assert [first.wait_of(i) for i in range(3)] == pytest.approx([0.0, 0.101011, 0.202022])
    assert second.end_us - first.end_us == second.granted * STEP_US
    assert 0.0 <= second.wait_of(0) <= 0.31


def test_burst_starts_at_once(gate: Gate) -> None:
    """After rest, burst permits may start at once, and the next ones at the rate."""
    gate.set_limits(ACME, Limits(10, 4, 50))
    permits = gate.admit(ACME, Kind.LOOKUP, 6)
    assert [permits.wait_of(i) for i in range(6)] == pytest.approx([0, 0, 0, 0, 0.101011, 0.202022])


def test_only_what_starts_within_the_horizon(gate: Gate) -> None:
    """More is not granted than may start within the horizon; the rest is asked for again."""
    assert gate.admit(ACME, Kind.LOOKUP, 100, horizon_seconds=0.5).granted == 5
    refused = gate.admit(ACME, Kind.ORDER, 1, horizon_seconds=0.0)
    assert (refused.granted, refused.refusal) == (0, Refusal.RATE)
    assert 0.0 < refused.wait_seconds <= 0.6


def test_a_longer_horizon_gets_through(gate: Gate) -> None:
    """A look-up that looks further ahead gets a slot where orders have taken all they can reach."""
    while gate.admit(ACME, Kind.ORDER, 100).granted:
        pass
    lookup = gate.admit(ACME, Kind.LOOKUP, 1, horizon_seconds=5)
    assert lookup.granted == 1
    assert lookup.wait_of(0) > 0.5


def test_a_refusal_reserves_nothing(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Whoever is refused leaves the next slot to others."""
    end = gate.admit(ACME, Kind.LOOKUP, 100).end_us
    for _ in range(5):
        assert gate.admit(ACME, Kind.ORDER, 9, horizon_seconds=0).refusal is Refusal.RATE
    assert fake_or_real_redis.hget(keys.gate(ACME), "tat_us") == str(end).encode()


def test_slow_rates_are_kept(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """One request in a thousand seconds means no second one before that."""
    gate.set_limits(ACME, Limits(0.001, 1, 50))
    assert gate.admit(ACME, Kind.ORDER, 5).granted == 1
    refused = gate.admit(ACME, Kind.ORDER, 1)
    assert refused.wait_seconds == pytest.approx(1009, abs=5)
    pass_time(fake_or_real_redis, 1008)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 0
    pass_time(fake_or_real_redis, 3)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_clock_step_costs_a_minute(gate: Gate, fake_or_real_redis: redis.Redis, step: int) -> None:
    """When Redis' clock steps by a day, back or forth, everything that the gate remembers is over within a minute."""
    gate.admit(ACME, Kind.ORDER, 1)
    gate.admit(ACME, Kind.LOOKUP, 1)
    gate.report(ACME, Kind.ORDER, Report(throttle_seconds=5, throttled=1, good=3))
    for kind in Kind:
        open_circuit_of(gate, kind)
    pass_time(fake_or_real_redis, step)
    granted: set[Kind] = set()
    for _ in range(75):
        for kind in Kind:
            permits = gate.admit(ACME, kind, 1)
            if permits.granted:
                granted.add(kind)
                gate.report(ACME, kind, Report(finished=1, good=1, probe=permits.probe))
        pass_time(fake_or_real_redis, 1)
    assert granted == set(Kind)
    state = gate.state(ACME)
    assert state is not None
    assert (state.holds, state.throttled_seconds) == ((), 0)


def test_the_interval_is_rounded_up() -> None:
    """A hundredth below the rate, and where that has no whole interval in microseconds, the next longer one."""
    assert Limits(3, 1, 1).interval_us == 336_701
    assert Limits(30, 1, 1, learn_from=3).interval_us == 336_701


def test_limits_out_of_range() -> None:
    """Limits that would let nothing or everything through cannot be made."""
    for rate, burst, cap in [
        (0.0, 1, 1),
        (-1.0, 1, 1),
        (float("inf"), 1, 1),
        (float("nan"), 1, 1),
        (1, 0, 1),
        (1, 1, 0),
    ]:
        with pytest.raises(ValueError, match="must be"):
            Limits(rate, burst, cap)


# Giving back


def test_slots_go_back(gate: Gate) -> None:
    """Unused permits go back, so that the next grant continues where the used ones ended."""
    permits = gate.admit(ACME, Kind.LOOKUP, 5)
    gate.give_back(permits, 3)
    assert gate.admit(ACME, Kind.LOOKUP, 1).end_us == permits.end_us - 2 * STEP_US
    assert in_flight(gate) == 3


def test_slots_stay_when_somebody_reserved_behind(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """Once another has a later slot, unused ones are lost: moving back would double the rate."""
    permits = gate.admit(ACME, Kind.LOOKUP, 5)
    other = new_gate().admit(ACME, Kind.ORDER, 1)
    gate.give_back(permits, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).end_us == other.end_us + STEP_US
    assert in_flight(gate) == 2


def test_more_than_granted_cannot_go_back(gate: Gate) -> None:
    """Giving back more than was granted is an error, and giving back nothing is nothing."""
    permits = gate.admit(ACME, Kind.LOOKUP, 2)
    gate.give_back(permits, 0)
    with pytest.raises(ValueError, match="3 permits given back of 2"):
        gate.give_back(permits, 3)
    assert in_flight(gate) == 2


# In flight


def test_orders_leave_a_tenth_free(gate: Gate) -> None:
    """Orders stop at nine tenths of the cap; look-ups and logins have the rest, and then stop too."""
    gate.set_limits(ACME, Limits(1000, 100, 20))
    assert gate.admit(ACME, Kind.ORDER, 100).granted == 18
    refused = gate.admit(ACME, Kind.ORDER, 1)
    assert (refused.refusal, refused.wait_seconds > 0) == (Refusal.IN_FLIGHT, True)
    assert gate.admit(ACME, Kind.LOOKUP, 1).granted == 1
    assert gate.admit(ACME, Kind.LOGIN, 5).granted == 1
    assert gate.admit(ACME, Kind.LOGIN, 1).refusal is Refusal.IN_FLIGHT


def test_the_cap_counts_all_workers(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """What one worker has in flight, another cannot have; what ended is free."""
    gate.set_limits(ACME, Limits(1000, 100, 5))
    other = new_gate()
    assert gate.admit(ACME, Kind.ORDER, 3).granted == 3
    assert other.admit(ACME, Kind.ORDER, 3).granted == 2
    gate.report(ACME, Kind.ORDER, Report(finished=1, good=1))
    assert other.admit(ACME, Kind.ORDER, 3).granted == 1


def test_counts_never_go_below_nothing(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """More reported than was in flight makes no extra room."""
    gate.report(ACME, Kind.ORDER, Report(finished=10))
    assert in_flight(gate) == 0
    gate.set_limits(ACME, Limits(1000, 100, 4))
    assert gate.admit(ACME, Kind.ORDER, 100).granted == 4
    assert fake_or_real_redis.hlen(keys.gate_in_flight(ACME)) == 1


def test_a_dead_worker_is_forgotten(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """A dead worker's places are free; it takes them again if it was not dead after all."""
    other = new_gate()
    other.admit(ACME, Kind.LOOKUP, 4)
    gate.forget_worker([ACME, "other"], uuid.UUID(hex=other._boot))
    assert in_flight(gate) == 0
    other.sync_in_flight()
    assert in_flight(gate) == 4


def test_a_beat_heals_lost_releases(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """What Redis has too much or too little is as it should be after one beat."""
    gate.admit(ACME, Kind.LOOKUP, 4)
    write_in_flight(fake_or_real_redis, gate._boot, 49)
    assert in_flight(gate) == 49
    gate.sync_in_flight()
    assert in_flight(gate) == 4
    fake_or_real_redis.delete(keys.gate_in_flight(ACME))
    gate.sync_in_flight()
    assert in_flight(gate) == 4


def test_a_release_lost_with_redis_is_healed(tmp_path: Path) -> None:
    """A report that could not be sent is counted off all the same, and written at the next beat."""
    server = RedisServer(tmp_path, options=("--appendonly", "yes", "--appendfsync", "always"))
    server.start()
    with server.connect() as client:
        gate = Gate(client, uuid.uuid4(), probe_lease_seconds=LEASE_SECONDS)
        gate.seed(ACME, Limits(10, 1, 50), None, {})
        gate.admit(ACME, Kind.LOOKUP, 4)
        server.kill9()
        with pytest.raises(RedisConnectionError):
            gate.report(ACME, Kind.ORDER, Report(finished=4, good=4))
        server.start()
        assert in_flight(gate) == 4
        gate.sync_in_flight()
        assert in_flight(gate) == 0
    server.kill9()


def test_a_silent_worker_loses_its_places(
    gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """A worker whose count is a minute old takes no room, even if nobody declared it dead."""
    gate.set_limits(ACME, Limits(1000, 100, 5))
    silent = new_gate()
    silent.admit(ACME, Kind.ORDER, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.IN_FLIGHT
    write_in_flight(fake_or_real_redis, silent._boot, 5, seen_seconds_ago=61)
    assert gate.admit(ACME, Kind.ORDER, 9).granted == 5


# Pause and Retry-After


def test_pause_and_resume(gate: Gate) -> None:
    """A paused company refuses every kind with the reason, until it is resumed."""
    gate.pause(ACME, "stock-taking")
    for kind in Kind:
        permits = gate.admit(ACME, kind, 1)
        assert (permits.refusal, permits.reason, permits.wait_seconds) == (Refusal.PAUSED, "stock-taking", 5.0)
    gate.resume(ACME)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


def test_resume_clears_holds(gate: Gate) -> None:
    """A person's resume also closes the circuits and forgets the vendor's wish to wait."""
    open_circuit(gate)
    gate.report(ACME, Kind.LOOKUP, Report(throttle_seconds=600))
    gate.resume(ACME)
    permits = gate.admit(ACME, Kind.LOOKUP, 2)
    assert (permits.granted, permits.probe) == (2, False)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


def test_nothing_is_written_to_an_unseeded_gate(new_gate: Callable[[], Gate]) -> None:
    """Pause, resume, limits and reports do not make a gate that was wiped look seeded."""
    gate = new_gate()
    gate.pause(ACME, "x")
    gate.resume(ACME)
    gate.set_limits(ACME, Limits(1, 1, 1))
    gate.report(ACME, Kind.ORDER, Report(finished=1, unwell=5, trip="x", throttle_seconds=5))
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.UNSEEDED
    assert gate.seed(ACME, Limits(1, 1, 1), None, {})


def test_throttle_holds_orders_and_lookups(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Retry-After holds orders and look-ups, whichever got it, and not logins; afterwards all may go."""
    gate.report(ACME, Kind.LOOKUP, Report(throttle_seconds=30))
    for kind in (Kind.ORDER, Kind.LOOKUP):
        permits = gate.admit(ACME, kind, 1)
        assert permits.refusal is Refusal.THROTTLED
        assert 29 < permits.wait_seconds <= 30
    assert gate.admit(ACME, Kind.LOGIN, 1).granted == 1
    pass_time(fake_or_real_redis, 30)
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


def test_throttle_is_never_shortened(gate: Gate) -> None:
    """A later, shorter Retry-After does not end a longer one early, nor does a good answer."""
    gate.report(ACME, Kind.ORDER, Report(throttle_seconds=30))
    gate.report(ACME, Kind.ORDER, Report(throttle_seconds=1, good=1))
    assert gate.admit(ACME, Kind.ORDER, 1).wait_seconds > 29


def test_companies_do_not_share(gate: Gate) -> None:
    """A hold and a pause of one company leave another alone."""
    gate.seed("other", Limits(10, 1, 50), None, {})
    open_circuit(gate)
    gate.pause(ACME, "x")
    assert gate.admit("other", Kind.ORDER, 1).granted == 1


def test_want_at_least_one(gate: Gate) -> None:
    """Asking for nothing is an error of the caller."""
    with pytest.raises(ValueError, match="at least 1"):
        gate.admit(ACME, Kind.ORDER, 0)


# What people see


def test_state(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """State tells limits, pause, holds, the vendor's wish to wait and how many are in flight."""
    gate.set_limits(ACME, Limits(2.5, 3, 40))
    gate.admit(ACME, Kind.LOOKUP, 2)
    open_circuit(gate)
    gate.report(ACME, Kind.LOGIN, Report(trip="bad license", throttle_seconds=60))
    pass_time(fake_or_real_redis, 1)
    gate.pause(ACME, "lunch")
    state = gate.state(ACME)
    assert state is not None
    assert (state.limits, state.paused, state.in_flight) == (Limits(2.5, 3, 40), "lunch", 2)
    assert [(h.kind, h.reason, h.probing) for h in state.holds] == [
        (Kind.ORDER, "100 % of the last requests went unwell", False),
        (Kind.LOGIN, "bad license", False),
    ]
    assert all(3 < hold.seconds_left <= 4 for hold in state.holds)
    assert 58 < state.throttled_seconds <= 59
