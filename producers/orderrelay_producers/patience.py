"""Waiting until there is room in the queue."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

from orderrelay_producers.steps import Pause

if TYPE_CHECKING:
    from orderrelay_producers.steps import Steps

#: The first wait, in seconds, and the longest. Workers count what waits in the ledger every few seconds.
_FIRST_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 2.0

#: With less time left than this, in seconds, Redis might not answer one more try.
_TOO_SHORT_SECONDS: Final = 0.1


class Patience:
    """Waits longer and longer for room, with jitter, until there was none for so many seconds.

    Args:
        seconds: How long; 0: it does not wait at all.
        ends_at: When it ends at the latest, by `time.monotonic()`.
    """

    def __init__(self, seconds: float, *, ends_at: float = float("inf")) -> None:
        self._seconds = seconds
        self._latest = ends_at
        self.encourage()

    def encourage(self) -> None:
        """There was room: it begins anew."""
        self._tries = 0
        self._ends_at: float | None = None

    def wait(self) -> Steps[bool]:
        """Wait before the next try. False, at once, if there shall be none."""
        if self._ends_at is None:
            self._ends_at = min(self._latest, time.monotonic() + self._seconds)
        left = self._ends_at - time.monotonic()
        if left < _TOO_SHORT_SECONDS:
            return False
        ceiling = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(self._tries, 60))
        self._tries += 1
        yield Pause(min(ceiling * random.uniform(0.5, 1.0), left / 2))
        return True
