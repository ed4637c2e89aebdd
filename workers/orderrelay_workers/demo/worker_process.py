"""Worker processes of this machine, for the demonstration and for tests of other services."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orderrelay_workers.simulator import Credentials

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0

#: Short times, as the simulator is quick: a real vendor gets the defaults.
_TIMES = {
    "ORDERRELAY_START_FENCE_SECONDS": "2",
    "ORDERRELAY_SETTLING_SECONDS": "2",
    "ORDERRELAY_BACKOFF_FIRST_SECONDS": "0.5",
}


class WorkerDidNotStart(Exception):
    """A worker ended, or was not ready in time; the text ends with its log."""


def settings_of(
    folder: Path,
    *,
    redis_url: str,
    base_url: str,
    companies: Mapping[str, Credentials],
    rate_per_second: float,
    request_timeout_seconds: float,
) -> dict[str, str]:
    """The variables of workers that speak to a simulator and keep all they keep in a folder, ledger.db among it.

    Args:
        folder: That folder.
        redis_url: The intake and the broker.
        base_url: The simulator.
        companies: Alias to the credentials, of which none may be None but the token.
        rate_per_second: The rate of each company.
        request_timeout_seconds: The longest that one request may take.
    """
    settings = {
        "XDG_STATE_HOME": str(folder),
        "ORDERRELAY_REDIS_URL": redis_url,
        "ORDERRELAY_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "ORDERRELAY_BASE_URL": base_url,
        "ORDERRELAY_LOG_FORMAT": "console",
        "ORDERRELAY_REQUEST_TIMEOUT_SECONDS": f"{request_timeout_seconds:g}",
        **_TIMES,
    }
    for alias, credentials in companies.items():
        company = f"ORDERRELAY_COMPANIES__{alias.upper()}__"
        settings |= {
            f"{company}COMPANY_API_KEY": str(credentials.company_key),
            f"{company}CONNECT_API_KEY": str(credentials.connect_key),
            f"{company}LICENSE": str(credentials.license),
            f"{company}USER_NAME": str(credentials.user),
            f"{company}PASSWORD": str(credentials.password),
            f"{company}RATE_PER_SECOND": f"{rate_per_second:g}",
            f"{company}BURST": "5",
            f"{company}MAX_IN_FLIGHT": "100",
        }
    return settings


@contextlib.contextmanager
def worker_process(folder: Path, settings: Mapping[str, str], number: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker, told to stop when the block ends; its log is `worker-<number>.log` in the folder.

    It has this process' environment, but of all `ORDERRELAY_…` variables only those of `settings`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("ORDERRELAY_")}
    with log_of(folder, number).open("wb") as log:
        command = [sys.executable, "-c", "from orderrelay_shared.command import main; main()", "worker"]
        process = subprocess.Popen(  # noqa: S603  our own arguments
            command, env=inherited | dict(settings), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def log_of(folder: Path, number: int) -> Path:
    """The log of a worker."""
    return folder / f"worker-{number}.log"


def wait_until_ready(folder: Path, workers: Mapping[int, subprocess.Popen[bytes]]) -> None:
    """Wait until all these workers, by number, take work.

    Raises:
        WorkerDidNotStart: One does not.
    """
    give_up_at = time.monotonic() + _START_SECONDS
    logs = [log_of(folder, number) for number in workers]
    while not _all_ready(logs):
        if any(worker.poll() is not None for worker in workers.values()) or time.monotonic() > give_up_at:
            last = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)
            raise WorkerDidNotStart(f"a worker did not start:\n{last}")
        time.sleep(0.05)


def _all_ready(logs: Sequence[Path]) -> bool:
    return all(b" ready." in log.read_bytes() for log in logs)
