"""Whether a worker is deaf, and what it does about that, by a clock of our own."""

from __future__ import annotations

import threading
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from orderrelay_workers.ears import Ears, Stretch
from orderrelay_workers.sidecar.listening import Listening

if TYPE_CHECKING:
    from orderrelay_workers.runtime import Runtime


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


class Told:
    """A worker whose ears are being watched.

    Attributes:
        clock: What its ears go by.
        broker_is_there: Whether the broker takes canaries.
        canaries: How many it took.
        remedies: What was done against deafness.
    """

    def __init__(self, threads: int = 2) -> None:
        self.clock = Clock()
        self.ears = Ears(threads, self.clock)
        self.broker_is_there = True
        self.canaries = 0
        self.remedies: list[str] = []
        self.draining = threading.Event()
        self._worker = cast("Runtime", SimpleNamespace(hints=self, boot_id=uuid.uuid4(), draining=self.draining))
        self._listening = Listening(self.ears, lambda: self.remedies.append("reconnect"), self._give_up)

    def _give_up(self, _: str) -> None:
        self.remedies.append("give up")
        self.draining.set()

    def canary(self, boot_id: uuid.UUID) -> bool:
        """As `Hints.canary`."""
        assert boot_id
        self.canaries += self.broker_is_there
        return self.broker_is_there

    def hear(self) -> None:
        """A hint comes round."""
        with self.ears.at_work():
            pass

    def listen_for(self, seconds: int) -> None:
        """Do the duty once a second."""
        for _ in range(seconds):
            self.clock.now += 1
            self._listening.listen(self._worker)


@pytest.fixture
def told() -> Told:
    """A worker that takes messages and has heard one."""
    worker = Told()
    worker.ears.open()
    worker.hear()
    return worker


def test_a_stretch_ends_with_a_gap() -> None:
    """What recurs lasts from its first time; a long silence begins it anew."""
    clock = Clock()
    stretch = Stretch(2.0, clock)
    seen = []
    for pause in (0, 1, 1, 3, 1):
        clock.now += pause
        stretch.note()
        seen.append(stretch.seconds)
    clock.now += 3
    assert [*seen, stretch.seconds] == [0, 1, 2, 0, 1, 0]


def test_a_worker_that_hears_others_hints_sends_no_canaries(told: Told) -> None:
    """Any hint proves that it hears."""
    for _ in range(10):
        told.hear()
        told.listen_for(3)
    assert told.canaries == 0
    assert told.remedies == []


def test_a_silent_worker_with_a_broker_is_deaf(told: Told) -> None:
    """It sends itself canaries, connects anew once, and gives up at last."""
    told.listen_for(40)
    assert told.canaries > 5
    assert told.remedies == ["reconnect", "give up"]


def test_a_worker_without_a_broker_is_not_deaf(told: Told) -> None:
    """There is nothing to hear in an outage, however long it is."""
    told.broker_is_there = False
    told.listen_for(500)
    told.broker_is_there = True
    told.listen_for(3)
    assert told.ears.deaf_seconds <= 3
    assert told.remedies == []


def test_a_worker_that_was_frozen_is_not_deaf(told: Told) -> None:
    """The time that it did not live through does not count."""
    told.listen_for(5)
    told.clock.now += 300
    assert told.ears.deaf_seconds == 0
    told.listen_for(2)
    assert told.remedies == []


def test_a_worker_with_all_threads_at_work_is_not_deaf(told: Told) -> None:
    """It takes no message then, and misses none."""
    with told.ears.at_work(), told.ears.at_work():
        told.listen_for(60)
        assert told.remedies == []
    assert told.ears.tasks_running == 0
    assert told.ears.silent_seconds == 0


def test_a_worker_that_hears_again_is_helped_again_the_next_time(told: Told) -> None:
    """Connecting anew has helped; later it does once more."""
    told.listen_for(14)
    told.hear()
    told.listen_for(14)
    assert told.remedies == ["reconnect", "reconnect"]


def test_a_worker_that_drains_is_not_deaf(told: Told) -> None:
    """It takes no messages any more, and wants none."""
    told.draining.set()
    told.listen_for(60)
    assert (told.canaries, told.remedies) == (0, [])


def test_a_worker_that_takes_no_messages_yet_is_not_deaf() -> None:
    """Celery may need a while to start; one that never does is noticed in the end."""
    starting = Told()
    starting.listen_for(55)
    assert starting.remedies == []
    starting.listen_for(40)
    assert starting.remedies == ["reconnect", "give up"]
