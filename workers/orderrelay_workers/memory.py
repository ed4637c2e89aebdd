"""What a worker process does about its memory: small, and seldom looked through for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Of `mallopt` in glibc: how many arenas there may be.
_M_ARENA_MAX: Final = -8

#: So many more objects that may be part of a cycle are made than freed before cycles are looked for among them.
#: Python's own 700 are a few orders' worth.
_MADE_BEFORE_LOOKING: Final = 20_000


#: Two libraries import these: structlog to draw tracebacks, where ours are text, as they have to be masked, and httpx
#: for a command of its own.
_FOR_TERMINALS: Final = ("pygments", "rich")


def share_what_is_allocated() -> None:
    """To be called before there are threads.

    glibc would give each of them memory of its own, of which a part stays unused for good: 6 MB in a worker. Elsewhere
    (musl, macOS) there is nothing to do.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and sys.platform == "linux":
        mallopt(_M_ARENA_MAX, 1)


@contextlib.contextmanager
def nothing_for_terminals() -> Iterator[None]:
    """Within it, whatever is imported does without the libraries that draw on terminals."""
    absent = [name for name in _FOR_TERMINALS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say that it is not to be had
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def look_for_garbage_seldom() -> None:
    """To be called when all is imported and begun: what there is now stays, and is never looked through again.

    Looking took a seventh to a quarter of a draining worker's time. Hardly anything of ours is part of a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_MADE_BEFORE_LOOKING, *gc.get_threshold()[1:])
