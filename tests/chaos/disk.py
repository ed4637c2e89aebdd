"""A small disk for the database, which can be full: a file system of its own, or a limit on the files' size."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import subprocess
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
_UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

#: Logs may grow by so much while the database's files may not, in bytes.
_SPARE_BYTES = 256 * 1024


class SmallDisk:
    """A folder on a file system of its own in memory, as far as this machine allows to mount one.

    Mounting needs root, or `sudo` without a password. Elsewhere the files of SQLite are limited in their size, for
    the processes that run (RLIMIT_FSIZE); PostgreSQL is left alone, as it tells that error from a full disk.

    Args:
        folder: Becomes the disk; made if missing.
        megabytes: Its size.
        owner: Numeric user that it belongs to; None: this one.
    """

    def __init__(self, folder: Path, megabytes: int, owner: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        user = os.geteuid() if owner is None else owner
        options = f"size={megabytes}m,mode=700,uid={user},gid={user}"
        mount = ["mount", "-t", "tmpfs", "-o", options, "orderrelay-chaos", str(folder)]
        self._sudo: list[str] = [] if os.geteuid() == 0 else ["sudo", "-n"]
        self.is_own = (not self._sudo or shutil.which("sudo") is not None) and _succeeds([*self._sudo, *mount])
        self._limited: list[psutil.Process] = []

    def fill(self, pids: Iterable[int], *, is_sqlite: bool) -> str:
        """Leave no room on it.

        Args:
            pids: The processes that write SQLite's files.
            is_sqlite: Whether the database is SQLite.

        Returns:
            How it was done; "" if it cannot be done here.
        """
        if self.is_own:
            self._write_ballast()
            return "a full tmpfs"
        if not is_sqlite:
            return ""
        largest = max((file.stat().st_size for file in self.folder.iterdir() if file.is_file()), default=0)
        logs = max((file.stat().st_size for file in self.folder.parent.glob("*.log")), default=0)
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                process = psutil.Process(pid)
                process.rlimit(psutil.RLIMIT_FSIZE, (max(largest, logs + _SPARE_BYTES), resource.RLIM_INFINITY))
                self._limited.append(process)
        return "RLIMIT_FSIZE, as no tmpfs can be mounted here"

    def _write_ballast(self) -> None:
        size = _CHUNK_BYTES
        with (self.folder / "ballast").open("ab", buffering=0) as ballast:
            while size >= 512:
                try:
                    ballast.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        """Give the room back."""
        (self.folder / "ballast").unlink(missing_ok=True)
        for process in self._limited:
            with contextlib.suppress(psutil.Error, OSError):
                process.rlimit(psutil.RLIMIT_FSIZE, _UNLIMITED)
        self._limited.clear()

    def remove(self) -> None:
        """Unmount it, even if something still has its files open."""
        if self.is_own:
            _succeeds([*self._sudo, "umount", "-l", str(self.folder)])


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
