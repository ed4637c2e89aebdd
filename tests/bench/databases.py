"""The databases that benches run on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.servers import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def bench_database(folder: Path, *, postgres: bool) -> Iterator[str]:
    """The URL of an empty database: a SQLite file in the folder, or a PostgreSQL that syncs every commit."""
    if not postgres:
        yield f"sqlite:///{folder / 'ledger.db'}"
        return
    server = PostgresServer(options={"fsync": "on", "full_page_writes": "on"})
    try:
        server.start()
        yield server.url(server.create_database())
    finally:
        server.remove()
