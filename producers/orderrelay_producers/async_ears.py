"""Hearing of channels of Redis, in an event loop: all that is waited for, on one connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, cast

from orderrelay_producers.ears import is_refusal
from orderrelay_producers.failures import failures

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from redis.asyncio import Redis

#: One read of the connection takes so long at most, in seconds; then comes the next.
_READ_SECONDS: Final = 10.0


class Switchboard:
    """Listens for all ears of a loop; has a connection only while there are any.

    What it does on the connection it does in tasks of its own: who waits can be cancelled amid it, and is never kept.

    Args:
        client: Whose connection pool is used.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._ears: dict[bytes, set[AsyncEars]] = {}
        self._subscribed: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.may_not = False

    def join(self, ears: AsyncEars, channel: bytes) -> asyncio.Task[None]:
        """Begin soon to listen for ears."""
        return self._soon(self._join(ears, channel))

    def leave(self, ears: AsyncEars, channel: bytes) -> None:
        """End soon to listen for them."""
        self._soon(self._leave(ears, channel))

    async def aclose(self) -> None:
        """End all of it."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stop()

    def _soon(self, what: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _join(self, ears: AsyncEars, channel: bytes) -> None:
        async with self._changing:
            self._ears.setdefault(channel, set()).add(ears)
            try:
                if self._subscribed is None:
                    self._subscribed = cast("Any", self._client).pubsub()
                await self._subscribed.subscribe(channel)
            except failures() as error:
                self.may_not = is_refusal(error)
                await self._stop()
                return
            ears.is_heard = True
            if self._reading is None:
                self._reading = self._soon(self._read(self._subscribed))

    async def _leave(self, ears: AsyncEars, channel: bytes) -> None:
        async with self._changing:
            others = self._ears.get(channel, set())
            others.discard(ears)
            if others:
                return
            self._ears.pop(channel, None)
            try:
                if not self._ears:
                    await self._stop()
                elif self._subscribed is not None:
                    await self._subscribed.unsubscribe(channel)
            except failures():
                await self._stop()

    async def _stop(self) -> None:
        """Let go of the connection; all ears are deaf then, and those that still wait join again."""
        subscribed, self._subscribed = self._subscribed, None
        reading, self._reading = self._reading, None
        for ears in [one for some in self._ears.values() for one in some]:
            ears.become_deaf()
        if reading is not None and reading is not asyncio.current_task():
            reading.cancel()
        if subscribed is not None:
            await subscribed.aclose()

    async def _read(self, subscribed: Any) -> None:
        try:
            while True:
                message = await subscribed.get_message(timeout=_READ_SECONDS)
                if message is not None:
                    for ears in self._ears.get(message["channel"], ()):
                        ears.woken.set()
        except failures() as error:
            self.may_not = is_refusal(error)
            async with self._changing:
                if self._subscribed is subscribed:
                    await self._stop()


class AsyncEars:
    """As `Ears`, in an event loop.

    Args:
        board: Who listens.

    Attributes:
        is_heard: Whether the channel is heard.
        woken: Set by a word on the channel, and by every change of `is_heard`.
    """

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._channel: bytes | None = None
        self._joining: asyncio.Task[None] | None = None
        self.is_heard = False
        self.woken = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._channel is not None:
            self._board.leave(self, self._channel)

    def become_deaf(self) -> None:
        """Nothing is heard any more; who waits is told."""
        self.is_heard = False
        self.woken.set()

    async def hear(self, channel: str, seconds: float) -> bool:
        """As `Ears.hear`."""
        self._channel = channel.encode()
        is_joining = self._joining is not None and not self._joining.done()
        if not self.is_heard and not is_joining and not self._board.may_not:
            self._joining = self._board.join(self, self._channel)
        # The first message says that Redis has noted it.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        self.woken.clear()
        return self.is_heard
