"""How long a duty rests that reads all that waits, so that its cost stays the same however much that is."""

from __future__ import annotations

import math
from typing import Final

#: Such a duty takes so large a share of one worker's time at most,
_SHARE: Final = 0.02

#: but is done once in so many seconds at least; what it publishes lives for a minute.
_LONGEST_SECONDS: Final = 30


def seconds_to_rest(took_seconds: float, *, at_least: int) -> int:
    """In how many whole seconds a duty is to be done again.

    Args:
        took_seconds: How long it took this time.
        at_least: So long it rests in any case, in seconds.
    """
    return max(at_least, min(_LONGEST_SECONDS, math.ceil(took_seconds / _SHARE)))
