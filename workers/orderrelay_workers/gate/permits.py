"""What is said at the gate: what may go, what may not and why, and how it ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


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
    NEWER = "newer"  #: The gate is of a layout that only newer workers know.
    RATE = "rate"  #: No slot is free within the horizon.


@dataclass(frozen=True, slots=True)
class Permits:
    """The gate's answer: how many requests may start, and when; or why none and when to ask again.

    Every permit that was granted must come back, by `Gate.report` once its request ended or by `Gate.give_back`.

    Attributes:
        company: The company's alias.
        kind: The kind of requests.
        granted: How many may start; 0 if refused.
        first_wait_seconds: When the first may start, after the grant; negative where burst is left.
        interval_seconds: The time between the starts of two permits once the burst is used up.
        refusal: Why none was granted, or None.
        wait_seconds: Ask again after this long; 0 if granted.
        reason: The refusal in words: why paused or held. Empty if granted.
        probe: Whether this one request decides if the circuit closes: say so in `Report.probe`.
        end_us: Names the end of this grant to `Gate.give_back`; no instant to reckon with.
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

    def wait_of(self, index: int) -> float:
        """How many seconds after the grant permit `index` (from 0) may start."""
        return max(0.0, self.first_wait_seconds + index * self.interval_seconds)


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast a company may go, over all workers.

    Attributes:
        rate_per_second: Requests per second in the long run; more than 0.
        burst: How many may start at once after a time of rest; at least 1.
        max_in_flight: How many may be unanswered at once; at least 1. Orders leave a tenth of it to other kinds.

    Raises:
        ValueError: A limit is out of its range.
    """

    rate_per_second: float
    burst: int
    max_in_flight: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_per_second) and self.rate_per_second > 0):
            raise ValueError(f"rate_per_second is {self.rate_per_second}; it must be more than 0")
        if self.burst < 1:
            raise ValueError(f"burst is {self.burst}; it must be at least 1")
        if self.max_in_flight < 1:
            raise ValueError(f"max_in_flight is {self.max_in_flight}; it must be at least 1")

    @property
    def interval_us(self) -> int:
        """The time between two starts in whole microseconds, rounded up so that the rate is never exceeded."""
        return math.ceil(1_000_000 / self.rate_per_second)


@dataclass(frozen=True, slots=True)
class Report:
    """How requests of one kind ended.

    Attributes:
        finished: How many ended, however they did: so many places in flight become free.
        good: How many of them show that the vendor works; one is enough to close the circuit of their kind.
        unwell: How many show that it does not (no answer, 5xx). Five in a row open the circuit.
        trip: Opens the circuit at once, with this text as its reason.
        throttle_seconds: The vendor asked to wait this long; a shorter wait never replaces a longer one.
        probe: Whether the request whose `Permits.probe` was true is among them. If it went unwell, the hold doubles.
    """

    finished: int = 0
    good: int = 0
    unwell: int = 0
    trip: str | None = None
    throttle_seconds: float | None = None
    probe: bool = False


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
        limits: Rate, burst and cap in force; None in a gate of a newer layout, of which nothing else is known here.
        paused: Why it is paused, or None.
        holds: The open circuits.
        throttled_seconds: How much longer the vendor asked to wait; 0 if not.
        in_flight: Requests in flight, of all workers.
    """

    limits: Limits | None
    paused: str | None
    holds: tuple[Hold, ...]
    throttled_seconds: float
    in_flight: int

    @property
    def is_newer(self) -> bool:
        """Whether only newer workers know the gate's layout: this version sends nothing, and changes nothing in it."""
        return self.limits is None
