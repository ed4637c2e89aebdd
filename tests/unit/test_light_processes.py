"""What a process must not import, as it would hold it in memory, and wait for it, for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from orderrelay_producers import Order
from orderrelay_workers.ledger import migrate
from orderrelay_workers.ledger.engine import open_engine

if TYPE_CHECKING:
    from pathlib import Path

#: What a worker process is made of; then a ledger is opened as it opens one.
_A_WORKER = """
import json, sys
import celery.apps.worker, celery.concurrency.thread, kombu.transport.redis
from orderrelay_workers import processes, tasks
from orderrelay_workers.app import settings
from orderrelay_workers.commands import worker
from orderrelay_workers.runtime import Runtime
Runtime._open_ledger(settings).dispose()
print(json.dumps(sorted(sys.modules)))
"""

#: A worker that begins to take messages.
_A_READY_WORKER = """
import gc, json
from orderrelay_workers import processes
processes.consuming(None)
print(json.dumps([gc.get_freeze_count(), len(gc.get_objects())]))
"""

#: Packages and modules that none of a worker's work needs.
_NOT_FOR_WORKERS = {
    "alembic",
    "mako",
    "orderrelay_producers",
    "orderrelay_workers.commands.audit",
    "orderrelay_workers.commands.watch",
    "orderrelay_workers.demo",
    "orderrelay_workers.diagnosis",
    "orderrelay_workers.ledger.migrations",
    "orderrelay_workers.simulator",
    "orderrelay_workers.traces",
    "psycopg",  # with PostgreSQL only
    "sqlalchemy.orm",
}


def _modules_of(program: str, **environment: str) -> set[str]:
    """All modules and packages that a new Python process has imported after a program."""
    return set(_told_by(program, **environment))


def _told_by(program: str, **environment: str) -> list[Any]:
    """What a program that runs in a new Python process prints last, JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
    )
    assert done.returncode == 0, done.stderr
    told: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _environment_of_a_worker(folder: Path) -> dict[str, str]:
    """The variables of a worker whose ledger is up to date."""
    url = f"sqlite:///{folder}/ledger.db"
    engine = open_engine(url)
    migrate.migrate(engine)
    engine.dispose()
    company = "ORDERRELAY_COMPANIES__ACME__"
    keys = {f"{company}COMPANY_API_KEY": "a", f"{company}CONNECT_API_KEY": "b", f"{company}TOKEN": "c"}
    more = {"ORDERRELAY_DATABASE_URL": url, "ORDERRELAY_BASE_URL": "http://127.0.0.1:1", "ORDERRELAY_ENV_FILE": ""}
    return keys | more


def test_a_worker_imports_only_what_it_works_with(tmp_path: Path) -> None:
    """A worker on a ledger that is up to date has imported neither alembic, nor commands, nor the simulator."""
    imported = _modules_of(_A_WORKER, **_environment_of_a_worker(tmp_path))
    assert imported & _NOT_FOR_WORKERS == set()


def test_a_ready_worker_s_collector_passes_over_what_is_loaded() -> None:
    """Going through all of it again and again took a tenth of a second each time, with every thread standing still."""
    passed_over, gone_through = _told_by(_A_READY_WORKER)
    assert passed_over > 20 * gone_through


def test_a_worker_opens_its_ledger_for_small_statements(tmp_path: Path) -> None:
    """Which SQLite undoes from memory (2), not from a file."""
    program = """
import json
from orderrelay_workers.app import settings
from orderrelay_workers.runtime import Runtime
with Runtime._open_ledger(settings).connect() as connection:
    print(json.dumps([str(connection.exec_driver_sql("PRAGMA temp_store").scalar())]))
"""
    assert _modules_of(program, **_environment_of_a_worker(tmp_path)) == {"2"}


#: What importing the producers must not bring along: services import them where they start.
_NOT_FOR_IMPORTERS = {
    "opentelemetry",
    "orderrelay_producers.async_producer",
    "orderrelay_producers.outbox",
    "asyncio",
    "click",
    "difflib",
    "http.client",
    "importlib.metadata",  # pydantic needs it to build a model, which a sound order does without
    "importlib.resources",
    "multiprocessing",
    "orderrelay_shared.command",
    "orderrelay_shared.operation_results",
    "orderrelay_shared.settings",
    "orderrelay_workers",
    "pydantic_settings",
    "redis",
    "rich",
    "ssl",
    "typer",
}


def test_importing_the_producers_brings_little_along() -> None:
    """Redis' client and the settings come with the first producer, and what only commands need comes with them."""
    imported = _modules_of("import json, sys, orderrelay_producers\nprint(json.dumps(sorted(sys.modules)))")
    assert imported & _NOT_FOR_IMPORTERS == set()


def test_threads_that_need_the_model_first_all_get_it() -> None:
    """It is built when an order is first told what is wrong with it, or made as an object; by many threads at once."""
    program = """
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from orderrelay_producers import Order, OrderInvalid, OrderRow
together = Barrier(8)
def tell(number):
    together.wait()
    try:
        OrderRow(customer_row_type=3, text="x") if number % 2 else Order.parse({})
    except OrderInvalid as error:
        return len(error.problems)
with ThreadPoolExecutor(8) as threads:
    print(json.dumps([str(told) for told in threads.map(tell, range(8))]))
"""
    assert _modules_of(program) == {"None", "3"}


def test_pydantic_builds_the_model_in_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a caller's `model_validate` is the first to need it: two at once take each other's away again."""
    together, alone = threading.Barrier(2), list[int]()

    def build(_: type[object], /, **__: object) -> None:
        try:
            together.wait(0.1)
        except threading.BrokenBarrierError:
            alone.append(1)

    monkeypatch.setattr(BaseModel, "model_rebuild", classmethod(build))
    threads = [threading.Thread(target=Order.model_rebuild) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(alone) == 2


def test_making_a_producer_brings_no_command_along() -> None:
    """A service that enqueues has none of what draws on a terminal."""
    program = "import json, sys, orderrelay_producers\norderrelay_producers.OrderProducer().close()\n"
    imported = _modules_of(program + "print(json.dumps(sorted(sys.modules)))")
    assert imported & {"click", "orderrelay_shared.command", "orderrelay_workers", "rich", "typer"} == set()


#: Begins a process as if OpenTelemetry were not installed, and notes which modules ask for it.
_WITHOUT_OPENTELEMETRY = """
import sys
asking = set()
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            asking.add(frame.f_globals["__name__"])
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""

#: It tries in vain, as there is no Redis, and has then been where spans are begun.
_ENQUEUES = """
import json
from orderrelay_producers import OrderProducer, QueueUnavailable
row = {"CustomerRowType": 3, "Text": "x"}
order = {"CustomerNr": "1", "InvoiceDate": "2026-01-30", "InvoiceRows": [row]}
with OrderProducer("redis://127.0.0.1:1/0") as producer:
    try:
        producer.enqueue(order, timeout=0.1)
    except QueueUnavailable:
        producer.enqueue_many([order], timeout=0.1)
"""


@pytest.mark.parametrize("program", [_ENQUEUES, _A_WORKER], ids=["enqueues", "worker"])
def test_nothing_of_ours_asks_for_opentelemetry(tmp_path: Path, program: str) -> None:
    """A service that does not use it, and a worker that is not asked to trace, never import it; redis-py may try."""
    environment = _environment_of_a_worker(tmp_path)
    told = f"{_WITHOUT_OPENTELEMETRY}{program}\nprint(json.dumps(sorted(asking)))"
    assert {name for name in _modules_of(told, **environment) if not name.startswith("redis.")} == set()
