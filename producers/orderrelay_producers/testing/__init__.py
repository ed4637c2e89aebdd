"""For tests of services that enqueue: producers that need no Redis, and remember what was handed to them.

from orderrelay_producers.testing import InMemoryOrderProducer

producer = InMemoryOrderProducer()
check_out(basket, producer)
producer.assert_enqueued(external_id="webshop-1001", customer="013")

With pytest, ask for the fixture `order_producer`. docs/testing.md tells all of it.
"""

from __future__ import annotations

from orderrelay_producers.testing.in_memory import InMemoryOrderProducer
from orderrelay_producers.testing.records import EnqueuedOrder

__all__ = ["EnqueuedOrder", "InMemoryOrderProducer"]
