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


@pytest.mark.timeout(300)
def test_chaos_with_several_orders_in_a_request_neither_loses_nor_doubles(tmp_path: Path) -> None:
    """The same for a shorter while, with a vendor that at times creates, or names, only some of a request's orders."""
    options = Options(seed=_SEED, seconds=12.0, orders=150, rate=8.0, orders_per_request=10)
    verdict = run(options, tmp_path)
    assert verdict.numbers["shared_requests"]["created"] > 0
    again = f"python -m tests.chaos.run --seed {_SEED} --seconds 12 --orders 150 --rate 8 --orders-per-request 10"
    assert not verdict.violations, f"{verdict}\nTo repeat it: {again}"
