"""Who used the processor: the processes of a bench, by group, and whatever else ran on the machine."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Reading:
    """Seconds of processor time so far.

    Attributes:
        at: When it was read, by `time.monotonic()`.
        machine: Used on all cores since the machine started.
        own: Used by this process and by those children that it has waited for.
        groups: Used by each group of processes.
    """

    at: float
    machine: float
    own: float
    groups: Mapping[str, float]


@dataclass(frozen=True)
class Load:
    """What was used between two readings.

    Attributes:
        seconds: How long that was.
        groups: Seconds of processor time of each group.
        foreign_cores: How many cores' worth was used by processes that are not of the bench, or taken by other machines
            on the same hardware.
    """

    seconds: float
    groups: Mapping[str, float]
    foreign_cores: float


def load_between(first: Reading, last: Reading) -> Load:
    """The difference of two readings."""
    seconds = last.at - first.at
    groups = {name: last.groups[name] - used for name, used in first.groups.items()}
    foreign = (last.machine - first.machine) - (last.own - first.own) - sum(groups.values())
    return Load(seconds, groups, max(0.0, foreign / seconds))


class Meter:
    """Reads the processor time of groups of processes, each given by its oldest processes' ids."""

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups

    def read(self) -> Reading:
        """The time used so far."""
        groups = {name: sum(_used_by_tree(pid) for pid in pids) for name, pids in self._groups.items()}
        return Reading(time.monotonic(), _used_on_machine(), _used_by(psutil.Process()), groups)


def resident_mb(pids: Iterable[int]) -> list[float]:
    """The resident memory of each process and its descendants together, in MB of 10^6 bytes."""
    return [round(sum(_resident(process) for process in _tree(pid)) / 1e6, 1) for pid in pids]


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def _used_by_tree(pid: int) -> float:
    return sum(_used_by(process) for process in _tree(pid))


def _used_by(process: psutil.Process) -> float:
    """By a process, and by those children that ended: they are in no tree any more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _used_on_machine() -> float:
    """Whatever was not idle; only Linux tells of interrupts and of time that was taken."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")))
