"""What a client of bare sockets sees of every fault, and what the books say afterwards."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from orderrelay_workers.simulator import FAULTS, Credentials, FaultPlan, Rule, RunningSimulator, running_simulator
from orderrelay_workers.simulator.faults import ERROR_MESSAGES
from tests.unit.simulator_client import KEYS, Seen, call, log_in, look_up, order, post_order

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    """One simulator for all tests here."""
    with running_simulator(credentials=Credentials(token=KEYS["token"]), login_failure_seconds=0.0) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: RunningSimulator) -> RunningSimulator:
    """The simulator, its books empty."""
    running.books.reset()
    return running


def strike(simulator: RunningSimulator, fault: str, seconds: float | None = None) -> None:
    """Let every request meet this fault."""
    simulator.set_plan(FaultPlan(rules=(Rule(fault=fault, seconds=seconds),)))


def until_booked(simulator: RunningSimulator, fault: str) -> None:
    """Wait until the request has come to its end in the books."""
    deadline = time.monotonic() + 10
    while simulator.books.counts()["in_flight"] or fault not in str(simulator.books.counts()["faults"]):
        assert time.monotonic() < deadline, "the request never ended"


def both(name: str, seen: str, status: int = 0) -> list[tuple[str, str, int, int]]:
    """The rows of a fault that comes with and without the order."""
    return [(f"{name}-before", seen, status, 0), (f"{name}-after", seen, status, 1)]


# Fault, how the client's connection ends, HTTP status, orders created.
ORDER_FAULTS: list[tuple[str, str, int, int]] = [
    *(
        row
        for status in (500, 502, 503, 504, 408, 409, 520, 201, 202, 204)
        for row in both(f"{status}", "answer", status)
    ),
    *both("hang", "silent"),
    *both("reset", "reset"),
    *both("close", "closed"),
    *both("half-head", "truncated"),
    *both("truncated", "truncated", 200),
    *both("truncated-chunked", "truncated", 200),
    *(
        row
        for name in ("huge", "html-200", "empty-200", "not-json-200", "array-200", "null-200", "wrong-type")
        for row in both(name, "answer", 200)
    ),
    *(
        row
        for name in ("no-success", "no-keys", "null-keys", "exception", "affected")
        for row in both(name, "answer", 200)
    ),
    *(row for number in (9, 11, 12, 15, 17, 139) for row in both(f"error-{number}", "answer", 200)),
    *((name, "answer", 200, 1) for name in ("partial-save", "partial-save-unnumbered", "odd-but-valid", "slow")),
    *((name, "answer", 200, 1) for name in ("drip", "connection-close", "untold-close")),
    ("created-twice", "answer", 200, 2),
    *((name, "answer", 200, 0) for name in ("partial-first", "partial-some")),
    *((name, "answer", 200, 1) for name in ("short-keys", "repeated-keys")),
    ("504-then-created", "answer", 504, 1),
    ("reset-before-reading", "reset", 0, 0),
    *((name, "answer", 401, 0) for name in ("401-invalid-token", "401-session-expired", "401-company-key")),
    *((f"{status}", "answer", status, 0) for status in (403, 404, 405, 400, 413, 415, 422, 301, 302, 307, 308, 429)),
    ("429-retry-after", "answer", 429, 0),
    ("429-retry-after-date", "answer", 429, 0),
    ("503-retry-after", "answer", 503, 0),
    ("503-retry-after-date", "answer", 503, 0),
    *(
        (f"error-{number}", "answer", 200, 0)
        for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 16, 26, 41, 42, 138, 295, 1401)
    ),
    ("business-rejection", "answer", 200, 0),
    ("can-user-override", "answer", 200, 0),
]

COMMON = [
    *((f"{status}", "answer", status) for status in (400, 403, 404, 500, 503, 302, 429)),
    ("html", "answer", 200),
    ("empty", "answer", 200),
    ("hang", "silent", 0),
    ("reset", "reset", 0),
    ("truncated", "truncated", 200),
    ("slow", "answer", 200),
]
LOOKUP_FAULTS = [
    *((f"lookup-{name}", end, status) for name, end, status in COMMON),
    ("lookup-wrong-type", "answer", 200),
    ("lookup-blind", "answer", 200),
    *((f"lookup-401-{name}", "answer", 401) for name in ("invalid-token", "session-expired", "company-key")),
]
LOGIN_FAULTS = [
    *((f"login-{name}", end, status) for name, end, status in COMMON),
    *((f"login-{name}", "answer", 200) for name in ("failed", "bare-token", "stale-token")),
]


def test_every_fault_is_tested() -> None:
    """The tables here name every fault of the catalogue, and no other."""
    tested = [row[0] for row in (*ORDER_FAULTS, *LOOKUP_FAULTS, *LOGIN_FAULTS)]
    assert sorted(tested) == sorted(FAULTS)


@pytest.mark.parametrize(("fault", "end", "status", "created"), ORDER_FAULTS)
def test_order_fault(simulator: RunningSimulator, fault: str, end: str, status: int, created: int) -> None:
    """An order request that a fault strikes ends as its sentence says, and the order exists or does not."""
    strike(simulator, fault, 0.001 if fault in ("drip", "slow", "504-then-created") else None)
    seen = post_order(simulator.url, order(), timeout=0.3 if end == "silent" else 10)
    assert (seen.end, seen.status) == (end, status)
    until_booked(simulator, fault)
    deadline = time.monotonic() + 10
    while len(simulator.books.created().get("A-1", [])) != created and fault == "504-then-created":
        assert time.monotonic() < deadline, "the order never came"
    assert len(simulator.books.created().get("A-1", [])) == created
    assert simulator.books.counts()["faults"] == {fault: 1}


@pytest.mark.parametrize(("fault", "end", "status"), LOOKUP_FAULTS)
def test_lookup_fault(simulator: RunningSimulator, fault: str, end: str, status: int) -> None:
    """A look-up that a fault strikes ends as its sentence says."""
    strike(simulator, fault, 0.001 if fault == "lookup-slow" else None)
    seen = look_up(simulator.url, "A-1", timeout=0.3 if end == "silent" else 10)
    assert (seen.end, seen.status) == (end, status)


@pytest.mark.parametrize(("fault", "end", "status"), LOGIN_FAULTS)
def test_login_fault(simulator: RunningSimulator, fault: str, end: str, status: int) -> None:
    """A login that a fault strikes ends as its sentence says."""
    strike(simulator, fault, 0.001 if fault in ("login-slow", "login-failed") else None)
    seen = log_in(simulator.url, timeout=0.3 if end == "silent" else 10)
    assert (seen.end, seen.status) == (end, status)


@pytest.mark.parametrize(
    ("fault", "created", "success", "keys"),
    [
        ("partial-first", ["A", "B"], False, 0),
        ("partial-some", ["B", "D"], False, 0),
        ("short-keys", ["A", "B", "C", "D", "E"], True, 4),
        ("repeated-keys", ["A", "B", "C", "D", "E"], True, 5),
    ],
)
def test_fault_of_several(
    simulator: RunningSimulator, fault: str, created: list[str], success: bool, keys: int
) -> None:  # fmt: skip
    """Of several orders some are created though the answer says no, or all though it does not name them all."""
    strike(simulator, fault)
    orders = json.dumps([order(name) for name in "ABCDE"]).encode()
    answer = call(simulator.url, "POST", "/Economy/Billing/Orders", KEYS, orders).json
    assert (answer["Success"], len(answer["Keys"])) == (success, keys)
    assert len(set(answer["Keys"])) == min(keys, 4)
    assert sorted(simulator.books.created()) == created


def test_one_bad_order_refuses_all(simulator: RunningSimulator) -> None:
    """Of an array all orders are created, or none."""
    simulator.set_plan(FaultPlan())
    orders = json.dumps([order("A"), order("B", CustomerNr="BLOCKED"), order("C")]).encode()
    answer = call(simulator.url, "POST", "/Economy/Billing/Orders", KEYS, orders).json
    assert (answer["Success"], answer["ErrorNumber"], simulator.books.created()) == (False, 26, {})


def posted(simulator: RunningSimulator, fault: str, seconds: float | None = None) -> Seen:
    """What a client sees of an order that the fault strikes."""
    strike(simulator, fault, seconds)
    return post_order(simulator.url, order())


def test_truncated_says_more_than_it_sends(simulator: RunningSimulator) -> None:
    """A truncated answer's Content-Length is larger than what comes."""
    seen = posted(simulator, "truncated-after")
    assert int(seen.headers["content-length"]) > len(seen.body) > 0


def test_huge_is_50_mb_of_valid_json(simulator: RunningSimulator) -> None:
    """The huge answer has 50 MB, and is the right answer to whoever reads it all."""
    seen = posted(simulator, "huge-after")
    assert len(seen.body) == 50 * 1024 * 1024
    assert seen.json["Keys"] == simulator.books.created()["A-1"]


def test_drip_comes_slowly_and_in_pieces(simulator: RunningSimulator) -> None:
    """A dripping answer takes its time for each byte, comes in pieces, and is right in the end."""
    began = time.monotonic()
    seen = posted(simulator, "drip", 0.002)
    assert time.monotonic() - began >= 0.002 * len(seen.body)
    assert seen.reads > 3
    assert seen.json["Success"] is True


def test_slow_is_late(simulator: RunningSimulator) -> None:
    """A slow answer comes after its seconds, and right."""
    began = time.monotonic()
    seen = posted(simulator, "slow", 0.2)
    assert time.monotonic() - began >= 0.2
    assert seen.json["Success"] is True


@pytest.mark.parametrize(("fault", "told"), [("connection-close", "close"), ("untold-close", None)])
def test_closing_after_the_answer(simulator: RunningSimulator, fault: str, told: str | None) -> None:
    """The right answer is followed by a close that the headers tell of, or do not."""
    strike(simulator, fault)
    seen = post_order(simulator.url, order(), watch_close=5)
    assert (seen.closed_after, seen.headers.get("connection")) == (True, told)
    assert seen.json["Success"] is True


def test_retry_after_in_seconds(simulator: RunningSimulator) -> None:
    """429 with Retry-After tells the rule's seconds."""
    assert posted(simulator, "429-retry-after", 7).headers["retry-after"] == "7"


def test_retry_after_as_date(simulator: RunningSimulator) -> None:
    """503 with a date tells an HTTP date that lies ahead."""
    at = parsedate_to_datetime(posted(simulator, "503-retry-after-date", 60).headers["retry-after"])
    assert 55 < at.timestamp() - time.time() <= 61


def test_429_alone_has_no_retry_after(simulator: RunningSimulator) -> None:
    """Plain 429 does not say when to come back."""
    assert "retry-after" not in posted(simulator, "429").headers


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("401-invalid-token", b"Invalid Token"),
        ("401-session-expired", b"Session Expired"),
        ("401-company-key", b"CompanyApiKey Invalid"),
    ],
)
def test_unauthorized_texts(simulator: RunningSimulator, fault: str, text: bytes) -> None:
    """The 401s carry the vendor's short texts."""
    assert posted(simulator, fault).body == text


def test_no_keys_names_nothing(simulator: RunningSimulator) -> None:
    """Success without Keys has neither Keys, Strings nor a reference."""
    seen = posted(simulator, "no-keys-after").json
    assert (seen["Success"], seen["Keys"], seen["Strings"], seen["StringValue"]) == (True, [], [], None)


def test_partial_save_names_the_order(simulator: RunningSimulator) -> None:
    """A partial save says Success false and names the order that is there."""
    seen = posted(simulator, "partial-save").json
    assert (seen["Success"], seen["ErrorNumber"]) == (False, 12)
    assert seen["Keys"] == simulator.books.created()["A-1"]


@pytest.mark.parametrize("number", sorted(ERROR_MESSAGES))
def test_error_numbers(simulator: RunningSimulator, number: int) -> None:
    """An error-number fault answers that number with its Swedish message and without Keys."""
    fault = f"error-{number}" if f"error-{number}" in FAULTS else f"error-{number}-after"
    seen = posted(simulator, fault).json
    assert (seen["Success"], seen["ErrorNumber"], seen["ErrorMessage"]) == (False, number, ERROR_MESSAGES[number])
    assert seen["Keys"] == []


def test_odd_but_valid_is_still_readable(simulator: RunningSimulator) -> None:
    """The odd answer has a byte-order mark, camelCase names and a property nobody knows."""
    seen = posted(simulator, "odd-but-valid")
    assert seen.body.startswith(b"\xef\xbb\xbf")
    assert seen.json["keys"] == simulator.books.created()["A-1"]
    assert "ProcessedByServer" in seen.json


def test_created_twice_is_booked_as_doubled(simulator: RunningSimulator) -> None:
    """When the vendor itself creates an order twice, it names the first, and the books show both."""
    seen = posted(simulator, "created-twice").json
    assert simulator.books.doubled() == {"A-1": simulator.books.created()["A-1"]}
    assert seen["Keys"] == simulator.books.created()["A-1"][:1]


def test_redirect_points_to_where_followers_are_counted(simulator: RunningSimulator) -> None:
    """A redirecting fault names /moved."""
    assert posted(simulator, "307").headers["location"] == "/moved"


def test_lookup_blind_hides_what_is_there(simulator: RunningSimulator) -> None:
    """The blind look-up answers an empty list although the order exists."""
    strike(simulator, "lookup-blind")
    post_order(simulator.url, order("there"))
    assert look_up(simulator.url, "there").json == []


def test_stale_token_is_refused(simulator: RunningSimulator) -> None:
    """A stale login hands out a token that looks good and is refused at once."""
    strike(simulator, "login-stale-token")
    token = log_in(simulator.url).json["Token"]
    seen = post_order(simulator.url, order(), token=token)
    assert (len(token), seen.status, seen.body) == (32, 401, b"Invalid Token")


def test_failed_login_has_no_token(simulator: RunningSimulator) -> None:
    """A failing login is 200 with a Message that begins "Login failed", and no Token."""
    strike(simulator, "login-failed", 0.0)
    seen = log_in(simulator.url)
    assert (seen.status, "Token" in seen.json) == (200, False)
    assert seen.json["Message"].startswith("Login failed")


def test_bare_token_is_a_json_string(simulator: RunningSimulator) -> None:
    """The bare login answers nothing but the token as a JSON string."""
    strike(simulator, "login-bare-token")
    assert isinstance(log_in(simulator.url).json, str)
