"""Searching for a history that breaks a promise: Hypothesis' histories, round after round, until the time is over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import seed as with_seed
from hypothesis.stateful import run_state_machine_as_test

from tests.model.ground import a_ground
from tests.model.machine import LedgerMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.model.ground import Ground

_HISTORIES_A_ROUND = 20
_STEPS = 50


@dataclass(frozen=True)
class Searched:
    """What a search has seen, when it found nothing."""

    seed: int
    histories: int
    steps: int
    seconds: float
    ended: Mapping[str, int]

    def __str__(self) -> str:
        """In one line."""
        ends = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        return f"seed {self.seed}: {self.histories} histories, {self.steps} steps in {self.seconds:.0f} s; jobs ended {ends}"  # noqa: E501  one expression


def search(
    database_url: str, *, seconds: float, seed: int, shorten: bool = True, report: bool = True,
    watch: Callable[[], float] = time.monotonic,
) -> Searched:  # fmt: skip
    """Search for so long in an empty database.

    Args:
        database_url: The database.
        seconds: After so long no further round is begun.
        seed: Of the first round; every round has the next.
        shorten: Whether a history that fails is made as short as possible first.
        report: Whether it is printed.
        watch: Tells the time, in seconds.

    Raises:
        AssertionError: A history broke a promise; a note tells the seed.
    """
    phases = [Phase.generate, Phase.shrink] if shorten else [Phase.generate]
    chosen = settings(
        max_examples=_HISTORIES_A_ROUND,
        stateful_step_count=_STEPS,
        deadline=None,
        derandomize=False,
        database=None,
        print_blob=True,
        phases=phases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        verbosity=Verbosity.normal if report else Verbosity.quiet,
    )
    began = watch()
    first = seed
    with a_ground(database_url) as ground:
        try:
            while watch() - began < seconds:
                _round(ground, seed, chosen)
                seed += 1
        except Exception as error:
            error.add_note(f"ORDERRELAY_MODEL_SEED={seed}, after {watch() - began:.0f} s from seed {first}")
            raise
    return Searched(first, ground.histories, ground.steps, watch() - began, ground.ended)


def _round(ground: Ground, seed: int, chosen: settings) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(ground)

    run_state_machine_as_test(with_seed(seed)(Machine), settings=chosen)
