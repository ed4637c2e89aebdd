"""Workers and producers that are forked from one process which has imported everything already."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.processes import tell_guardian, wait_until_frozen
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRAPPED: Final = str(Path(__file__).with_name("trapped.py"))
_BEGIN_SECONDS: Final = 60.0


class ForkedProcess:
    """One forked process, in a group of its own; its words are those of `tests.processes.RunningProcess`."""

    def __init__(self, pid: int, name: str, log_path: Path, ended: dict[int, int]) -> None:
        self.pid = pid
        self.log_path = log_path
        self._name = name
        self._ended = ended

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet (a frozen process runs)."""
        return self.pid not in self._ended

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self.log_path.read_text(errors="replace")

    def kill9(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._signal(signal.SIGKILL)
        self.wait()

    def sigterm(self) -> None:
        """SIGTERM; returns at once."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the clock for it."""
        self._signal(signal.SIGSTOP)
        wait_until_frozen(self.pid)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait until it has ended; gives the exit code, -9 after SIGKILL."""
        wait_until(lambda: not self.is_running, timeout, what=f"{self!r} has ended; its log: {self.log_path}")
        tell_guardian(f"-{self.pid}")
        return self._ended[self.pid]

    def _signal(self, number: int) -> None:
        if self.is_running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def __repr__(self) -> str:
        return f"<ForkedProcess {self.pid} {self._name}>"


class Nursery:
    """Starts processes by forking.

    Args:
        folder: For their logs.

    Attributes:
        started: All that were started.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[ForkedProcess] = []
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, _TRAPPED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        tell_guardian(f"+{self._process.pid}")
        self._begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ended: dict[int, int] = {}
        self._asking = threading.Lock()
        self._listener = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "begun" in told:
                self._begun.put(told["begun"])
            else:
                self._ended[told["ended"]] = told["code"]

    def start(self, args: list[str], environment: Mapping[str, str]) -> ForkedProcess:
        """Start the command with arguments and variables; may be called from any thread."""
        with self._asking:
            log_path = self._folder / f"{args[0]}-{len(self.started)}.log"
            log_path.touch()
            variables = {name: value for name, value in {**os.environ, **environment}.items() if value}
            assert self._process.stdin is not None
            wanted = {"args": args, "environment": variables, "log": str(log_path)}
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            pid = self._begun.get(timeout=_BEGIN_SECONDS)
            tell_guardian(f"+{pid}")
            process = ForkedProcess(pid, " ".join(args)[:100], log_path, self._ended)
            self.started.append(process)
            return process

    def end(self) -> None:
        """Kill all that still run."""
        for process in self.started:
            process.kill9()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._listener.join(10)
        self._process.stdout.close()
        tell_guardian(f"-{self._process.pid}")
