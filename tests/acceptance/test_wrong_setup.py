"""A setup that could double or misdirect orders is refused at the start, in words; the right ones work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from orderrelay_shared.states import JobState
from tests.stack import company

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.stack import Stack

_CELERY = ("-m", "celery", "-A", "orderrelay_workers.app", "worker")


def _celery(stack: Stack, *flags: str) -> RunningProcess:
    return stack.processes.start_python([*_CELERY, *flags], stack.environment, name="celery")


def test_two_aliases_on_one_company_key_are_refused(sqlite_stack: Stack) -> None:
    """An order enqueued under both would be created twice: the worker exits 2 and names both."""
    sqlite_stack.environment |= company("other", COMPANY_API_KEY="acme-key")
    worker = sqlite_stack.command("worker")
    assert worker.wait() == 2
    assert "'acme'" in worker.log
    assert "'other'" in worker.log
    assert "acme-key" not in worker.log


def test_a_second_ledger_behind_one_redis_is_refused(sqlite_stack: Stack) -> None:
    """Two ledgers behind one intake would double: the second's worker exits 2, names both, and the first works on."""
    stack = sqlite_stack
    stack.worker()
    [[ours]] = stack.rows("SELECT id FROM ledger")
    other = f"sqlite:///{stack.folder / 'other' / 'orderrelay.db'}"
    second = stack.command("worker", ORDERRELAY_DATABASE_URL=other)
    assert second.wait() == 2
    assert str(ours).replace("-", "") in second.log
    orders = stack.enqueue(5)
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(orders)


def test_a_changed_company_key_pauses_that_company_only(sqlite_stack: Stack) -> None:
    """Orders never go to other books by a changed key: they wait for a person, and another company's go on."""
    stack = sqlite_stack
    stack.environment |= company("other")
    worker = stack.worker()
    before = stack.enqueue(2, "before")
    stack.wait_for(before, JobState.SUCCEEDED)
    worker.sigterm()
    assert worker.wait() == 0
    stack.environment |= company("acme", COMPANY_API_KEY="another-key")
    stack.worker()
    waiting, served = stack.enqueue(3, "waiting"), stack.enqueue(3, "served", company="other")
    stack.wait_for(served, JobState.SUCCEEDED)
    stack.wait_for(waiting, JobState.WAITING)
    [paused] = stack.rows("SELECT alias, paused_reason FROM company WHERE paused_reason IS NOT NULL")
    assert tuple(paused) == ("acme", "company key changed")
    assert sorted(stack.created()) == sorted(before + served)


def test_another_pool_is_refused(sqlite_stack: Stack) -> None:
    """Another pool would break the promises: the worker exits 2 and says what to do."""
    worker = _celery(sqlite_stack, "-P", "solo")
    assert worker.wait() == 2
    assert "-P threads" in worker.log


def test_prefork_is_not_run_even_if_asked_for(sqlite_stack: Stack) -> None:
    """Celery takes `-P prefork` for its own default, and so for the app's pool: threads, in one process."""
    worker = sqlite_stack.await_ready(_celery(sqlite_stack, "-P", "prefork"))
    assert "(thread)" in worker.log
    assert psutil.Process(worker.pid).children() == []


def test_a_plain_celery_worker_works(sqlite_stack: Stack) -> None:
    """`celery -A orderrelay_workers.app worker` without any flag does the whole job, and stops in order."""
    stack = sqlite_stack
    worker = _celery(stack)
    orders = stack.enqueue(10)
    stack.wait_for(orders, JobState.SUCCEEDED)
    stack.wait_for_results(10)
    stack.assert_all_created_once(orders)
    worker.sigterm()
    assert worker.wait(20) == 0
    [started] = [line for line in worker.log.splitlines() if "worker_started" in line]
    assert started.startswith("{"), "what is told before Celery sets logging up has to be in the set format, and masked"
