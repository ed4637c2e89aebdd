"""A trap in a running process: where a named function begins, ends or has just ended, the process kills itself."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The vendor has the request by then, and does not answer as soon, in seconds.
_SOON_SECONDS = 0.015


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # SIGKILL takes effect at once; nothing may run in between


def _die_soon() -> None:
    time.sleep(_SOON_SECONDS)
    _die()


def lay_trap(at: str, springs: Callable[[], bool]) -> None:
    """Wrap a function, so that the process dies there by SIGKILL.

    Args:
        at: "before module:name", "after module:name" or "soon-after module:name"; the name may be `Class.method`. After
            a function that gives something falsy the trap is not asked, but for those that give None.
        springs: Asked there each time; the process dies if it says yes.
    """
    when, place = at.split()
    module, path = place.split(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if when == "before" and springs():
            _die()
        result = original(*args, **kwargs)
        if when != "before" and (result or result is None) and springs():
            if when == "after":
                _die()
            threading.Thread(target=_die_soon).start()
        return result

    setattr(owner, name, wrapped)
