"""How long a duty rests that reads all that waits."""

from __future__ import annotations

import pytest

from orderrelay_workers.sidecar.resting import seconds_to_rest


@pytest.mark.parametrize(
    ("took_seconds", "rests"), [(0.0, 5), (0.1, 5), (0.11, 6), (0.5, 25), (0.6, 30), (20.0, 30)]
)  # fmt: skip
def test_a_slow_duty_rests_longer(took_seconds: float, rests: int) -> None:
    """A duty takes a fiftieth of the time at most, but rests five seconds at least and thirty at most."""
    assert seconds_to_rest(took_seconds, at_least=5) == rests
