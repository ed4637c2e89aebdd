"""What a Celery task does beside the work itself."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import sqlalchemy as sa

from orderrelay_workers import processes, tasks
from orderrelay_workers.ears import Ears

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderrelay_workers.runtime import Runtime


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Runtime]:
    """This process as a worker, as far as the task looks; its database has no tables."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    stand_in = cast("Runtime", SimpleNamespace(engine=engine, storing=threading.Lock(), draining=threading.Event()))
    processes._running.append(processes._Parts(stand_in, Ears(8), sidecar=None, health=None, gauges=[]))
    yield stand_in
    processes._running.clear()
    engine.dispose()


def test_a_second_hint_about_results_takes_no_thread(worker: Runtime) -> None:
    """While one task of a process stores answers, another one leaves at once, however slow the database is."""
    with worker.storing:
        worker.engine = cast("sa.Engine", None)  # whatever touched it now would raise
        tasks.store_results()
    assert not worker.storing.locked()


def test_results_that_cannot_be_stored_are_left_for_the_next_hint(worker: Runtime) -> None:
    """A database error ends the task without an exception, and the next one may begin."""
    tasks.store_results()
    assert not worker.storing.locked()


class _Interrupted(threading.Event):
    """A signal comes while it is being set for the first time."""

    times_set = 0

    def set(self) -> None:
        """Set it, after the signal's handler has run."""
        self.times_set += 1
        if self.times_set == 1:
            signal.raise_signal(signal.SIGUSR1)
        super().set()


def test_a_signal_within_a_signal_does_not_wait_for_itself(worker: Runtime) -> None:
    """A second SIGTERM while the first one's handler sets an event, whose lock only another thread could wait for."""
    worker.draining, worker.name = _Interrupted(), "host:1"
    before = signal.signal(signal.SIGUSR1, lambda *_: processes.drain())
    try:
        processes.drain()
        processes.drain()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert worker.draining.is_set()
    assert worker.draining.times_set == 1
