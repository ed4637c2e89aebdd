"""What the answer to a request of several orders means for each of them, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.vendor.answers import read_order_answer, read_order_answers
from orderrelay_workers.vendor.exchange import Failure
from tests.unit.test_answers import EXAMPLE, REFUSAL, answer, no_answer, result

if TYPE_CHECKING:
    from orderrelay_workers.vendor.exchange import Exchange

THREE = EXAMPLE | {"Keys": [11, 12, 13], "Strings": ["201", "202", "203"], "ObjectsAffected": 3}


def test_orders_are_created_by_their_position() -> None:
    """As many ids and numbers as orders: each order has its own, in the order in which they were sent."""
    verdicts = read_order_answers(result(THREE), 3)
    assert [v.outcome for v in verdicts] == [Outcome.CREATED] * 3
    assert [(v.vendor_id, v.order_number) for v in verdicts] == [(11, "201"), (12, "202"), (13, "203")]
    assert {v.reference for v in verdicts} == {EXAMPLE["StringValue"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"Keys": [11, 12]},
        {"Keys": [11, 12, 13, 14]},
        {"Strings": ["201", "202"]},
        {"Strings": ["201", "202", "203", "204"]},
        {"Strings": None},
        {"Keys": [11, 12, 11]},
        {"Keys": [11, 12, 0]},
        {"Keys": [11, 12, 2**63]},
    ],
    ids=str,
)
def test_counts_that_disagree_leave_all_in_doubt(changes: dict[str, Any]) -> None:
    """With an id or a number too few, too many, twice or unusable, nobody knows which order is which."""
    verdicts = read_order_answers(result(THREE | changes), 3)
    assert {(v.outcome, v.if_absent, v.vendor_id) for v in verdicts} == {(Outcome.UNKNOWN, JobState.WAITING, None)}
    assert "one of 3 orders in a request" in verdicts[0].reason


@pytest.mark.parametrize("keys", [None, [], [0, 0, 0]])
def test_success_that_names_nothing_is_never_sent_again(keys: Any) -> None:
    """As of a single order: success without any id, and not found, is for a person."""
    verdicts = read_order_answers(result(THREE | {"Keys": keys}), 3)
    assert {(v.outcome, v.if_absent) for v in verdicts} == {(Outcome.UNKNOWN, JobState.PARKED)}


@pytest.mark.parametrize(
    "exchange",
    [
        result(REFUSAL),
        result(REFUSAL | {"ErrorNumber": 11}),
        result(REFUSAL | {"Keys": [11]}),
        result(REFUSAL | {"Exception": "x"}),
        *(answer(status) for status in (400, 413, 415, 422, 408, 409, 500, 502, 503, 504, 201)),
        answer(200, None),
        answer(200, b"<html>"),
        answer(200, b"[]"),
        no_answer(sent=True, failure=Failure.DEADLINE),
    ],
)
def test_no_order_is_rejected_for_its_neighbours(exchange: Exchange) -> None:
    """Any refusal of several, and all doubt, is unknown for each of them, and then sent by itself if it is absent."""
    verdicts = read_order_answers(exchange, 2)
    assert [(v.outcome, v.if_absent) for v in verdicts] == [(Outcome.UNKNOWN, JobState.WAITING)] * 2
    assert {(v.error_number, v.trips) for v in verdicts} == {(None, False)}


@pytest.mark.parametrize(
    ("exchange", "outcome"),
    [
        (answer(401), Outcome.UNAUTHORIZED),
        (answer(429, retry_after="3"), Outcome.THROTTLED),
        (answer(503, retry_after="3"), Outcome.THROTTLED),
        *((answer(status), Outcome.MISCONFIGURED) for status in (403, 404, 405, 302)),
        (no_answer(sent=False, failure=Failure.REFUSED), Outcome.NOT_CREATED),
    ],
)
def test_what_creates_nothing_holds_for_each(exchange: Exchange, outcome: Outcome) -> None:
    """An answer by which nothing can have been created says so of all orders, as it would of one."""
    assert read_order_answers(exchange, 3) == (read_order_answer(exchange),) * 3
    assert read_order_answer(exchange).outcome is outcome


@pytest.mark.parametrize("exchange", [result(EXAMPLE), result(THREE), result(REFUSAL), answer(400), answer(500)])
def test_one_order_is_read_as_ever(exchange: Exchange) -> None:
    """The answer to one order alone means what it always meant."""
    assert read_order_answers(exchange, 1) == (read_order_answer(exchange),)


@given(
    keys=st.lists(st.integers(-1, 6), max_size=6),
    strings=st.lists(st.sampled_from(["201", "202", ""]), max_size=6),
    success=st.booleans(),
    orders=st.integers(2, 5),
)
def test_created_only_with_ids_of_their_own(keys: list[int], strings: list[str], success: bool, orders: int) -> None:
    """Whatever is answered: all are created under different ids, or none is; and none is rejected."""
    verdicts = read_order_answers(result(THREE | {"Success": success, "Keys": keys, "Strings": strings}), orders)
    assert len(verdicts) == orders
    assert {v.outcome for v in verdicts} in ({Outcome.CREATED}, {Outcome.UNKNOWN})
    if verdicts[0].outcome is Outcome.CREATED:
        assert [v.vendor_id for v in verdicts] == keys
        assert len(set(keys)) == orders == len(strings)
        assert min(keys) > 0
