"""The round trips of `round_trip`, in an event loop."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from orderrelay_producers.async_ears import AsyncEars
from orderrelay_producers.failures import failures, seen
from orderrelay_producers.round_trip import Account, error_reply
from orderrelay_producers.steps import Pause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from orderrelay_producers.async_ears import Switchboard
    from orderrelay_producers.round_trip import Reply
    from orderrelay_producers.steps import Command, Exchange, Steps

_T = TypeVar("_T")

#: So many replies are read before others in the loop have their turn.
_READ_TOGETHER: Final = 50


async def run(client: Redis, steps: Steps[_T], board: Switchboard) -> _T:
    """Carry steps out in this event loop; otherwise as `round_trip.run`.

    Args:
        client: Whose connection pool is used.
        steps: What to do.
        board: Who listens, where steps wait for a channel.
    """
    result: Any = None
    with AsyncEars(board) as ears:
        while True:
            try:
                step = steps.send(result)
            except StopIteration as ended:
                return cast("_T", ended.value)
            if not isinstance(step, Pause):
                result = await _exchange(client, step)
            elif step.channel is not None:
                result = await ears.hear(step.channel, step.seconds)
            else:
                await asyncio.sleep(step.seconds)
                result = False


async def _exchange(client: Redis, exchange: Exchange) -> list[Reply]:
    async with AsyncTrip(client, exchange.deadline) as trip:
        for piece in exchange.pieces:
            await trip.send(piece)
            await asyncio.sleep(0)  # Others have their turn before the next piece is made.
        if exchange.meanwhile is not None:
            exchange.meanwhile()
        return await trip.replies(exchange.deadline)


class AsyncTrip(Account):
    """As `Trip`, in an event loop.

    Args:
        client: Whose connection pool is used.
        deadline: When to give up waiting for a connection, by `time.monotonic()`.
    """

    def __init__(self, client: Redis, deadline: float) -> None:
        self._pool = client.connection_pool
        self._deadline = deadline

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                self._connection = await self._pool.get_connection()
                if _is_closed_by_redis(self._connection):
                    await self._connection.disconnect(nowait=True)
                    await self._connection.connect()
        except failures() as error:
            self.reason = seen(error)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            if self._is_spent:
                await self._connection.disconnect(nowait=True)
            await self._pool.release(self._connection)

    async def send(self, commands: Sequence[Command | bytes]) -> None:
        """As `Trip.send`."""
        self._count += len(commands)
        if self.reason is not None:
            return
        try:
            if not self._departed:
                # Here, and not within sending, so that its failure proves that nothing was sent.
                await self._connection.check_health()
            packed = self._packed(commands)
            self._depart()
            await self._connection.send_packed_command(packed, check_health=False)
        except failures() as error:
            self.reason = seen(error)
        else:
            self._stay_on(self._connection._writer)  # noqa: SLF001  redis-py tells it nowhere else

    async def replies(self, deadline: float) -> list[Reply]:
        """As `Trip.replies`."""
        replies: list[Reply] = []
        if self.reason is None:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    for _ in self._left_to_answer:
                        if len(replies) % _READ_TOGETHER == _READ_TOGETHER - 1:
                            await asyncio.sleep(0)  # What is there already is read without a turn for others.
                        replies.append(self._note(await self._read()))
            except failures() as error:
                self.reason = seen(error)
        return self._filled_up(replies)

    async def _read(self) -> Reply:
        from redis.exceptions import RedisError  # noqa: PLC0415  loaded by the client; here only for its name

        try:
            # No time of its own: that of all replies together counts.
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf)
        except RedisError as error:
            return error_reply(error)


def _is_closed_by_redis(connection: Any) -> bool:
    """Whether Redis has closed a connection while nobody used it.

    The pool looks for that itself, but redis-py 8 does nothing about it where notifications of maintenance are on.
    """
    reader = connection._reader  # noqa: SLF001  redis-py tells it nowhere else
    return isinstance(reader, asyncio.StreamReader) and reader.at_eof()
