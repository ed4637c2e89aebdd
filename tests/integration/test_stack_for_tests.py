"""The stack that tests of other services are given, as a library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from orderrelay_producers import JobState, QueueUnavailable
from orderrelay_workers.testing import OrderrelayStack, WorkerDidNotStart
from tests.servers import wait_until
from tests.stack import order

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import Processes

#: A test run that dies while it has a stack; it tells the processes that it has started.
_HOLDER = """
import psutil, time
from orderrelay_workers.testing import OrderrelayStack
with OrderrelayStack() as stack:
    print("holding", *(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    time.sleep(600)
"""


def test_workers_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that came while nobody worked is created once, by a worker that is started then; nothing stays behind.

    What this process' environment says of other Redis servers and settings does not matter.
    """
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("ORDERRELAY_ACCEPT_ON_DISK", "true")
    before = set(psutil.Process().children(recursive=True))
    with OrderrelayStack(tmp_path / "stack", companies=["Acme"]) as stack:
        stack.kill_worker()
        job = stack.producer.enqueue(order("A-1"), company="acme")
        with pytest.raises(TimeoutError):
            job.wait(timeout=0.1)
        assert stack.start_worker() == 2
        assert job.wait(timeout=60).state is JobState.SUCCEEDED
        stack.vendor.assert_created_once("A-1")
        assert " ready." in stack.worker_log(2)
        with stack.without_redis(), pytest.raises(QueueUnavailable):
            job.status(timeout=0.2)
        assert job.status() is not None
    assert {child for child in psutil.Process().children(recursive=True) if child not in before} == set()
    assert (tmp_path / "stack" / "ledger.db").exists()


def test_a_worker_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The reason is in what it logged, and nothing stays behind."""
    before = set(psutil.Process().children(recursive=True))
    stack = OrderrelayStack(tmp_path, settings={"ORDERRELAY_MAX_ATTEMPTS": "many"})
    with pytest.raises(WorkerDidNotStart, match="ORDERRELAY_MAX_ATTEMPTS"), stack:
        pass
    assert {child for child in psutil.Process().children(recursive=True) if child not in before} == set()


def test_a_killed_test_run_leaves_nothing_behind(processes: Processes) -> None:
    """Neither the Redis server nor a worker outlives it, though nobody told them to stop."""
    run = processes.start_python(["-c", _HOLDER], {"PYTHONWARNINGS": "ignore"}, name="holder")
    wait_until(lambda: "holding" in run.log, 60, what="the stack is up")
    children = [int(word) for word in run.log.rpartition("holding")[2].split()]
    assert len(children) >= 3  # a Redis server, a worker and the guardian
    psutil.Process(run.pid).kill()
    wait_until(lambda: not any(map(is_alive, children)), 20, what="all of them are gone")


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has asked for its exit code does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
