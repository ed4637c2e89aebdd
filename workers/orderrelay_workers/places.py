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

#: What is known of the latency keeps this share with each request that is answered.
_KEPT_SHARE = 0.98


class Ahead:
    """How many requests to claim for places in flight that are still in use, by how long requests take. Pure."""

    def __init__(self) -> None:
        self._seconds = math.inf

    def learn(self, seconds: float, requests: int) -> None:
        """So many requests were answered after so long on average."""
        known = self._seconds if math.isfinite(self._seconds) else seconds
        self._seconds = seconds + _KEPT_SHARE**requests * (known - seconds)

    def in_vain(self) -> None:
        """Some waited and got no place: half as many may wait from now on, until answers come sooner."""
        self._seconds = 2 * max(self._seconds, _REACH_SECONDS)

    def of(self, held: int) -> int:
        """How many of so many places become free before long."""
        return int(held * min(1.0, _REACH_SECONDS / max(self._seconds, _REACH_SECONDS)))


@dataclass(frozen=True, slots=True)
class Going:
    """A request that may start in its slot, as soon as it has a place in flight."""

    request: Request
    slot: Slot


class Places:
    """So many requests of a flow are in flight at most as the gate gave it places.

    One thread takes requests and places in and gives places up; the event loop carries the requests.

    Attributes:
        held: How many there are, in use or idle; the gate counts them all as in flight.
        share: While more than so many are in use, a place of which a request has ended is idle, though others wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Going] = deque()
        self._idle = 0
        self.held = 0
        self.share = math.inf

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
            if self._waiting and self.held - self._idle <= self.share:
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

    def give_up(self, *, keep: int = 0, but: int = 0) -> int:
        """Give up idle places, and say how many: the gate has to be told.

        Args:
            keep: Not those up to so many in all.
            but: Nor so many idle ones.
        """
        with self._lock:
            in_use = self.held - self._idle
            given_up = max(0, self._idle - max(but, keep - in_use))
            self._idle -= given_up
            self.held -= given_up
        return given_up
