"""Why a company is slow, in words: each cause has its sentence, and the most important one comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orderrelay_workers.audit.backlog import Backlog
from orderrelay_workers.diagnosis.of_companies import judge_gate
from orderrelay_workers.gate.permits import GateState, Hold, Kind, Limits
from orderrelay_workers.ledger.companies import Company
from orderrelay_workers.schedule import ClosedTime
from orderrelay_workers.slowness import about, explain

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ACME = Company(1, "acme", b"k", 10.0, 1, 50, None, None, None, None, None, time_zone="Europe/Stockholm")
OPEN = GateState(limits=Limits(10, 1, 50), rate_now=10.0, in_flight=3)
BUSY = Backlog(NOW, {2: 12_340}, NOW - timedelta(minutes=1), workers=2)
NIGHT = ClosedTime(NOW + timedelta(hours=9), NOW + timedelta(hours=17), "closed hours")


def hold(kind: Kind = Kind.ORDER, **more: Any) -> Hold:
    """An open circuit."""
    return Hold(**{"kind": kind, "seconds_left": 12.0, "reason": "503 Service Unavailable", "probing": False, **more})


def test_the_rate_is_the_limit() -> None:
    """In the best case the sentence says how fast, how much waits and when it will be done."""
    told = explain(OPEN, ACME, BUSY, done_at=NOW + timedelta(minutes=20))
    assert told == ["the rate of 10 requests/s is the limit: 12,340 wait, done in about 20 min"]


@pytest.mark.parametrize(
    ("state", "backlog", "first"),
    [
        (OPEN, replace(BUSY, workers=0), "no worker is running; start one with: orderrelay worker"),
        (None, BUSY, "its gate in Redis is not made yet, and so is closed; a worker makes it within seconds"),
        (GateState(limits=None), BUSY, "its gate is of a newer version: workers of this version send nothing"),
        (replace(OPEN, paused="x"), BUSY, "its gate is still paused (x); a worker opens it within seconds"),
        (replace(OPEN, throttled_seconds=90.0), BUSY, "the vendor asked to wait, for 2 min more"),
        (
            replace(OPEN, holds=(hold(),), unwell_share={Kind.ORDER: 0.62}),
            BUSY,
            "order requests are held, as the vendor is unwell (62% of requests go wrong): 503 Service Unavailable; the",
        ),
        (
            replace(OPEN, holds=(hold(Kind.LOGIN, probing=True),)),
            BUSY,
            "login requests are held, as the vendor is unwell: 503 Service Unavailable; one is out to see",
        ),
        (
            replace(OPEN, holds=(hold(reason="x"),)),
            BUSY,
            "order requests are held, as the vendor is unwell: x; the next try is in 12 s",
        ),
        (
            replace(OPEN, holds=(hold(reason="x", seconds_left=0.0),)),
            BUSY,
            "order requests are held, as the vendor is unwell: x; the next one tries",
        ),
        (
            OPEN,
            replace(BUSY, next_due_at=NOW + timedelta(minutes=5)),
            "nothing is due: the first of 12,340 waiting orders is in 5 min",
        ),
        (OPEN, Backlog(NOW, workers=1), "nothing waits"),
        (OPEN, replace(BUSY, is_cautious=True), "cautious mode: every order is looked up at the vendor before"),
        (replace(OPEN, in_flight=45), BUSY, "45 requests are in flight, and 50 may be: the vendor answers slowly"),
        (
            replace(OPEN, retries_left=0.4),
            replace(BUSY, by_lane={2: 1, 3: 4}),
            "too many retries fail: further ones wait until orders succeed, or go one by one",
        ),
        (
            replace(OPEN, is_learned=True, rate_now=4.2345),
            BUSY,
            "the rate is learned from what the vendor bears: 4.23 requests/s now, at most 10",
        ),
        (OPEN, replace(BUSY, by_lane={2: 1}), "the rate of 10 requests/s is the limit: 1 waits"),
    ],
)
def test_each_cause_has_its_sentence(state: GateState | None, backlog: Backlog, first: str) -> None:
    """What stops or slows a company comes first."""
    assert explain(state, ACME, backlog)[0].startswith(first)


def test_a_pause_says_who_and_why_and_the_way_out() -> None:
    """A reader need not look anywhere else."""
    paused = replace(ACME, paused_reason="stock-taking", paused_by="ann@host", paused_at=NOW)
    told = explain(replace(OPEN, paused="stock-taking"), paused, BUSY)
    since = "2026-11-23T13:00 Europe/Stockholm"
    assert told == [f"paused by ann@host since {since}: stock-taking; go on with: orderrelay resume acme"]


def test_closed_hours_say_until_when() -> None:
    """By the company's own clocks."""
    closed = replace(NIGHT, begins_at=NOW - timedelta(hours=1), ends_at=NOW + timedelta(hours=7))
    told = explain(replace(OPEN, closed_seconds=7 * 3600.0, closed_reason="closed hours"), ACME, BUSY, closed=closed)
    assert told == ["closed hours until 2026-11-23T20:00 Europe/Stockholm, for 7 h more"]


def test_coming_closed_hours_are_told_if_they_come_before_the_end() -> None:
    """A backlog that is done before the night does not care for it."""
    by_night = explain(OPEN, ACME, BUSY, done_at=NOW + timedelta(hours=20), closed=NIGHT)
    assert by_night[1] == (
        "closed hours from 2026-11-23T22:00 Europe/Stockholm until 2026-11-24T06:00 Europe/Stockholm"
    )
    assert len(explain(OPEN, ACME, BUSY, done_at=NOW + timedelta(hours=8), closed=NIGHT)) == 1


def test_redis_away_is_the_only_thing_to_say() -> None:
    """Nothing else is known then."""
    told = explain(None, ACME, BUSY, redis_is_away=True)
    assert told == ["Redis does not answer: nothing is sent while it is away"]


def test_several_causes_are_told_in_order() -> None:
    """What a person must do comes before what passes by itself; what slows is not told of what stands."""
    state = replace(OPEN, throttled_seconds=5.0, holds=(hold(),), in_flight=50)
    paused = replace(ACME, paused_reason="x", paused_by="me")
    told = explain(replace(state, paused="x"), paused, replace(BUSY, workers=0))
    assert [sentence.split()[0] for sentence in told] == ["no", "paused", "the", "order"]


def test_a_held_look_up_is_no_reason() -> None:
    """Orders go without look-ups."""
    state = replace(OPEN, holds=(hold(Kind.LOOKUP),))
    assert explain(state, ACME, BUSY) == explain(OPEN, ACME, BUSY)


def test_orders_that_go_slower_than_they_may_are_told() -> None:
    """The rate is not to blame then; but before orders have been going for a while nobody can know."""
    slow = replace(OPEN, drain_per_second=2.0)
    [told] = explain(slow, ACME, BUSY, is_steady=True, done_at=NOW + timedelta(hours=2))
    assert told == (
        "2 orders/s come to an end, though 10 may: workers do not keep up; start more, or see whether the database or "
        "their CPUs are busy; 12,340 wait, done in about 2 h"
    )
    assert explain(slow, ACME, BUSY)[0].startswith("the rate of 10 requests/s is the limit")
    assert len(explain(replace(slow, in_flight=50), ACME, BUSY, is_steady=True)) == 2


@pytest.mark.parametrize(("unknown", "words"), [(1, "1 unknown order is looked up"), (30, "30 unknown orders are")])
def test_look_ups_are_blamed_only_where_there_are_any(unknown: int, words: str) -> None:
    """Otherwise whoever reads it would look for doubt that is not there."""
    slow = replace(OPEN, drain_per_second=2.0)
    [told] = explain(slow, ACME, replace(BUSY, unknown=unknown), is_steady=True)
    assert words in told
    assert "look" not in explain(slow, ACME, BUSY, is_steady=True)[0]


def test_the_rate_is_not_blamed_where_the_places_in_flight_are_taken() -> None:
    """When all will be done is reckoned from the rate for a minute, and it says so."""
    full = replace(OPEN, limits=Limits(20, 1, 1), rate_now=20.0, in_flight=1)
    in_flight, wait = explain(full, ACME, BUSY, done_at=NOW + timedelta(minutes=20))
    assert in_flight.startswith("1 request is in flight, and 1 may be: the vendor answers slowly")
    assert wait == "12,340 wait, done in about 20 min if 20 requests/s are reached"
    assert explain(full, ACME, BUSY)[1] == "12,340 wait"


def test_a_few_places_in_flight_are_all_for_orders() -> None:
    """Of fewer than ten places none is kept for other requests."""
    state = replace(OPEN, limits=Limits(10, 1, 2), in_flight=1)
    assert explain(state, ACME, BUSY)[0].startswith("the rate of")


def test_a_time_zone_that_is_not_known_here_is_no_trouble() -> None:
    """UTC will do."""
    company = replace(ACME, time_zone="Mars/Olympus", paused_reason="x", paused_by="me", paused_at=NOW)
    assert "since 2026-11-23T12:00Z" in explain(replace(OPEN, paused="x"), company, BUSY)[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (59, "59 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (5400, "2 h"), (200_000, "2 d")],
)
def test_lengths_of_time_are_round(seconds: float, text: str) -> None:
    """Nobody needs the seconds of an hour."""
    assert about(seconds) == text


def test_the_doctor_calls_no_closed_gate_open() -> None:
    """Closed hours are as they should be, and are told with their length."""
    told = judge_gate("acme", replace(OPEN, closed_seconds=3 * 3600.0, closed_reason="closed hours"))
    assert [(finding.level, finding.text) for finding in told] == [("ok", "closed for 3 h more: closed hours")]
