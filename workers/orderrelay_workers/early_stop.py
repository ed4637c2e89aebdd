"""SIGTERM while a worker starts, before Celery listens to it: the process ends at once, with 0.

Without this it would end as if it had failed; and as the first process of a container, whose default is to ignore
the signal, it would start all the same and be killed when the time to stop is over.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

#: Not an Event: a second signal while one is being set would wait for its lock for ever.
_asked: list[int] = []


def listen() -> None:
    """From now on SIGTERM ends this process with 0, until somebody else handles the signal, as Celery will."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)


def treat_interrupts_alike() -> None:
    """Ctrl-C stops the worker as SIGTERM does: Celery would drain just so, but call that a failure."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))


def repeat() -> None:
    """Send SIGTERM again if it came before: where it met code that swallows every exception, the start went on."""
    if _asked:
        os.kill(os.getpid(), signal.SIGTERM)


def _leave(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    raise SystemExit(0)
