"""Runs the worker's command, which kills itself with SIGKILL before or after one named function.

Variables: `CRASH_AT` says "before module:name" or "after module:name" (name may be Class.method), `CRASH_IF` names a
file; only while that exists does the function kill. "after" counts only if the function gives something truthy or None.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # SIGKILL takes effect at once; nothing may run in between


def lay_trap(at: str, armed: Path) -> None:
    """Wrap the named function."""
    when, place = at.split()
    module, path = place.split(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and armed.exists():
            _die()
        result = original(*args, **kwargs)
        if when == "after" and (result or result is None) and armed.exists():
            _die()
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    lay_trap(os.environ.pop("CRASH_AT"), Path(os.environ.pop("CRASH_IF")))
    from orderrelay_shared.command import main

    sys.argv[0] = "orderrelay"
    main()
