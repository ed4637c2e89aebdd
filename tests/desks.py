"""A worker as far as submission goes, with a vendor of the test's own."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr

from orderrelay_workers import submission
from orderrelay_workers.event_loop import EventLoop
from orderrelay_workers.gate import Gate, Limits
from orderrelay_workers.ledger import identity, liveness
from orderrelay_workers.runtime import Busy
from orderrelay_workers.tokens import Token
from tests.gates import ACME
from tests.ledgers import ACTOR, POLICY, Ledger, open_ledger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    import redis

    from orderrelay_workers.gate import GateState
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.vendor.exchange import Exchange


class Desk:
    """A worker as far as submission goes.

    Attributes:
        get_token: Gives the token; a test may put another in its place.
        begin_caution: Called when the database went back.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: redis.Redis,
        folder: Path,
        post_order: Callable[..., Awaitable[Exchange]],
        limits: Limits,
    ) -> None:
        self.ledger = ledger
        self.get_token: Callable[[], Token] = lambda: Token(SecretStr("token"))
        self.begin_caution: Callable[[], object] = lambda: None
        self.redis = client
        self.ledger_id = identity.ledger_id(ledger.engine)
        self.gate = Gate(client, ledger.owner, probe_lease_seconds=40)
        self.gate.seed(ACME, limits, None, {})
        self.loop = EventLoop()
        self.submitting = Busy()
        company = SimpleNamespace(id=ledger.company_id)
        self.worker = cast(
            "Runtime",
            SimpleNamespace(
                actor=ACTOR,
                ahead={},
                be_cautious=lambda _: self.begin_caution(),
                boot_id=ledger.owner,
                claims_made=0,
                companies={ACME: company},
                count_claims=lambda _: None,
                draining=threading.Event(),
                engine=ledger.engine,
                gate=self.gate,
                group_sizes={},
                hints=SimpleNamespace(orders=lambda _: True),
                ledger_id=self.ledger_id,
                loop=self.loop,
                policy=POLICY,
                redis=client,
                serve=lambda _: company,
                settings=SimpleNamespace(
                    lease_seconds=40, start_fence_seconds=5, orders_per_request=1, request_timeout_seconds=30
                ),
                spool_folder=folder,
                submitting=self.submitting,
                traces=None,
                tokens=SimpleNamespace(
                    get=lambda _: self.get_token(), accepted=lambda *_: None, refused=lambda *_: None
                ),
                vendor=SimpleNamespace(post_order=post_order),
            ),
        )

    def submit(self, for_seconds: float = 2.0) -> None:
        """Submit what is due."""
        submission.submit(self.worker, ACME, for_seconds=for_seconds)

    def in_flight(self) -> int:
        """How many requests are out by the gate's count."""
        return self._state().in_flight

    def count(self, name: str) -> int:
        """How often the gate has decided something."""
        return self._state().counts.get(name, 0)

    def _state(self) -> GateState:
        state = self.gate.state(ACME)
        assert state is not None
        return state


@contextmanager
def open_desk(
    database_url: str, client: redis.Redis, folder: Path, post_order: Callable[..., Awaitable[Exchange]], limits: Limits
) -> Iterator[Desk]:
    """A desk with an empty ledger, and alive."""
    with open_ledger(database_url) as ledger:
        sign = liveness.LifeSign(ledger.engine, ledger.owner, "host:1", "0")
        sign.begin()
        desk = Desk(ledger, client, folder, post_order, limits)
        try:
            yield desk
        finally:
            desk.loop.close()
            sign.end()
