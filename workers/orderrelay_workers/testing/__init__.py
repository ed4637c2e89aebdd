"""For tests of services that enqueue: the vendor's stand-in with faults on demand, and the whole product around it.

from orderrelay_workers.testing import OrderrelayStack, running_vendor

with OrderrelayStack() as stack:
    stack.vendor.fault("timeout after creating", times=1)
    job = stack.producer.enqueue(order)
    job.wait()
    stack.vendor.assert_created_once(job.external_id)

With pytest, ask for the fixture `orderrelay_stack`. Needs `pip install 'orderrelay[testing]'`. docs/testing.md tells
all of it.
"""

from __future__ import annotations

from orderrelay_workers.demo.private_redis import NoRedis
from orderrelay_workers.demo.worker_process import WorkerDidNotStart
from orderrelay_workers.simulator import CreatedOrder, PlanInvalid
from orderrelay_workers.testing.stack import OrderrelayStack
from orderrelay_workers.testing.vendor import FAULT_NAMES, Vendor, running_vendor

__all__ = [
    "FAULT_NAMES",
    "CreatedOrder",
    "NoRedis",
    "OrderrelayStack",
    "PlanInvalid",
    "Vendor",
    "WorkerDidNotStart",
    "running_vendor",
]
