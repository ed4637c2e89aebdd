"""Python's garbage collector, while very many orders go through one process."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: More objects than a batch of orders is made of. Python's own 700 had the collector go through each batch, and through
#: all that is loaded, again and again, and find nothing: an eighth of the time that a file of orders took.
_NEW_OBJECTS: Final = 50_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Have the collector leave alone what is loaded, and come after many new objects only."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
