"""The learned rate, simulated: the gate's own scripts against a vendor with a hidden limit, in no time.

`python -m tests.bench.pacing model` runs ten minutes in one. Everything but the scripts is a model: workers ask for
permits, send at their slots with some jitter, and report in small batches, as the real ones do; the vendor refuses what
is more than its limit in any second. Redis is fakeredis with a clock in our hand.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import random
import time
import types
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import fakeredis
import structlog
from fakeredis.commands_mixins import server_mixin

from orderrelay_workers.gate import Gate, Kind, Limits, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.pacing_numbers import Step

COMPANY: Final = "acme"

#: The hidden limit of ten minutes: up, down by much, up by very much, and down by a little.
STEPS: Final[Sequence[Step]] = ((0, 50), (120, 80), (240, 30), (360, 150), (480, 120))

#: How long a model's worker lets other answers join a report, as in the submission, in seconds.
_LINGER_SECONDS: Final = 0.015

#: How late a request comes to the vendor after its slot, at most, in seconds.
_JITTER_SECONDS: Final = 0.005

_WANTED: Final = 250


class Clock:
    """Seconds that pass from event to event."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        """In place of `time.time` for fakeredis."""
        return self.now


@contextlib.contextmanager
def redis_of(clock: Clock) -> Iterator[fakeredis.FakeRedis]:
    """A Redis whose TIME is the clock's."""
    server_mixin.__dict__["time"] = types.SimpleNamespace(time=clock.time)
    try:
        with fakeredis.FakeRedis(server=fakeredis.FakeServer()) as client:
            yield client
    finally:
        server_mixin.__dict__["time"] = time


@dataclass
class Vendor:
    """Takes as many orders in any second as its limit of the moment says.

    Attributes:
        limit_at: The limit so many seconds from the beginning.
        latency: Seconds until a good answer; drawn for each.
        taken: When it took the orders of the last second.
    """

    limit_at: Callable[[float], float]
    latency: Callable[[], float]
    taken: deque[float] = field(default_factory=deque[float])

    def takes(self, now: float, seconds: float) -> bool:
        """Whether it takes an order now."""
        while self.taken and self.taken[0] <= now - 1.0:
            self.taken.popleft()
        if len(self.taken) >= self.limit_at(seconds):
            return False
        self.taken.append(now)
        return True


@dataclass
class Run:
    """What came of a simulated run; seconds count from its beginning.

    Attributes:
        rates: The rate in force, each second.
        sent: When orders came to the vendor.
        refused: When those came that it refused.
    """

    rates: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    sent: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])


class _Model:
    """Events in the order of their time."""

    def __init__(self, clock: Clock, gates: list[Gate], vendor: Vendor, seed: int) -> None:
        self.run = Run()
        self._clock = clock
        self._began = clock.now
        self._gates = gates
        self._vendor = vendor
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        # By worker: good answers with their latency, and refusals, that were not reported yet.
        self._good: list[list[float]] = [[] for _ in gates]
        self._refused = [0] * len(gates)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after so many seconds."""
        heapq.heappush(self._events, (self._clock.now + seconds, next(self._numbers), act))

    def until(self, seconds: float) -> None:
        """Let so many seconds pass."""
        for number in range(len(self._gates)):
            self._ask(number)
        self._note_rate()
        while self._events and self._events[0][0] < self._began + seconds:
            at, _, act = heapq.heappop(self._events)
            self._clock.now = at
            act()

    def _seconds(self) -> float:
        return self._clock.now - self._began

    def _note_rate(self) -> None:
        state = self._gates[0].state(COMPANY)
        assert state is not None
        self.run.rates.append((self._seconds(), state.rate_now))
        self.later(1.0, self._note_rate)

    def _ask(self, worker: int) -> None:
        permits = self._gates[worker].admit(COMPANY, Kind.ORDER, _WANTED)
        again = permits.wait_of(permits.granted // 2) if permits.granted else max(permits.wait_seconds, 0.01)
        for index in range(permits.granted):
            jitter = self._chance.uniform(0, _JITTER_SECONDS)
            self.later(permits.wait_of(index) + jitter, lambda: self._arrive(worker))
        self.later(max(again, 0.001), lambda: self._ask(worker))

    def _arrive(self, worker: int) -> None:
        seconds = self._seconds()
        self.run.sent.append(seconds)
        taken = self._vendor.takes(self._clock.now, seconds)
        if not taken:
            self.run.refused.append(seconds)
        latency = self._vendor.latency() if taken else 0.01
        self.later(latency, lambda: self._answer(worker, latency if taken else None))

    def _answer(self, worker: int, latency: float | None) -> None:
        if not self._good[worker] and not self._refused[worker]:
            self.later(_LINGER_SECONDS, lambda: self._report(worker))
        if latency is None:
            self._refused[worker] += 1
        else:
            self._good[worker].append(latency)

    def _report(self, worker: int) -> None:
        good, refused = self._good[worker], self._refused[worker]
        self._good[worker], self._refused[worker] = [], 0
        report = Report(
            finished=len(good) + refused,
            good=len(good),
            throttled=refused,
            latency_seconds=sum(good) / len(good) if good else None,
        )
        self._gates[worker].report(COMPANY, Kind.ORDER, report)


def simulate(
    limits: Limits,
    steps: Sequence[Step],
    seconds: float,
    *,
    workers: int = 2,
    latency: tuple[float, float] = (0.05, 0.15),
    seed: int = 1,
) -> Run:
    """Let workers with endless work learn the rate of a vendor.

    Args:
        limits: The company's; `learn_from` is given.
        steps: The vendor's hidden limit.
        seconds: How long.
        workers: How many.
        latency: The vendor's, in seconds: lowest and highest.
        seed: The same seed gives the same run.
    """
    clock, chance = Clock(), random.Random(seed)

    def limit_at(seconds: float) -> float:
        return next(limit for begins, limit in reversed(steps) if begins <= seconds)

    with redis_of(clock) as client:
        gates = [Gate(client, uuid.UUID(int=number + 1), probe_lease_seconds=40.0) for number in range(workers)]
        gates[0].seed(COMPANY, limits, None, {})
        model = _Model(clock, gates, Vendor(limit_at, lambda: chance.uniform(*latency)), seed)
        model.until(seconds)
        return model.run


def quietly() -> None:
    """Leave out the lines that the gate logs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
