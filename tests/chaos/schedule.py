"""What happens when: a run's events and the vendor's faults, drawn from its seed, so that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orderrelay_workers.simulator import FaultPlan, Rule

#: Longer than a lease of `tests.stack`, in seconds.
_FROZEN_SECONDS = (9.5, 12.0)


class Kind(StrEnum):
    """The kinds of events."""

    KILL_WORKER = "kill -9 a worker"
    KILL_ALL_WORKERS = "kill -9 all workers"
    KILL_AT_POINT = "kill -9 a worker at a named point"
    STOP_WORKER = "SIGTERM a worker"
    FREEZE_WORKER = "freeze a worker past its lease"
    HALT_WORKER = "freeze a worker briefly"
    KILL_REDIS = "kill -9 Redis"
    WIPE_REDIS = "wipe Redis"
    PAUSE_REDIS = "CLIENT PAUSE"
    FILL_REDIS = "Redis out of memory"
    KILL_POSTGRES = "kill -9 PostgreSQL"
    FILL_DISK = "database disk full"
    SLOW_LINK = "slow link"
    CUT_LINK = "reset links"
    HALF_OPEN_LINK = "half-open links"
    TRUNCATE_LINK = "links cut short in the middle"
    REFUSE_VENDOR_LINK = "vendor refuses connections"
    END_SESSIONS = "all tokens expire"


class Link(StrEnum):
    """The links that pass through a proxy."""

    REDIS = "workers to Redis"
    DATABASE = "workers to PostgreSQL"
    VENDOR = "workers to the vendor"
    PRODUCERS = "producers to Redis"


#: Kind to: how many there are in a bag (of a kind that befalls a link: for each link), and how long it lasts in
#: seconds (lowest, highest; 0 for an instant).
_KINDS: Final = {
    Kind.KILL_WORKER: (3, 0.0, 0.0),
    Kind.KILL_ALL_WORKERS: (1, 0.0, 0.0),
    Kind.KILL_AT_POINT: (6, 0.0, 0.0),
    Kind.STOP_WORKER: (2, 0.0, 0.0),
    Kind.FREEZE_WORKER: (1, *_FROZEN_SECONDS),
    Kind.HALT_WORKER: (1, 0.5, 6.0),
    Kind.KILL_REDIS: (1, 0.1, 3.0),
    Kind.WIPE_REDIS: (1, 0.0, 0.0),
    Kind.PAUSE_REDIS: (1, 1.0, 6.0),
    Kind.FILL_REDIS: (1, 1.0, 4.0),
    Kind.KILL_POSTGRES: (2, 0.1, 6.0),
    Kind.FILL_DISK: (1, 1.0, 4.0),
    Kind.SLOW_LINK: (1, 1.0, 4.0),
    Kind.CUT_LINK: (1, 0.0, 0.0),
    Kind.HALF_OPEN_LINK: (1, 0.5, 2.5),
    Kind.TRUNCATE_LINK: (1, 0.2, 1.0),
    Kind.REFUSE_VENDOR_LINK: (1, 0.5, 2.0),
    Kind.END_SESSIONS: (1, 0.0, 0.0),
}
_LINK_KINDS: Final = (Kind.SLOW_LINK, Kind.CUT_LINK, Kind.HALF_OPEN_LINK, Kind.TRUNCATE_LINK)

#: Faults of order requests, each with its weight and, where it has one, its time in seconds. What is created late is
#: there well within the settling time; beyond that no look-up can tell.
_ORDER_FAULTS: Final = (
    *((f"{status}-{when}", 2.0, None) for status in (500, 502, 503, 504) for when in ("before", "after")),
    *((f"{fault}-{when}", 2.0, None) for fault in ("hang", "reset", "close") for when in ("before", "after")),
    *((f"{fault}-{when}", 1.0, None)
      for fault in ("half-head", "truncated", "truncated-chunked", "html-200", "empty-200", "not-json-200",
                    "wrong-type", "no-success", "no-keys", "408", "202", "exception", "error-11")
      for when in ("before", "after")),
    ("reset-before-reading", 2.0, None),
    ("slow", 2.0, 1.2),
    ("slow", 2.0, 3.0),
    ("drip", 1.0, 0.001),
    ("drip", 1.0, 0.05),
    ("504-then-created", 2.0, 1.0),
    ("untold-close", 2.0, None),
    ("partial-save", 1.0, None),
    ("odd-but-valid", 1.0, None),
    ("business-rejection", 3.0, None),
    ("400", 1.0, None),
    ("429-retry-after", 2.0, 1.0),
    ("503-retry-after-date", 1.0, 1.0),
    ("401-session-expired", 0.5, None),
)  # fmt: skip

#: Faults of look-ups and logins, as shares of their requests when orders fail at a share of 0.1.
_OTHER_FAULTS: Final = (
    ("lookup-500", 0.03, None), ("lookup-html", 0.02, None), ("lookup-empty", 0.02, None),
    ("lookup-reset", 0.02, None), ("lookup-hang", 0.02, None), ("lookup-truncated", 0.02, None),
    ("lookup-slow", 0.01, 1.0), ("lookup-429", 0.02, 1.0), ("lookup-wrong-type", 0.01, None),
    ("lookup-401-session-expired", 0.01, None),
    ("login-500", 0.1, None), ("login-reset", 0.1, None), ("login-html", 0.05, None), ("login-429", 0.05, 1.0),
)  # fmt: skip

#: Faults of requests that hold several orders, with their weights beside those of `_ORDER_FAULTS`.
_FAULTS_OF_SEVERAL: Final = (
    ("partial-first", 4.0, None), ("partial-some", 4.0, None), ("short-keys", 4.0, None), ("repeated-keys", 2.0, None),
)  # fmt: skip

#: Answers of 50 MB: one in so many order requests, and how many at most.
_HUGE_EVERY, _HUGE_TIMES = 100, 3


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to be done to the product.

    Attributes:
        at_seconds: When, since the run's begin.
        kind: What.
        lasts_seconds: For how long; 0 for an instant.
        choice: 0 to 1: which worker or point, and whatever else is to be chosen.
        link: Which link it befalls, if it befalls one.
    """

    at_seconds: float
    kind: Kind
    lasts_seconds: float = 0.0
    choice: float = 0.0
    link: Link | None = None

    @property
    def name(self) -> str:
        """What it is counted under."""
        return str(self.kind) if self.link is None else f"{self.kind}: {self.link}"


def events(seed: int, seconds: float, *, has_postgres: bool) -> list[Event]:
    """The events of a run, one each one to three seconds; every kind comes before any comes much oftener."""
    chance = random.Random(f"events:{seed}")
    bag: list[tuple[Kind, Link | None]] = []
    found: list[Event] = []
    at = chance.uniform(0.5, 1.5)
    while at < seconds:
        if not bag:
            bag = _bag(has_postgres=has_postgres)
            chance.shuffle(bag)
        kind, link = bag.pop()
        found.append(Event(at, kind, chance.uniform(*_KINDS[kind][1:]), chance.random(), link))
        at += chance.uniform(1.0, 3.0)
    return found


def _bag(*, has_postgres: bool) -> list[tuple[Kind, Link | None]]:
    links = [link for link in Link if has_postgres or link is not Link.DATABASE]
    bag: list[tuple[Kind, Link | None]] = []
    for kind, (count, *_) in _KINDS.items():
        if kind in _LINK_KINDS:
            bag += [(kind, link) for link in links] * count
        elif has_postgres or kind is not Kind.KILL_POSTGRES:
            bag += [(kind, None)] * count
    return bag


def soak_events(seed: int, seconds: float, kill_every: float, wipe_every: float) -> list[Event]:
    """The events of a soak: a worker is killed every so many seconds, and Redis wiped; 0 for never."""
    chance = random.Random(f"soak:{seed}")
    kills = [Event(at, Kind.KILL_WORKER, choice=chance.random()) for at in _times(kill_every, seconds)]
    wipes = [Event(at, Kind.WIPE_REDIS) for at in _times(wipe_every, seconds)]
    return sorted(kills + wipes, key=lambda event: event.at_seconds)


def _times(every: float, seconds: float) -> list[float]:
    return [every * number for number in range(1, int(seconds / every) + 1)] if every else []


def fault_plan(seed: int, share: float, *, several: bool = False) -> FaultPlan:
    """A vendor that goes wrong at this share of the order requests, and answers after 20 to 250 ms.

    Args:
        seed: Of the faults.
        share: From 0 to 1.
        several: Whether requests hold several orders, of which then sometimes only some are created, or named.
    """
    faults = (*_ORDER_FAULTS, *_FAULTS_OF_SEVERAL) if several else _ORDER_FAULTS
    total = sum(weight for _, weight, _ in faults)
    rules = [Rule(fault=name, share=share * weight / total, seconds=seconds) for name, weight, seconds in faults] + [
        Rule(fault=name, share=share * 10 * part, seconds=seconds) for name, part, seconds in _OTHER_FAULTS
    ]  # fmt: skip
    if share:
        rules.append(Rule(fault="huge-after", every=_HUGE_EVERY, times=_HUGE_TIMES))
    return FaultPlan(rules=tuple(rules), latency_ms=(20.0, 250.0), lookup_lag_seconds=0.5, seed=seed)
