"""What a batch costs in statements, commits and round trips, however many orders are in it.

Seconds depend on the machine; these do not. Whoever makes one of them grow has a reason, and changes it here.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from orderrelay_workers.audit import results
from orderrelay_workers.gate import Gate, Kind, Limits, Report
from tests.gates import ACME, LEASE_SECONDS
from tests.ledgers import created

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from tests.ledgers import Ledger

_FEW, _MANY = 3, 200


@contextmanager
def _counted(ledger: Ledger) -> Iterator[list[str]]:
    """The first words of all statements that are sent meanwhile, and "COMMIT" for each commit."""
    sent: list[str] = []

    def statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        sent.append(text.split(maxsplit=1)[0])

    def commit(_: Any) -> None:
        sent.append("COMMIT")

    event.listen(ledger.engine, "before_cursor_execute", statement)
    event.listen(ledger.engine, "commit", commit)
    try:
        yield sent
    finally:
        event.remove(ledger.engine, "before_cursor_execute", statement)
        event.remove(ledger.engine, "commit", commit)


def _claim(ledger: Ledger, orders: int) -> None:
    assert len(ledger.claim(orders)) == orders


def _settle(ledger: Ledger, orders: int) -> None:
    claimed = ledger.claim(orders)
    settled = ledger.settle(*((claim, created(100 + number)) for number, claim in enumerate(claimed)))
    assert len(settled.statuses) == orders


def _store(ledger: Ledger, orders: int) -> None:
    _settle(ledger, orders)
    assert results.store_all(ledger.engine) == orders


#: To each step: what it does, and its statements and commits at most, with those of the steps before it.
STEPS: dict[str, tuple[Callable[[Ledger, int], None], int]] = {
    "claim": (_claim, 7),
    "claim and settle": (_settle, 7 + 4),
    "claim, settle and store": (_store, 7 + 4 + 7),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_costs_the_same_however_large(ledger: Ledger, step: str) -> None:
    """Statements and commits of one batch do not grow with the orders in it, and stay below a known number.

    But SQLite takes 50 rows in one statement.
    """
    act, most = STEPS[step]
    costs: list[list[str]] = []
    for begin, orders in ((0, _FEW), (1000, _MANY)):
        ledger.book(*range(begin, begin + orders))
        with _counted(ledger) as sent:
            act(ledger, orders)
        costs.append(sent)
        with ledger.engine.begin() as connection:  # what was settled would hold the same vendor ids again
            connection.exec_driver_sql("UPDATE job SET vendor_id = NULL")
    few, many = costs
    assert len(few) <= most, few
    if ledger.engine.dialect.name == "sqlite":
        many = [word for word, before in zip(many, ["", *many], strict=False) if word != before]
        few = [word for word, before in zip(few, ["", *few], strict=False) if word != before]
    assert many == few


def test_booking_costs_the_same_however_many(ledger: Ledger) -> None:
    """As many statements for two hundred orders as for three, but that SQLite takes 50 rows in one."""
    costs: list[int] = []
    for begin, orders in ((0, _FEW), (1000, _MANY)):
        with _counted(ledger) as sent:
            ledger.book(*range(begin, begin + orders))
        costs.append(len(sent))
    more = 3 * (_MANY // 50 - 1) if ledger.engine.dialect.name == "sqlite" else 0
    assert costs[1] <= costs[0] + more
    assert costs[0] <= 10


def test_the_gate_is_one_round_trip(redis_client: redis.Redis) -> None:
    """Permits for a batch are one command, and so is the report of how all of it ended."""
    gate = Gate(redis_client, uuid.uuid4(), probe_lease_seconds=LEASE_SECONDS)
    gate.seed(ACME, Limits(1000, 100, 500), None, {})
    gate.admit(ACME, Kind.ORDER, 1)  # the scripts are known from now on
    gate.report(ACME, Kind.ORDER, Report(finished=1, good=1))
    before = _script_calls(redis_client)
    permits = gate.admit(ACME, Kind.ORDER, 100)
    gate.report(ACME, Kind.ORDER, Report(finished=permits.granted, good=permits.granted))
    assert permits.granted > 1
    assert _script_calls(redis_client) - before == 2


def _script_calls(client: redis.Redis) -> int:
    told: Any = client.info("commandstats")
    return int(told["cmdstat_evalsha"]["calls"])
