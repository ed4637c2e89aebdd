"""What a worker tells Prometheus at its health port, on good days and with Redis away."""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from tests.servers import RedisServer
    from tests.stack import Stack

#: All samples of a scrape: name and labels to value.
Scrape = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Scrape:
    """Ask as Prometheus does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        assert str(answer.getheader("Content-Type")).startswith("text/plain; version=")
        families = text_string_to_metric_families(answer.read().decode())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
    finally:
        connection.close()


def value(found: Scrape, name: str, **labels: str) -> float | None:
    """One sample of a scrape."""
    return found.get((f"orderrelay_{name}", frozenset(labels.items())))


def start(stack: Stack) -> int:
    """Start a worker; gives its port."""
    port = free_port()
    stack.worker(ORDERRELAY_HEALTH_PORT=str(port))
    return port


def test_a_worker_tells_what_it_does(sqlite_stack: Stack) -> None:
    """Orders booked, hints, requests by outcome and duration, orders settled, and the gate as it is."""
    stack = sqlite_stack
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="business-rejection", times=1, external_id_prefix="A-0"),)))
    port = start(stack)
    orders = stack.enqueue(20)
    stack.wait_for(orders, JobState.SUCCEEDED, JobState.REJECTED)
    wait_until(lambda: value(scrape(port), "jobs_waiting", company="acme") == 0, what="what waits is counted")
    found = scrape(port)
    assert value(found, "orders_booked_total", company="acme", result="new") == 20
    assert value(found, "orders_settled_total", company="acme", outcome="created") == 19
    assert value(found, "orders_settled_total", company="acme", outcome="rejected") == 1
    assert value(found, "orders_claimed_total", company="acme") == 20
    assert value(found, "permits_granted_total", company="acme", kind="login") == 1
    assert (value(found, "permits_granted_total", company="acme", kind="order") or 0) >= 20
    assert value(found, "reports_total", company="acme", kind="order", outcome="good") == 20
    assert value(found, "vendor_requests_total", company="acme", kind="order", outcome="created") == 19
    assert value(found, "vendor_requests_total", company="acme", kind="login", outcome="token") == 1
    assert value(found, "vendor_request_seconds_count", company="acme", kind="login") == 1
    assert (value(found, "hints_total", queue="orders.acme", outcome="sent") or 0) >= 1
    assert value(found, "paused", company="acme") == 0
    assert value(found, "circuit_open", company="acme", kind="order") == 0
    assert value(found, "requests_in_flight", company="acme") == 0
    assert value(found, "gates_readable") == 1


def test_a_scrape_does_not_hang_when_redis_is_away(sqlite_stack: Stack, redis_server: RedisServer) -> None:
    """Frozen or dead, what the worker counted itself is told within seconds, and that the gates are missing."""
    stack = sqlite_stack
    port = start(stack)
    stack.wait_for(stack.enqueue(3), JobState.SUCCEEDED)
    assert value(scrape(port), "gates_readable") == 1
    for outage in (redis_server.process.freeze, redis_server.kill9):
        outage()
        began_at = time.monotonic()
        found = scrape(port)
        assert time.monotonic() - began_at < 5
        assert value(found, "gates_readable") == 0
        assert value(found, "paused", company="acme") is None
        assert value(found, "orders_settled_total", company="acme", outcome="created") == 3
    redis_server.start()
    wait_until(lambda: value(scrape(port), "gates_readable") == 1, 20, what="the gates are readable again")
