"""A pool of connections to Redis that hands the same ones out again at little cost.

redis-py does some 30 calls in Python to give a connection out and to take it back, which is more than an order costs
that is enqueued. Here a connection that came back sound stays at hand, in use as far as redis-py knows; it goes out
again after the one check that matters: that Redis has neither closed it nor said anything on it.
"""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any, Final

from redis import ConnectionPool

#: So long, in seconds, an answer is looked for before anybody sleeps until it comes; and so many are not looked for
#: after one that did not come in that time.
_LOOKS_SECONDS: Final = 0.0001
_NOT_LOOKED_FOR: Final = 100


class Line:
    """The socket of a connection from which all that came has been read: it may be used without redis-py in between.

    Attributes:
        socket: The socket.

    Raises:
        ValueError: It was just closed.
    """

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        poller = select.poll()
        poller.register(link, select.POLLIN)
        self._look = poller.poll
        self._not_looked_for = 0

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to be read, not even that Redis has closed it."""
        return not self._look(0)

    def look(self) -> bool:
        """Look for an answer for a tenth of a millisecond at most, so that who reads it need not sleep until it comes.

        A sleeper is woken late, and goes on slowly, as the processor has forgotten what it was at: that costs about as
        much as Redis takes for an order. Where answers take longer than that, hardly any is looked for.

        Returns:
            Whether it was seen.
        """
        if self._not_looked_for:
            self._not_looked_for -= 1
            return False
        ends_at = time.perf_counter() + _LOOKS_SECONDS
        while not self._look(0):
            if time.perf_counter() > ends_at:
                self._not_looked_for = _NOT_LOOKED_FOR
                return False
        return True


class KeepingPool(ConnectionPool):
    """As redis-py's; thread-safe, and after a fork the child has connections of its own."""

    def reset(self) -> None:
        """Forget all connections; redis-py calls it at the beginning and after a fork."""
        # Each once, whoever gives it back twice: two who have the same one would read each other's answers.
        self._at_hand: dict[Any, Line | None] = {}
        self._out: set[Any] = set()
        super().reset()

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """A connection that is ready for commands.

        Raises:
            ConnectionError: As redis-py's own.
        """
        return self.take_with_line(*args, **options)[0]

    def take_with_line(self, *args: Any, **options: Any) -> tuple[Any, Line | None]:
        """As `get_connection`, and the line of one that was at hand.

        Who has read all that came on the line gives the connection back by `keep`; who has had redis-py read it, by
        `release`.
        """
        while self._at_hand and self.pid == os.getpid():
            try:
                connection, line = self._at_hand.popitem()
            except KeyError:  # Another thread has it.
                break
            if line is None:
                if _is_quiet(connection):
                    self._out.add(connection)
                    return connection, _line(connection)
            elif connection._sock is line.socket and line.is_quiet:  # noqa: SLF001  redis-py tells it nowhere else
                self._out.add(connection)
                return connection, line
            connection.disconnect()
            super().release(connection)
        return super().get_connection(*args, **options), None

    def look(self, line: Line) -> None:
        """As `Line.look`, if no other thread is at such a connection: it would have better use for the time."""
        if len(self._out) == 1:
            line.look()

    def keep(self, connection: Any, line: Line) -> None:
        """Take a connection back whose line was used, and from which all is read again."""
        self._out.discard(connection)
        if _must_go(connection):
            super().release(connection)
        else:
            self._at_hand[connection] = line

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        self._out.discard(connection)
        if connection.pid == self.pid == os.getpid() and not _must_go(connection):
            self._at_hand[connection] = None
        else:
            super().release(connection)

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; without those in use, which to redis-py's own pool those at hand are too."""
        while self._at_hand and not inuse_connections and self.pid == os.getpid():
            try:
                connection, _ = self._at_hand.popitem()
            except KeyError:  # Another thread has it.
                break
            connection.disconnect()
            super().release(connection)
        super().disconnect(inuse_connections)


def _is_quiet(connection: Any) -> bool:
    """Whether a connection is open and nothing can be read from it, so that the next reply is to the next command."""
    if connection._sock is None:  # noqa: SLF001  asked anything, it would connect
        return False
    try:
        return not connection.can_read()
    except Exception:  # noqa: BLE001  where another thread closes it meanwhile, redis-py has a TypeError or an AttributeError
        return False


def _line(connection: Any) -> Line | None:
    """The line of a quiet connection; None: it has TLS, whose bytes on the socket are others, or it was just closed."""
    link = connection._sock  # noqa: SLF001  as above
    if type(link) is not socket.socket or not hasattr(select, "poll"):
        return None
    try:
        return Line(link)
    except ValueError:
        return None


def _must_go(connection: Any) -> bool:
    """Whether a connection is closed, or is to be after this use, as redis-py notes where Redis itself moves."""
    if connection._sock is None:  # noqa: SLF001  as above
        return True
    should_reconnect = getattr(connection, "should_reconnect", None)  # Before version 7 there is none.
    return should_reconnect is not None and should_reconnect()
