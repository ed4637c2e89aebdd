"""The one event loop of a worker process, on which all requests to the vendor run concurrently."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from concurrent.futures import Future

_SWITCH_SECONDS = 0.0005

_Result = TypeVar("_Result")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415  there is none for Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class EventLoop:
    """An event loop in a thread of its own, for as long as the process works."""

    def __init__(self) -> None:
        # The loop computes most of the time. Threads that settle and claim give the interpreter away with each call of
        # the database or Redis, and would wait for their turn ten times as long by default.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._loop = _new_loop()
        self._running: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="vendor-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def start(self, coroutine: Coroutine[object, object, _Result]) -> Future[_Result]:
        """Start a coroutine on the loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def start_all(self, coroutines: Iterable[Coroutine[object, object, None]]) -> None:
        """Start coroutines on the loop, from any thread, in one step. Whoever needs their ends has them tell it."""
        self._loop.call_soon_threadsafe(self._begin, list(coroutines))

    def _begin(self, coroutines: list[Coroutine[object, object, None]]) -> None:
        for coroutine in coroutines:
            task = self._loop.create_task(coroutine)
            self._running.add(task)  # the loop itself keeps only a weak reference
            task.add_done_callback(self._running.discard)

    def run(self, coroutine: Coroutine[object, object, _Result]) -> _Result:
        """Run a coroutine on the loop and wait for its result."""
        return self.start(coroutine).result()

    def close(self) -> None:
        """Stop the loop. What still runs on it is abandoned."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()
