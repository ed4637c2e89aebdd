"""What is watched while a run goes on: outages, the orders of dead workers, and workers that do nothing."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import redis
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_shared.states import JobState
from orderrelay_workers.gate import Gate, Kind
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock, reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.world import World

#: A worker hears again after an outage within five seconds; one more is for the look that finds the work.
IDLE_SECONDS: Final = 6.0

#: So long after an outage an order's time to its decision still counts as disturbed, in seconds.
_RECOVERY_SECONDS: Final = 5.0

_IDLE_LOOK_SECONDS: Final = 0.25

_job = schema.job.c


class Outages:
    """When Redis, the database or the vendor could not be reached, or no worker was there; seconds since the begin."""

    def __init__(self) -> None:
        self._past: list[tuple[float, float]] = []
        self._open: dict[str, float] = {}

    def begin(self, what: str, now: float) -> None:
        """Something is away from now on."""
        self._open.setdefault(what, now)

    def end(self, what: str, now: float) -> None:
        """It is back."""
        if (since := self._open.pop(what, None)) is not None:
            self._past.append((since, now))

    @property
    def is_any(self) -> bool:
        """Whether something is away now."""
        return bool(self._open)

    def disturbed(self, since: float, until: float) -> bool:
        """Whether anything was away, or just back, in this time."""
        times = [*self._past, *((began, until) for began in self._open.values())]
        return any(began <= until and ended + _RECOVERY_SECONDS >= since for began, ended in times)


@dataclass
class Doubt:
    """An order that a dead worker held.

    Attributes:
        job_id: The order's job.
        died_at: When the worker died; `last_died_at`: or the last one that looked it up afterwards.
        decided_at: When it was in doubt no more; None: it still is.
    """

    job_id: uuid.UUID
    died_at: float
    last_died_at: float
    decided_at: float | None = None


class Deaths:
    """The orders that dead workers held, and when they were decided."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.doubts: dict[uuid.UUID, Doubt] = {}

    def note(self, boot_id: str | None) -> None:
        """A worker has died just now."""
        if boot_id is None:
            return
        held = sa.select(_job.id, _job.state).where(
            _job.owner == uuid.UUID(boot_id),
            _job.state.in_([str(JobState.IN_PROGRESS), str(JobState.UNKNOWN)]),
        )
        now = self._world.now
        for row in self._world.read(held):
            doubt = self.doubts.get(row.id)
            if doubt is not None and doubt.decided_at is None:
                doubt.last_died_at = now
            elif row.state == JobState.IN_PROGRESS:
                self.doubts[row.id] = Doubt(row.id, now, now)

    def tick(self) -> None:
        """See which orders are decided."""
        open_ones = [doubt.job_id for doubt in self.doubts.values() if doubt.decided_at is None]
        if not open_ones:
            return
        doubtful = [str(JobState.IN_PROGRESS), str(JobState.UNKNOWN)]
        query = sa.select(_job.id).where(_job.id.in_(open_ones), _job.state.not_in(doubtful))
        for row in self._world.read(query):
            self.doubts[row.id].decided_at = self._world.now


class Idleness:
    """How long nobody works although orders are due, the gate is open, and all that workers need is there."""

    def __init__(self, world: World, redis_url: str) -> None:
        self._world = world
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=2.0)
        self._gate = Gate(self._redis, uuid.uuid4(), probe_lease_seconds=1.0)
        self._since: float | None = None
        self._next_look = 0.0
        self._told = False
        self.longest_seconds = 0.0

    def tick(self) -> None:
        """Look."""
        now = self._world.now
        if now < self._next_look:
            return
        self._next_look = now + _IDLE_LOOK_SECONDS
        if not self._is_idle():
            self._since, self._told = None, False
            return
        self._since = now if self._since is None else self._since
        self.longest_seconds = max(self.longest_seconds, now - self._since)
        if now - self._since > IDLE_SECONDS and not self._told:
            self._told = True
            self._world.violations.append(f"from {self._since:.1f} s nobody worked although orders were due")

    def close(self) -> None:
        """Let the connection go."""
        self._redis.close()

    def _is_idle(self) -> bool:
        world = self._world
        if world.outages.is_any or not world.crew.is_working():
            return False
        with contextlib.suppress(redis.RedisError, SQLAlchemyError):
            return self._is_gate_open() and self._is_work_due()
        return False

    def _is_gate_open(self) -> bool:
        state = self._gate.state(self._world.company)
        if state is None:  # workers have to make it
            return True
        held = any(hold.kind is not Kind.LOOKUP for hold in state.holds)
        return state.paused is None and not held and state.throttled_seconds == 0

    def _is_work_due(self) -> bool:
        with reading(self._world.stack.engine) as connection:
            due = sa.and_(_job.state == str(JobState.WAITING), _job.due_at <= clock(connection))
            at_it = _job.state == str(JobState.IN_PROGRESS)
            answers = [connection.execute(sa.select(sa.exists(sa.select(1).where(x)))).scalar() for x in (due, at_it)]
        return bool(answers[0]) and not answers[1]


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """Of some times: how many, the half, the 99th of a hundred, and the longest; empty if there are none."""
    took = sorted(seconds)
    if not took:
        return {}
    p99 = took[min(len(took) - 1, int(len(took) * 0.99))]
    return {"count": len(took), "p50": took[len(took) // 2], "p99": p99, "most": took[-1]}
