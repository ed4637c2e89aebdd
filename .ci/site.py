"""Build the site of all documents into .site/site: `make site`. A link or an anchor that leads nowhere fails it.

The documents stand there as in the repository, so that their links to each other hold in both places; their Mermaid
texts give way to the pictures that `diagrams.py` has drawn of them. Two pages are made: the Python reference, of the
docstrings of what `orderrelay_producers` exports, and the settings, of the example.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import diagrams

import orderrelay_producers

if TYPE_CHECKING:
    import re

ROOT = Path(__file__).parents[1]
SITE = ROOT / ".site"

REFERENCE = """# Python reference

What services import from `orderrelay_producers`. [The README](README.md) shows how it is used, and
[testing](docs/testing.md) what their tests are given.
"""

SETTINGS = """# Settings

All of them, with their defaults, as in `deploy/orderrelay.env.example`. Each can also be a variable of the process, or
a file of the secrets folder.

```ini
{example}
```
"""


def with_pictures(text: str, name: str) -> str:
    """A page with pictures in place of Mermaid texts."""
    drawn = diagrams.pictures()

    def picture(block: re.Match[str]) -> str:
        path = drawn.get(diagrams.digest(block[1]))
        if path is None:
            raise SystemExit(f"docs/{name} has a drawing that was changed since: python .ci/diagrams.py")
        return f"[![A drawing of what is told here](diagrams/{path.name})](diagrams/{path.name})"

    return diagrams.BLOCK.sub(picture, text)


def main() -> int:
    """Stage the documents and build; returns the exit code."""
    shutil.rmtree(SITE, ignore_errors=True)
    pages = SITE / "pages"
    pages.mkdir(parents=True)
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, pages)
    for name in ("docs", "deploy"):
        shutil.copytree(ROOT / name, pages / name)
    for page in (pages / "docs").glob("*.md"):
        page.write_text(with_pictures(page.read_text(), page.name))
    for name in ("producers", "shared"):
        (SITE / name).symlink_to(ROOT / name)
    names = [name for name in orderrelay_producers.__all__ if name != "errors"]
    (pages / "reference.md").write_text(
        "\n".join([REFERENCE, *(f"::: orderrelay_producers.{name}\n" for name in names)])
    )
    example = (ROOT / "deploy" / "orderrelay.env.example").read_text()
    (pages / "settings.md").write_text(SETTINGS.format(example=example))
    (pages / "docs" / "mkdocs.yml").rename(SITE / "mkdocs.yml")
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=SITE, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
