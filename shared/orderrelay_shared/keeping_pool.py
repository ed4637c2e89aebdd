"""A pool of connections to Redis that hands the same ones out again at little cost.

redis-py does some 30 calls in Python to give a connection out and to take it back, which is more than an order costs
that is enqueued. Here a connection that came back sound stays at hand, in use as far as redis-py knows; it goes out
again after the one check that matters: that Redis has neither closed it nor said anything on it.
"""

from __future__ import annotations

import os
from typing import Any

from redis import ConnectionPool


class KeepingPool(ConnectionPool):
    """As redis-py's; thread-safe, and after a fork the child has connections of its own."""

    def reset(self) -> None:
        """Forget all connections; redis-py calls it at the beginning and after a fork."""
        # Each once, whoever gives it back twice: two who have the same one would read each other's answers.
        self._at_hand: dict[Any, None] = {}
        super().reset()

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """A connection that is ready for commands.

        Raises:
            ConnectionError: As redis-py's own.
        """
        while self._at_hand and self.pid == os.getpid():
            try:
                connection, _ = self._at_hand.popitem()
            except KeyError:  # Another thread has it.
                break
            if _is_quiet(connection):
                return connection
            connection.disconnect()
            super().release(connection)
        return super().get_connection(*args, **options)

    def release(self, connection: Any) -> None:
        """Take a connection back."""
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
    if connection._sock is None:  # noqa: SLF001  redis-py tells it nowhere else; asked anything, it would connect
        return False
    try:
        return not connection.can_read()
    except Exception:  # noqa: BLE001  where another thread closes it meanwhile, redis-py has a TypeError or an AttributeError
        return False


def _must_go(connection: Any) -> bool:
    """Whether a connection is closed, or is to be after this use, as redis-py notes where Redis itself moves."""
    if connection._sock is None:  # noqa: SLF001  as above
        return True
    should_reconnect = getattr(connection, "should_reconnect", None)  # Before version 7 there is none.
    return should_reconnect is not None and should_reconnect()
