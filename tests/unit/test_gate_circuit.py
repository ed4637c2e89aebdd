"""The gate's circuits: they open after five requests unwell in a row, and close by one probe at a time."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared import keys
from orderrelay_workers.gate import Gate, Kind, Refusal, Report
from tests.gates import ACME, LEASE_SECONDS, hold_length, open_circuit, pass_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


def test_five_in_a_row_open_it(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """The fifth unwell request in a row, over all workers, holds the kind for five seconds."""
    other = new_gate()
    for number in range(4):
        (gate, other)[number % 2].report(ACME, Kind.ORDER, Report(unwell=1))
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1
    gate.report(ACME, Kind.ORDER, Report(unwell=1))
    permits = other.admit(ACME, Kind.ORDER, 1)
    assert permits.refusal is Refusal.HELD
    assert 4 < permits.wait_seconds <= 5
    assert "5 requests in a row" in permits.reason


def test_a_good_one_begins_the_row_anew(gate: Gate) -> None:
    """One good answer among them, in whatever order, and the circuit stays closed."""
    for _ in range(3):
        gate.report(ACME, Kind.ORDER, Report(unwell=4))
        assert gate.admit(ACME, Kind.ORDER, 1).granted == 1
        gate.report(ACME, Kind.ORDER, Report(unwell=4, good=1))
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
    assert (after.granted, after.probe) == (3, False)
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


def test_bad_probes_double_the_hold(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Each probe that goes unwell doubles the hold, up to five minutes, and then there is one probe again."""
    open_circuit(gate)
    lengths = [hold_length(fake_or_real_redis)]
    for _ in range(8):
        length = lengths[-1]
        assert length is not None
        pass_time(fake_or_real_redis, length)
        assert gate.admit(ACME, Kind.ORDER, 1).probe
        gate.report(ACME, Kind.ORDER, Report(finished=1, unwell=1, probe=True))
        refused = gate.admit(ACME, Kind.ORDER, 1)
        assert refused.refusal is Refusal.HELD
        lengths.append(hold_length(fake_or_real_redis))
        assert refused.wait_seconds == pytest.approx(lengths[-1], abs=1)
    assert lengths == [5, 10, 20, 40, 80, 160, 300, 300, 300]


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


def test_a_late_good_answer_closes_it(gate: Gate, new_gate: Callable[[], Gate]) -> None:
    """A good answer to a request from before the hold shows that the vendor works."""
    open_circuit(gate)
    new_gate().report(ACME, Kind.ORDER, Report(good=1))
    assert gate.admit(ACME, Kind.ORDER, 1).granted == 1


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
    assert probe.end_us >= end + 100_000
