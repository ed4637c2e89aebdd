"""What integration tests share beside the real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledgers import Ledger, open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """An empty ledger with the company "acme", on SQLite and then on PostgreSQL."""
    with open_ledger(database_url) as ledger:
        yield ledger
