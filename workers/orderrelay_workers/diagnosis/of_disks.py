"""The disks of this host: where the ledger's file is, and where answers go that the database would not take."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from orderrelay_workers.diagnosis.findings import Finding, ok, warning

if TYPE_CHECKING:
    from pathlib import Path

#: Less free disk is worth a warning, in bytes.
_LITTLE_DISK: Final = 1024**3

_GIB: Final = 1024**3


def look_at_disks(spool: Path, ledger_file: Path | None) -> list[Finding]:
    """Look at the disks that a worker on this host writes to.

    Args:
        spool: The folder of spooled answers; it may not exist yet.
        ledger_file: The SQLite file; None on PostgreSQL, whose disk nobody can see from here.
    """
    found: list[Finding] = []
    if ledger_file is not None:
        free = shutil.disk_usage(_existing(ledger_file.parent)).free
        found.append(judge_disk("database", ledger_file.parent, free, "without it nothing can be booked or settled"))
    free = shutil.disk_usage(_existing(spool)).free
    found.append(judge_disk("spool", spool, free, "answers go there while the database is away"))
    files = sum(1 for _ in spool.glob("*/*.jsonl"))
    if files:
        text = f"{files} {'file' if files == 1 else 'files'} of answers that the database would not take lie in {spool}"
        to_do = "start a worker on this host, which reads them in: orderrelay worker"
        found.append(warning("spool", f"{text}: until then those orders count as unknown", to_do))
    return found


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def judge_disk(subject: str, folder: Path, free: int, what_for: str) -> Finding:
    """What so many free bytes mean."""
    text = f"{free / _GIB:.1f} GiB of disk are free at {folder}"
    if free >= _LITTLE_DISK:
        return ok(subject, text)
    return warning(subject, f"{text}: {what_for}", f"free some disk; what takes it: du -xh --max-depth=2 {folder}")
