"""How fast two workers drain booked orders, and what that costs: `python -m tests.bench.drain --help`.

Orders are booked while the company is paused; then it is resumed, and the stub withholds its answers until it has as
many orders as may be in flight: these count half, as with the peers. The clock runs from the first answer until the
last order is settled, and on until its typed result is stored: that is part of the job. The stub counts what arrived.
All share the machine, so only ratios within one run mean much.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING, Any, Final

from tests.bench.fleet import COMMAND, Case, Fleet, running_fleet
from tests.bench.load import load_between, resident_mb
from tests.bench.verdict import problem_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: For other benches that start the command.
MAIN: Final = COMMAND[1]

#: Database, vendor latency in milliseconds, orders in flight.
USUAL: Final = ("sqlite:0:400", "postgres:0:400", "sqlite:200:400", "postgres:200:400", "sqlite:200:2000")

#: Full speed takes a while to reach and to leave, so each slot is used at least so often.
_TIMES_IN_FLIGHT: Final = 8

#: Nothing was settled for so long: what is left will not be, in seconds.
_STALL_SECONDS: Final = 30.0


def main() -> None:
    """Run each case and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=USUAL, metavar="DATABASE:LATENCY_MS:IN_FLIGHT")
    parser.add_argument("--orders", type=int, default=10_000, help="at least 8 times what is in flight at a latency")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--simulator", action="store_true", help="the simulator instead of the stub; it is slow")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="more of the workers' environment")
    arguments = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in arguments.set)
    for text in arguments.cases:
        case = read_case(text, arguments.orders, arguments.workers, settings, simulator=arguments.simulator)
        print(json.dumps(measure(case)), flush=True)


def read_case(
    text: str, orders: int, workers: int = 2, settings: dict[str, str] | None = None, *, simulator: bool = False
) -> Case:
    """A case as the command line names it.

    Raises:
        ValueError: It is not three words between colons, or these are not what they should be.
    """
    database, latency_ms, in_flight = text.split(":")
    if database not in {"sqlite", "postgres"}:
        raise ValueError(f"{text!r}: the database is sqlite or postgres")
    if int(latency_ms):
        orders = max(orders, _TIMES_IN_FLIGHT * int(in_flight))
    return Case(database, int(latency_ms), int(in_flight), orders, workers, simulator, settings or {})


def measure(case: Case) -> dict[str, Any]:
    """Drain once, and give the record."""
    with running_fleet(case) as fleet:
        # As many as may be in flight, so that connections are open and statements prepared, as they usually are.
        fleet.enqueue(case.in_flight, "warm")
        _wait_for(lambda: fleet.in_state("succeeded"), case.in_flight)
        _wait_for(fleet.typed_results, case.in_flight)
        fleet.pause()
        all_orders = case.in_flight + case.orders

        idle = fleet.meter.read()
        fleet.enqueue(case.orders, "bench")
        _wait_for(lambda: fleet.in_state("waiting"), case.orders)
        booking = load_between(idle, fleet.meter.read())

        held = _fill(fleet, case.in_flight)
        first = fleet.meter.read()
        if fleet.vendor is None:
            fleet.resume()
        else:
            fleet.vendor.release()
            # The stub is cheaper to ask than the ledger.
            vendor = fleet.vendor
            _wait_for(lambda: vendor.counts().distinct, all_orders, every=0.02)
        settled = _wait_for(lambda: fleet.in_state("succeeded"), all_orders, every=0.02)
        typed = _wait_for(fleet.typed_results, all_orders, every=0.02)
        load = load_between(first, fleet.meter.read())
        return {
            "what": f"drain {case.latency_ms}",
            "database": case.database,
            "latency_ms": case.latency_ms,
            "in_flight": case.in_flight,
            "workers": case.workers,
            "orders": case.orders,
            **_verdict(fleet, all_orders),
            "seconds": round(settled - first.at, 3),
            "on_their_way": held,
            "per_second": round((case.orders - held / 2) / (settled - first.at)),
            "per_second_until_typed": round((case.orders - held / 2) / (typed - first.at)),
            "cap_per_second": round(case.in_flight * 1000 / case.latency_ms) if case.latency_ms else None,
            "cpu_s_per_1000": _per_1000(load.groups["workers"], case.orders - held / 2),
            "booking_cpu_s_per_1000": _per_1000(booking.groups["workers"], case.orders),
            "redis_cpu_s_per_1000": _per_1000(load.groups["redis"], case.orders - held / 2),
            # On SQLite the workers do this themselves.
            "database_cpu_s_per_1000": _per_1000(load.groups["database"], case.orders - held / 2),
            "stub_cores": round(load.groups["vendor"] / load.seconds, 2),
            "foreign_cores": round(load.foreign_cores, 2),
            "rss_mb": resident_mb(worker.pid for worker in fleet.workers),
        }


def _fill(fleet: Fleet, in_flight: int) -> int:
    """Let the workers have as many orders on their way as they can, unanswered: as their peers do. Gives how many."""
    if fleet.vendor is None:
        return 0
    vendor = fleet.vendor
    vendor.hold()
    fleet.resume()
    _wait_for(lambda: vendor.counts().held, in_flight, every=0.02)
    return vendor.counts().held


def _verdict(fleet: Fleet, orders: int) -> dict[str, Any]:
    if fleet.vendor is None:
        return {"good": True, "problem": ""}
    counts = fleet.vendor.counts()
    problem = problem_of(orders, counts, (fleet.typed_results(), fleet.in_state("succeeded")))
    return {
        "good": not problem,
        "problem": problem,
        "requests": counts.requests,
        "distinct": counts.distinct,
        "duplicates": counts.duplicates,
        "most_in_flight": counts.most_in_flight,
    }


def _per_1000(cpu_seconds: float, orders: float) -> float:
    return round(cpu_seconds * 1000 / orders, 3)


def _wait_for(count: Callable[[], int], wanted: int, every: float = 0.1) -> float:
    """Wait until the count is reached, or grows no more (the verdict says so). Gives when, by `time.monotonic()`."""
    most, grew_at = -1, time.monotonic()
    while (now := count()) < wanted:
        if now > most:
            most, grew_at = now, time.monotonic()
        elif time.monotonic() > grew_at + _STALL_SECONDS:
            break
        time.sleep(every)
    return time.monotonic()


if __name__ == "__main__":
    main()
