"""What other services may import."""

from __future__ import annotations

import subprocess
import sys

import orderrelay_producers


def test_the_public_names_are_these() -> None:
    """A name is added or taken away only on purpose."""
    assert orderrelay_producers.__all__ == [
        "AsyncJob",
        "AsyncOrderProducer",
        "Estimate",
        "Job",
        "JobState",
        "JobStatus",
        "LineResult",
        "OperationResult",
        "Order",
        "OrderConflict",
        "OrderInvalid",
        "OrderProducer",
        "OrderRow",
        "Outbox",
        "OutboxJob",
        "Priority",
        "Problem",
        "QueueFull",
        "QueueUnavailable",
        "Report",
        "ReportLine",
        "UnknownCompany",
        "errors",
    ]
    assert set(orderrelay_producers.__all__) <= set(dir(orderrelay_producers))


def test_every_public_name_exists_and_is_explained() -> None:
    """Each has a docstring."""
    for name in orderrelay_producers.__all__:
        assert getattr(orderrelay_producers, name).__doc__, name


def test_a_producer_stays_light() -> None:
    """Importing the package, its commands too, loads nothing of what only workers need."""
    heavy = "celery kombu django psycopg sqlalchemy alembic httpx aiohttp structlog orderrelay_workers"
    program = (
        "import sys, orderrelay_producers, orderrelay_producers.commands\n"
        f"print(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_package_needs_no_terminal_tools() -> None:
    """Importing the package loads neither the command line's tools nor the progress bar's."""
    program = "import sys, orderrelay_producers; print(sorted({'typer', 'click', 'rich'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
