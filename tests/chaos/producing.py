"""A producer that is killed again and again: it enqueues files with the command, and runs it again until it is done."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from tests.chaos.trapped import PRODUCER_POINTS
from tests.stack import order

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.world import World

_FILES_AT_LEAST = 8
_FILE_ORDERS = 200

#: So many runs are killed after a while, and so many just after the orders are in the stream.
_KILLED_SHARE = 0.25
_TRAPPED_SHARE = 0.15
_RUN_SECONDS = 60.0

#: Exit codes of the command: all taken; Redis unreachable or the queue full.
_TAKEN, _UNREACHABLE = 0, 3


class Producing:
    """Enqueues so many orders, in files that begin at even times over the run.

    Args:
        world: Where.
        folder: For the files.
        orders: How many.
        seconds: All files have begun after this time.
        seed: Of the kills.
    """

    def __init__(self, world: World, folder: Path, orders: int, seconds: float, seed: int) -> None:
        self._world = world
        self._seconds = seconds
        self._chance = random.Random(f"producer:{seed}")
        self.external_ids = [f"C{seed}-{number:05}" for number in range(orders)]
        self.runs: Counter[str] = Counter()
        count = self._count = max(_FILES_AT_LEAST, orders // _FILE_ORDERS)
        self._files = [self._write(folder / f"orders-{n}.jsonl", self.external_ids[n::count]) for n in range(count)]
        self._taken_at: dict[Path, float] = {}
        self._thread = threading.Thread(target=self._enqueue_all, name="producing", daemon=True)
        self._stop = threading.Event()

    @staticmethod
    def _write(path: Path, external_ids: list[str]) -> Path:
        path.write_text("".join(json.dumps(order(external_id)) + "\n" for external_id in external_ids))
        return path

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether every file was taken at least once."""
        return len(self._taken_at) == len(self._files)

    def stop(self) -> None:
        """No more kills, and no file begins; returns when the last command has ended."""
        self._stop.set()
        self._thread.join(_RUN_SECONDS + 30)
        assert not self._thread.is_alive()

    def _enqueue_all(self) -> None:
        for number, path in enumerate(self._files):
            while self._world.now < number * self._seconds / self._count and not self._stop.wait(0.1):
                pass
            while not self._stop.is_set() and not self._enqueue(path, may_kill=True):
                self._stop.wait(0.2)

    def _enqueue(self, path: Path, *, may_kill: bool) -> bool:
        began_at = self._world.now
        draw = self._chance.random() if may_kill else 1.0
        if draw < _TRAPPED_SHARE:
            self._world.crew.arm(next(iter(PRODUCER_POINTS)))
        process = self._world.crew.start_trapped(
            "enqueue", str(path), "--company", self._world.company, "--json", **self._world.producer_environment()
        )
        if _TRAPPED_SHARE <= draw < _TRAPPED_SHARE + _KILLED_SHARE:
            self._stop.wait(self._chance.uniform(0.2, 1.5))
            if process.is_running:
                process.kill9()
                self._world.counts["kill -9 of a producer"] += 1
                self.runs["killed"] += 1
                return False
        if not may_kill:
            self._world.wait(lambda: not process.is_running, _RUN_SECONDS, what=f"{process!r} has ended")
        code = process.wait(_RUN_SECONDS)
        self.runs[f"exit {code}"] += 1
        if code not in (_TAKEN, _UNREACHABLE) and not (may_kill and code == -signal.SIGKILL):
            self._world.violations.append(f"enqueue exited {code}: {process.log[-500:]}")
        if code == _TAKEN:
            self._taken_at[path] = began_at
        return code == _TAKEN

    def finish(self, timeout: float) -> None:
        """See that all that is accepted gets booked; then enqueue again what a wipe of Redis may have taken away."""
        kept = [path for path in self._files if self._taken_at.get(path, -1.0) > self._world.wiped_at]
        self._await_booked(kept, timeout, "what was accepted after the last wipe is booked")
        again = [path for path in self._files if path not in kept]
        for path in again:
            self._world.wait(partial(self._enqueue, path, may_kill=False), timeout, what=f"{path.name} is taken")
        self._await_booked(again, timeout, "what was enqueued again is booked")

    def _await_booked(self, files: list[Path], timeout: float, what: str) -> None:
        wanted = {x for path in files for x in self._in_file(path)}
        self._world.wait(lambda: wanted <= self._world.stack.states().keys(), timeout, what=what)

    def _in_file(self, path: Path) -> list[str]:
        return self.external_ids[self._files.index(path) :: self._count]
