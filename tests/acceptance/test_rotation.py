"""Secrets change while orders flow: nobody restarts a worker, and nothing is lost, doubled or paused without need."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import Credentials
from tests.acceptance.steady_load import SteadyLoad
from tests.servers import wait_until
from tests.stack import company

if TYPE_CHECKING:
    from tests.processes import RunningProcess
    from tests.stack import EnvFile, Stack

OLD, NEW = Credentials(password="zzOldSecretzz"), Credentials(password="zzNewSecretzz")
_PAUSED = "SELECT paused_reason FROM company WHERE paused_reason IS NOT NULL"


def password(credentials: Credentials) -> str:
    """The password."""
    assert credentials.password is not None
    return credentials.password


@pytest.fixture
def stack(stack: Stack) -> Stack:
    """A vendor that takes the old password only; workers find theirs in an env file."""
    stack.simulator.accept(OLD)
    stack.environment |= company("acme", PASSWORD="", RATE_PER_SECOND="60")
    return stack


def start(stack: Stack, name: str, credentials: Credentials = OLD) -> tuple[EnvFile, RunningProcess]:
    """A worker with an env file of its own."""
    file = stack.env_file(name)
    file.write(PASSWORD=password(credentials))
    return file, stack.worker(**file.environment)


def change(file: EnvFile, worker: RunningProcess, credentials: Credentials) -> None:
    """Change a worker's password, and wait until it has taken it over."""
    before = worker.log.count('"settings_taken_over"')
    file.write(PASSWORD=password(credentials))
    wait_until(lambda: worker.log.count('"settings_taken_over"') > before, 5, what="the worker has the new password")


def orders_go_on(stack: Stack, load: SteadyLoad, more: int = 10) -> None:
    """Wait until so many more orders are created."""
    enough = len(stack.created()) + more
    wait_until(lambda: len(stack.created()) >= enough, 20, what=f"{more} more of {len(load.orders)} are created")


def test_a_password_is_changed_under_load_while_the_vendor_takes_both(stack: Stack) -> None:
    """The workers get the new one at different times; when the old one ends, nothing is paused and nothing lost."""
    with SteadyLoad(stack, per_second=20) as load:
        files = [start(stack, "first"), start(stack, "second")]
        orders_go_on(stack, load)
        stack.simulator.accept(OLD, NEW)
        for file, worker in files:
            change(file, worker, NEW)
            stack.simulator.end_sessions()
            orders_go_on(stack, load)
        stack.simulator.accept(NEW)
        stack.simulator.end_sessions()
        orders_go_on(stack, load)
    stack.wait_for(load.orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(load.orders)
    assert stack.requests("login") <= 5


def test_a_new_password_that_the_vendor_refuses_stops_nothing(stack: Stack) -> None:
    """The worker goes on with the previous one and says so; when the vendor has switched as well, it uses the new."""
    with SteadyLoad(stack, per_second=20) as load:
        file, worker = start(stack, "only")
        orders_go_on(stack, load)
        change(file, worker, NEW)
        stack.simulator.end_sessions()
        orders_go_on(stack, load)
        wait_until(lambda: stack.alarms() == ["new_credentials_refused"], what="people are told")
        stack.simulator.accept(NEW)
        stack.simulator.end_sessions()
        orders_go_on(stack, load)
    stack.wait_for(load.orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(load.orders, alarms=["new_credentials_refused"])
    assert worker.log.count('"new_credentials_refused"') == 1


def test_a_paused_company_goes_on_when_the_file_is_corrected(stack: Stack) -> None:
    """Nobody resumes it and nobody restarts a worker: a password that the vendor takes is enough."""
    file, worker = start(stack, "only", NEW)
    orders = stack.enqueue(10)
    wait_until(lambda: [row[0] for row in stack.rows(_PAUSED)] == ["credentials"], what="the company is paused")
    corrected_at = time.monotonic()
    file.write(PASSWORD=password(OLD))
    stack.wait_for(orders, JobState.SUCCEEDED)
    assert time.monotonic() - corrected_at < 10
    stack.assert_all_created_once(orders, alarms=["company_paused"])
    assert worker.is_running


def test_a_worker_with_the_old_password_does_not_pause_the_others(stack: Stack) -> None:
    """Where the new one has not come yet the worker steps aside, and is back when it has; the others never stop."""
    (first, quick), (second, slow) = start(stack, "first"), start(stack, "second")
    with SteadyLoad(stack, per_second=20) as load:
        orders_go_on(stack, load)
        change(first, quick, NEW)
        stack.simulator.accept(NEW)

        ended_at = 0.0

        def steps_aside() -> bool:
            nonlocal ended_at
            if time.monotonic() - ended_at > 1.0:  # each time, whichever worker is first logs in
                stack.simulator.end_sessions()
                ended_at = time.monotonic()
            return '"company_not_served_here"' in slow.log

        wait_until(steps_aside, 60, what="the worker with the old password steps aside")
        orders_go_on(stack, load)
        change(second, slow, NEW)
        wait_until(lambda: '"company_served_here_again"' in slow.log, what="it is back")
        orders_go_on(stack, load)
    stack.wait_for(load.orders, JobState.SUCCEEDED)
    stack.assert_all_created_once(load.orders, alarms=["company_not_served"])
    assert stack.rows("SELECT 1 FROM event WHERE kind = 'company_paused'") == []
