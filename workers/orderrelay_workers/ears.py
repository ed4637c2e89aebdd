"""What this worker hears: whether Celery messages still come round to it, and since when they should.

A worker can be deaf: its process lives and beats, but its connection to the broker is broken in a way that nobody
noticed. Only a message that comes round proves the contrary.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Redis takes a message every second or so. After a longer gap, in seconds, it was away, or this process was frozen.
_GAP_SECONDS = 8.0

#: Celery takes messages at the latest so long after the start, in seconds; before, nobody is deaf.
_OPENED_WITHIN_SECONDS = 60.0


class Stretch:
    """How long something that recurs has been recurring without a gap.

    Args:
        gap_seconds: A longer silence begins a new stretch.
        clock: Seconds that only go forward.
    """

    def __init__(self, gap_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap_seconds = gap_seconds
        self._clock = clock
        self._began_at = self._last_at = float("-inf")

    def note(self) -> None:
        """It happened."""
        now = self._clock()
        if now - self._last_at > self._gap_seconds:
            self._began_at = now
        self._last_at = now

    def end(self) -> None:
        """The next time begins a new stretch."""
        self._last_at = float("-inf")

    @property
    def seconds(self) -> float:
        """How long it has been so; 0 if the last time is too long ago."""
        now = self._clock()
        return now - self._began_at if now - self._last_at <= self._gap_seconds else 0.0


class Ears:
    """What this worker has heard, told by its tasks and by whoever sends it canaries.

    Args:
        threads: So many tasks run at most; while all do, no message is taken, and none is missed.
        clock: Seconds that only go forward.
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._heard_at = clock() + _OPENED_WITHIN_SECONDS
        self._has_heard = False
        self._unanswered = Stretch(_GAP_SECONDS, clock)

    def open(self) -> None:
        """Celery takes messages from now on."""
        with self._lock:
            self._heard_at = self._clock()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A task runs: a message has come round."""
        with self._lock:
            self._running += 1
            self._heard_at, self._has_heard = self._clock(), True
            self._unanswered.end()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._unanswered.end()
                self._heard_at = self._clock()  # if all threads were at work, the next message can come from now on

    def broker_answered(self) -> None:
        """The broker has taken a message for this worker, or has one already."""
        with self._lock:
            self._unanswered.note()

    @property
    def tasks_running(self) -> int:
        """How many tasks run right now."""
        with self._lock:
            return self._running

    @property
    def has_heard(self) -> bool:
        """Whether any message has come round since the start."""
        with self._lock:
            return self._has_heard

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been heard; 0 while all threads are at work, and before there is anything to hear."""
        with self._lock:
            return 0.0 if self._running >= self._threads else max(0.0, self._clock() - self._heard_at)

    @property
    def deaf_seconds(self) -> float:
        """How long a message for this worker has not come round; 0 if the broker took none, or not lately."""
        with self._lock:
            return 0.0 if self._running >= self._threads else self._unanswered.seconds
