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

    def put(self, item: _Item) -> None:
        """Add an item; from any thread."""
        self._items.append(item)
        if len(self._items) >= self._enough:
            self._there.set()

    def take(self, most: int, *, timeout: float, linger_seconds: float) -> list[_Item]:
        """Wait for an item, then a moment for more, and take what is there; one thread at a time.

        Args:
            most: So many at most; as soon as they are there, nothing more is waited for.
            timeout: How long to wait for the first, in seconds.
            linger_seconds: How long others may join it.
        """
        if not self._wait(1, timeout):
            return []
        self._wait(most, linger_seconds)
        return [self._items.popleft() for _ in range(min(most, len(self._items)))]

    def _wait(self, enough: int, seconds: float) -> bool:
        """Wait until there are so many. False if time is over."""
        until = time.monotonic() + seconds
        self._enough = enough
        while len(self._items) < enough:
            self._there.clear()
            # What came before the event was cleared woke nobody, so look once more.
            if len(self._items) < enough and not self._there.wait(max(0.0, until - time.monotonic())):
                return len(self._items) >= enough
        return True
