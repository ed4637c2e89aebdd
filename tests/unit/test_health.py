"""What is said of a worker's health, and why, without any worker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import OperationalError

from orderrelay_workers.consumer import PatientConnection
from orderrelay_workers.ears import Ears
from orderrelay_workers.health import BEAT, LISTEN, Signs, Vitals, judge, words_for

WELL = Signs(beat_seconds=0.5, hint_seconds=2.0)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.mark.parametrize(
    ("signs", "live", "ready", "reason"),
    [
        (WELL, True, True, ""),
        (None, True, False, "starting"),
        (Signs(), True, False, "no beat yet"),
        (Signs(beat_seconds=6, hint_seconds=1), True, False, "no beat for 6 s"),
        (Signs(beat_seconds=1, hint_seconds=16), True, False, "no hint came round for 16 s"),
        (Signs(beat_seconds=1, hint_seconds=None), True, False, "no hint came round yet"),
        (replace(WELL, beat_trouble="Redis (TimeoutError)"), True, False, "the beat fails: Redis (TimeoutError)"),
        (replace(WELL, draining=True), True, False, "draining"),
        (Signs(beat_seconds=1, hint_seconds=99, deaf_seconds=99, draining=True), True, False, "draining"),
        (Signs(beat_seconds=1, hint_seconds=99, deaf_seconds=61), False, False, "deaf"),
        (Signs(beat_seconds=99, hint_seconds=1, hanging=((BEAT, 99),)), False, False, "'beat' has not come to an end"),
    ],
)
def test_the_verdict_and_its_reason(signs: Signs | None, live: bool, ready: bool, reason: str) -> None:
    """Live is false only where a restart helps, ready wherever no work is taken; both say why."""
    health = judge(signs)
    assert (not health.not_live, not health.not_ready) == (live, ready)
    assert reason in " ".join(health.not_ready)


def test_a_duty_that_fails_has_come_to_an_end() -> None:
    """In an outage the beat fails again and again: it is told why, and nothing hangs."""
    clock = Clock()
    vitals = Vitals(clock)
    vitals.begin(Ears(8, clock), lambda: False)
    for _ in range(300):
        clock.now += 1
        vitals.awake()
        vitals.duty_ended(BEAT, "Redis (TimeoutError)")
        vitals.duty_ended(LISTEN, None)
    signs = vitals.signs()
    assert signs is not None
    assert (signs.hanging, signs.beat_seconds, signs.beat_trouble) == ((), None, "Redis (TimeoutError)")


def test_a_duty_that_does_not_end_hangs() -> None:
    """Whichever of the two it is."""
    clock = Clock()
    vitals = Vitals(clock)
    vitals.begin(Ears(8, clock), lambda: False)
    for _ in range(100):
        clock.now += 1
        vitals.awake()
        vitals.duty_ended(BEAT, None)
    signs = vitals.signs()
    assert signs is not None
    assert [name for name, _ in signs.hanging] == [LISTEN]


def test_a_process_that_was_frozen_does_not_hang() -> None:
    """Its duties are as old as the freeze, but had no time to end."""
    clock = Clock()
    vitals = Vitals(clock)
    vitals.begin(Ears(8, clock), lambda: False)
    vitals.awake()
    clock.now += 1000
    signs = vitals.signs()
    assert signs is not None
    assert signs.hanging == ()


def test_an_error_is_named_without_its_text() -> None:
    """Its text may hold an address with a password."""
    hidden = "redis://:secret@host"
    for error in (RedisConnectionError(hidden), OperationalError("SELECT", {}, Exception(hidden)), OSError(hidden)):
        assert "secret" not in words_for(error)
    assert words_for(RedisConnectionError()) == "Redis (ConnectionError)"


def test_an_absent_broker_is_asked_for_every_second_and_told_of_once() -> None:
    """Kombu's own waits grow to half a minute, each with a line in the log."""
    told: list[float] = []
    tries = 0

    def stop() -> None:
        nonlocal tries
        tries += 1
        if tries > 4:  # the retry loop asks this twice for each second that it waits
            raise KeyboardInterrupt

    connection = PatientConnection("redis://127.0.0.1:1/0", transport_options={"socket_connect_timeout": 1})
    with pytest.raises(KeyboardInterrupt):
        connection.ensure_connection(lambda _, interval: told.append(interval), None, callback=stop)
    assert told == [1.0]
