"""What a worker process does about its memory, seen in a real one."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from tests.servers import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack import Stack

#: Python runs it at the start of each process that finds it; a signal that nobody else uses makes the process tell.
_AT_START = """
import gc, json, os, signal, sys
def tell(*_):
    packages = sorted({name.partition(".")[0] for name in sys.modules})
    told = {"packages": packages, "frozen": gc.get_freeze_count(), "threshold": gc.get_threshold()[0]}
    with open(os.environ["TOLD"] + ".new", "w") as file:
        json.dump(told, file)
    os.rename(file.name, os.environ["TOLD"])
signal.signal(signal.SIGWINCH, tell)
"""

#: Celery's console and structlog's tracebacks would bring them.
_NOT_FOR_WORKERS = {"IPython", "prompt_toolkit", "pygments", "rich"}


def _told_by_a_worker(stack: Stack, folder: Path) -> dict[str, Any]:
    (folder / "sitecustomize.py").write_text(_AT_START)
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    told = folder / "told"
    worker = stack.worker(PYTHONPATH=path, TOLD=str(told))
    worker.signal(signal.SIGWINCH)
    wait_until(told.exists, what="the worker has told of itself")
    found: dict[str, Any] = json.loads(told.read_text())
    return found


def test_a_worker_keeps_its_memory_small(sqlite_stack: Stack, tmp_path: Path) -> None:
    """It has imported nothing that draws on terminals, and what it began with is not looked through for garbage."""
    told = _told_by_a_worker(sqlite_stack, tmp_path)
    assert _NOT_FOR_WORKERS.intersection(told["packages"]) == set()
    assert told["frozen"] > 50_000
    assert told["threshold"] == 20_000
