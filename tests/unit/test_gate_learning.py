"""The learned rate: it finds the vendor's hidden limit, follows it, and wakes as few refusals as can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.gate import Gate, Kind, Limits, Report
from tests.gates import ACME, pass_time

if TYPE_CHECKING:
    import redis

_TICK_SECONDS = 0.2


@dataclass
class HiddenLimit:
    """A vendor that takes so many orders in any second, asked as fast as the gate's rate says."""

    gate: Gate
    client: redis.Redis
    limit: float
    latency_seconds: float = 0.1
    seconds: float = 0.0
    sent: int = 0
    refused: int = 0
    rates: list[float] = field(default_factory=list[float])
    _carry: float = 0.0
    _taken: list[float] = field(default_factory=list[float])

    def run(self, seconds: float, *, demand: float = float("inf")) -> None:
        """Let so much time pass."""
        for _ in range(round(seconds / _TICK_SECONDS)):
            state = self.gate.state(ACME)
            assert state is not None
            self.rates.append(state.rate_now)
            good = refused = 0
            rate = 0.0 if state.throttled_seconds > 0 else min(state.rate_now * 0.99, demand)
            self._carry += rate * _TICK_SECONDS
            while self._carry >= 1:
                self._carry -= 1
                arrives_at = self.seconds - self._carry / max(rate, 1)
                self._taken = [at for at in self._taken if at > arrives_at - 1]
                if len(self._taken) < self.limit:
                    self._taken.append(arrives_at)
                    good += 1
                else:
                    refused += 1
            self.sent, self.refused = self.sent + good + refused, self.refused + refused
            self.gate.report(
                ACME, Kind.ORDER, Report(good=good, throttled=refused, latency_seconds=self.latency_seconds)
            )
            self.seconds += _TICK_SECONDS
            pass_time(self.client, _TICK_SECONDS)

    def mean_rate(self, seconds: float) -> float:
        """The mean learned rate of the last seconds."""
        last = self.rates[-round(seconds / _TICK_SECONDS) :]
        return sum(last) / len(last)


@pytest.fixture
def learning(gate: Gate) -> Gate:
    """A gate that learns between 5 and 200 a second."""
    gate.set_limits(ACME, Limits(200, 1, 500, learn_from=5))
    return gate


def test_it_finds_the_limit_and_follows_it(learning: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Within 10 % of the hidden limit a minute after the start and after each move, with less than 1 % refused."""
    vendor = HiddenLimit(learning, fake_or_real_redis, 50)
    for limit in (50, 80, 30, 120):
        vendor.limit = limit
        vendor.run(60)
        assert vendor.mean_rate(10) == pytest.approx(limit, rel=0.1)
        vendor.run(30)
    assert vendor.refused / vendor.sent < 0.01


def test_it_stays_between_floor_and_ceiling(learning: Gate, fake_or_real_redis: redis.Redis) -> None:
    """A vendor without a limit is sent the ceiling, and one that takes nothing the floor."""
    vendor = HiddenLimit(learning, fake_or_real_redis, 10_000)
    vendor.run(40)
    assert vendor.rates[-1] == 200
    vendor.limit = 0
    vendor.run(60)
    assert vendor.rates[-1] == pytest.approx(5, rel=0.01)
    assert min(vendor.rates) >= 5


def test_a_rate_that_is_not_used_does_not_climb(learning: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Little demand proves nothing about the limit."""
    vendor = HiddenLimit(learning, fake_or_real_redis, 10_000)
    vendor.run(60, demand=8)
    assert vendor.rates[-1] < 20


def test_rising_latency_makes_it_fall(learning: Gate, fake_or_real_redis: redis.Redis) -> None:
    """Answers that take more than twice as long as usual are a limit too."""
    vendor = HiddenLimit(learning, fake_or_real_redis, 10_000)
    vendor.run(30)
    before = vendor.rates[-1]
    vendor.latency_seconds = 0.5
    vendor.run(6)
    assert vendor.rates[-1] < 0.85 * before


def test_only_one_fall_in_a_second(learning: Gate) -> None:
    """Many workers that are refused at the same moment make it fall once."""
    for _ in range(5):
        learning.report(ACME, Kind.ORDER, Report(good=30, throttled=1))
    state = learning.state(ACME)
    assert state is not None
    assert state.counts["slower"] == 1


def test_without_the_setting_nothing_is_learned(gate: Gate) -> None:
    """By default the rate is what is set, whatever the vendor says."""
    gate.report(ACME, Kind.ORDER, Report(good=1, throttled=5))
    state = gate.state(ACME)
    assert state is not None
    assert (state.rate_now, state.is_learned) == (10, False)
