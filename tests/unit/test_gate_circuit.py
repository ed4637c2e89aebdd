"""The gate's circuits: they open where half of the last requests went unwell, and close by one probe in the fleet."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import keys
from orderrelay_workers.gate import Gate, Kind, Refusal, Report
from tests.gates import ACME, LEASE_SECONDS, STEP_US, hold_length, open_circuit, pass_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


def test_five_unwell_ones_open_it(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """Where nothing else is known, the fifth unwell request, over all workers, holds the kind for five seconds."""
    other = new_gate()
    for number in range(4):
        (gate, other)[number % 2].report(ACME, Kind.ORDER, Report(unwell=1))
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1
    gate.report(ACME, Kind.ORDER, Report(unwell=1))
    permits = other.admit(ACME, Kind.ORDER, 1)
    assert permits.refusal is Refusal.HELD
    assert 4 < permits.wait_seconds <= 5
    assert permits.reason == "100 % of the last requests went unwell"


@pytest.mark.parametrize(
    ("good", "unwell", "is_open"),
    [(20, 5, False), (6, 5, False), (5, 5, True), (4, 4, False), (1, 9, True), (0, 4, False), (200, 30, False)],
)
def test_a_ratio_opens_it(gate: Gate, good: int, unwell: int, is_open: bool) -> None:
    """At least five unwell ones that are at least half of what the window holds open it, whatever their order."""
    gate.report(ACME, Kind.ORDER, Report(good=good, unwell=unwell))
    assert (gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.HELD) is is_open


def test_a_sudden_outage_opens_it_soon(gate: Gate) -> None:
    """After any number of good answers, no more than fifteen unwell ones are needed."""
    for _ in range(10):
        gate.report(ACME, Kind.ORDER, Report(good=100))
    unwell = 0
    while gate.admit(ACME, Kind.LOOKUP, 1) and gate.state(ACME).holds == ():  # type: ignore[union-attr]
        gate.report(ACME, Kind.ORDER, Report(unwell=1))
        unwell += 1
    assert 10 <= unwell <= 15


def test_the_window_forgets(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Unwell requests of some minutes ago weigh nothing any more."""
    gate.report(ACME, Kind.ORDER, Report(unwell=4))
    pass_time(fake_or_real_redis, 600)
    gate.report(ACME, Kind.ORDER, Report(unwell=4))
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


def test_circuits_are_per_kind(gate: Gate) -> None:
    """Orders are held while look-ups go, and a look-up's good answer does not close the orders' circuit."""
    open_circuit(gate, Kind.ORDER)
    assert gate.admit(ACME, Kind.LOOKUP, 1).granted == 1
    gate.report(ACME, Kind.LOOKUP, Report(finished=1, good=1))
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.HELD


def test_exactly_one_probe(gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """After the hold, one of many workers gets one permit; the others wait for what comes of it."""
    open_circuit(gate)
    pass_time(fake_or_real_redis, 5)
    answers = [new_gate().admit(ACME, Kind.ORDER, 9) for _ in range(20)]
    assert [(a.granted, a.probe) for a in answers if a.granted] == [(1, True)]
    assert {a.refusal for a in answers if not a.granted} == {Refusal.PROBING}
    assert all(0 < a.wait_seconds <= 1 for a in answers if not a.granted)


def test_a_good_probe_closes_it(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """The probe's good answer lets everybody go again, and the next hold begins at five seconds."""
    open_circuit(gate)
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    gate.report(ACME, Kind.ORDER, Report(finished=1, good=1, probe=True))
    after = gate.admit(ACME, Kind.ORDER, 3)
    assert (after.granted, after.probe) == (1, False)
    open_circuit(gate)
    assert hold_length(fake_or_real_redis) == 5


def test_look_ups_are_held_for_a_second_first(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Orders in doubt are asked about again a second after the look-up failed five times; only then it doubles."""
    open_circuit(gate, Kind.LOOKUP)
    lengths = [hold_length(fake_or_real_redis, Kind.LOOKUP)]
    pass_time(fake_or_real_redis, 1)
    assert gate.admit(ACME, Kind.LOOKUP, 1).probe
    gate.report(ACME, Kind.LOOKUP, Report(finished=1, unwell=1, probe=True))
    assert [*lengths, hold_length(fake_or_real_redis, Kind.LOOKUP)] == [1, 2]


def test_a_bad_probe_doubles_the_hold(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A probe that goes unwell doubles the hold, up to ten seconds: no recovery is noticed later than that."""
    open_circuit(gate)
    lengths = [hold_length(fake_or_real_redis)]
    for _ in range(4):
        length = lengths[-1]
        assert length is not None
        pass_time(fake_or_real_redis, length)
        assert gate.admit(ACME, Kind.ORDER, 1).probe
        gate.report(ACME, Kind.ORDER, Report(finished=1, unwell=1, probe=True))
        refused = gate.admit(ACME, Kind.ORDER, 1)
        assert refused.refusal is Refusal.HELD
        lengths.append(hold_length(fake_or_real_redis))
        assert refused.wait_seconds == pytest.approx(lengths[-1], abs=1)
    assert lengths == [5, 10, 10, 10, 10]


def test_one_probe_of_all_kinds(gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """In an outage of everything one request in ten seconds goes out, of whatever kind, and the kinds take turns."""
    for kind in Kind:
        open_circuit(gate, kind)
    probes: list[Kind] = []
    for _ in range(1200):
        for kind in Kind:
            if new_gate().admit(ACME, kind, 1).granted:
                probes.append(kind)
                gate.report(ACME, kind, Report(finished=1, unwell=1))
                fake_or_real_redis.hset(keys.gate(ACME), f"{kind}_probe", gate._boot)
                gate.report(ACME, kind, Report(unwell=1, probe=True))
        pass_time(fake_or_real_redis, 0.25)
    assert 25 <= len(probes) <= 34
    assert all(probes.count(kind) >= 7 for kind in Kind)


def test_a_good_probe_has_the_other_kinds_tried(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """When one kind works again, the others are probed at once, and not only when their hold is over."""
    for kind in (Kind.ORDER, Kind.LOOKUP):
        open_circuit(gate, kind)
    pass_time(fake_or_real_redis, 1)
    assert gate.admit(ACME, Kind.LOOKUP, 1).probe
    gate.report(ACME, Kind.LOOKUP, Report(finished=1, good=1, probe=True))
    assert gate.admit(ACME, Kind.ORDER, 1).probe


def test_late_unwell_answers_do_not_double(
    gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """Requests that were out when the circuit opened may end unwell without a longer hold or a second probe."""
    open_circuit(gate)
    gate.report(ACME, Kind.ORDER, Report(unwell=20))
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    gate.report(ACME, Kind.ORDER, Report(unwell=20))
    assert hold_length(fake_or_real_redis) == 5
    assert new_gate().admit(ACME, Kind.ORDER, 1).refusal is Refusal.PROBING


def test_a_late_good_answer_does_not_close_it(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """A good answer to a request from before the hold says nothing of now; only the probe does."""
    open_circuit(gate)
    new_gate().report(ACME, Kind.ORDER, Report(good=1))
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.HELD


def test_a_probe_without_evidence_is_tried_again(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A probe that ended neither well nor unwell, or was given back, makes room for the next one at once."""
    open_circuit(gate)
    pass_time(fake_or_real_redis, 5)
    gate.give_back(gate.admit(ACME, Kind.ORDER, 1), 1)
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    gate.report(ACME, Kind.ORDER, Report(finished=1, probe=True))
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    assert hold_length(fake_or_real_redis) == 5


def test_a_dead_probe_lapses(gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis) -> None:
    """If the probing worker dies, another probes when the lease is over, or at once when it is declared dead."""
    open_circuit(gate)
    pass_time(fake_or_real_redis, 5)
    dead, heir = new_gate(), new_gate()
    assert dead.admit(ACME, Kind.ORDER, 1).probe
    pass_time(fake_or_real_redis, LEASE_SECONDS - 2)
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.PROBING
    pass_time(fake_or_real_redis, 2.1)
    assert heir.admit(ACME, Kind.ORDER, 1).probe
    gate.forget_worker([ACME], uuid.UUID(hex=dead._boot))
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.PROBING
    gate.forget_worker([ACME], uuid.UUID(hex=heir._boot))
    assert gate.admit(ACME, Kind.ORDER, 1).probe


def test_a_lapsed_probe_decides_nothing(
    gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """A probe that ends unwell after another took its place neither doubles nor makes room for a third."""
    open_circuit(gate)
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    pass_time(fake_or_real_redis, LEASE_SECONDS + 1)
    assert new_gate().admit(ACME, Kind.ORDER, 1).probe
    gate.report(ACME, Kind.ORDER, Report(finished=1, unwell=1, probe=True))
    assert hold_length(fake_or_real_redis) == 5
    assert gate.admit(ACME, Kind.ORDER, 1).refusal is Refusal.PROBING


def test_trip_opens_at_once(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A trip holds its kind at once with its reason, which stays over probes that go unwell."""
    gate.report(ACME, Kind.ORDER, Report(finished=1, trip="403: no permission to create orders"))
    permits = gate.admit(ACME, Kind.ORDER, 1)
    assert (permits.refusal, permits.reason) == (Refusal.HELD, "403: no permission to create orders")
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    gate.report(ACME, Kind.ORDER, Report(finished=1, unwell=1, probe=True))
    assert gate.admit(ACME, Kind.ORDER, 1).reason == "403: no permission to create orders"
    assert hold_length(fake_or_real_redis) == 10


def test_a_tripping_probe_doubles(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A probe that trips doubles the hold and says why; a trip by others only says why."""
    open_circuit(gate)
    gate.report(ACME, Kind.ORDER, Report(trip="404: wrong path"))
    assert hold_length(fake_or_real_redis) == 5
    assert gate.admit(ACME, Kind.ORDER, 1).reason == "404: wrong path"
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.ORDER, 1).probe
    gate.report(ACME, Kind.ORDER, Report(finished=1, trip="403: no permission", probe=True))
    assert hold_length(fake_or_real_redis) == 10
    assert gate.admit(ACME, Kind.ORDER, 1).reason == "403: no permission"


def test_the_probe_keeps_the_rate(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A probe takes a slot as any other request does."""
    end = gate.admit(ACME, Kind.LOOKUP, 5).end_us
    open_circuit(gate)
    fake_or_real_redis.hset(keys.gate(ACME), "order_held_until_us", "1")
    probe = gate.admit(ACME, Kind.ORDER, 1)
    assert probe.probe
    assert probe.end_us >= end + STEP_US


def test_a_login_is_a_probe_while_orders_are_held(
    gate: Gate, new_gate: Callable[[], Gate], fake_or_real_redis: redis.Redis
) -> None:
    """In an outage in which the token expires, logins go out no more often than probes do, and never beside one."""
    open_circuit(gate)
    assert gate.admit(ACME, Kind.LOGIN, 1).refusal is Refusal.HELD
    pass_time(fake_or_real_redis, 5)
    assert gate.admit(ACME, Kind.LOGIN, 1).probe
    assert new_gate().admit(ACME, Kind.ORDER, 1).refusal is Refusal.PROBING
    gate.report(ACME, Kind.LOGIN, Report(finished=1, unwell=1, probe=True))
    for kind in (Kind.ORDER, Kind.LOGIN):
        assert gate.admit(ACME, kind, 1).refusal is Refusal.HELD
    pass_time(fake_or_real_redis, 11)
    assert gate.admit(ACME, Kind.LOGIN, 1).probe
    gate.report(ACME, Kind.LOGIN, Report(finished=1, good=1, probe=True))
    assert gate.admit(ACME, Kind.ORDER, 1).probe
