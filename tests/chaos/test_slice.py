"""A short run of the chaos suite on each database; longer ones: `python -m tests.chaos.run --help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.run import Options, run

if TYPE_CHECKING:
    from pathlib import Path

_SEED = 7


@pytest.mark.timeout(360)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_chaos_neither_loses_nor_doubles_an_order(database: str, tmp_path: Path) -> None:
    """Workers, Redis, PostgreSQL and links die at random beside a faulty vendor; each order ends once, with proof."""
    verdict = run(Options(seed=_SEED, seconds=30.0, orders=150, database=database), tmp_path)
    print(verdict)
    assert verdict.violations == []
