"""The pytest plugin: fixtures for tests of services that enqueue. docs/testing.md tells how they are used.

pytest loads it wherever Orderrelay is installed, so it imports nothing of Orderrelay until a fixture is asked for.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orderrelay_producers.testing import InMemoryAsyncOrderProducer, InMemoryOrderProducer
    from orderrelay_workers.testing import OrderrelayStack


@pytest.fixture
def order_producer() -> InMemoryOrderProducer:
    """A producer that needs no Redis and remembers what was enqueued: `order_producer.assert_enqueued(…)`."""
    from orderrelay_producers.testing import InMemoryOrderProducer  # noqa: PLC0415  as said above

    return InMemoryOrderProducer()


@pytest.fixture
def async_order_producer() -> InMemoryAsyncOrderProducer:
    """As `order_producer`, for code that awaits: in place of an `AsyncOrderProducer`."""
    from orderrelay_producers.testing import InMemoryAsyncOrderProducer  # noqa: PLC0415  as said above

    return InMemoryAsyncOrderProducer()


@pytest.fixture
def orderrelay_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OrderrelayStack]:
    """A private Redis, a simulated vendor and a real worker; ORDERRELAY_REDIS_URL names that Redis meanwhile."""
    # Raised `from None`, as pytest would show what came before, which says less.
    try:
        from orderrelay_workers.testing import NoRedis, OrderrelayStack, WorkerDidNotStart  # noqa: PLC0415  as said above
    except ImportError as error:
        raise pytest.fail.Exception(_lacking(f"{error.name} is not installed"), pytrace=False) from None
    with ExitStack() as ending:
        try:
            stack = ending.enter_context(OrderrelayStack(tmp_path / "orderrelay"))
        except NoRedis:
            raise pytest.fail.Exception(_lacking("there is no Redis server to start"), pytrace=False) from None
        except WorkerDidNotStart as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        monkeypatch.setenv("ORDERRELAY_REDIS_URL", stack.redis_url)
        yield stack


def _lacking(what: str) -> str:
    return (
        f"the fixture orderrelay_stack starts a Redis server and a worker, and {what}: "
        "pip install 'orderrelay[testing]'. The fixture order_producer needs neither."
    )
