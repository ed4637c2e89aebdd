"""What tests of the gate have in common: a company, and ways to look inside and to let time pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderrelay_shared import keys
from orderrelay_workers.gate import Gate, Kind, Refusal, Report

if TYPE_CHECKING:
    import redis

ACME: Final = "acme"
LEASE_SECONDS: Final = 40.0
#: How far apart two orders are at ten a second, in microseconds: paced a little under the rate.
STEP_US: Final = 101_011
_OF_KINDS = ("held_until_us", "probe_until_us", "at_us")
_INSTANTS = [
    *(
        "tat_us",
        "lookup_tat_us",
        "throttled_until_us",
        "throttled_at_us",
        "closed_from_us",
        "closed_until_us",
        "probes_from_us",
    ),
    *("busy_tat_us", "ahead_until_us", "place_wanted_us", "others_wanted_us"),
    *("order_wanted_us", "retry_at_us", "done_at_us", "done_since_us", "rate_at_us", "rate_cut_us", "good_from_us"),
    *(f"{kind}_{name}" for kind in Kind for name in _OF_KINDS),
]


def pass_time(client: redis.Redis, seconds: float, company: str = ACME) -> None:
    """Let the gate believe that seconds have passed: all its instants lie so much earlier."""
    key = keys.gate(company)
    for name in _INSTANTS:
        if (value := client.hget(key, name)) is not None:
            client.hset(key, name, str(int(value) - round(seconds * 1_000_000)))


def in_flight(gate: Gate, company: str = ACME) -> int:
    """How many requests Redis counts as in flight, of all workers."""
    state = gate.state(company)
    assert state is not None
    return state.in_flight


def write_in_flight(client: redis.Redis, boot: str, count: int, *, seen_seconds_ago: float = 0.0) -> None:
    """Let a worker's count be what it never said."""
    seconds, microseconds = client.time()
    seen_us = seconds * 1_000_000 + microseconds - round(seen_seconds_ago * 1_000_000)
    client.hset(keys.gate_in_flight(ACME), boot, f"{count}@{seen_us}")


def open_circuit(gate: Gate, kind: Kind = Kind.ORDER) -> None:
    """Let five requests go unwell, which is all that is known, so that the kind is held for five seconds."""
    gate.report(ACME, kind, Report(unwell=5))
    assert gate.admit(ACME, kind, 1).refusal is Refusal.HELD


def hold_length(client: redis.Redis, kind: Kind = Kind.ORDER) -> float | None:
    """How long the present hold is in all, in seconds, or None."""
    value = client.hget(keys.gate(ACME), f"{kind.value}_hold_us")
    return None if value is None else int(value) / 1_000_000
