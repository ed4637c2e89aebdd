"""Makes sure that this worker is not deaf: sends itself canaries, and does something about it if none come round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_workers.ears import Ears
    from orderrelay_workers.runtime import Runtime

#: A worker that has heard nothing for so long sends itself a canary, in seconds.
_QUIET_SECONDS = 4.0

#: A worker that is deaf for so long connects to its broker anew, and is given up after the second, in seconds.
RECONNECT_AFTER_SECONDS = 6.0
GIVE_UP_AFTER_SECONDS = 20.0

_log = structlog.get_logger(__name__)


class Listening:
    """The duty of one worker to hear.

    Args:
        ears: What it has heard.
        reconnect: Makes Celery connect to its broker anew.
        give_up: Called with the reason when that did not help.
    """

    def __init__(self, ears: Ears, reconnect: Callable[[], None], give_up: Callable[[str], None]) -> None:
        self._ears = ears
        self._reconnect = reconnect
        self._give_up = give_up
        self._reconnected = False

    def listen(self, worker: Runtime) -> None:
        """Have a canary come round if nothing else did lately; despair by degrees if none does."""
        if worker.draining.is_set():
            return
        if self._ears.silent_seconds >= _QUIET_SECONDS and worker.hints.canary(worker.boot_id):
            self._ears.broker_answered()
        deaf_seconds = self._ears.deaf_seconds
        if deaf_seconds >= GIVE_UP_AFTER_SECONDS:
            self._give_up(f"deaf: the broker answers, but no hint came round for {deaf_seconds:.0f} s")
        elif deaf_seconds >= RECONNECT_AFTER_SECONDS and not self._reconnected:
            _log.warning("worker_is_deaf", seconds=round(deaf_seconds), remedy="connects to its broker anew")
            self._reconnected = True
            self._reconnect()
        elif deaf_seconds < RECONNECT_AFTER_SECONDS and self._reconnected:
            _log.info("worker_hears_again")
            self._reconnected = False
