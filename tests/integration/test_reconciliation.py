"""Looking unknown orders up: what one slow answer, an absent database or an empty Redis does to the others."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from pydantic import SecretStr

from orderrelay_shared.states import JobState
from orderrelay_workers import reconciliation
from orderrelay_workers.event_loop import EventLoop
from orderrelay_workers.gate import Gate, Limits
from orderrelay_workers.ledger import engine
from orderrelay_workers.runtime import Busy
from orderrelay_workers.tokens import Token
from tests.ledgers import ACME, POLICY, Ledger, answered, cut_off, open_ledger
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import redis

    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.vendor.exchange import Exchange

_FOUND = answered(200, b"[77]")


class _Desk:
    """A worker as far as look-ups go: a real ledger, gate and event loop, and a vendor that says what a test wants."""

    def __init__(self, ledger: Ledger, client: redis.Redis) -> None:
        self.answer: Callable[[str], Awaitable[Exchange]] = self._found
        self.seeded = 0
        self.ledger = ledger
        self.gate = Gate(client, ledger.owner, probe_lease_seconds=40)
        self.loop = EventLoop()
        keys = SimpleNamespace(
            rate_per_second=100.0, company_api_key=SecretStr("key"), connect_api_key=SecretStr("other key")
        )
        token = Token(SecretStr("token"))
        self.worker = cast(
            "Runtime",
            SimpleNamespace(
                actor="test",
                boot_id=ledger.owner,
                companies={ACME: SimpleNamespace(id=ledger.company_id)},
                draining=threading.Event(),
                engine=ledger.engine,
                gate=self.gate,
                ledger_id=uuid.uuid4(),
                loop=self.loop,
                policy=replace(POLICY, settling_seconds=1.0),
                reconciling=Busy(),
                redis=client,
                refresh_companies=self._seed,
                serve=lambda _: SimpleNamespace(id=ledger.company_id),
                settings=SimpleNamespace(
                    base_url="http://vendor", lookup_path="look/", request_timeout_seconds=2.0, settling_seconds=1.0,
                    lease_seconds=12.0,
                    companies={ACME: keys},
                ),
                traces=None,
                tokens=SimpleNamespace(
                    get=lambda _: token, accepted=lambda *_: None, refused=lambda *_: None
                ),
                vendor=SimpleNamespace(look_up=self._look_up),
            ),
        )  # fmt: skip

    def _seed(self, _: object) -> None:
        self.gate.seed(ACME, Limits(100, 5, 50), None, {})
        self.seeded += 1

    async def _look_up(self, _company: str, _token: str, external_id: str) -> Exchange:
        return await self.answer(external_id)

    async def _found(self, external_id: str) -> Exchange:
        return answered(200, b"[%d]" % (1000 + int(external_id.rpartition("-")[2])))

    def make_unknown(self, *numbers: int) -> None:
        """Let requests end without a clear answer."""
        self.ledger.settle(*((claim, cut_off()) for claim in self.ledger.book_and_claim(*numbers)))
        assert self.ledger.states() == {"unknown": len(numbers)}

    def reconcile(self, for_seconds: float = 5.0) -> None:
        """Look up what is due."""
        reconciliation.reconcile(self.worker, ACME, for_seconds=for_seconds)


@pytest.fixture
def desk(sqlite_url: str, redis_client: redis.Redis) -> Iterator[_Desk]:
    """A desk whose gate is not seeded yet."""
    with open_ledger(sqlite_url) as ledger:
        desk = _Desk(ledger, redis_client)
        yield desk
        desk.loop.close()


def test_one_slow_look_up_holds_up_no_other(desk: _Desk) -> None:
    """The answers that came are settled while one look-up of the same batch is still out."""
    desk.make_unknown(1, 2, 3)
    let_go = threading.Event()

    async def slow_for_the_first(external_id: str) -> Exchange:
        if external_id == "order-1":
            await asyncio.to_thread(let_go.wait, 10)
        return await desk._found(external_id)

    desk.answer = slow_for_the_first
    flow = threading.Thread(target=desk.reconcile)
    flow.start()
    try:
        both = {"succeeded": 2, "unknown": 1}
        wait_until(lambda: desk.ledger.states() == both, 3, what="two orders are decided while one is asked about")
    finally:
        let_go.set()
        flow.join()
    assert desk.ledger.states() == {"succeeded": 3}


def test_the_first_look_up_after_a_wipe_makes_the_gate(desk: _Desk) -> None:
    """Orders in doubt do not wait for the next mirroring when Redis has lost the gate."""
    desk.make_unknown(1)
    desk.reconcile()
    assert (desk.seeded, desk.ledger.states()) == (1, {"succeeded": 1})


def test_what_was_found_while_the_database_was_away_is_settled_when_it_is_back(
    desk: _Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is kept, not asked for again, while the database cannot be written."""
    desk.make_unknown(1)
    asked: list[str] = []
    monkeypatch.setattr(engine, "_SQLITE_BUSY_SECONDS", 0.05)
    path = desk.ledger.engine.url.database
    assert path is not None
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:

        async def found_as_the_database_goes_away(external_id: str) -> Exchange:
            asked.append(external_id)
            other.execute("BEGIN IMMEDIATE")
            asyncio.get_running_loop().call_later(0.3, other.execute, "ROLLBACK")
            return await desk._found(external_id)

        desk.answer = found_as_the_database_goes_away
        desk.reconcile()
    assert (asked, desk.ledger.states()) == (["order-1"], {"succeeded": 1})


def test_a_look_up_that_breaks_leaves_no_place_taken(desk: _Desk) -> None:
    """An unforeseen error of one look-up frees its place at the gate, and the order stays unknown."""
    desk.make_unknown(1)

    async def broken(_: str) -> Exchange:
        raise RuntimeError("unforeseen")

    desk.answer = broken
    desk.reconcile(for_seconds=0.5)
    state = desk.gate.state(ACME)
    assert state is not None
    assert (state.in_flight, desk.ledger.states()) == (0, {str(JobState.UNKNOWN): 1})
