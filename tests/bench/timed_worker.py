"""Runs the worker's command and notes when each order's commit returned: a line "ExternalId nanoseconds" a commit.

The variable `BENCH_COMMITS` names the file.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from orderrelay_workers.ledger import booking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderrelay_workers.ledger.booking import Accepted, Booked

_book = booking.book


def _timed_book(engine: Any, batch: Sequence[Accepted], *, actor: str) -> list[Booked]:
    booked = _book(engine, batch, actor=actor)
    now_ns = time.time_ns()
    if booked:
        with open(os.environ["BENCH_COMMITS"], "a") as commits:  # noqa: PTH123  the quickest way
            commits.write("".join(f"{b.accepted.envelope.external_id} {now_ns}\n" for b in booked))
    return booked


if __name__ == "__main__":
    booking.book = _timed_book
    from orderrelay_shared.command import main

    sys.argv[0] = "orderrelay"
    main()
