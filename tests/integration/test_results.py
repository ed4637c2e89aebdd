"""The vendor's answers as typed operation results: each once, off the path of submission, whatever it holds."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_workers.audit import results
from orderrelay_workers.ledger import schema
from tests.ledgers import Ledger, answered, created, cut_off, not_sent, refused

if TYPE_CHECKING:
    import sqlalchemy as sa

    from orderrelay_workers.vendor.exchange import Exchange


def stored(ledger: Ledger, *answers: Exchange) -> list[dict[str, Any]]:
    """The typed rows of these answers to orders, in their order."""
    claimed = ledger.book_and_claim(*range(len(answers)))
    for claim, answer in zip(sorted(claimed, key=lambda c: int(c.external_id[6:])), answers, strict=True):
        ledger.settle((claim, answer))
    results.store_all(ledger.engine)
    assert not results.any_waiting(ledger.engine)
    return [dict(row) for row in ledger.rows(schema.operation_result)]


def result_of(ledger: Ledger, text: str) -> dict[str, Any]:
    """The typed row of a success that holds this JSON text beside."""
    body = f'{{"Success": true, "Keys": [77], {text}}}'.encode()
    [row] = stored(ledger, answered(200, body))
    return row


def test_every_answer_is_stored_once(ledger: Ledger) -> None:
    """Created and refused orders have a typed result each; doing it again adds none."""
    rows = stored(ledger, created(77), refused("no such customer", 26))
    assert [(r["success"], r["error_number"], r["error_message"]) for r in rows] == [
        (True, None, None),
        (False, 26, "no such customer"),
    ]
    assert results.store_all(ledger.engine) == 0
    assert len(ledger.rows(schema.operation_result)) == 2


def test_a_result_belongs_to_its_attempt(ledger: Ledger) -> None:
    """A result names its attempt, job and company, and when it was received."""
    [row] = stored(ledger, created(77))
    [attempt] = ledger.rows(schema.attempt)
    assert [row[n] for n in ("attempt_id", "job_id", "company_id", "received_at")] == [
        attempt[n] for n in ("id", "job_id", "company_id", "ended_at")
    ]
    assert attempt["stored_at"] is not None


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ('"DecimalValue": 0.10', "decimal_value", Decimal("0.10")),
        ('"DecimalValue": 12345678901234567890.123456789', "decimal_value", Decimal("12345678901234567890.123456789")),
        ('"IntegerValue": 2147483648', "integer_value", 2147483648),
        ('"IntegerValue": 99999999999999999999', "integer_value", None),
        ('"InfoMessage": "a\\u0000b"', "info_message", "ab"),
        ('"DateTimeValue": "0001-01-01T00:00:00"', "date_time_value", None),
        ('"DateTimeValue": "2026-11-22T13:14:15.5"', "date_time_value", datetime(2026, 11, 22, 13, 14, 15, 500000)),  # noqa: DTZ001  as the vendor's clock shows it
        ('"Strings": ["å\\u0000", "2"]', "strings", '["å\\u0000","2"]'),
        ('"Value": {"a": [1.50]}', "value", '{"a":[1.50]}'),
        ('"NewInNextYear": 1', "unknown_properties", '{"NewInNextYear":1}'),
    ],
)
def test_values_are_kept_exactly(ledger: Ledger, text: str, column: str, value: object) -> None:
    """Decimals, large numbers, texts, date-times and unknown properties are stored as what they are."""
    assert result_of(ledger, text)[column] == value


@pytest.mark.parametrize(
    "answer",
    [cut_off(), not_sent(), answered(502, b"<html>"), answered(200, b"[]"), answered(401, b"")],
    ids=["cut off", "not sent", "page", "no object", "empty"],
)
def test_what_is_no_result_has_no_row(ledger: Ledger, answer: Exchange) -> None:
    """An answer that is no operation result has no typed row, is not asked for again, and stays verbatim."""
    assert stored(ledger, answer) == []
    [attempt] = ledger.rows(schema.attempt)
    assert attempt["answer"] in (answer.body, answer.partial, None)


@pytest.mark.parametrize(
    "text",
    [
        '"DecimalValue": 1e200000',
        '"DecimalValue": 1e999999999',
        '"Value": 1e999999999',
        '"Value": [1e-999999999]',
        '"SuccessNumber": 1e30',
    ],
)
def test_a_monstrous_answer_costs_no_other(ledger: Ledger, text: str) -> None:
    """An answer that no column holds is left out or emptied; those around it are stored."""
    monster = answered(200, f'{{"Success": true, "Keys": [78], {text}}}'.encode())
    rows = stored(ledger, created(77), monster, created(79))
    assert [json.loads(row["keys"]) for row in rows if row["keys"] not in (None, "[78]")] == [[77], [79]]


def test_a_deep_answer_costs_no_other(ledger: Ledger) -> None:
    """An answer with a value too deep to be written is typed without it; those beside it are stored."""
    deep = answered(200, b'{"Success": true, "Keys": [78], "Value": %s1%s}' % (b"[" * 700, b"]" * 700))
    assert [(row["keys"], row["value"]) for row in stored(ledger, created(77), deep)] == [
        ("[77]", None),
        ("[78]", None),
    ]


def test_many_store_at_once(ledger: Ledger) -> None:
    """Workers that store at once make one row for each answer."""
    claimed = ledger.book_and_claim(*range(60))
    ledger.settle(*((claim, created(100 + i)) for i, claim in enumerate(claimed)))
    ready = threading.Barrier(4)

    def store(_: int) -> int:
        ready.wait(timeout=10)
        return results.store_all(ledger.engine)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(store, range(4))) == 60
    assert len(ledger.rows(schema.operation_result)) == 60


def test_a_late_answer_is_stored_too(ledger: Ledger) -> None:
    """An answer that fills in the sweep's attempt afterwards gets its typed result."""
    [claim] = ledger.book_and_claim(1)
    ledger.pass_time(60)
    ledger.sweep()
    assert not results.any_waiting(ledger.engine)
    ledger.settle((claim, created(77)))
    assert results.any_waiting(ledger.engine)
    assert results.store_all(ledger.engine) == 1
    rows: list[sa.RowMapping] = list(ledger.rows(schema.operation_result))
    assert [row["string_value"] for row in rows] == ["ref"]


def test_a_look_up_is_no_result(ledger: Ledger) -> None:
    """The answer to a look-up is kept verbatim, and is never taken for an operation result."""
    [claim] = ledger.book_and_claim(1)
    ledger.look_up(claim.job_id, b"[77]")
    assert not results.any_waiting(ledger.engine)
    assert ledger.rows(schema.attempt)[0]["answer"] == b"[77]"


def test_received_at_is_the_answers(ledger: Ledger) -> None:
    """A result's instant is the answer's, in UTC, not the storing's."""
    [row] = stored(ledger, created(77))
    assert row["received_at"].astimezone(UTC) == created(77).ended_at


def test_a_worker_that_is_to_exit_leaves_the_rest_to_others(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many answers wait, it stores no more than the batch that it is at."""
    monkeypatch.setattr(results, "_BATCH", 2)
    for claim in ledger.book_and_claim(*range(5)):
        ledger.settle((claim, refused("no such customer", 26)))
    assert results.store_all(ledger.engine, stop=lambda: True) == 2
    assert results.any_waiting(ledger.engine)
    assert results.store_all(ledger.engine) == 3
