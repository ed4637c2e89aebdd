"""Submission claims for places that are still in use: a place carries the next order at once, and never two."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_workers import submission
from orderrelay_workers.aftermath import Aftermath
from orderrelay_workers.ends import Ends
from orderrelay_workers.gate import Gate, Kind, Limits, Report
from orderrelay_workers.ledger import schema
from orderrelay_workers.request_ends import Ended
from orderrelay_workers.slots import Slot, slots_of
from orderrelay_workers.vendor.exchange import Failure
from tests.desks import Desk, open_desk
from tests.gates import ACME
from tests.ledgers import answered, created, not_sent, refused
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from orderrelay_workers.gate import Permits
    from orderrelay_workers.vendor.exchange import Exchange

#: Orders have nine tenths of the places.
_CAP, _FOR_ORDERS = 10, 9


class _Vendor:
    """Answers one request each time that the test says so; 0.1 seconds is what it says that it took."""

    def __init__(self) -> None:
        self.out = self.most_out = self.came = 0
        self._answers: asyncio.Queue[Exchange] = asyncio.Queue()

    async def post_order(
        self, _company: str, _token: str, _body: bytes, *, may_start: Callable[[], bool]
    ) -> Exchange:  # fmt: skip
        assert may_start()
        self.came += 1
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        answer = await self._answers.get()
        self.out -= 1
        return replace(answer, ended_at=answer.began_at + timedelta(seconds=0.1))

    def answer(self, desk: Desk, *exchanges: Exchange) -> None:
        """Let as many requests end."""
        for exchange in exchanges:
            desk.loop.run(self._answers.put(exchange))


@pytest.fixture
def vendor() -> _Vendor:
    """The vendor."""
    return _Vendor()


@pytest.fixture
def desk(sqlite_url: str, redis_client: redis.Redis, tmp_path: Path, vendor: _Vendor) -> Iterator[Desk]:
    """A desk with forty orders that are due, of which nine may be out, and where places are all that limits."""
    with open_desk(sqlite_url, redis_client, tmp_path, vendor.post_order, Limits(10_000, 100, _CAP)) as desk:
        desk.ledger.book(*range(1, 41))
        yield desk


@contextlib.contextmanager
def _submitting(desk: Desk, vendor: _Vendor) -> Iterator[None]:
    """A flow that works in a thread of its own, until all that it has sent is answered."""
    with ThreadPoolExecutor(1) as pool:
        flow = pool.submit(desk.submit, 60.0)
        try:
            yield
        finally:
            desk.worker.draining.set()
            vendor_id = 10_000
            while not flow.done():
                if vendor.out:
                    vendor_id += 1
                    vendor.answer(desk, created(vendor_id))
                threading.Event().wait(0.005)
        flow.result()


def _go_ahead(desk: Desk, vendor: _Vendor) -> None:
    """Bring the flow to where all places are in use, and more is claimed for them."""
    wait_until(lambda: vendor.out == _FOR_ORDERS, what="nine are out")
    answers = map(created, itertools.count(1))

    def is_ahead() -> bool:
        return vendor.out == _FOR_ORDERS and desk.ledger.states()["in_progress"] > _FOR_ORDERS

    while not is_ahead():  # they wait for a moment only, so on a slow machine this may have to be seen another time
        vendor.answer(desk, next(answers), next(answers))  # so it knows how long one takes
        with contextlib.suppress(AssertionError):
            wait_until(is_ahead, 0.5, what="some are claimed ahead")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a place may wait for long, so that a slow machine changes nothing."""

    def patient_slots(permits: Permits, granted_at: float) -> list[Slot]:
        return [replace(slot, patience_seconds=60.0) for slot in slots_of(permits, granted_at)]

    monkeypatch.setattr(submission, "slots_of", patient_slots)


@pytest.mark.usefixtures("patience")
def test_a_place_carries_the_next_at_once(desk: Desk, vendor: _Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """While answers are being settled, what was claimed ahead goes out in the places that these have left."""
    settle: Callable[[Aftermath, list[Ended], int], None] = Aftermath.settle
    may_settle = threading.Event()
    may_settle.set()

    def settle_when_allowed(*args: Any) -> None:
        may_settle.wait(20)
        settle(*args)

    monkeypatch.setattr(Aftermath, "settle", settle_when_allowed)
    with _submitting(desk, vendor):
        try:
            _go_ahead(desk, vendor)
            came = vendor.came
            may_settle.clear()
            vendor.answer(desk, created(3))
            wait_until(lambda: vendor.came == came + 1, what="another follows in its place")
        finally:
            may_settle.set()
    assert vendor.most_out == _FOR_ORDERS
    assert desk.in_flight() == 0
    assert desk.ledger.states().keys() == {"succeeded", "waiting"}
    assert desk.ledger.states()["succeeded"] == vendor.came


def test_none_follows_a_bad_answer(desk: Desk, vendor: _Vendor) -> None:
    """What waited for a place is given back, at no cost, when the vendor is not well."""
    with _submitting(desk, vendor):
        _go_ahead(desk, vendor)
        came = vendor.came
        vendor.answer(desk, *(answered(503, b"") for _ in range(_FOR_ORDERS)))
        wait_until(lambda: desk.ledger.states().get("in_progress", 0) == 0, what="nothing is claimed any more")
        assert vendor.came == came
    unsent = [row for row in desk.ledger.rows(schema.job) if row["state"] == "waiting"]
    assert {row["attempts"] for row in unsent} == {0}
    assert desk.in_flight() == 0


def test_who_waits_in_vain_is_given_back(desk: Desk, vendor: _Vendor) -> None:
    """When the vendor becomes slow, orders that were claimed for its places wait in the ledger again; no others go."""
    with _submitting(desk, vendor):
        _go_ahead(desk, vendor)
        ahead = desk.worker.ahead[ACME]
        wait_until(lambda: ahead.of(_FOR_ORDERS) == 0, what="none are claimed ahead any more")
        wait_until(lambda: desk.ledger.states()["in_progress"] == _FOR_ORDERS, what="only what is out is claimed")
        assert desk.count("order_admitted") < 9 * _FOR_ORDERS
        assert desk.in_flight() == _FOR_ORDERS


@pytest.mark.usefixtures("patience")
def test_a_worker_that_drains_gives_back_what_waits(desk: Desk, vendor: _Vendor) -> None:
    """None of them goes out after it was told to stop."""
    with _submitting(desk, vendor):
        _go_ahead(desk, vendor)
        came = vendor.came
        desk.worker.draining.set()
        wait_until(lambda: desk.ledger.states()["in_progress"] <= _FOR_ORDERS, what="what waits is given back")
    assert vendor.came == came
    assert desk.in_flight() == 0
    assert desk.ledger.states() == {"succeeded": came, "waiting": 40 - came}


def test_a_worker_that_drains_rests_until_answers_come(
    desk: Desk, vendor: _Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It used to look every millisecond for as long as the vendor took."""
    rests: list[float] = []

    def take(ends: Ends[Ended], most: int, *, timeout: float, linger_seconds: float) -> list[Ended]:
        rests.append(timeout)
        return take_ends(ends, most, timeout=timeout, linger_seconds=linger_seconds)

    take_ends = Ends[Ended].take
    monkeypatch.setattr(Ends, "take", take)
    with _submitting(desk, vendor):
        wait_until(lambda: vendor.out == _FOR_ORDERS, what="nine are out")
        desk.worker.draining.set()
        before = len(rests) + 1  # the flow may just be about to rest, not knowing of it
        wait_until(lambda: len(rests) >= before + 3, what="it has looked three times")
        assert min(rests[before:]) >= 0.2


def test_a_lost_request_frees_its_place(desk: Desk, vendor: _Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unforeseen error costs the place in flight of nobody; the order is left to be looked up."""

    async def fail(*_: object, **__: object) -> Exchange:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.worker.vendor, "post_order", fail)
    with _submitting(desk, vendor):
        wait_until(lambda: desk.ledger.states().get("in_progress", 0) == 40, what="all were lost")
        wait_until(lambda: desk.in_flight() == 0, what="their places are free")


def test_a_look_up_has_its_place_while_orders_are_due(
    sqlite_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """With a single place, which a flow would pass on from order to order for as long as any is due."""
    numbers = itertools.count(1)

    async def post_order(*_: object, **__: object) -> Exchange:
        await asyncio.sleep(0.02)
        return created(next(numbers))

    with (
        open_desk(sqlite_url, redis_client, tmp_path, post_order, Limits(10_000, 1, 1)) as desk,
        ThreadPoolExecutor(1) as pool,
    ):
        desk.ledger.book(*range(2000))
        flow = pool.submit(desk.submit, 60.0)
        try:
            wait_until(lambda: desk.ledger.states().get("succeeded", 0) > 3, what="orders go out")
            other = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=40)
            wait_until(lambda: other.admit(ACME, Kind.LOOKUP, 1).granted, what="a look-up may go")
            other.report(ACME, Kind.LOOKUP, Report(finished=1, good=1))
            done = desk.ledger.states()["succeeded"]
            wait_until(lambda: desk.ledger.states()["succeeded"] > done + 3, what="orders go out again")
            assert "waiting" in desk.ledger.states()
        finally:
            desk.worker.draining.set()
        flow.result()
        assert desk.in_flight() == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_place_is_lost(
    sqlite_url: str, redis_client: redis.Redis, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However requests end, and whatever slots they miss: when all is done the gate counts none in flight."""
    chance = random.Random(seed)
    numbers = itertools.count(1)

    async def post_order(*_: object, may_start: Callable[[], bool]) -> Exchange:
        if chance.random() < 0.1 or not may_start():
            return not_sent(Failure.FENCED)
        await asyncio.sleep(chance.choice([0.0, 0.001, 0.02]))
        if chance.random() < 0.03:
            raise ZeroDivisionError
        return chance.choices([created(next(numbers)), refused(), answered(503, b"")], [90, 5, 1])[0]

    def some_missed(permits: Permits, granted_at: float) -> list[Slot]:
        return [replace(slot, at=slot.at - chance.choice([0.0, 0.0, 0.3])) for slot in slots_of(permits, granted_at)]

    monkeypatch.setattr(submission, "slots_of", some_missed)
    with open_desk(sqlite_url, redis_client, tmp_path, post_order, Limits(10_000, 100, 40)) as desk:
        desk.ledger.book(*range(200))
        for _ in range(20):
            desk.submit(5.0)
            if "waiting" not in desk.ledger.states():
                break
            desk.gate.resume(ACME)  # a 503 holds all of them back for a second and longer
        assert "waiting" not in desk.ledger.states()
        assert desk.in_flight() == 0
        assert desk.count("order_late") > 10
