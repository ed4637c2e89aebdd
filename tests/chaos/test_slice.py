"""A short run of the chaos suite on each database, within three minutes; longer ones: `make chaos`, `make soak`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.options import DATABASES, Options
from tests.chaos.run import run

if TYPE_CHECKING:
    from pathlib import Path

_SEED = 7


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["fixed", "random"])
def test_chaos_neither_loses_nor_doubles_an_order(which: str, tmp_path: Path) -> None:
    """Workers, Redis, the database and links die at random beside a faulty vendor; each order ends once, with proof."""
    random_seed = int(time.time()) // 600 % 100_000
    seed = _SEED if which == "fixed" else random_seed
    # The two take turns, so that in the long run both databases meet many seeds.
    database = DATABASES[(random_seed + (which == "fixed")) % 2]
    verdict = run(Options(seed=seed, seconds=30.0, orders=150, database=database), tmp_path)
    again = f"python -m tests.chaos.run --seed {seed} --seconds 30 --orders 150 --database {database}"
    assert not verdict.violations, f"{verdict}\nTo repeat it: {again}"
