"""The workers of a run, and the supervisor that starts them again."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.chaos.nursery import ForkedProcess, Nursery
from tests.chaos.trapped import PRODUCER_POINTS, armed_file
from tests.servers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.world import World

#: A worker that was told to stop has exited after this time, in seconds; requests that are out take 2 at most.
STOP_SECONDS: Final = 40.0

#: Exit code of a worker that could not begin because Redis or the database was away.
_UNREACHABLE: Final = 3

#: A worker takes work after this time at most, in seconds.
_READY_SECONDS: Final = 60.0

#: A named point that no process has come by for so long is disarmed, in seconds.
_ARMED_SECONDS: Final = 15.0


@dataclass
class Worker:
    """One worker process, as its supervisor sees it."""

    process: ForkedProcess
    number: int
    is_frozen: bool = False
    stopped_at: float | None = None

    def __str__(self) -> str:
        return f"worker {self.number}"

    @property
    def is_ready(self) -> bool:
        """Whether it takes work."""
        return " ready." in self.process.log

    def await_ready(self) -> None:
        """Wait until it takes work."""
        wait_until(lambda: not self.process.is_running or self.is_ready, _READY_SECONDS, what=f"{self} is ready")
        assert self.process.is_running, f"{self} ended:\n{self.process.log[-4000:]}"

    @property
    def boot_id(self) -> str | None:
        """Its boot id, once it has begun."""
        found = re.search(r'"boot_id": ?"([0-9a-f-]+)"', self.process.log)
        return found[1] if found else None


class Crew:
    """The workers, as many as there shall be.

    Args:
        world: Where they work.
        folder: For the traps.
        wanted: How many there shall always be.

    Attributes:
        workers: Those that shall work.
        leaving: Those that were told to stop.
    """

    def __init__(self, world: World, folder: Path, wanted: int) -> None:
        self._world = world
        self._traps = folder / "traps"
        self._traps.mkdir()
        self._armed: dict[str, float] = {}
        self._nursery = Nursery(folder)
        self.workers: list[Worker] = []
        self.leaving: list[Worker] = []
        self._wanted = wanted
        self._begun = 0

    def begin(self) -> None:
        """Start all; returns when all take work."""
        for _ in range(self._wanted):
            self.start()
        for worker in self.workers:
            worker.await_ready()

    def start(self) -> Worker:
        """Start one; returns at once."""
        self._begun += 1
        worker = Worker(self.start_trapped("worker"), self._begun)
        self.workers.append(worker)
        return worker

    def start_trapped(self, *args: str, **environment: str) -> ForkedProcess:
        """Start the command with a trap at each named point."""
        variables = {**self._world.stack.environment, **environment, "CHAOS_TRAPS": str(self._traps)}
        return self._nursery.start(list(args), variables)

    def end(self) -> None:
        """Kill all processes."""
        self._nursery.end()

    @property
    def logs(self) -> list[Path]:
        """What all processes have written."""
        return [process.log_path for process in self._nursery.started]

    def arm(self, point: str) -> None:
        """Have the next process that comes by a named point die there."""
        self._armed[point] = self._world.now
        armed_file(self._traps, point).touch()

    def is_working(self) -> bool:
        """Whether at least one worker takes work."""
        return any(w.is_ready and not w.is_frozen and w.process.is_running for w in self.workers)

    def tick(self) -> None:
        """Start workers anew, see those off that were told to stop, and find out who fell into a trap."""
        self._look_after_traps()
        for worker in [w for w in self.workers if not w.process.is_running]:
            code = worker.process.wait()
            self.workers.remove(worker)
            if code == -signal.SIGKILL and self._armed_lately():
                self._world.deaths.note(worker.boot_id)
                self._world.say(f"{worker} died at a named point")
            elif code == _UNREACHABLE:
                self._world.counts["worker could not begin (exit 3), started again"] += 1
            else:
                self._world.violations.append(f"{worker} ended by itself with {code}: {worker.process.log_path}")
        for worker in list(self.leaving):
            self._see_off(worker)
        while len(self.workers) < self._wanted:
            self.start()

    def _armed_lately(self) -> bool:
        return bool(list(self._traps.glob("*.sprung.*"))) or bool(self._armed)

    def _look_after_traps(self) -> None:
        for point, since in list(self._armed.items()):
            armed = armed_file(self._traps, point)
            if not armed.exists():
                del self._armed[point]
                whose = "producer" if point in PRODUCER_POINTS else "worker"
                self._world.counts[f"kill -9 of a {whose} exactly: {point}"] += 1
            elif self._world.now - since > _ARMED_SECONDS:
                self.disarm(point)

    def disarm(self, point: str) -> None:
        """Let nobody die there."""
        del self._armed[point]
        armed_file(self._traps, point).unlink(missing_ok=True)

    def disarm_all(self) -> None:
        """Let nobody die at any point."""
        for point in list(self._armed):
            if armed_file(self._traps, point).exists():
                self.disarm(point)
        self._look_after_traps()

    def _see_off(self, worker: Worker) -> None:
        assert worker.stopped_at is not None
        took = self._world.now - worker.stopped_at
        if not worker.process.is_running:
            self.leaving.remove(worker)
            code = worker.process.wait()
            if code == -signal.SIGKILL and self._armed_lately():
                self._world.deaths.note(worker.boot_id)
            elif code not in (0, _UNREACHABLE):
                self._world.violations.append(f"{worker} exited {code} on SIGTERM: {worker.process.log_path}")
            self._world.say(f"{worker} exited {code} after {took:.1f} s")
        elif took > STOP_SECONDS:
            self.leaving.remove(worker)
            where = worker.process.log_path
            self._world.violations.append(f"{worker} still runs {took:.0f} s after SIGTERM: {where}")
            self.kill(worker)

    def kill(self, worker: Worker) -> None:
        """SIGKILL to a worker; what it held is watched from now on."""
        if worker in self.workers:
            self.workers.remove(worker)
        boot_id = worker.boot_id
        worker.process.kill9()
        self._world.deaths.note(boot_id)

    def stop(self, worker: Worker) -> None:
        """SIGTERM to a worker, which then has `STOP_SECONDS` to exit 0."""
        self.workers.remove(worker)
        worker.stopped_at = self._world.now
        self.leaving.append(worker)
        worker.process.sigterm()

    def stop_all(self) -> None:
        """SIGTERM to all workers; returns when they have exited."""
        self._wanted = 0
        while self.workers:
            self.stop(self.workers[0])
        while self.leaving:
            for worker in list(self.leaving):
                self._see_off(worker)
            time.sleep(0.05)
