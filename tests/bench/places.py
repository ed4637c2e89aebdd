"""Whether rate and places in flight hold together where the vendor's speed changes: `python -m tests.bench.places`.

Three workers' flows of one company run in this process, each with a ledger of its own, on one gate in a real Redis.
The vendor is a function that takes so long as the phase says, by turns slow (so that places are what limits) and quick
(so that the rate is). Prints a JSON object for each pair of rate and cap, with the most starts that any second held,
wherever it begins.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis

from orderrelay_workers.gate import Limits
from tests.bench.pacing_numbers import most_in_any, per_second
from tests.desks import open_desk
from tests.ledgers import created
from tests.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_workers.vendor.exchange import Exchange

#: How long an answer takes, in seconds, give or take a half; each for as long.
_LATENCIES: Final = (0.12, 0.004, 0.12, 0.004, 0.3)
_PHASE_SECONDS: Final = 3.0
_SECONDS: Final = len(_LATENCIES) * _PHASE_SECONDS

_WORKERS: Final = 3
_ORDERS: Final = 4000


@dataclass
class _Vendor:
    """Answers in time, and notes when each request came.

    Attributes:
        began: By `time.monotonic()`.
        came: When requests came, in seconds from then.
        out: How many it is busy with.
        most_out: How many that were at most.
    """

    began: float = 0.0
    came: list[float] = field(default_factory=list[float])
    out: int = 0
    most_out: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def post_order(self, *_: object, may_start: Callable[[], bool]) -> Exchange:
        """In place of the vendor's client."""
        assert may_start()
        with self._lock:
            now = time.monotonic() - self.began
            self.came.append(now)
            number = len(self.came)
            self.out += 1
            self.most_out = max(self.most_out, self.out)
        seconds = _LATENCIES[min(int(now / _PHASE_SECONDS), len(_LATENCIES) - 1)] * random.uniform(0.5, 1.5)
        await asyncio.sleep(seconds)
        with self._lock:
            self.out -= 1
        answer = created(number)
        return replace(answer, ended_at=answer.began_at + timedelta(seconds=seconds))


def measure(rate: float, cap: int) -> dict[str, Any]:
    """Run all phases once, and give the record."""
    vendor = _Vendor()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer(folder / "redis")
        server.start()
        stack.callback(server.kill9)
        client = stack.enter_context(redis.Redis.from_url(server.url))
        desks = []
        for number in range(_WORKERS):
            own = folder / str(number)
            own.mkdir()
            url = f"sqlite:///{own / 'orderrelay.db'}"
            desk = stack.enter_context(open_desk(url, client, own, vendor.post_order, Limits(rate, 1, cap)))
            desk.ledger.book(*range(number * _ORDERS, (number + 1) * _ORDERS))
            desks.append(desk)
        vendor.began = time.monotonic()
        flows = [threading.Thread(target=desk.submit, args=(_SECONDS,)) for desk in desks]
        for flow in flows:
            flow.start()
        for flow in flows:
            flow.join()
        return {
            "rate": rate,
            "places_for_orders": cap - cap // 10,
            "most_in_any_second": most_in_any(vendor.came),
            "most_in_flight": vendor.most_out,
            "per_second_by_phase": [round(rate) for rate in per_second(vendor.came, 0, _SECONDS, _PHASE_SECONDS)],
            "in_flight_at_the_end": desks[0].in_flight(),
        }


def main() -> None:
    """Run each pair and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--limits", nargs="+", default=["100:10", "100:14", "200:40", "50:12"], metavar="RATE:IN_FLIGHT"
    )
    for text in parser.parse_args().limits:
        rate, cap = text.split(":")
        print(json.dumps(measure(float(rate), int(cap))), flush=True)


if __name__ == "__main__":
    main()
