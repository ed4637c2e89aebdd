"""Real processes for tests: started in their own group, and killed at the end whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Reads "+<group>" and "-<group>" lines until its input ends, which happens however the test run ends (even by
#: kill -9), and then kills every group that is still listed.
_GUARDIAN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class _Guardian:
    """One process beside the test run that outlives it just long enough to kill what it left behind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def tell(self, line: str) -> None:
        """Say which process group began ("+1234") or ended ("-1234")."""
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _GUARDIAN],
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Kill what is still listed, and end."""
        with self._lock:
            if self._process is not None:
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process.wait(timeout=10)
                self._process = None


_guardian = _Guardian()
tell_guardian = _guardian.tell
dismiss_guardian = _guardian.dismiss


def wait_until_frozen(pid: int, timeout: float = 10.0) -> None:
    """Wait until each thread of a process that was sent SIGSTOP stands still.

    The signal only asks: a thread that is inside a system call, or on another core, runs on until it notices, and could
    still begin a transaction after somebody looked whether the process holds one.

    Raises:
        AssertionError: Time is up.
    """
    ends_at = time.monotonic() + timeout
    while not _is_frozen(pid):
        if time.monotonic() > ends_at:
            raise AssertionError(f"Process {pid} still runs {timeout} s after SIGSTOP")
        time.sleep(0.001)


def _is_frozen(pid: int) -> bool:
    """Whether no thread runs or waits; also true of a process that is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        # The state follows the name, which stands in parentheses and may hold some itself.
        return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
    return not Path(f"/proc/{pid}").exists()


class RunningProcess:
    """One process of a test, with all that it wrote to stdout and stderr.

    Attributes:
        args: The command line.
        log_path: The file that its output is appended to.
        pid: Its process id, which is also its process group.
    """

    def __init__(self, args: Sequence[str], log_path: Path, popen: subprocess.Popen[bytes]) -> None:
        self.args = tuple(args)
        self.log_path = log_path
        self.pid = popen.pid
        self._popen = popen

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet (a frozen process runs)."""
        return self._popen.poll() is None

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self.log_path.read_text(errors="replace")

    def kill9(self) -> None:
        """SIGKILL to it and its children in the same group; returns when it is gone."""
        self._signal_group(signal.SIGKILL)
        self.wait()

    def sigterm(self) -> None:
        """SIGTERM to the process itself; returns at once."""
        self.signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop the clock for it and its children, as a paused virtual machine would."""
        self._signal_group(signal.SIGSTOP)
        wait_until_frozen(self.pid)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._signal_group(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send any signal to the process itself, if it still runs."""
        self._popen.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait until it has ended.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            The exit code; -9 after SIGKILL.

        Raises:
            AssertionError: It still runs; the text ends with its log.
        """
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} still runs after {timeout} s; its log ends:\n{self.log[-4000:]}") from None
        # Children that outlived it are listed in the same group, so they go now and not with the test run.
        self._signal_group(signal.SIGKILL)
        _guardian.tell(f"-{self.pid}")
        return code

    def _signal_group(self, number: int) -> None:
        # Process group ids are not reused while a member lives; ours is only signalled while it is listed.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def __repr__(self) -> str:
        return f"<RunningProcess {self.pid} {' '.join(self.args)[:100]}>"


def start_process(
    args: Sequence[str],
    env: Mapping[str, str] | None = None,
    log_path: Path | None = None,
    *,
    cwd: Path | None = None,
    user: int | None = None,
) -> RunningProcess:
    """Start a process in its own group; it is killed at the end of the test run at the latest.

    Args:
        args: The command line.
        env: Added to this process's environment; an empty value removes the name.
        log_path: Where stdout and stderr are appended; must be given.
        cwd: The folder to start in.
        user: The numeric user and group to run as; for root only.
    """
    if log_path is None:
        raise TypeError("start_process needs a log_path")
    environment = {**os.environ, **(env or {})}
    with log_path.open("ab") as log:
        popen = subprocess.Popen(
            list(args),
            env={name: value for name, value in environment.items() if value},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    _guardian.tell(f"+{popen.pid}")
    return RunningProcess(args, log_path, popen)


class Processes:
    """The processes of one test; every one is dead when the test has ended.

    Attributes:
        folder: Where their logs go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[RunningProcess] = []

    def start(
        self, args: Sequence[str], env: Mapping[str, str] | None = None, *, name: str = "process"
    ) -> RunningProcess:
        """Start one; its log is `<name>-<number>.log` in the folder."""
        process = start_process(args, env, self.folder / f"{name}-{len(self.started)}.log")
        self.started.append(process)
        return process

    def start_python(
        self, args: Sequence[str], env: Mapping[str, str] | None = None, *, name: str = "python"
    ) -> RunningProcess:
        """Start this interpreter with arguments, seeing the same modules as this process does."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        return self.start(
            [sys.executable, *args], {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})}, name=name
        )

    def end(self) -> None:
        """Kill all that still run."""
        for process in self.started:
            process.kill9()
