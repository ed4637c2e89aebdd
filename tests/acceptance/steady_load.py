"""Orders that keep coming while workers come and go, as other services' traffic does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from orderrelay_producers import OrderProducer
from orderrelay_shared.states import JobState
from tests.stack import order

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.stack import Stack


class SteadyLoad:
    """Enqueues order after order in a thread of its own, as long as its `with` block lasts.

    Args:
        stack: Where to.
        per_second: How many, about.
        prefix: What their ExternalIds begin with.

    Attributes:
        orders: The ExternalIds of all that were accepted.
    """

    def __init__(self, stack: Stack, per_second: float, prefix: str = "load") -> None:
        self.orders: list[str] = []
        self._redis_url = stack.redis_url
        self._pause_seconds = 1 / per_second
        self._prefix = prefix
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        if kind is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        producer = OrderProducer(self._redis_url)
        try:
            while not self._end.wait(self._pause_seconds):
                external_id = f"{self._prefix}-{len(self.orders)}"
                producer.enqueue(order(external_id), company="acme")
                self.orders.append(external_id)
        except BaseException as error:  # noqa: BLE001  raised again where the test waits
            self._failure = error
        finally:
            producer.close()


def assert_nothing_wasted(stack: Stack, orders: list[str]) -> None:
    """Every order was created by its one and only request; no claim lapsed, and nothing had to be looked up."""
    stack.wait_for(orders, JobState.SUCCEEDED, timeout=60)
    stack.assert_all_created_once(orders)
    stack.assert_every_attempt_answered()
    wasted = {
        external_id: (job["attempts"], job["requests"], job["lookups"])
        for external_id, job in stack.jobs().items()
        if (job["attempts"], job["requests"], job["lookups"]) != (1, 1, 0)
    }
    assert wasted == {}
    assert stack.requests() == len(orders)
    assert stack.requests("lookup") == 0
