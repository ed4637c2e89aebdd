"""Forks processes that run the command with a trap at every named point, where an armed one dies by SIGKILL.

Each line of the input asks for one, as `tests.chaos.nursery` writes it. What workers and producers import is imported
once, before any fork: a new worker costs a tenth of the time, so that many can be killed on a small machine.

`CHAOS_TRAPS` names a folder. A file `<point>.armed` in it arms a point for the first process that comes by, which
renames the file to `<point>.sprung.<pid>` and dies.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import select
import sys
from pathlib import Path
from typing import Any, Final

from tests.traps import lay_trap

_WORKERS = "orderrelay_workers"

#: Point to: before, after, or soon after which function, as "module:name". Of functions that give something falsy the
#: end does not count, but for those that give nothing.
WORKER_POINTS: Final = {
    "after the intake was read": f"before {_WORKERS}.ledger.booking:book",
    "after the intake's commit, before XACK": f"before {_WORKERS}.sidecar.intake:Intake._delete",
    "after the claim": f"after {_WORKERS}.ledger.claims:claim",
    "after the bytes left": f"soon-after {_WORKERS}.vendor.departure:Departure.begin",
    "after the answer arrived": f"after {_WORKERS}.request_ends:read_order_answer",
    "before settle": f"before {_WORKERS}.aftermath:settle_surely",
    "in settle, before its commit": f"before {_WORKERS}.ledger.settling:write_events",
    "after settle": f"before {_WORKERS}.aftermath:Aftermath._judge_tokens",
    "in the results task": f"after {_WORKERS}.audit.results:_insert",
    "after the look-up": f"before {_WORKERS}.reconciliation:settle_lookups",
    "in the sweep, before its commit": f"before {_WORKERS}.ledger.sweeping:read_statuses",
}
PRODUCER_POINTS: Final = {"after XADD in the producer": "after orderrelay_producers.accept:_with_safekeeping"}


def armed_file(folder: Path, point: str) -> Path:
    """The file that arms a point."""
    return folder / f"{point}.armed"


def _springs(armed: Path) -> bool:
    try:
        armed.rename(armed.with_name(f"{armed.name}.sprung.{os.getpid()}"))
    except FileNotFoundError:
        return False
    return True


def _load_everything() -> None:
    """Import what a worker and a producer need, but the app, which reads its settings when it is imported."""
    for package in ("orderrelay_producers", "orderrelay_shared", _WORKERS):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name != f"{_WORKERS}.app" and ".migrations." not in module.name:
                importlib.import_module(module.name)
    for name in ("celery.bin.worker", "celery.worker.worker", "celery.concurrency.thread", "kombu.transport.redis",
                 "celery.app.amqp", "celery.fixups.django", "psycopg", "sqlalchemy.dialects.postgresql.psycopg",
                 "sqlalchemy.dialects.sqlite.pysqlite", "alembic.command"):  # fmt: skip
        importlib.import_module(name)


def _serve() -> dict[str, Any]:
    """Fork a child for each line of the input, and tell when one has ended. Returns in a child, with its line."""
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                print(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}), flush=True)
        if not readable:
            continue
        if not (line := sys.stdin.readline()):
            os._exit(0)  # nobody asks for more
        wanted: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return wanted
        print(json.dumps({"begun": pid}), flush=True)


def _become(wanted: dict[str, Any]) -> None:
    """Be a process of one's own, with arguments, variables and a log."""
    os.setsid()
    with Path(wanted["log"]).open("ab") as log, Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv[:] = ["orderrelay", *wanted["args"]]
    random.seed()


if __name__ == "__main__":
    _load_everything()
    gc.freeze()
    _become(_serve())
    traps = Path(os.environ.pop("CHAOS_TRAPS"))
    for one, where in (WORKER_POINTS if sys.argv[1] == "worker" else PRODUCER_POINTS).items():
        lay_trap(where, functools.partial(_springs, armed_file(traps, one)))
    from orderrelay_shared.command import main

    main()
