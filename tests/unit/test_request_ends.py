"""What the ends of requests tell the gate and the learned size: requests are counted, not the orders in them."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from orderrelay_shared.states import Outcome
from orderrelay_workers.group_size import GroupSize
from orderrelay_workers.ledger.claims import Claim
from orderrelay_workers.request_ends import Ended, Request, learn_size, read_answers, report_of, unsent_claims
from orderrelay_workers.stopwatch import Stopwatch
from orderrelay_workers.tokens import Token
from tests.ledgers import answered, cut_off, not_sent, refused

if TYPE_CHECKING:
    from orderrelay_workers.vendor.exchange import Exchange


def request(orders: int, *, number: int = 1, probe: bool = False) -> Request:
    """A request with so many orders."""
    claims = tuple(
        Claim(uuid.uuid4(), 1, uuid.UUID(int=1), str(n), number, b'{"n":%d}' % n, b"d", 1, alone=number > 1)
        for n in range(orders)
    )
    return Request(claims, Token(SecretStr("t")), Stopwatch.start(), probe)


def created(orders: int) -> Exchange:
    """So many orders were created."""
    result = {"Success": True, "Keys": list(range(1, orders + 1)), "Strings": [str(n) for n in range(orders)]}
    return answered(200, json.dumps(result).encode())


def test_a_body_holds_all_orders() -> None:
    """They stand in the order of their claims."""
    assert json.loads(b"[%s]" % request(3).body) == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_the_gate_counts_requests_and_only_the_drain_counts_orders() -> None:
    """A request of ten that went well is one good request by which ten orders came to an end."""
    batch = [
        Ended(request(10), created(10)),
        Ended(request(1, number=2), created(1)),
        Ended(request(1), refused()),
        Ended(request(5), cut_off()),
        Ended(request(3), not_sent()),
        Ended(request(4), None, late=True),
    ]
    report = report_of(batch, read_answers(batch), 4)
    assert (report.finished, report.good, report.unwell, report.orders) == (4, 3, 2, 12)
    assert (report.retries_good, report.probe, report.latency_seconds) == (1, False, 1.0)
    assert len(unsent_claims(batch)) == 4


@pytest.mark.parametrize(
    ("exchange", "is_well"),
    [(created(1), True), (refused(), True), (answered(200, b"\r\n {}"), True), (answered(200, b""), False),
     (answered(200, b"<html>Down for maintenance</html>"), False), (answered(302, b"{}"), False),
     (answered(503, b"{}"), False), (answered(429, b"{}"), False), (cut_off(), False), (not_sent(), False),
     (None, False)],
)  # fmt: skip
def test_none_follows_what_leaves_an_order_in_doubt(exchange: Exchange | None, is_well: bool) -> None:
    """Else each place in flight has two orders in doubt before the circuit opens, and not one."""
    assert Ended(request(1), exchange).is_well is is_well


@pytest.mark.parametrize("exchange", [refused(), created(3), answered(400, b"")], ids=["refused", "short", "400"])
def test_a_vendor_that_refuses_several_is_well(exchange: Exchange) -> None:
    """Its orders are in doubt, but it answers: circuits stay closed, and its token is good."""
    batch = [Ended(request(4), exchange)]
    [one] = read_answers(batch)
    report = report_of(batch, [one], 1)
    assert (report.good, report.unwell, report.orders) == (1, 0, 0)
    assert (one.outcome, one.whole.outcome in (Outcome.CREATED, Outcome.REJECTED)) == (Outcome.UNKNOWN, True)


@pytest.mark.parametrize(
    ("exchange", "size"),
    [(created(8), 16), (refused(), 4), (cut_off(), 4), (answered(413, b""), 4), (answered(401, b""), 8),
     (answered(429, b""), 8), (not_sent(), 8)],
    ids=["created", "refused", "cut off", "413", "401", "429", "not sent"],
)  # fmt: skip
def test_the_size_is_learned(exchange: Exchange, size: int) -> None:
    """Clear answers let it grow, refused and unclear ones halve it, and "not now" teaches nothing."""
    group = GroupSize(100, 30.0)
    group.size = 8
    batch = [Ended(request(8), exchange)] * 2
    learn_size(group, read_answers(batch))
    assert group.size == size
