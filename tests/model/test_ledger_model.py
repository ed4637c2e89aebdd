"""The ledger against the model, in random histories, on SQLite and PostgreSQL.

`ORDERRELAY_MODEL_SECONDS` says how long to search on each database, `ORDERRELAY_MODEL_SEED` where to begin; a failure
names the seed, and tells the shortest history that Hypothesis finds.
"""

from __future__ import annotations

import os
import secrets

import pytest

from tests.model.search import search

_SECONDS = float(os.environ.get("ORDERRELAY_MODEL_SECONDS", "20"))


@pytest.mark.timeout(_SECONDS + 600)  # a failure is made as short as possible before it is told
def test_no_history_doubles_loses_or_strands_an_order(database_url: str) -> None:
    """Whatever workers, people, clocks and the vendor do, in any order: once, on record, and to an end."""
    seed = int(os.environ.get("ORDERRELAY_MODEL_SEED") or secrets.randbelow(10**9))
    print(search(database_url, seconds=_SECONDS, seed=seed))
