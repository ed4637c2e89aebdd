"""The version before this one, from git, to run beside it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

#: What was deployed before this version.
COMMIT = "71c7c367d10fb7033e29f402728d959f49beae23"

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("producers", "shared", "workers")


class HistoryMissing(Exception):
    """The earlier version cannot be had: there is no git, no repository, or not this commit in it."""


def unpack(folder: Path) -> dict[str, str]:
    """Put the earlier version's packages into a folder.

    Returns:
        The variables with which a Python process runs that version, with this one's dependencies.

    Raises:
        HistoryMissing: Where this version comes without its history.
    """
    if not _is_there():
        _fetch()
    if not _is_there():
        raise HistoryMissing(f"git does not have {COMMIT[:7]} here; fetch the whole history: git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(_git("archive", COMMIT, *_PACKAGES).stdout)) as archive:
        archive.extractall(folder, filter="data")
    elsewhere = [entry for entry in sys.path if entry and not _is_ours(Path(entry))]
    path = [*(str(folder / package) for package in _PACKAGES), *elsewhere]
    return {"PYTHONPATH": os.pathsep.join(path)}


def _is_ours(entry: Path) -> bool:
    return entry.resolve() in {_ROOT.resolve(), *((_ROOT / package).resolve() for package in _PACKAGES)}


def _is_there() -> bool:
    return _git("cat-file", "-e", f"{COMMIT}^{{tree}}").returncode == 0


def _fetch() -> None:
    """Ask for the history that a shallow clone lacks; once, and in vain where there is no way to it."""
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
        _git("fetch", "--quiet", "--unshallow")


def _git(*args: str) -> subprocess.CompletedProcess[bytes]:
    # The tree may belong to somebody else than who runs the tests, as in a container.
    command = ["git", "-c", "safe.directory=*", "-C", str(_ROOT), *args]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60, env=environment)
    except FileNotFoundError:
        raise HistoryMissing("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise HistoryMissing(f"git {args[0]} took longer than a minute") from None


if __name__ == "__main__":  # tells CI whether the earlier version can be had
    import tempfile

    with tempfile.TemporaryDirectory() as somewhere:
        try:
            unpack(Path(somewhere))
        except HistoryMissing as missing:
            raise SystemExit(str(missing)) from None
