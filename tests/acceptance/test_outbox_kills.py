"""A service and relays are killed with SIGKILL at every place where that could lose or double an order."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from orderrelay_shared import keys
from tests.acceptance.crash_worker import __file__ as crashing
from tests.outboxes import counts, lay_out
from tests.servers import wait_until

if TYPE_CHECKING:
    from tests.stack import Stack

_PACKAGE = "orderrelay_producers"
_SERVICE = str(Path(__file__).with_name("outbox_service.py"))

#: Where the service dies: before its commit, after it, and between the intake and the table.
_SERVICE_PLACES = {
    "uncommitted": f"after {_PACKAGE}.outbox:Outbox.enqueue",
    "committed": f"before {_PACKAGE}.outbox:Outbox.send_now",
    "handed-over": f"before {_PACKAGE}.outbox_relay:Relay._take_off",
}

#: Where a relay dies: before the intake has the orders, between the intake and the table, and before that is committed.
_RELAY_PLACES = (
    f"before {_PACKAGE}.outbox_relay:Relay._hand_over",
    f"before {_PACKAGE}.outbox_relay:Relay._take_off",
    f"after {_PACKAGE}.outbox_relay:Relay._take_off",
)


def test_a_killed_service_and_killed_relays_neither_lose_nor_double(stack: Stack) -> None:
    """What was committed is created at the vendor once, however often it was handed over; what was not, never."""
    url = f"sqlite:///{stack.folder / 'shop.db'}" if stack.is_sqlite else stack.database_url
    lay_out(url)
    stack.environment["ORDERRELAY_OUTBOX_URL"] = url
    committed: list[str] = []
    for place, where in _SERVICE_PLACES.items():
        external_ids = [f"{place}-{number}" for number in range(5)]
        environment = {**stack.environment, "CRASH_AT": where}
        service = stack.processes.start_python([_SERVICE, url, *external_ids], environment, name="service")
        assert service.wait() == -signal.SIGKILL, service.log
        committed += external_ids if place != "uncommitted" else []
    assert counts(url).waiting == len(committed)
    with redis.Redis.from_url(stack.redis_url) as client:
        assert client.xlen(keys.INTAKE) == 5  # of the one that died after it had handed over
        worker = stack.command("worker")
        armed = stack.folder / "armed"
        armed.touch()
        for where in _RELAY_PLACES:
            environment = {**stack.environment, "CRASH_AT": where, "CRASH_IF": str(armed)}
            relay = stack.processes.start_python([crashing, "outbox", "relay"], environment, name="relay")
            assert relay.wait() == -signal.SIGKILL, relay.log
        assert counts(url).waiting == len(committed)
        stack.await_ready(worker)
        relays = [stack.command("outbox", "relay", "--poll-seconds", "0.05") for _ in range(2)]
        stack.wait_for(committed)
        wait_until(lambda: counts(url).waiting == 0, what="the outbox is empty")
        wait_until(lambda: client.xlen(keys.INTAKE) == 0, 15, what="the intake is empty")
    for relay in relays:
        relay.sigterm()
        assert relay.wait() == 0, relay.log
    stack.assert_all_created_once(committed)
    assert counts(url).set_aside == 0
