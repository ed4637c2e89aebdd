"""The gate's law under any interleaving: rate and cap hold, and no count is lost."""

from __future__ import annotations

import itertools
import threading
import uuid
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderrelay_workers.gate import Gate, Kind, Limits, Permits, Report
from tests.gates import ACME, LEASE_SECONDS, in_flight, pass_time

if TYPE_CHECKING:
    import redis


_companies = itertools.count()


def test_threads_share_a_gate(redis_client: redis.Redis) -> None:
    """Threads that admit, report, give back and beat at once leave an exact count and never a slot twice."""
    gate = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=LEASE_SECONDS)
    gate.seed(ACME, Limits(100_000, 1, 1000), None, {})
    ends: list[int] = []
    kept = [0] * 4

    def work(number: int) -> None:
        for turn in range(50):
            permits = gate.admit(ACME, Kind.LOOKUP, 3, horizon_seconds=10)
            ends.append(permits.end_us)
            match turn % 3:
                case 0:
                    gate.report(ACME, Kind.LOOKUP, Report(finished=3))
                case 1:
                    gate.sync_in_flight()
                    kept[number] += 3
                case _:
                    gate.sync_in_flight()
                    gate.report(ACME, Kind.LOOKUP, Report(finished=2))
                    kept[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_flight(gate) == sum(kept)
    assert all(later - earlier >= 30 for earlier, later in itertools.pairwise(sorted(ends)))
    for number in range(4):
        gate.report(ACME, Kind.LOOKUP, Report(finished=kept[number]))
    assert in_flight(gate) == 0


_step = st.one_of(
    st.tuples(
        st.just("admit"),
        st.integers(0, 2),
        st.sampled_from(list(Kind)),
        st.integers(1, 12),
        st.sampled_from([0.0, 0.2, 1.0, 5.0]),
    ),
    st.tuples(st.just("give back"), st.integers(0, 20), st.integers(0, 12)),
    st.tuples(st.just("finish"), st.integers(0, 20), st.integers(0, 12)),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 0.1, 0.5, 3.0])),
    st.tuples(st.just("again"), st.integers(0, 2), st.sampled_from([Kind.ORDER, Kind.LOOKUP]), st.integers(1, 12)),
    st.tuples(st.just("beat"), st.integers(0, 2)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([0.7, 3.0, 10.0, 400.0]),
    burst=st.integers(1, 6),
    cap=st.integers(1, 25),
    steps=st.lists(_step, max_size=40),
)
def test_no_window_holds_more_than_the_law(
    fake_or_real_redis: redis.Redis, rate: float, burst: int, cap: int, steps: list[tuple[object, ...]]
) -> None:
    """Whatever workers do: any W seconds hold at most burst + rate * W starts, and the cap holds."""
    company = f"company-{next(_companies)}"
    limits = Limits(rate, burst, cap)
    gates = [Gate(fake_or_real_redis, uuid.uuid4(), probe_lease_seconds=LEASE_SECONDS) for _ in range(3)]
    gates[0].seed(company, limits, None, {})
    passed_us = 0
    grants: list[tuple[Gate, Permits, list[int]]] = []
    flying: list[int] = []
    for step in steps:
        match step:
            case ("admit", int(worker), Kind() as kind, int(want), float(horizon)):
                permits = gates[worker].admit(company, kind, want, horizon_seconds=horizon)
                assert permits.granted <= want
                if permits.granted:
                    total = sum(flying) + permits.granted
                    assert total <= (cap - cap // 10 if kind is Kind.ORDER else cap)
                    starts = _starts(permits, burst, passed_us)
                    assert starts[-1] - starts[0] <= horizon * 1_000_000
                    grants.append((gates[worker], permits, starts))
                    flying.append(permits.granted)
            case ("give back", int(which), int(unused)) if grants:
                gate, permits, starts = grants[which % len(grants)]
                # The test may have told of some already; a permit comes back once.
                unused = min(unused, flying[which % len(grants)], len(starts))
                if len(starts) == permits.granted == flying[which % len(grants)]:
                    gate.give_back(permits, unused)
                    del starts[len(starts) - unused :]
                    flying[which % len(grants)] -= unused
            case ("finish", int(which), int(number)) if grants:
                number = min(number, flying[which % len(grants)])
                grants[which % len(grants)][0].report(company, Kind.LOOKUP, Report(finished=number))
                flying[which % len(grants)] -= number
            case ("pass", float(seconds)):
                pass_time(fake_or_real_redis, seconds, company)
                passed_us += round(seconds * 1_000_000)
            case ("again", int(worker), Kind() as kind, int(want)):
                permits = gates[worker].admit_again(company, kind, want)
                if permits.granted:  # their places in flight are those of the slots that were missed
                    grants.append((gates[worker], permits, _starts(permits, burst, passed_us)))
                    flying.append(0)
            case ("beat", int(worker)):
                gates[worker].sync_in_flight()
            case _:
                pass
        assert in_flight(gates[0], company) == sum(flying)
    everything = sorted(start for _, _, starts in grants for start in starts)
    for first, last in itertools.combinations(range(len(everything)), 2):
        window_us = everything[last] - everything[first]
        assert last - first + 1 <= burst + rate * window_us / 1_000_000


def _starts(permits: Permits, burst: int, passed_us: int) -> list[int]:
    """The instants at which the permits may start, exactly: the grant's own instant follows from its end."""
    interval = round(permits.interval_seconds * 1_000_000)
    first_wait = round(permits.first_wait_seconds * 1_000_000)
    granted_at = permits.end_us - (permits.granted + burst - 1) * interval - first_wait
    return [granted_at + passed_us + max(0, first_wait + i * interval) for i in range(permits.granted)]
