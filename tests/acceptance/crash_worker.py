"""Runs the worker's command, which kills itself with SIGKILL before or after one named function.

Variables: `CRASH_AT` says "before module:name" or "after module:name" (name may be Class.method), `CRASH_IF` names a
file; only while that exists does the function kill. "after" counts only if the function gives something truthy or None.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.traps import lay_trap

if __name__ == "__main__":
    lay_trap(os.environ.pop("CRASH_AT"), Path(os.environ.pop("CRASH_IF")).exists)
    from orderrelay_shared.command import main

    sys.argv[0] = "orderrelay"
    main()
