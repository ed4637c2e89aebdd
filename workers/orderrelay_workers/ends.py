"""What has ended on the event loop, handed in batches to the thread that settles it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Ends(Generic[_Item]):
    """A queue from one thread to another that wakes the taker for a batch, not for each item.

    A wake-up costs more than most of what is done with an item, and takes the interpreter from whoever makes the next.
    """

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._there = threading.Event()
        self._enough = 1
        self._is_woken = False

    def put(self, item: _Item) -> None:
        """Add an item; from any thread."""
        self._items.append(item)
        if len(self._items) >= self._enough:
            self._there.set()

    def wake(self) -> None:
        """Have the taker wait no longer, this time or the next; from any thread."""
        self._is_woken = True
        self._there.set()

    def take(self, most: int, *, timeout: float, linger_seconds: float) -> list[_Item]:
        """Wait for an item, then a moment for more, and take what is there: nothing, if time is over, or when woken.

        Only one thread at a time may take.

        Args:
            most: So many at most; as soon as they are there, nothing more is waited for.
            timeout: How long to wait for the first, in seconds.
            linger_seconds: How long others may join it.
        """
        if self._wait(1, timeout):
            self._wait(most, linger_seconds)
        self._is_woken = False
        return [self._items.popleft() for _ in range(min(most, len(self._items)))]

    def _wait(self, enough: int, seconds: float) -> bool:
        """Wait until there are so many. False if there are fewer: time is over, or somebody wants the taker."""
        until = time.monotonic() + seconds
        self._enough = enough
        while len(self._items) < enough and not self._is_woken:
            self._there.clear()
            # What came before the event was cleared woke nobody, so look once more.
            if len(self._items) >= enough or self._is_woken or not self._there.wait(until - time.monotonic()):
                break
        return len(self._items) >= enough
