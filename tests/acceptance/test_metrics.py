"""What a worker tells Prometheus at its health port, on good days and with Redis away."""

from __future__ import annotations

import http.client
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from orderrelay_shared.states import JobState
from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import caution, companies, schema
from orderrelay_workers.ledger.rows import write_events
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from tests.servers import PostgresServer, RedisServer
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
    assert value(found, "ledger_readable") == value(found, "workers_alive") == 1
    assert value(found, "intake_waiting") == 0
    assert value(found, "live") == value(found, "ready") == 1
    assert (value(found, "disk_free_bytes") or 0) > 0
    assert value(found, "credentials_refused_total", company="acme") == 0
    assert abs(value(found, "redis_clock_ahead_seconds") or 0) < 2


def test_a_worker_tells_what_a_person_has_to_see(postgres_stack: Stack) -> None:
    """Orders that are due, unknown and parked, alarms by kind, and cautious mode, from the ledger."""
    stack = postgres_stack
    port = start(stack)
    stack.wait_for(stack.enqueue(4), JobState.SUCCEEDED)
    companies.pause(stack.engine, "acme", "so that A-0 stays", actor="test")
    wait_until(lambda: value(scrape(port), "paused", company="acme") == 1, what="the company is paused")
    with stack.engine.begin() as connection:
        for external_id, state in (("A-0", "waiting"), ("A-1", "unknown"), ("A-2", "parked")):
            then = datetime.now(UTC) - timedelta(hours=1)
            far = datetime.now(UTC) + timedelta(hours=1)
            values = {"state": state, "since": then, "due_at": then if state == "waiting" else far}
            these = sa.update(schema.job).where(schema.job.c.external_id == external_id)
            connection.execute(these.values(vendor_id=None, lane=2, **values))
        write_events(connection, datetime.now(UTC), "test", [(None, None, Happening("doubled", alarm=True))])
    wait_until(lambda: (value(scrape(port), "oldest_due_seconds", company="acme") or 0) > 3500, 30, what="A-0 is due")
    caution.begin(stack.engine, "restored", actor="test", lease_seconds=9)  # so that nothing of that is sent
    wait_until(lambda: value(scrape(port), "cautious") == 1, 30, what="cautious mode is told")
    found = scrape(port)
    assert value(found, "ledger_readable") == 1
    assert value(found, "workers_alive") == 1
    assert value(found, "jobs_parked", company="acme") == 1
    assert value(found, "alarms_raised", alarm="doubled") == 1
    assert value(found, "alarms_raised", alarm="cautious_began") == 1
    assert value(found, "alarms_raised", alarm="late_find") == 0
    assert (value(found, "jobs_unknown", company="acme") or 0) >= 1
    assert (value(found, "oldest_unknown_seconds", company="acme") or 0) > 3500


def test_a_scrape_does_not_hang_when_the_database_is_away(
    postgres_stack: Stack, postgres_server: PostgresServer
) -> None:
    """The ledger's gauges are left out, and all others told."""
    port = start(postgres_stack)
    wait_until(lambda: value(scrape(port), "ledger_readable") == 1, what="the ledger is readable")
    postgres_server.kill9()
    wait_until(lambda: value(scrape(port), "ledger_readable") == 0, 30, what="the scrape says that it is not")
    began_at = time.monotonic()
    found = scrape(port)
    assert time.monotonic() - began_at < 5
    assert value(found, "jobs_parked", company="acme") is None
    assert value(found, "ready") == 0
    assert (value(found, "duty_failures_total", duty="beat") or 0) >= 1


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
