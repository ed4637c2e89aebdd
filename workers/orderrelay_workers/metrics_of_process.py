"""The gauges of this process: whether it lives and takes work, its version, and what it left on its disk."""

from __future__ import annotations

import contextlib
import shutil
from importlib import metadata
from typing import TYPE_CHECKING, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orderrelay_workers.health import judge
from orderrelay_workers.metrics import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orderrelay_workers.health import Health, Vitals

_LIVE: Final = ("live", "1 if GET /live answers 200; 0: a restart would help.")
_READY: Final = ("ready", "1 if GET /ready answers 200; 0: this worker takes no work right now.")
_VERSION: Final = ("version_info", "Always 1; the version that this worker runs.")
_SPOOL: Final = (
    "spool_bytes",
    "Answers kept in files of this host: for a worker's start, or set aside as bad.",
)
_DISK: Final = ("disk_free_bytes", "Free disk where this worker keeps its state.")


class ProcessGauges(Collector):
    """Tells of this process.

    Args:
        vitals: The signs of its life.
        spool_folder: Where answers are kept that the database would not take.
    """

    def __init__(self, vitals: Vitals, spool_folder: Path) -> None:
        self._vitals = vitals
        self._spool_folder = spool_folder
        self._version = metadata.version("orderrelay")

    def begin(self) -> None:
        """Be asked from now on."""
        REGISTRY.register(self)

    def close(self) -> None:
        """Be asked no more."""
        REGISTRY.unregister(self)

    def collect(self) -> Iterable[Metric]:
        """The gauges as they are now."""
        return families(
            judge(self._vitals.signs()), self._version, spooled(self._spool_folder), free_bytes(self._spool_folder)
        )


def spooled(folder: Path) -> dict[str, int]:
    """How many bytes of answers wait in a spool folder for a worker's start, and how many are bad ones set aside."""
    return {"waiting": _bytes_of(folder.glob("*/*.jsonl")), "bad": _bytes_of(folder.glob("*/bad/*.jsonl"))}


def _bytes_of(files: Iterable[Path]) -> int:
    found = 0
    with contextlib.suppress(OSError):  # another worker of this host has just replayed one
        for file in files:
            found += file.stat().st_size
    return found


def free_bytes(folder: Path) -> int | None:
    """The free disk at a folder, which need not exist yet; None if that cannot be told."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return None


def families(health: Health, version: str, spool: dict[str, int], free: int | None) -> list[Metric]:
    """What was found, as Prometheus is told it."""
    live, ready, info, disk = (_gauge(*what) for what in (_LIVE, _READY, (*_VERSION, "version"), _DISK))
    live.add_metric([], float(not health.not_live))
    ready.add_metric([], float(not health.not_ready))
    info.add_metric([version], 1)
    files = _gauge(*_SPOOL, "part")
    for part, size in spool.items():
        files.add_metric([part], size)
    if free is not None:
        disk.add_metric([], free)
    return [live, ready, info, files, disk]


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"orderrelay_{name}", meaning, labels=labels)
