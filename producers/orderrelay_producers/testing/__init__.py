"""For tests of services that enqueue: producers that need no Redis, and remember what was handed to them.

from orderrelay_producers.testing import InMemoryOrderProducer

producer = InMemoryOrderProducer()
check_out(basket, producer)
producer.assert_enqueued(external_id="webshop-1001", customer="013")

In an event loop use `InMemoryAsyncOrderProducer`. With pytest, ask for the fixtures `order_producer` and
`async_order_producer`. docs/testing.md tells all of it.
"""

from __future__ import annotations

from orderrelay_producers.testing.in_memory import InMemoryOrderProducer
from orderrelay_producers.testing.in_memory_async import InMemoryAsyncOrderProducer
from orderrelay_producers.testing.records import EnqueuedOrder

__all__ = ["EnqueuedOrder", "InMemoryAsyncOrderProducer", "InMemoryOrderProducer"]
