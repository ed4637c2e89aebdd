"""What is said at the gate: what may go, what may not and why, and how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Kind(StrEnum):
    """The kinds of requests to the vendor. Each has a circuit of its own; rate and cap are shared."""

    ORDER = "order"
    LOOKUP = "lookup"
    LOGIN = "login"


class Refusal(StrEnum):
    """Why nothing was granted. It means "not now", never "failed"."""

    UNSEEDED = "unseeded"  #: Redis has no gate for the company; a worker's beat makes it from the ledger.
    PAUSED = "paused"  #: A person, or bad credentials, stopped the company.
    THROTTLED = "throttled"  #: The vendor said when to come back; look-ups heed it too, logins do not.
    HELD = "held"  #: The circuit of this kind is open.
    PROBING = "probing"  #: The circuit is open, and one request is out to see whether it may close.
    IN_FLIGHT = "in_flight"  #: As many requests as allowed are in flight.
    CLOSED = "closed"  #: It is closed at this time, by the company's hours or for maintenance.
    NEWER = "newer"  #: The gate is of a layout that only newer workers know.
    RATE = "rate"  #: No slot is free within the horizon.


@dataclass(frozen=True, slots=True)
class Permits:
    """The gate's answer: how many requests may start, and when; or why none and when to ask again.

    Every place that was given must come back, by `Gate.report` once a request ended or by `Gate.give_back`.

    Attributes:
        company: The company's alias.
        kind: The kind of requests.
        granted: How many may start; 0 if refused.
        first_wait_seconds: When the first may start, after the lead; negative where burst is left.
        interval_seconds: The time between the starts of two permits once the burst is used up; longer or shorter than
            between two orders where this kind of request has another weight.
        refusal: Why none was granted, or None.
        wait_seconds: Ask again after this long; 0 if granted, unless that was for want of places less than wanted.
        reason: The refusal in words: why paused or held. Empty if granted.
        probe: Whether this one request decides if the circuit closes: say so in `Report.probe`.
        end_us: Names the end of this grant to `Gate.give_back`; no instant to reckon with.
        retries: How many of them may be retries, by the retry budget. Tell `Gate.retries_unused` how many were not.
        places: So many new places in flight were given for them. The first have the idle ones of this worker.
        ahead: The last so many have none, and wait until one of this worker's own becomes free.
        lead_seconds: None of them may start sooner than this, as was asked.
        late_seconds: Each may start so much after its slot, if it has to wait for a place.
        keep: The worker may keep its idle places up to so many in all; 0: none, as it may not go ahead.
        is_full: Whether more would have been granted or could start, if there were more places in flight.
    """

    company: str
    kind: Kind
    granted: int
    first_wait_seconds: float
    interval_seconds: float
    refusal: Refusal | None
    wait_seconds: float
    reason: str
    probe: bool
    end_us: int
    retries: int
    places: int
    ahead: int = 0
    lead_seconds: float = 0.0
    late_seconds: float = 0.0
    keep: int = 0
    is_full: bool = False

    def places_of(self, unused: int) -> int:
        """How many new places in flight the last so many permits have."""
        return min(self.places, max(0, unused - self.ahead))

    def wait_of(self, index: int) -> float:
        """How many seconds after the grant permit `index` (from 0) may start."""
        return self.lead_seconds + max(0.0, self.first_wait_seconds + index * self.interval_seconds)

    def saved_of(self, index: int) -> float:
        """For how many seconds permit `index` has been lying unused: 0 unless a burst is saved up."""
        return max(0.0, -(self.first_wait_seconds + index * self.interval_seconds))


#: Requests go out at this share of the rate, so that jitter on the way to the vendor breaks no limit there.
PACE: Final = 0.99

_LARGEST_WEIGHT = 100.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast a company may go, over all workers.

    Attributes:
        rate_per_second: Requests per second in the long run; more than 0. They are paced a little under it.
        burst: How many may start at once after a time of rest; at least 1.
        max_in_flight: How many may be unanswered at once; at least 1. Orders leave a tenth of it to other kinds.
        learn_from: If given, the rate is learned between this and `rate_per_second`, which is not less.
        retry_share: Retries that fail are at most this share of the orders that end well, but for a few; 0 to 1.
        lookup_weight: What a look-up takes of the rate, where an order takes 1; 0 to 100.
        login_weight: The same of a login.

    Raises:
        ValueError: A limit is out of its range.
    """

    rate_per_second: float
    burst: int
    max_in_flight: int
    learn_from: float | None = None
    retry_share: float = 0.2
    lookup_weight: float = 1.0
    login_weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_per_second) and self.rate_per_second > 0):
            raise ValueError(f"rate_per_second is {self.rate_per_second}; it must be more than 0")
        if self.burst < 1:
            raise ValueError(f"burst is {self.burst}; it must be at least 1")
        if self.max_in_flight < 1:
            raise ValueError(f"max_in_flight is {self.max_in_flight}; it must be at least 1")
        if self.learn_from is not None and not 0 < self.learn_from <= self.rate_per_second:
            raise ValueError(f"learn_from is {self.learn_from}; it must be above 0, and at most the rate")
        if not 0 <= self.retry_share <= 1:
            raise ValueError(f"retry_share is {self.retry_share}; it must be from 0 to 1")
        for weight in (self.lookup_weight, self.login_weight):
            if not 0 <= weight <= _LARGEST_WEIGHT:
                raise ValueError(f"a weight is {weight}; it must be from 0 to {_LARGEST_WEIGHT:.0f}")

    @property
    def interval_us(self) -> int:
        """The time between two orders in whole microseconds, at first, if the rate is learned; rounded up."""
        return math.ceil(1_000_000 / ((self.learn_from or self.rate_per_second) * PACE))


@dataclass(frozen=True, slots=True)
class ClosedTime:
    """The present or next time in which a company's gate is closed.

    Attributes:
        begins_at: In epoch seconds; None: no such time is known.
        ends_at: In epoch seconds.
        reason: Why, for people.
    """

    begins_at: float | None
    ends_at: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How requests of one kind ended.

    Attributes:
        finished: How many ended, however they did: so many places in flight become free.
        good: How many of them show that the vendor works.
        unwell: How many show that it does not (no answer, 5xx). The circuit opens where they are half of the last ones.
        trip: Opens the circuit at once, with this text as its reason.
        throttle_seconds: The vendor asked to wait this long; a shorter wait never replaces a longer one.
        throttled: How many were answered "later", with a time or without: without one all wait for a second, and longer
            if that was too short.
        probe: Whether the request whose `Permits.probe` was true is among them. If it went well, the circuit closes; if
            unwell, the hold doubles.
        retries_good: How many of the good ones were retries.
        latency_seconds: How long the good ones took, on average; None if not known.
        orders: How many orders came to an end by the good ones; None: one by each.
    """

    finished: int = 0
    good: int = 0
    unwell: int = 0
    trip: str | None = None
    throttle_seconds: float | None = None
    throttled: int = 0
    probe: bool = False
    retries_good: int = 0
    latency_seconds: float | None = None
    orders: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """An open circuit.

    Attributes:
        kind: The kind of requests that are held.
        seconds_left: Until a probe may go; 0 if one may go or is out.
        reason: Why it opened, in words.
        probing: Whether a probe is out.
    """

    kind: Kind
    seconds_left: float
    reason: str
    probing: bool


@dataclass(frozen=True, slots=True)
class GateState:
    """A company's gate as it is now, for people to read.

    Attributes:
        limits: Rate, burst and cap as set; None in a gate of a newer layout, of which nothing else is known here.
        paused: Why it is paused, or None.
        holds: The open circuits.
        throttled_seconds: How much longer the vendor asked to wait; 0 if not.
        in_flight: Requests in flight, of all workers.
        rate_now: Requests per second in force: the learned rate, or the one that is set.
        is_learned: Whether the rate is learned.
        drain_per_second: Orders that came to an end lately: created or rejected, weighted over half a minute.
        orders_per_request: How many came to an end by a good request lately; 1 where each is sent by itself.
        closed_seconds: Until the present closed time ends; 0 if it is open.
        closed_reason: Why it is closed, or will be.
        closes_in_seconds: Until the next closed time begins, if one is known and not now.
        closed_begins_at: When the closed time that the gate knows begins, in epoch seconds, or None.
        closed_ends_at: When it ends.
        retries_left: What is left of the retry budget; None while it is untouched.
        unwell_share: By kind, the share of its last requests that went unwell.
        counts: What the gate has decided since it was made, such as `order_admitted` or `order_refused_rate`.
    """

    limits: Limits | None
    paused: str | None = None
    holds: tuple[Hold, ...] = ()
    throttled_seconds: float = 0.0
    in_flight: int = 0
    rate_now: float = 0.0
    is_learned: bool = False
    drain_per_second: float = 0.0
    orders_per_request: float = 1.0
    closed_seconds: float = 0.0
    closed_reason: str = ""
    closes_in_seconds: float | None = None
    closed_begins_at: float | None = None
    closed_ends_at: float | None = None
    retries_left: float | None = None
    unwell_share: Mapping[Kind, float] = field(default_factory=dict[Kind, float])
    counts: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def orders_may_per_second(self) -> float:
        """Orders per second at the rate in force, if as many share a request as lately."""
        return self.rate_now * self.orders_per_request

    @property
    def requests_per_second(self) -> float:
        """Order requests per second that came to a good end lately."""
        return self.drain_per_second / self.orders_per_request

    @property
    def is_newer(self) -> bool:
        """Whether only newer workers know the gate's layout: this version sends nothing, and changes nothing in it."""
        return self.limits is None
