"""Reading from a server for whoever asks for metrics, without ever holding them up for long."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Whoever asks is answered within so long, in seconds; what the server has not told by then is left out.
LONGEST_SECONDS: Final = 2.0

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class ReadingInTime(Generic[_T]):
    """One server, read in a thread of its own: not even a name server that hangs may hold up whoever asks.

    Args:
        name: What is read, for the thread and the log.
        read: Reads piece by piece; what it has given when time is up counts.
    """

    def __init__(self, name: str, read: Callable[[], Iterator[_T]]) -> None:
        self._name = name
        self._read = read
        self._at_it = threading.Lock()

    def take(self) -> tuple[list[_T], bool]:
        """All that could be read in time, and whether that is all there is."""
        ends_at = time.monotonic() + LONGEST_SECONDS
        if not self._at_it.acquire(timeout=LONGEST_SECONDS):
            return [], False  # the reading for somebody else still hangs
        told: queue.SimpleQueue[tuple[_T] | bool] = queue.SimpleQueue()
        thread = threading.Thread(target=self._tell, args=(told, ends_at), name=f"metrics {self._name}", daemon=True)
        thread.start()
        pieces: list[_T] = []
        while True:
            try:
                piece = told.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                return pieces, False
            if isinstance(piece, bool):
                return pieces, piece
            pieces.append(piece[0])

    def _tell(self, told: queue.SimpleQueue[tuple[_T] | bool], ends_at: float) -> None:
        try:
            for piece in self._read():
                told.put((piece,))
                if time.monotonic() > ends_at:
                    told.put(False)
                    return
            told.put(True)
        except (RedisError, SQLAlchemyError, OSError) as error:
            _log.debug("metrics_not_read", server=self._name, error=type(error).__name__)
            told.put(False)
        finally:
            self._at_it.release()
