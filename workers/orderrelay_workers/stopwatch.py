"""Elapsed time that a frozen or suspended machine cannot hide."""

from __future__ import annotations

import time
from dataclasses import dataclass


def _since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # counts a suspended machine's sleep; Linux has it
    return time.monotonic() if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Tells the larger of what two clocks say has passed since it was started.

    The monotonic clock may stand still while a virtual machine is paused, and the wall clock may be set back. A start
    fence has to hold through both.
    """

    boot_seconds: float
    wall_seconds: float

    @classmethod
    def start(cls) -> Stopwatch:
        """A stopwatch that runs from now."""
        return cls(_since_boot(), time.time())

    def elapsed_seconds(self) -> float:
        """Seconds since the start."""
        return max(_since_boot() - self.boot_seconds, time.time() - self.wall_seconds)
