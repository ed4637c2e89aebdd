"""One trace from the producer's call to the settled answer, through real processes; and a collector that is no use."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from orderrelay_producers import AsyncOrderProducer
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests.collector import running_collector, traced_service
from tests.servers import wait_until
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span, Tracer

    from tests.collector import Collector
    from tests.processes import RunningProcess
    from tests.stack import Stack

_INTAKE = "orderrelay:intake"
_SENT, _BOOKED, _SUBMITTED = f"enqueue {_INTAKE}", f"book {_INTAKE}", f"submit {_INTAKE}"
_SETTLED, _LOOKED_UP, _CREATED = f"settle {_INTAKE}", f"reconcile {_INTAKE}", f"create {_INTAKE}"

#: OpenTelemetry's numbers for the kinds of spans.
_CLIENT, _PRODUCER, _CONSUMER = 3, 4, 5


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that answers."""
    with running_collector() as running:
        yield running


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> Iterator[Tracer]:
    """The tracer of a service that uses OpenTelemetry, which this process is."""
    with traced_service(monkeypatch, collector) as tracer:
        yield tracer


def _trace_id(span: Span) -> str:
    return f"{span.get_span_context().trace_id:032x}"


def _stop(worker: RunningProcess) -> None:
    worker.sigterm()
    assert worker.wait(20) == 0, worker.log[-3000:]


def test_one_trace_from_the_call_to_the_settled_answer(stack: Stack, collector: Collector, shop: Tracer) -> None:
    """Booking, claim to settle, and the request are in the caller's trace, each inside what it is a part of."""
    worker = stack.worker(**collector.environment)
    with shop.start_as_current_span("checkout") as checkout:
        job = stack.producer.enqueue(order("A-1"), company="acme")
    stack.wait_for(["A-1"], JobState.SUCCEEDED)
    spans = collector.wait_for(_trace_id(checkout), ["checkout", _SENT, _BOOKED, _SUBMITTED, "POST", _SETTLED])
    sent, booked, submitted, request = (spans[name] for name in (_SENT, _BOOKED, _SUBMITTED, "POST"))
    parents = {name: span.parent_id for name, span in spans.items() if name != "checkout"}
    assert parents == {
        _SENT: spans["checkout"].span_id,
        _BOOKED: sent.span_id,
        _SUBMITTED: sent.span_id,
        "POST": submitted.span_id,
        _SETTLED: submitted.span_id,
    }
    assert [s.kind for s in (sent, booked, submitted, request)] == [_PRODUCER, _CONSUMER, _CONSUMER, _CLIENT]
    assert {s.attributes["messaging.message.id"] for s in (sent, booked, submitted)} == {str(job.id)}
    assert (booked.attributes["orderrelay.result"], submitted.attributes["orderrelay.state"]) == ("new", "succeeded")
    assert (request.attributes["http.response.status_code"], request.attributes["server.address"]) == (200, "127.0.0.1")
    assert sent.began <= booked.began <= booked.ended <= submitted.ended
    assert submitted.began <= request.began < request.ended <= spans[_SETTLED].began <= submitted.ended
    assert not any(span.failed for span in spans.values())
    assert {spans[name].service for name in (_SENT, _BOOKED)} == {"shop", "orderrelay-worker"}
    assert '"tracing_is_on"' in worker.log
    audit = stack.command("audit", "show", "A-1")
    assert audit.wait(20) == 0, audit.log
    assert f"Trace:        {_trace_id(checkout)}" in audit.log
    _stop(worker)


def test_the_trace_goes_on_where_a_look_up_decides(sqlite_stack: Stack, collector: Collector, shop: Tracer) -> None:
    """An answer that was lost is an error in the trace, and the look-up that found the order is in it too."""
    stack = sqlite_stack
    stack.worker(**collector.environment)
    stack.wait_for(stack.enqueue(1, "known"), JobState.SUCCEEDED)
    stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="reset-after", times=1),)))

    async def enqueue() -> None:
        async with AsyncOrderProducer(stack.redis_url) as producer:
            await producer.enqueue(order("A-1"), company="acme")

    with shop.start_as_current_span("checkout") as checkout:
        asyncio.run(enqueue())
    stack.wait_for(["A-1"], JobState.SUCCEEDED)
    spans = collector.wait_for(_trace_id(checkout), [_SENT, _BOOKED, _SUBMITTED, "POST", _LOOKED_UP, "GET"])
    submitted, looked_up = spans[_SUBMITTED], spans[_LOOKED_UP]
    assert submitted.failed
    assert (submitted.attributes["error.type"], submitted.attributes["orderrelay.state"]) == ("unknown", "unknown")
    assert spans["POST"].attributes["error.type"] == "reset"
    assert looked_up.attributes["orderrelay.state"] == "succeeded"
    assert (looked_up.parent_id, spans["GET"].parent_id) == (spans[_SENT].span_id, looked_up.span_id)


def test_orders_of_a_batch_are_linked(sqlite_stack: Stack, collector: Collector, shop: Tracer) -> None:
    """Each of several orders has a span of its own; what is done with several at once is linked to each of them."""
    stack = sqlite_stack
    stack.environment["ORDERRELAY_ORDERS_PER_REQUEST"] = "2"
    orders = [order(f"A-{number}") for number in range(2)]
    with shop.start_as_current_span("import") as importing:
        stack.producer.enqueue_many(orders, company="acme")
    stack.worker(**collector.environment)
    stack.wait_for(["A-0", "A-1"], JobState.SUCCEEDED)
    assert stack.requests() == 1
    spans = collector.wait_for(_trace_id(importing), [_SENT, _CREATED, _BOOKED, _SUBMITTED, "POST"])

    def called(name: str) -> list[str]:
        return [s.span_id for s in collector.spans if s.trace_id == _trace_id(importing) and s.name == name]

    wait_until(lambda: len(called(_SUBMITTED)) == 2, what="both orders have been told of")
    assert spans[_SENT].kind == _CLIENT
    assert spans[_SENT].attributes["messaging.batch.message_count"] == 2
    assert sorted(spans[_SENT].links) == sorted(called(_CREATED))
    request = spans["POST"]
    assert {request.parent_id, *request.links} == set(called(_SUBMITTED))
    [other] = [s for s in collector.spans if s.span_id in request.links]
    assert other.links == (request.span_id,)


def test_only_what_the_service_traces_is_traced(sqlite_stack: Stack, collector: Collector, shop: Tracer) -> None:
    """Orders of a service that does not trace, or not this call, carry nothing and leave no spans."""
    stack = sqlite_stack
    file = stack.folder / "order.jsonl"
    file.write_text(json.dumps(order("B-1")))
    assert stack.command("enqueue", str(file), "--company", "acme").wait(20) == 0
    worker = stack.worker(**collector.environment)
    with shop.start_as_current_span("checkout") as checkout:
        stack.producer.enqueue(order("A-1"), company="acme")
    stack.wait_for(["A-1", "B-1"], JobState.SUCCEEDED)
    _stop(worker)  # and so sends what it has
    assert {s.trace_id for s in collector.spans} == {_trace_id(checkout)}
    rows = stack.rows("SELECT external_id, traceparent FROM revision JOIN job ON job.id = job_id ORDER BY external_id")
    told = [(row.external_id, row.traceparent and row.traceparent.split("-")[1]) for row in rows]
    assert told == [("A-1", _trace_id(checkout)), ("B-1", None)]


def test_a_collector_that_never_answers_stops_nothing(
    sqlite_stack: Stack, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    """It costs spans, which the log tells once; orders are created as ever, and the worker stops in time."""
    stack = sqlite_stack
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        worker = stack.worker(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_BSP_MAX_QUEUE_SIZE="20",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10",
        )
        with traced_service(monkeypatch, collector) as shop, shop.start_as_current_span("checkout"):
            orders = stack.enqueue(100)
        stack.wait_for(orders, JobState.SUCCEEDED)
        stack.assert_all_created_once(orders)
        wait_until(lambda: '"spans_are_lost"' in worker.log, 15, what="the loss is told")
        began_at = time.monotonic()
        _stop(worker)
        assert time.monotonic() - began_at < 10
    assert worker.log.count('"spans_are_lost"') == 1
    assert "Queue full" not in worker.log
