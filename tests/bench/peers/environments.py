"""The peers' virtual environments below `.bench/`, made when they are first needed: their pins collide."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[3]
FOLDER: Final = ROOT / ".bench"

_VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


def python_of(environment: str, requirements: Sequence[str], folder: Path = FOLDER) -> Path:
    """The interpreter of an environment in which these are installed; makes it if it is not there or has others.

    Raises:
        subprocess.CalledProcessError: It cannot be made; what pip said is on stderr.
    """
    home = folder / environment
    python = home / "bin" / "python"
    # Written last, so that an environment whose making was interrupted is made again.
    stamp = home / "installed.txt"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"Making .bench/{environment} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def versions_in(python: Path, distributions: Sequence[str]) -> dict[str, str]:
    """The versions of what is installed beside an interpreter."""
    told = subprocess.run([str(python), "-c", _VERSIONS, *distributions], check=True, capture_output=True, text=True)
    versions: dict[str, str] = json.loads(told.stdout)
    return versions
