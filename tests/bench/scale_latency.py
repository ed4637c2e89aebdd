"""How long an order takes through an idle product: from the call of `enqueue` to its first byte at the vendor."""

from __future__ import annotations

import random
import re
import socketserver
import statistics
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from orderrelay_producers import Order, OrderProducer
from tests.bench.scale_fleet import a_fleet
from tests.bench.scale_intake import AN_ORDER
from tests.servers import wait_until

if TYPE_CHECKING:
    from tests.bench.scale_fleet import Fleet

_EXTERNAL_ID = re.compile(rb'"ExternalId":\s*"([^"]+)"')
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


def measure(samples: int, *, postgres: bool) -> dict[str, object]:
    """Enqueue orders one by one, a random 0.1 to 0.4 seconds apart."""
    with a_fleet(postgres=postgres) as fleet, _Vendor() as vendor:
        fleet.start_workers(1, vendor.url)
        with OrderProducer(fleet.redis.url) as producer:
            _enqueue(producer, 20)  # to warm up
            called = _enqueue(producer, samples)
        wait_until(lambda: called.keys() <= vendor.arrived.keys(), 60, what="all orders have arrived")
        return {"case": "idle latency", "database": fleet.engine.dialect.name, **_told(fleet, called, vendor.arrived)}


def _told(fleet: Fleet, called: dict[str, float], arrived: dict[str, float]) -> dict[str, object]:
    took = [(arrived[external_id] - at) * 1000 for external_id, at in called.items()]
    percent = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "orders": len(called),
        "p50_ms": round(percent[49], 1),
        "p90_ms": round(percent[89], 1),
        "p99_ms": round(percent[98], 1),
        "max_ms": round(max(took), 1),
        "worker_cpu_seconds": round(fleet.cpu_seconds(), 2),
    }


def _enqueue(producer: OrderProducer, count: int) -> dict[str, float]:
    called: dict[str, float] = {}
    for _ in range(count):
        order = Order.parse({**AN_ORDER, "ExternalId": str(uuid.uuid4())})
        time.sleep(random.uniform(0.1, 0.4))
        called[order.ensure_external_id()] = time.perf_counter()
        producer.enqueue(order)
    return called


class _Vendor(socketserver.ThreadingTCPServer):
    """A vendor that creates everything at once, and notes when each order's request began to arrive."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.arrived: dict[str, float] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> _Vendor:  # noqa: PYI034  the base's own is as wide
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Connection(socketserver.BaseRequestHandler):
    server: _Vendor

    def handle(self) -> None:
        """Answer requests until the other end closes."""
        while (data := self._receive(b"")) is not None:
            at = time.perf_counter()
            request = data
            while not _is_whole(request):
                more = self._receive(request)
                if more is None:
                    return
                request = more
            answer = b"[]"
            if (found := _EXTERNAL_ID.search(request)) is not None:
                self.server.arrived.setdefault(found[1].decode(), at)
                number = len(self.server.arrived)
                answer = b'{"Success":true,"Keys":[%d],"Strings":["%d"]}' % (number, number)
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
            self.request.sendall(head + answer)

    def _receive(self, before: bytes) -> bytes | None:
        connection: Any = self.request
        try:
            data: bytes = connection.recv(65536)
        except OSError:
            return None
        return before + data if data else None


def _is_whole(request: bytes) -> bool:
    head, separator, body = request.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(separator) and len(body) >= (int(length[1]) if length else 0)
