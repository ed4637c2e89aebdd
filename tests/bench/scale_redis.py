"""What an order takes of Redis' memory on its way: accepted, booked, and once its published status has expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from orderrelay_producers import OrderProducer
from orderrelay_shared import keys
from orderrelay_workers.sidecar.intake import Intake
from tests.bench.scale_fleet import a_fleet
from tests.bench.scale_intake import AN_ORDER, BookingWorker, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from orderrelay_workers.runtime import Runtime


#: Orders of one company that come together.
_TOGETHER: Final = 500


def measure(orders: int, company_count: int) -> dict[str, object]:
    """Enqueue so many orders of so many companies by turns, book them, and let their statuses expire."""
    with a_fleet(postgres=False) as fleet, fleet.redis.connect() as client:
        intake = Intake(cast("Runtime", BookingWorker(fleet.engine, Settings(fleet.redis.url))))
        intake.book_next()  # makes the group
        empty = _used(client)
        cpu = _cpu_seconds(client)
        with OrderProducer(fleet.redis.url) as producer:
            for first in range(0, orders, _TOGETHER):
                numbers = range(first, min(first + _TOGETHER, orders))
                report = producer.enqueue_many(
                    ({**AN_ORDER, "ExternalId": f"scale-{number:08d}"} for number in numbers),
                    company=f"company-{first // _TOGETHER % company_count}",
                    timeout=600,
                )
                assert report.all_taken, str(report)
        cpu = _cpu_seconds(client) - cpu
        accepted = _used(client)
        while client.xlen(keys.INTAKE):
            intake.book_next()
        booked = _used(client)
        for some in _batches(client, keys.EVERY_STATUS):
            client.delete(*some)
        expired = _used(client)
        for some in _batches(client, "orderrelay:recent:*"):
            client.delete(*some)
        intake.close()
        return {
            "case": "redis memory",
            "orders": orders,
            "companies": company_count,
            "redis_cpu_us_accepting": round(1e6 * cpu / orders, 1),
            "bytes_accepted": round((accepted - empty) / orders),
            "bytes_booked": round((booked - empty) / orders),
            "bytes_status_expired": round((expired - empty) / orders),
            "bytes_recent_expired": round((_used(client) - empty) / orders),
        }


def _cpu_seconds(client: redis.Redis) -> float:
    used = cast("dict[str, float]", client.info("cpu"))
    return used["used_cpu_user"] + used["used_cpu_sys"]


def _used(client: redis.Redis) -> int:
    client.memory_purge()
    return int(cast("dict[str, int]", client.info("memory"))["used_memory"])


def _batches(client: redis.Redis, pattern: str) -> Iterator[list[bytes]]:
    every = list(cast("Iterator[bytes]", client.scan_iter(match=pattern, count=1000)))
    return (every[begin : begin + 1000] for begin in range(0, len(every), 1000))
