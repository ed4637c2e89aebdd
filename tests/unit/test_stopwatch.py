"""Elapsed time that neither a frozen machine nor a clock that is set back can hide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orderrelay_workers.stopwatch import Stopwatch


def test_it_starts_at_nothing() -> None:
    """A new stopwatch has run for no time worth speaking of."""
    assert 0 <= Stopwatch.start().elapsed_seconds() < 5


@pytest.mark.parametrize(
    ("boot_ahead", "wall_ahead"),
    [(60, 0), (0, 60), (60, -3600), (-3600, 60)],
    ids=["wall clock stood still", "boot clock stood still", "wall clock set back", "boot clock began anew"],
)
def test_the_larger_clock_counts(boot_ahead: float, wall_ahead: float) -> None:
    """Whichever of the two clocks has gone further says how much time has passed."""
    now = Stopwatch.start()
    watch = replace(now, boot_seconds=now.boot_seconds - boot_ahead, wall_seconds=now.wall_seconds - wall_ahead)
    assert 60 <= watch.elapsed_seconds() < 65


def test_it_goes_on() -> None:
    """A stopwatch never goes backwards."""
    watch = Stopwatch.start()
    readings = [watch.elapsed_seconds() for _ in range(1000)]
    assert readings == sorted(readings)
