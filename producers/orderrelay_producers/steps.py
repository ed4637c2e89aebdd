"""What a producer does, as steps: all that is decided, once; carried out by threads and by event loops alike.

A function that returns `Steps` is a generator. It yields what it needs done, gets the result back, and does nothing
itself: `round_trip.run` carries the steps out in a thread, `async_round_trip.run` in an event loop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Command = Sequence[bytes | str | int]

_T = TypeVar("_T")

#: A longer timeout is taken for this one, in seconds: 11 days. No socket waits longer than 24.
_LONGEST_SECONDS: Final = 1_000_000.0

#: Connections wait so long, in seconds, for one step of connecting: half of what the caller allows, rounded down.
#: A closed list, so that callers with ever other timeouts do not open ever other connections.
_STEP_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


@dataclass(slots=True)
class Exchange:
    """A round trip to Redis; its result is a list with a reply to each command, in order (see `round_trip.Reply`).

    Attributes:
        pieces: The commands, which may be made as they are sent, so that Redis works on one piece while the next is
            made. Those that are bytes are packed already.
        deadline: When to give up waiting for replies, by `time.monotonic()`; may be moved while pieces are made.
        meanwhile: Called when all was sent, or could not be, before replies are waited for: for what needs none.
    """

    pieces: Iterable[Sequence[Command | bytes]]
    deadline: float
    meanwhile: Callable[[], object] | None = None


@dataclass(slots=True)
class Pause:
    """A wait; its result is whether the channel is heard, so that the wait may be long.

    Attributes:
        seconds: How long at most.
        channel: A channel of Redis; with the first word on it the wait ends. The first wait of some steps for a channel
            begins to listen, and ends as soon as nothing can be missed any more.
    """

    seconds: float
    channel: str | None = None


Steps: TypeAlias = Generator[Exchange | Pause, Any, _T]


def ask_redis(*command: bytes | str | int, deadline: float) -> Steps[Any]:
    """One command, and the reply to it."""
    (reply,) = yield Exchange([[command]], deadline)
    return reply


def seconds_of(timeout: float) -> float:
    """A timeout as a caller gave it, in seconds, but no longer than 11 days.

    Args:
        timeout: A number; infinity too. What is below 0 is time that was left and is over: 0.

    Raises:
        ValueError: It is none.
    """
    if isinstance(timeout, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]  not everybody checks types
        if timeout >= 0:
            return min(_LONGEST_SECONDS, timeout)
        if timeout < 0:
            return 0.0
    raise ValueError(f"timeout is {timeout!r}; it must be a number of seconds, such as 5.0")


@lru_cache(64)
def step_seconds(timeout: float) -> float:
    """How long connections of a call with that timeout, in seconds, wait for one step of connecting."""
    return _STEP_SECONDS[max(0, bisect_right(_STEP_SECONDS, timeout / 2) - 1)]
