"""Whether each worker hears: it must submit an order while all others are frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.servers import wait_until
from tests.stack import order

if TYPE_CHECKING:
    from tests.chaos.crew import Worker
    from tests.chaos.world import World


def find_deaf(world: World) -> list[str]:
    """Let each worker be the only one for a moment: it must book and submit an order. Gives the orders' ids.

    A worker that lost its connection to the broker, and never noticed, would not.
    """
    asked: list[str] = []
    workers = world.crew.workers
    for worker in workers:
        worker.await_ready()
    for worker in workers:
        others = [other for other in workers if other is not worker]
        for attempt in (1, 2, 3):
            external_id = f"alone-{worker.number}-{attempt}"
            asked.append(external_id)
            if _is_done_with_frozen(world, others, external_id):
                break
            # Perhaps a worker was frozen with the write lock of SQLite in its hand.
            world.say(f"{worker} did not submit an order alone")
            world.stack.wait_for([external_id])
        else:
            world.violations.append(f"{worker} is deaf: {worker.process.log_path}")
    return asked


def _is_done_with_frozen(world: World, others: list[Worker], external_id: str) -> bool:
    for other in others:
        other.process.freeze()
    frozen_at = world.now
    try:
        # What Redis would still hand to a frozen worker's blocked command ends after a second.
        wait_until(lambda: world.now > frozen_at + 1.5, what="blocked commands have ended")
        world.stack.producer.enqueue(order(external_id), company=world.company)
        world.stack.wait_for([external_id], timeout=15)
    except AssertionError:
        return False
    finally:
        for other in others:
            other.process.thaw()
    return True
