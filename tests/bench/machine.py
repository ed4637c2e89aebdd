"""What a bench ran on, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.servers import postgres_binaries, redis_binary

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS: Final = (
    "orderrelay",
    "celery",
    "redis",
    "httpx",
    "httptools",
    "msgspec",
    "sqlalchemy",
    "psycopg",
)


def machine() -> str:
    """Cores, processor, system, Python and servers."""
    words = [
        f"{os.cpu_count()} cores ({_processor()})",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        _version_of(str(redis_binary())),
        _version_of(str(postgres_binaries() / "postgres")),
    ]
    return ", ".join(words)


def our_versions() -> dict[str, str]:
    """What the workers' speed depends on."""
    return {name: metadata.version(name) for name in _OURS}


def in_words(versions: Mapping[str, str]) -> str:
    """Names and versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version_of(program: str) -> str:
    """The first line that a server tells of itself, without the details of its making."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return told.splitlines()[0].partition(" sha=")[0]
