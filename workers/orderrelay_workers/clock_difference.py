"""How far other clocks are from this host's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


def redis_seconds(client: redis.Redis) -> float:
    """Redis' clock, in epoch seconds."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1_000_000


def ahead_seconds(ask: Callable[[], float]) -> float:
    """How far a clock is ahead of this host's; the answer is taken to be of the middle of the round trip."""
    before = time.time()
    there = ask()
    return there - (before + time.time()) / 2
