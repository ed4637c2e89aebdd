"""The proof of whether anything of a request was sent (docs/architecture.md, point 5).

`Connection.send` asks `Departure.begin` when the connection stands and a TLS handshake is done, right before it hands
the first byte to the socket: there the flag is set, or an exception leaves the server with no byte. Exception classes
prove nothing: a reset after the whole request was read may look like one before it was connected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class StartRefused(Exception):
    """The request may not start; raised where that leaves nothing of it sent."""


class Departure:
    """The first byte of one request: whether it may leave, and whether it has left.

    Args:
        may_start: Asked when the connection stands, just before the first byte.
    """

    __slots__ = ("_may_start", "refused", "sent")

    def __init__(self, may_start: Callable[[], bool]) -> None:
        self._may_start = may_start
        self.sent = False
        self.refused = False

    def begin(self) -> None:
        """Note that the first byte leaves now.

        Raises:
            StartRefused: It may not leave; a request that has left may not leave again.
        """
        if self.sent or not self._may_start():
            self.refused = True
            raise StartRefused
        self.sent = True
