"""Submission while something around it fails: a request that is out is settled all the same."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from orderrelay_workers.aftermath import Aftermath
from orderrelay_workers.decisions import Happening
from orderrelay_workers.gate import Kind, Limits
from orderrelay_workers.group_size import GroupSize
from orderrelay_workers.ledger import caution, claims
from orderrelay_workers.places import Ahead
from orderrelay_workers.request_ends import Ended, Request
from orderrelay_workers.stopwatch import Stopwatch
from orderrelay_workers.tokens import Token
from tests.desks import open_desk
from tests.ledgers import ACME, created, job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from pathlib import Path

    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.vendor.exchange import Exchange
    from tests.desks import Desk


#: How long a claim takes in a database that is slow for once.
_SLOW_SECONDS = 0.2


class _Out:
    """The request that is out until the test lets its answer come."""

    def __init__(self) -> None:
        self.let_answer = threading.Event()
        self.while_out: Callable[[], object] = lambda: None
        self.ask_again: Callable[[], object] = lambda: None

    async def post_order(
        self, _company: str, _token: str, _body: bytes, *, may_start: Callable[[], bool]
    ) -> Exchange:  # fmt: skip
        """In place of the vendor."""
        assert may_start()
        self.while_out()
        self.ask_again()
        await asyncio.to_thread(self.let_answer.wait, 10)
        return created(77)


@pytest.fixture
def out() -> _Out:
    """The request that is out."""
    return _Out()


@pytest.fixture
def desk(sqlite_url: str, redis_client: redis.Redis, tmp_path: Path, out: _Out) -> Iterator[Desk]:
    """A desk with one order that is due."""
    with open_desk(sqlite_url, redis_client, tmp_path, out.post_order, Limits(1000, 1, 50)) as desk:
        out.ask_again = lambda: desk.submitting.ask(ACME)
        desk.ledger.book(1)
        yield desk
        out.let_answer.set()


@pytest.mark.parametrize(
    "away", [redis.TimeoutError("away"), OperationalError("update", {}, Exception("away"))], ids=["redis", "database"]
)
def test_cautious_mode_that_cannot_begin_loses_no_answer(desk: Desk, out: _Out, away: Exception) -> None:
    """When the database went back and Redis or it is away at that moment, the flow goes on and settles what is out."""

    def go_back() -> None:
        caution.remember(desk.redis, desk.ledger_id, 1000)
        desk.ledger.book(2)

    def fail() -> None:
        out.let_answer.set()
        raise away

    out.while_out = go_back
    desk.begin_caution = fail
    desk.submit()
    assert desk.ledger.states() == {"succeeded": 1, "waiting": 1}
    assert desk.in_flight() == 0


def test_an_unforeseen_error_loses_no_answer(desk: Desk, out: _Out) -> None:
    """A defect in the flow is told, after what is out was settled and its place given back."""

    def fail() -> Token:
        out.let_answer.set()
        raise ZeroDivisionError

    def fail_from_now_on() -> None:
        desk.get_token = fail

    out.while_out = fail_from_now_on
    with pytest.raises(ZeroDivisionError):
        desk.submit()
    assert desk.ledger.states() == {"succeeded": 1}
    assert desk.in_flight() == 0
    assert ACME not in desk.submitting


def test_a_gate_that_fails_unforeseen_loses_no_answer(desk: Desk, out: _Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is told first, but whatever comes of that, the answers are settled."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(desk.gate, "report", fail)
    out.let_answer.set()
    with pytest.raises(ZeroDivisionError):
        desk.submit()
    assert desk.ledger.states() == {"succeeded": 1}


def test_no_answer_waits_twice_for_a_gate_that_is_away(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Redis failed, answers are settled before it is asked again; once it answers, the gate comes first."""
    seen: list[dict[str, int]] = []

    def report(*_: object) -> None:
        seen.append(desk.ledger.states())
        if len(seen) == 1:
            raise redis.TimeoutError

    monkeypatch.setattr(desk.gate, "report", report)
    desk.gate.admit(ACME, Kind.ORDER, 1)
    desk.ledger.book(2, 3)
    aftermath = Aftermath(desk.worker, ACME, GroupSize(1, 5.0), Ahead())
    for number, claim in enumerate(desk.ledger.claim()):
        request = Request((claim,), Token(SecretStr("token")), Stopwatch.start())
        aftermath.settle([Ended(request, created(100 + number))], places=1)
    assert seen == [{"in_progress": 3}, {"in_progress": 1, "succeeded": 2}, {"in_progress": 1, "succeeded": 2}]
    assert desk.ledger.states() == {"succeeded": 3}


def test_a_request_that_cannot_start_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a request does not even reach the event loop, the flow ends with that error instead of waiting for it."""

    def fail(requests: Iterable[Coroutine[object, object, object]]) -> None:
        for request in requests:
            request.close()
        raise ZeroDivisionError

    monkeypatch.setattr(desk.loop, "start_all", fail)
    with pytest.raises(ZeroDivisionError):
        desk.submit()
    assert ACME not in desk.submitting


def test_raw_bytes_of_an_answer_are_not_logged() -> None:
    """A secret that the vendor echoes would pass the mask in base64, so the log has the detail without it."""
    echoed = base64.b64encode(b"companyApiKey=secret").decode()
    happening = Happening("answer_of_forgotten_order", detail={"status": 500, "answer_base64": echoed})
    assert happening.for_log() == {"status": 500}


def test_a_missed_slot_is_replaced(desk: Desk, out: _Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose claim took longer than ever before is late for its slot; it gets another one, and goes."""
    claim: Callable[..., list[Claim]] = claims.claim

    def slow_claim(*args: Any, **kwargs: Any) -> list[Claim]:
        claimed = claim(*args, **kwargs)
        threading.Event().wait(_SLOW_SECONDS)
        return claimed

    monkeypatch.setattr(claims, "claim", slow_claim)
    out.let_answer.set()
    desk.submit()
    assert desk.ledger.states() == {"succeeded": 1}
    state = desk.gate.state(ACME)
    assert state is not None
    assert (state.counts["order_admitted"] - state.counts.get("order_given_back", 0), state.counts["order_late"]) == (
        1,
        1,
    )
    assert state.in_flight == 0


def test_a_missed_slot_of_a_paused_company_is_given_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the gate closed meanwhile, the late request is not sent: its order waits again, at no cost."""
    claim: Callable[..., list[Claim]] = claims.claim

    def claim_while_somebody_pauses(*args: Any, **kwargs: Any) -> list[Claim]:
        claimed = claim(*args, **kwargs)
        desk.gate.pause(ACME, "lunch")
        threading.Event().wait(_SLOW_SECONDS)
        return claimed

    monkeypatch.setattr(claims, "claim", claim_while_somebody_pauses)
    desk.submit()
    assert desk.ledger.states() == {"waiting": 1}
    assert desk.ledger.job(job_id(1))["attempts"] == 0
    assert desk.in_flight() == 0
