"""Whether this worker is alive and takes work, decided by what it did lately and not by the fact that it exists.

*Live* is false only where a restart can help: a duty hangs, or the worker is deaf. *Ready* is false whenever the
worker would take no work right now, so also while Redis or the database is away, which no restart mends.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers.ears import Stretch

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_workers.ears import Ears

BEAT, LISTEN = "beat", "listen"

#: A duty that has not come to an end for so long hangs, in seconds; the database may take 60 for a statement.
HANGS_AFTER_SECONDS = 90.0

#: A worker that hears nothing for so long, although the broker answers, is not live, in seconds. It should have ended
#: by itself long before.
DEAF_AFTER_SECONDS = 60.0

#: A worker that is ready has beaten, and heard something, within so many seconds.
_BEAT_SECONDS = 5.0
_HINT_SECONDS = 15.0

#: The health server's own thread looks up twice a second; after a longer gap, in seconds, this process was frozen.
_FROZEN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of this worker's life.

    Attributes:
        draining: Whether it takes no more work because it is to end.
        beat_seconds: How long ago the ledger took its last beat, and Redis the rest of that duty; None: never yet.
        beat_trouble: Why the newest beat failed, in words; None: it did not.
        hanging: Duties that have not come to an end for too long, with the seconds.
        hint_seconds: How long ago a Celery message came round; None: never yet.
        deaf_seconds: How long none came round although the broker answers.
    """

    draining: bool = False
    beat_seconds: float | None = None
    beat_trouble: str | None = None
    hanging: tuple[tuple[str, float], ...] = ()
    hint_seconds: float | None = None
    deaf_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict, each in words: why this worker is not live, and why it is not ready. Nothing there: it is."""

    not_live: tuple[str, ...]
    not_ready: tuple[str, ...]


def judge(signs: Signs | None) -> Health:
    """The verdict over a worker; None: it is still starting."""
    if signs is None:
        return Health((), ("starting",))
    not_live = [f"the duty {name!r} has not come to an end for {seconds:.0f} s" for name, seconds in signs.hanging]
    # A worker that drains takes no messages any more.
    if signs.deaf_seconds > DEAF_AFTER_SECONDS and not signs.draining:
        not_live.append(f"deaf: Redis answers, but no hint came round for {signs.deaf_seconds:.0f} s")
    not_ready = ["draining"] if signs.draining else []
    if signs.beat_trouble is not None:
        not_ready.append(f"the beat fails: {signs.beat_trouble}")
    elif signs.beat_seconds is None or signs.beat_seconds > _BEAT_SECONDS:
        not_ready.append(f"no beat {_since(signs.beat_seconds)}")
    if signs.hint_seconds is None or signs.hint_seconds > _HINT_SECONDS:
        not_ready.append(f"no hint came round {_since(signs.hint_seconds)}")
    return Health(tuple(not_live), (*not_live, *not_ready))


def _since(seconds: float | None) -> str:
    return "yet" if seconds is None else f"for {seconds:.0f} s"


def words_for(error: Exception) -> str:
    """What failed, without a word of the error's own text, which may hold an address."""
    if isinstance(error, RedisError):
        return f"Redis ({type(error).__name__})"
    if isinstance(error, SQLAlchemyError):
        return f"the database ({type(getattr(error, 'orig', None) or error).__name__})"
    return type(error).__name__


class Vitals:
    """Collects the signs of this worker's life.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._awake = Stretch(_FROZEN_SECONDS, clock)
        self._ears: Ears | None = None
        self._draining: Callable[[], bool] | None = None
        self._ended_at: dict[str, float] = {}
        self._beat_at: float | None = None
        self._beat_trouble: str | None = None

    def begin(self, ears: Ears, draining: Callable[[], bool]) -> None:
        """The worker has started, and its duties begin."""
        with self._lock:
            self._ears, self._draining = ears, draining
            self._ended_at = dict.fromkeys((BEAT, LISTEN), self._clock())

    def duty_ended(self, name: str, trouble: str | None) -> None:
        """A duty has come to an end, or failed with trouble in words."""
        with self._lock:
            if name in self._ended_at:
                self._ended_at[name] = self._clock()
            if name == BEAT:
                self._beat_trouble = trouble
                if trouble is None:
                    self._beat_at = self._clock()

    def awake(self) -> None:
        """This process runs. Without this, being frozen would look like hanging for a moment afterwards."""
        with self._lock:
            self._awake.note()

    def signs(self) -> Signs | None:
        """What is known now; None before `begin`."""
        with self._lock:
            if self._ears is None or self._draining is None:
                return None
            now, awake_seconds = self._clock(), self._awake.seconds
            ended = {name: min(now - at, awake_seconds) for name, at in self._ended_at.items()}
            return Signs(
                draining=self._draining(),
                beat_seconds=None if self._beat_at is None else now - self._beat_at,
                beat_trouble=self._beat_trouble,
                hanging=tuple((name, seconds) for name, seconds in ended.items() if seconds > HANGS_AFTER_SECONDS),
                hint_seconds=self._ears.silent_seconds if self._ears.has_heard else None,
                deaf_seconds=self._ears.deaf_seconds,
            )
