"""Where every peer keeps the vendor's answers; read by the bench too."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_database(path: str | Path) -> sqlite3.Connection:
    """Open the results, and lay them out if they are new. No key is unique, so that what is doubled shows."""
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS result (id INTEGER PRIMARY KEY, external_id TEXT NOT NULL, order_nr TEXT, "
        "vendor_id INTEGER, answer BLOB NOT NULL, stored_at REAL NOT NULL)"
    )
    return database
