"""The shared clock in a test's hand: every ledger module asks it instead of the database."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from orderrelay_workers import audit, ledger
from orderrelay_workers.ledger import engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

#: When every history begins.
BEGINNING: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class SteeredClock:
    """Two clocks in seconds: the true one only goes on; the shared one goes with it, and can be set wrong."""

    def __init__(self) -> None:
        self.true = 0
        self._wrong_by = 0

    def begin(self) -> None:
        """Both at zero."""
        self.true = 0
        self._wrong_by = 0

    def pass_time(self, seconds: int) -> None:
        """Time passes."""
        self.true += seconds

    def jump(self, seconds: int) -> None:
        """Somebody sets the shared clock; no time passes."""
        self._wrong_by += seconds

    @property
    def now(self) -> datetime:
        """What the shared clock shows."""
        return BEGINNING + timedelta(seconds=self.true + self._wrong_by)

    def read(self, connection: sa.Connection) -> datetime:
        """In place of `orderrelay_workers.ledger.engine.clock`."""
        return self.now


@contextlib.contextmanager
def steering() -> Iterator[SteeredClock]:
    """Have every module that knows the shared clock read a steered one, on whichever database."""
    for package in (ledger, audit):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    clock = SteeredClock()
    shared = engine.clock
    knowing = [m for n, m in sys.modules.items() if n.startswith("orderrelay_") and vars(m).get("clock") is shared]
    for module in knowing:
        vars(module)["clock"] = clock.read
    try:
        yield clock
    finally:
        for module in knowing:
            vars(module)["clock"] = shared
