"""The version before this one, from git, works beside it: upgrade, rollback, and producers and workers mixed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule
from tests import earlier_version
from tests.acceptance.steady_load import SteadyLoad, assert_nothing_wasted
from tests.collector import running_collector, traced_service
from tests.servers import wait_until
from tests.stack import company, order

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import RunningProcess
    from tests.stack import Stack


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that make a process one of the earlier version."""
    folder = tmp_path_factory.mktemp("earlier")
    variables = earlier_version.unpack(folder)
    asked = [sys.executable, "-c", "import orderrelay_workers.runtime as r, orderrelay_producers as p; print(r, p)"]
    told = subprocess.run(asked, capture_output=True, check=True, text=True, env=variables, cwd=folder).stdout
    assert told.count(str(folder)) == 2
    return variables


def _in_steady_work(stack: Stack) -> list[str]:
    """Requests are always out, and the look-up has a known order to prove itself by. Needs a worker."""
    known = stack.enqueue(1, "known")
    stack.wait_for(known, JobState.SUCCEEDED)
    stack.simulator.set_plan(FaultPlan(latency_ms=300.0))
    return known


def _wait_for_requests(stack: Stack, count: int) -> None:
    wait_until(lambda: stack.requests() == count, what=f"the vendor has {count} requests")


def _stop(*workers: RunningProcess) -> None:
    for worker in workers:
        worker.sigterm()
    assert [worker.wait(30) for worker in workers] == [0] * len(workers)


@pytest.mark.timeout(300)  # eight workers, each two seconds of CPU, on a machine that may be busy
def test_upgrade_and_rollback_with_kills(stack: Stack, earlier: dict[str, str]) -> None:
    """To this version and back, under load, with a worker of each killed: every order is created exactly once."""
    stack.environment |= company("acme", RATE_PER_SECOND="60", BURST="5", MAX_IN_FLIGHT="50")
    old = [stack.await_ready(stack.command("worker", **earlier)) for _ in range(2)]
    known = _in_steady_work(stack)
    with SteadyLoad(stack, per_second=25) as load:
        upgraded = stack.workers(2)
        old[0].kill9()
        _stop(old[1])
        back = [stack.await_ready(stack.command("worker", **earlier)) for _ in range(2)]
        upgraded[0].kill9()
        _stop(upgraded[1])
        stack.wait_for(load.orders[:20], JobState.SUCCEEDED, timeout=60)
        back[0].kill9()
        again = stack.worker()
    orders = known + load.orders
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=90)
    assert again.is_running
    assert back[1].is_running
    stack.assert_all_created_once(orders, exact=False)


@pytest.mark.timeout(240)
def test_an_upgrade_without_kills_wastes_nothing(stack: Stack, earlier: dict[str, str]) -> None:
    """Workers of both versions share the work while one gives way to the other; each order costs one request."""
    stack.environment |= company("acme", RATE_PER_SECOND="60", BURST="5", MAX_IN_FLIGHT="50")
    stack.environment["ORDERRELAY_REQUEST_TIMEOUT_SECONDS"] = "20"
    old = stack.await_ready(stack.command("worker", **earlier))
    stack.simulator.set_plan(FaultPlan(latency_ms=300.0))
    with SteadyLoad(stack, per_second=25) as load:
        new = stack.worker()
        wait_until(lambda: len({a["worker"] for a in stack.attempts()}) == 2, 30, what="both versions take part")
        _stop(old)
        back = stack.await_ready(stack.command("worker", **earlier))
        _stop(new)
        wait_until(lambda: len({a["worker"] for a in stack.attempts()}) == 3, 30, what="the earlier one is at it again")
    assert back.is_running
    assert_nothing_wasted(stack, load.orders)


def test_what_one_version_leaves_in_doubt_the_other_finds_out(sqlite_stack: Stack, earlier: dict[str, str]) -> None:
    """Orders of which a killed worker of either version knew nothing are looked up by the other one's."""
    stack = sqlite_stack
    hangs = FaultPlan(rules=(Rule(fault="hang-after", times=3),))
    first = stack.await_ready(stack.command("worker", **earlier))
    orders = stack.enqueue(1, "known")
    stack.wait_for(orders, JobState.SUCCEEDED)
    for number, variables in enumerate(({}, earlier)):
        stack.simulator.set_plan(hangs)
        orders += stack.enqueue(3, f"doubt-{number}")
        _wait_for_requests(stack, len(orders))
        first.kill9()
        first = stack.await_ready(stack.command("worker", **variables))
        stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)


def test_producers_and_workers_of_both_versions(
    sqlite_stack: Stack, earlier: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What either version's producer enqueues is the same order to either version's worker, and is told to both.

    Also where this version's producer is traced: the earlier one's worker passes that over.
    """
    stack = sqlite_stack
    worker = stack.await_ready(stack.command("worker", **earlier))
    with running_collector() as collector, traced_service(monkeypatch, collector) as shop:
        with shop.start_as_current_span("checkout"):
            by_this = stack.enqueue(10, "mixed")
        stack.wait_for(by_this, JobState.SUCCEEDED)
    assert {row[0] for row in stack.rows("SELECT traceparent FROM revision")} == {None}
    _stop(worker)
    stack.worker()
    file = tmp_path / "orders.jsonl"
    file.write_text("".join(json.dumps(order(f"mixed-{number}")) + "\n" for number in range(20)))
    enqueueing = stack.command("enqueue", str(file), "--company", "acme", "--json", **earlier)
    assert enqueueing.wait(30) == 0, enqueueing.log
    orders = [f"mixed-{number}" for number in range(20)]
    stack.wait_for(orders, JobState.SUCCEEDED)
    assert_nothing_wasted(stack, orders)
    assert stack.rows("SELECT kind FROM event WHERE kind = 'conflict'") == []
    with_status = [stack.command("status", "mixed-3", "--company", "acme", "--json", **env) for env in (earlier, {})]
    for told in with_status:
        assert told.wait(20) == 0, told.log
        assert '"succeeded"' in told.log
