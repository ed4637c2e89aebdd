"""What goes wrong between an in-memory producer and its Redis, as long as the test says so."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orderrelay_producers.errors import QueueFull, QueueUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNREACHABLE: Final = "Redis cannot be reached (the test says so)"
_LOST: Final = "Redis did not answer in time (the test says so)"


@dataclass(slots=True)
class Trouble:
    """One thing that goes wrong for now.

    Attributes:
        error: What the caller sees.
        taken: With `QueueUnavailable`: the order was taken all the same.
        left: How many calls it still strikes; None for all.
        reason: What was seen.
    """

    error: type[QueueUnavailable | QueueFull]
    taken: bool
    left: int | None
    reason: str


class Troubles:
    """Has calls go wrong. Thread-safe."""

    def __init__(self) -> None:
        self._troubles: list[Trouble] = []
        self._troubles_lock = threading.Lock()

    @contextmanager
    def unavailable(
        self, *, times: int | None = None, taken: bool = False, reason: str | None = None
    ) -> Iterator[None]:
        """Within the block every call meets a Redis that does not answer: `QueueUnavailable`.

        Args:
            times: So many calls at most, the next ones go well; None: all.
            taken: Whether orders are taken all the same, and only the answer is lost: `error.maybe_taken` is true,
                and enqueueing `error.order` again is one order.
            reason: What was seen, in words.
        """
        told = reason if reason is not None else (_LOST if taken else _UNREACHABLE)
        with self._having(Trouble(QueueUnavailable, taken, times, told)):
            yield

    @contextmanager
    def full(self, *, times: int | None = None) -> Iterator[None]:
        """Within the block every call finds that too many orders wait: `QueueFull`.

        Args:
            times: So many calls at most, the next ones find room; None: all. With `block=True` the producer's own
                tries count, so that the order gets in, and no time passes.
        """
        with self._having(Trouble(QueueFull, False, times, "")):
            yield

    @contextmanager
    def _having(self, trouble: Trouble) -> Iterator[None]:
        with self._troubles_lock:
            self._troubles.append(trouble)
        try:
            yield
        finally:
            with self._troubles_lock:
                # By identity, as another one may be equal.
                self._troubles = [one for one in self._troubles if one is not trouble]

    def strike(self, kind: type[QueueUnavailable | QueueFull]) -> Trouble | None:
        """What goes wrong of that kind in this call; counts it."""
        with self._troubles_lock:
            for trouble in reversed(self._troubles):
                if trouble.error is kind and trouble.left != 0:
                    if trouble.left is not None:
                        trouble.left -= 1
                    return trouble
        return None
