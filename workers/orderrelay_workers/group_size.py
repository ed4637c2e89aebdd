"""How many orders share a request: learned from how requests end, per process and company. Pure.

A group begins small and doubles while full groups come back well and quickly; it halves as soon as one comes back in
any other way, and then takes longer to grow again.
"""

from __future__ import annotations

from typing import Final

_FIRST_SIZE: Final = 2

#: A group grows only while its request takes at most this share of the request timeout, and shrinks beyond the other.
_QUICK_SHARE, _SLOW_SHARE = 0.25, 0.5

#: So many full groups in a row must end well and quickly before the size doubles: at first, and at most.
_FIRST_PATIENCE, _MOST_PATIENCE = 2, 256


class GroupSize:
    """The size of a group, and what was learned of it.

    Args:
        most: The largest size; at least 1.
        timeout_seconds: The request timeout.

    Attributes:
        size: How many orders may share a request now.
    """

    def __init__(self, most: int, timeout_seconds: float) -> None:
        self._most = max(1, most)
        self._timeout_seconds = timeout_seconds
        self._patience = _FIRST_PATIENCE
        self._well = 0
        self.size = min(_FIRST_SIZE, self._most)

    def went_well(self, orders: int, seconds: float) -> None:
        """A request with so many orders was answered clearly, after so many seconds."""
        if orders > 1 and seconds > _SLOW_SHARE * self._timeout_seconds:
            self._shrink(orders)
        elif seconds > _QUICK_SHARE * self._timeout_seconds:
            self._well = 0
        elif orders >= self.size:  # a smaller group says nothing of how a larger one would fare
            self._well += 1
            if self._well >= self._patience:
                self._grow()

    def went_badly(self, orders: int) -> None:
        """A request with so many orders was refused, or its answer left them in doubt."""
        self._well = 0
        if orders > 1:
            self._shrink(orders)

    def did_not_fit(self, orders: int) -> None:
        """No more than so many orders fitted into a request."""
        self.size = max(1, min(self.size, orders))

    def _grow(self) -> None:
        self._well = 0
        if self.size > 1:  # a single order that goes well is no proof that groups do
            self._patience = max(_FIRST_PATIENCE, self._patience // 2)
        self.size = min(2 * self.size, self._most)

    def _shrink(self, orders: int) -> None:
        self._well = 0
        half = max(1, orders // 2)
        if half < self.size:  # else the size has fallen since that request went out
            self.size = half
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
