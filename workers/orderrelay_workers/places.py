"""The places in flight that a flow has: each carries one request after another, and more wait for one to be free."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orderrelay_workers.request_ends import Request
    from orderrelay_workers.slots import Slot

#: Requests are claimed for the places that become free within so many seconds: until they have been claimed, and the
#: next after them. It must be less than what a request may wait for a place.
_REACH_SECONDS = 0.2

#: What the latest latency adds to what is known of it.
_LATEST_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Going:
    """A request that may start in its slot, as soon as it has a place in flight."""

    request: Request
    slot: Slot


class Ahead:
    """How many requests to claim for places in flight that are still in use, by how long requests take. Pure."""

    def __init__(self) -> None:
        self._seconds = math.inf

    def learn(self, seconds: float) -> None:
        """A request took so long."""
        is_known = math.isfinite(self._seconds)
        self._seconds = seconds + (1 - _LATEST_SHARE) * (self._seconds - seconds) if is_known else seconds

    def forget(self) -> None:
        """Some waited in vain, so the vendor is slower than that: none are claimed before it has answered again."""
        self._seconds = math.inf

    def of(self, held: int) -> int:
        """How many of so many places become free before long."""
        return int(held * min(1.0, _REACH_SECONDS / max(self._seconds, _REACH_SECONDS)))


class Places:
    """So many requests of a flow are in flight at most as the gate gave it places.

    One thread takes requests and places in and gives places up; the event loop carries the requests.

    Attributes:
        held: How many there are, in use or idle; the gate counts them all as in flight.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Going] = deque()
        self._idle = 0
        self.held = 0

    @property
    def idle(self) -> int:
        """How many carry nothing."""
        return self._idle

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiting)

    def add(self, going: list[Going], places: int) -> list[Going]:
        """Take in new places, and requests in the order of their slots.

        Returns:
            Those that have a place, to be carried: `following` or `leave` tells when one has ended.
        """
        with self._lock:
            self.held += places
            idle = self._idle + places
            carried = going[:idle]
            self._idle = idle - len(carried)
            self._waiting.extend(going[idle:])
        return carried

    def following(self) -> Going | None:
        """A request has ended: the one that its place carries next; None: the place is idle."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle += 1
            return None

    def leave(self) -> None:
        """A request has ended in such a way that none shall follow it at once: its place is idle."""
        with self._lock:
            self._idle += 1

    def take_overdue(self, now: float) -> list[Going]:
        """Take out those that have waited longer than their slots allow, at an instant by `time.monotonic()`."""
        with self._lock:
            overdue = [going for going in self._waiting if going.slot.latest < now]
            if overdue:
                self._waiting = deque(going for going in self._waiting if going.slot.latest >= now)
        return overdue

    def give_up(self, *, but: int = 0) -> int:
        """Give up idle places, but for so many, and say how many: the gate has to be told."""
        with self._lock:
            given_up = max(0, self._idle - but)
            self._idle -= given_up
            self.held -= given_up
        return given_up
