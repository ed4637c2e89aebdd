"""Hearing of a channel of Redis, in a thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from orderrelay_producers.failures import failures

if TYPE_CHECKING:
    from redis import Redis


class Ears:
    """Hears of one channel at a time, on a connection of its own that is opened at the first wait.

    Args:
        client: Whose connection pool is used.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._subscribed: Any = None
        self._may_not = False

    def close(self) -> None:
        """Hear nothing any more."""
        if self._subscribed is not None:
            self._subscribed.close()
            self._subscribed = None

    def hear(self, channel: str, seconds: float) -> bool:
        """Wait as `Pause` says.

        Returns:
            Whether the channel is heard; without that it only waits, or returns at once if it has just become deaf.
        """
        ends_at = time.monotonic() + seconds
        was_heard = self._subscribed is not None
        if not self._may_not:
            try:
                if self._subscribed is None:
                    self._subscribed = cast("Any", self._client).pubsub()
                    self._subscribed.subscribe(channel)
                # The first message says that Redis has noted it. No message, in time, is as good.
                self._subscribed.get_message(timeout=max(0.0, ends_at - time.monotonic()))
                return True
            except failures() as error:
                self._may_not = is_refusal(error)
                self.close()
        if not was_heard:
            time.sleep(max(0.0, ends_at - time.monotonic()))
        return False


def is_refusal(error: Exception) -> bool:
    """Whether Redis understood and refuses, as it will again."""
    from redis import exceptions  # noqa: PLC0415  redis takes long to import, and callers may never enqueue

    return isinstance(error, exceptions.ResponseError)
