"""The gate's fields as Redis holds them, and what they mean."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from orderrelay_workers.gate.permits import GateState, Hold, Kind, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

#: As in the scripts: the newest layout of the gate's hash that this version knows.
LAYOUT: Final = 1

#: As in report.lua: the weight of an order that has ended falls to 1/e in so many seconds.
_DONE_SECONDS: Final = 30.0

#: What is forgotten when limits change: the rate is learned anew.
LEARNED_FIELDS: Final = ("rate_now", "rate_at_us", "rate_cut_us", "rate_bad", "rate_climb")

#: What a person's resume forgets: the vendor's wish to wait, and of each kind its circuit.
THROTTLE_FIELDS: Final = ("throttled_until_us", "throttled_at_us", "throttle_us")
HOLD_FIELDS: Final = ("good", "bad", "at_us", "unwell", "held_until_us", "hold_us", "reason", "probe", "probe_until_us")


def limit_fields(limits: Limits) -> dict[str, str]:
    """The fields that say how fast a company may go; `learn_from` is missing where nothing is learned."""
    fields = {
        "interval_us": str(limits.interval_us),
        "burst": str(limits.burst),
        "max_in_flight": str(limits.max_in_flight),
        "rate_per_second": repr(float(limits.rate_per_second)),
        "retry_share": repr(float(limits.retry_share)),
        "lookup_weight": repr(float(limits.lookup_weight)),
        "login_weight": repr(float(limits.login_weight)),
    }
    if limits.learn_from is not None:
        fields["learn_from"] = repr(float(limits.learn_from))
    return fields


def _read_limits(gate: Mapping[str, str]) -> Limits:
    # An earlier version's gate has only the first three.
    learn_from = gate.get("learn_from")
    return Limits(
        rate_per_second=float(gate["rate_per_second"]),
        burst=int(gate["burst"]),
        max_in_flight=int(gate["max_in_flight"]),
        learn_from=None if learn_from is None else float(learn_from),
        retry_share=float(gate.get("retry_share", 0.2)),
        lookup_weight=float(gate.get("lookup_weight", 1.0)),
        login_weight=float(gate.get("login_weight", 1.0)),
    )


def read_state(now_us: int, gate: Mapping[str, str], in_flight: Mapping[str, str]) -> GateState | None:
    """A company's gate as it is now, or None if it is not seeded.

    Args:
        now_us: By Redis' clock, in microseconds.
        gate: The gate's fields.
        in_flight: Boot id to "<count>@<seen_us>".
    """
    layout = gate.get("layout", "1")
    if not layout.isdecimal() or int(layout) > LAYOUT:
        return GateState(limits=None)
    if not {"rate_per_second", "burst", "max_in_flight"} <= gate.keys():
        return None
    limits = _read_limits(gate)
    begins_at, ends_at = _instant(gate, "closed_from_us"), _instant(gate, "closed_until_us")
    now = now_us / 1_000_000
    is_past = ends_at is None or ends_at <= now
    return GateState(
        limits=limits,
        paused=gate.get("paused"),
        holds=tuple(_hold(gate, kind, now_us) for kind in Kind if f"{kind.value}_held_until_us" in gate),
        throttled_seconds=_seconds_until(gate.get("throttled_until_us"), now_us),
        in_flight=sum(int(count.partition("@")[0]) for count in in_flight.values()),
        rate_now=_rate_now(gate, limits),
        is_learned=limits.learn_from is not None,
        drain_per_second=_drain(gate, now_us),
        orders_per_request=_orders_per_request(gate),
        closed_seconds=0.0 if is_past or (begins_at or 0.0) > now else (ends_at or now) - now,
        closed_reason="" if is_past else gate.get("closed_reason", ""),
        closes_in_seconds=None if is_past or begins_at is None or begins_at <= now else begins_at - now,
        closed_begins_at=begins_at,
        closed_ends_at=ends_at,
        retries_left=float(gate["retry_tokens"]) if "retry_tokens" in gate else None,
        unwell_share={kind: share for kind in Kind if (share := _unwell_share(gate, kind)) is not None},
        counts={name.removeprefix("n_"): int(value) for name, value in gate.items() if name.startswith("n_")},
    )


def _rate_now(gate: Mapping[str, str], limits: Limits) -> float:
    if limits.learn_from is None:
        return limits.rate_per_second
    return float(gate.get("rate_now", limits.learn_from))


def _drain(gate: Mapping[str, str], now_us: int) -> float:
    if "done" not in gate:
        return 0.0
    seconds = max(0, now_us - int(gate.get("done_at_us", now_us))) / 1_000_000
    weight = float(gate["done"]) * math.exp(-seconds / _DONE_SECONDS)
    # Before half a minute has passed, the weight has not yet grown to what the rate would make it.
    age = max(1.0, (now_us - int(gate.get("done_since_us", 0))) / 1_000_000)
    return weight / _DONE_SECONDS / (1 - math.exp(-age / _DONE_SECONDS))


def _orders_per_request(gate: Mapping[str, str]) -> float:
    requests = float(gate.get("done_requests", 0))
    return max(1.0, float(gate["done"]) / requests) if requests > 0 else 1.0


def _unwell_share(gate: Mapping[str, str], kind: Kind) -> float | None:
    well, bad = (float(gate.get(f"{kind.value}_{name}", 0)) for name in ("good", "bad"))
    return bad / (well + bad) if well + bad > 0 else None


def _hold(gate: Mapping[str, str], kind: Kind, now_us: int) -> Hold:
    held_until = max(int(gate[f"{kind.value}_held_until_us"]), int(gate.get("probes_from_us", 0)))
    return Hold(
        kind=kind,
        seconds_left=_seconds_until(str(held_until), now_us),
        reason=gate.get(f"{kind.value}_reason", ""),
        probing=_seconds_until(gate.get(f"{kind.value}_probe_until_us"), now_us) > 0,
    )


def _instant(gate: Mapping[str, str], name: str) -> float | None:
    value = gate.get(name)
    return None if value is None else int(value) / 1_000_000


def _seconds_until(instant_us: str | None, now_us: int) -> float:
    return max(0, int(instant_us or 0) - now_us) / 1_000_000
