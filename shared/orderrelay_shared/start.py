"""Where the `orderrelay` command begins: before the imports that take long, so that a Ctrl-C is met at any time."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and exit."""
    try:
        from orderrelay_shared.command import main as run  # noqa: PLC0415  see above

        run()
    except KeyboardInterrupt:
        sys.exit(130)
