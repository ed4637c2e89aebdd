"""A process that ends what a killed test run would leave behind."""

from __future__ import annotations

import subprocess
import sys
from typing import Final, Self

#: Reads process ids, a line each, until its input ends, which happens however the test run ends; then kills those.
_PROGRAM: Final = """
import os, signal, sys
for pid in {int(line) for line in sys.stdin}:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""


class Guardian:
    """Kills the processes it was told of if this one dies, even by kill -9. A context manager.

    Whoever ends them in order does so before the block ends.
    """

    def __enter__(self) -> Self:
        # A session of its own, so that Ctrl-C does not end it first.
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-I", "-S", "-c", _PROGRAM], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def watch(self, pid: int) -> None:
        """Kill this process too."""
        assert self._process.stdin is not None  # noqa: S101  it was started with one
        self._process.stdin.write(f"{pid}\n")
        self._process.stdin.flush()

    def __exit__(self, *_: object) -> None:
        # It is killed, and not let go: the ids may belong to others by now.
        self._process.kill()
        self._process.communicate()
