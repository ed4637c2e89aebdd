"""The gate's layout: what earlier versions wrote is read, what newer ones wrote is left alone, and nothing is sent."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_shared import keys
from orderrelay_workers.gate import Kind, Limits, Refusal, Report
from tests.gates import ACME

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from orderrelay_workers.gate import Gate

NEWER = pytest.mark.parametrize("layout", ["2", "31", "2a"])


@pytest.fixture
def gate(new_gate: Callable[[], Gate]) -> Gate:
    """A gate that is seeded."""
    gate = new_gate()
    gate.seed(ACME, Limits(10, 1, 5), None, {})
    return gate


def everything(client: redis.Redis) -> object:
    """All that Redis holds of the gate."""
    return client.hgetall(keys.gate(ACME)), client.hgetall(keys.gate_in_flight(ACME))


def test_a_gate_without_a_layout_is_an_earlier_versions(gate: Gate, fake_or_real_redis: redis.Redis) -> None:
    """What versions wrote that did not name the layout works like layout 1."""
    assert fake_or_real_redis.hdel(keys.gate(ACME), "layout") == 1
    permits = gate.admit(ACME, Kind.LOOKUP, 3)
    assert permits.granted == 3
    gate.report(ACME, Kind.ORDER, Report(finished=3, good=3))
    state = gate.state(ACME)
    assert state is not None
    assert (state.is_newer, state.limits, state.in_flight) == (False, Limits(10, 1, 5), 0)


@NEWER
def test_a_newer_gate_sends_nothing(gate: Gate, fake_or_real_redis: redis.Redis, layout: str) -> None:
    """Whatever the kind, nothing is granted, and the reason says why."""
    fake_or_real_redis.hset(keys.gate(ACME), "layout", layout)
    for kind in Kind:
        permits = gate.admit(ACME, kind, 1)
        assert (permits.granted, permits.refusal) == (0, Refusal.NEWER)
        assert permits.wait_seconds > 1
        assert "newer" in permits.reason
    state = gate.state(ACME)
    assert state is not None
    assert (state.is_newer, state.limits) == (True, None)


@NEWER
def test_a_newer_gate_is_never_written(
    gate: Gate, fake_or_real_redis: redis.Redis, new_gate: Callable[[], Gate], layout: str
) -> None:
    """No call changes anything in it, not even what this worker had in flight when the gate became newer."""
    granted = gate.admit(ACME, Kind.LOOKUP, 3)
    [worker] = [
        bytes(boot).decode() for boot in cast("list[bytes]", fake_or_real_redis.hkeys(keys.gate_in_flight(ACME)))
    ]
    fake_or_real_redis.hset(
        keys.gate(ACME), mapping={"layout": layout, "order_probe": worker, "tat_us": str(granted.end_us)}
    )
    before = everything(fake_or_real_redis)
    gate.give_back(granted, 1)
    gate.report(ACME, Kind.ORDER, Report(finished=1, unwell=9, trip="x", throttle_seconds=9))
    gate.report(ACME, Kind.ORDER, Report(finished=1, good=1))
    gate.sync_in_flight()
    gate.pause(ACME, "x")
    gate.resume(ACME)
    gate.set_limits(ACME, Limits(1, 1, 1))
    gate.admit(ACME, Kind.ORDER, 1)
    assert not gate.seed(ACME, Limits(1, 1, 1), None, {})
    new_gate().forget_worker([ACME], uuid.UUID(worker))
    assert everything(fake_or_real_redis) == before
