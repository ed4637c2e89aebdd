"""The workers of a history, and what each of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uuid

    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.ledger.liveness import LifeSign
    from tests.model.vendor_world import Request


@dataclass
class Worker:
    """One worker's process."""

    boot_id: uuid.UUID
    life_sign: LifeSign

    def kill(self) -> None:
        """As the kernel does it: the lock is free, and nothing is told."""
        file = self.life_sign._file  # pyright: ignore[reportPrivateUsage]  the product has no word for a sudden death
        if file is not None and not file.closed:
            file.close()


@dataclass
class Held:
    """A claim that some process holds, and what it has done with it. `at` is when it claimed, in true seconds."""

    worker: Worker
    claim: Claim
    at: int
    request: Request | None = None
    never_left: bool = False
    settled: int = 0

    @property
    def is_unsent(self) -> bool:
        """Whether its request has not been tried yet."""
        return self.request is None and not self.never_left

    @property
    def can_settle(self) -> bool:
        """Whether its end has been seen."""
        return self.never_left or (self.request is not None and self.request.exchange is not None)
