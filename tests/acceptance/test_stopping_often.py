"""Twenty SIGTERMs on each database, under load: none hangs, each exits 0, and nothing is lost, doubled or wasted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.simulator import FaultPlan
from tests.acceptance.steady_load import SteadyLoad, assert_nothing_wasted
from tests.stack import company

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.stack import Stack

#: How many workers are replaced at a time, and how often.
_WORKERS, _WAVES = 4, 5


@pytest.mark.timeout(300)  # twenty-one workers, each two seconds of CPU, on a machine that may be busy
def test_twenty_sigterms_under_load(stack: Stack) -> None:
    """Four workers at a time give way to four others, one after the other or all at once, while orders keep coming."""
    stack.environment |= company("acme", RATE_PER_SECOND="60", BURST="5", MAX_IN_FLIGHT="50")
    stack.environment["ORDERRELAY_REQUEST_TIMEOUT_SECONDS"] = "20"
    stack.simulator.set_plan(FaultPlan(latency_ms=400.0))
    running = stack.workers(_WORKERS)
    with SteadyLoad(stack, per_second=30) as load:
        for wave in range(_WAVES):
            following = stack.workers(_WORKERS if wave < _WAVES - 1 else 1)
            _stop(running, at_once=wave % 2 == 1)
            running = following
    assert_nothing_wasted(stack, load.orders)


def _stop(workers: list[RunningProcess], *, at_once: bool) -> None:
    for worker in workers:
        worker.sigterm()
        if not at_once:
            assert worker.wait(30) == 0, worker.log[-4000:]
    assert [worker.wait(30) for worker in workers] == [0] * len(workers)
