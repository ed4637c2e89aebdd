"""What is no argument of a producer is refused in words for people, before anything is sent."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from orderrelay_producers import AsyncOrderProducer, OrderProducer, Outbox
from orderrelay_producers.steps import seconds_of
from orderrelay_producers.testing import InMemoryAsyncOrderProducer, InMemoryOrderProducer
from orderrelay_shared.settings import SettingsInvalid
from tests.in_loop import MAKERS
from tests.unit.test_producer import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Nobody listens there.
NOWHERE = "redis://127.0.0.1:1/0"
JOB = uuid.UUID(int=7)

#: Every call that has a timeout.
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "enqueue": lambda producer, timeout: producer.enqueue(order(), timeout=timeout),
    "enqueue booked": lambda producer, timeout: producer.enqueue(order(), booked=True, timeout=timeout),
    "enqueue_many": lambda producer, timeout: producer.enqueue_many([order()], timeout=timeout),
    "status": lambda producer, timeout: producer.status(JOB, timeout=timeout),
    "find": lambda producer, timeout: producer.find(external_id="A-1", timeout=timeout),
    "estimate": lambda producer, timeout: producer.estimate(timeout=timeout),
    "wait": lambda producer, timeout: producer.wait(JOB, timeout=timeout),
    "cancel": lambda producer, timeout: producer.cancel(JOB, timeout=timeout),
}


@pytest.fixture(params=MAKERS, ids=["in threads", "in a loop"])
def producer(request: pytest.FixtureRequest) -> Iterator[OrderProducer]:
    """A producer of each kind that reaches no Redis."""
    with closing(request.param(NOWHERE)) as made:
        yield made


@pytest.mark.parametrize("timeout", ["5", None, [5], float("nan")], ids=repr)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_no_timeout_is_refused(producer: OrderProducer, call: Callable[[Any, Any], Any], timeout: Any) -> None:
    """It says what was given, and what should be."""
    with pytest.raises(ValueError, match=r"it must be a number of seconds, such as 5\.0$") as caught:
        call(producer, timeout)
    assert str(caught.value).startswith(f"timeout is {timeout!r}; ")


def test_time_that_was_left_may_be_over() -> None:
    """Whoever counts time down to a deadline may come below 0 by a little."""
    assert seconds_of(-5) == seconds_of(-0.001) == 0.0


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_in_memory_producers_refuse_it_likewise(call: Callable[[Any, Any], Any]) -> None:
    """A test finds the mistake."""
    with pytest.raises(ValueError, match="timeout is '5'"):
        call(InMemoryOrderProducer(), "5")
    with pytest.raises(ValueError, match="timeout is '5'"):
        asyncio.run(call(InMemoryAsyncOrderProducer(), "5"))


def test_no_timeout_is_too_long() -> None:
    """Sockets wait 24 days at most; infinity is as good as eleven."""
    assert seconds_of(float("inf")) == seconds_of(10**12) == 1_000_000.0
    assert seconds_of(3) == 3


def test_a_wrong_address_is_refused() -> None:
    """One that is no text too, by its kind."""
    wrong: Any = 5
    for make in (OrderProducer, AsyncOrderProducer, Outbox):
        with pytest.raises(SettingsInvalid, match=r"must be text such as redis://127\.0\.0\.1:6379/0, not int"):
            make(wrong)


@pytest.mark.parametrize(
    ("make", "wrong", "told"),
    [
        (OrderProducer, NOWHERE, r"as redis\.Redis makes them, not a builtins\.str; an address is handed in as"),
        (OrderProducer, redis.asyncio.Redis(), r"as redis\.Redis makes them, not a redis\.asyncio\.client\.Redis"),
        (AsyncOrderProducer, redis.Redis(), r"as redis\.asyncio\.Redis makes them, not a redis\.client\.Redis"),
    ],
)
def test_what_is_no_client_is_refused(make: Any, wrong: Any, told: str) -> None:
    """An address, and a client of the other kind."""
    with pytest.raises(TypeError, match=told):
        make(redis=wrong)


@pytest.mark.parametrize("wrong", [5, None])
def test_what_is_no_id_is_refused(producer: OrderProducer, wrong: Any) -> None:
    """Of a job, and of an order."""
    with pytest.raises(ValueError, match=f"{wrong} is no job id: give the job"):
        producer.status(wrong)
    with pytest.raises(ValueError, match=f"external_id is {wrong}; it must be text"):
        producer.find(external_id=wrong)
    with pytest.raises(ValueError, match="why must be at most 300 printable characters on one line"):
        producer.cancel(JOB, why=wrong)


@pytest.mark.parametrize("wrong", ["x", [1, 2]])
def test_an_outbox_sends_its_own_jobs_only(wrong: Any) -> None:
    """It says how they are handed in."""
    with pytest.raises(TypeError, match=rf"as send_now\(\*jobs\), not a {type(wrong).__name__}"):
        Outbox(NOWHERE).send_now(wrong)


def test_an_outbox_wants_a_timeout_too() -> None:
    """Also where there is nothing to send."""
    wrong: Any = "1"
    with pytest.raises(ValueError, match="timeout is '1'; it must be"):
        Outbox(NOWHERE).send_now(timeout=wrong)
