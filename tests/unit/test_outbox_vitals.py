"""What a relay of an outbox tells of itself, without any relay."""

from __future__ import annotations

import json
import urllib.request
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orderrelay_producers.outbox_relay import Done
from orderrelay_producers.outbox_store import OutboxUnusable
from orderrelay_producers.outbox_table import Counts
from orderrelay_producers.outbox_vitals import METRICS, Vitals, exposition, health_server
from tests.servers import free_port

SOME = Counts(waiting=7, oldest_seconds=12.5, newer=2, set_aside=1)


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def told(vitals: Vitals) -> dict[str, float]:
    """The metrics as Prometheus reads them, without what their names begin with."""
    found = {s.name: s.value for f in text_string_to_metric_families(exposition(vitals).decode()) for s in f.samples}
    return {name.removeprefix("orderrelay_outbox_"): value for name, value in found.items()}


def test_every_metric_is_told_with_its_value() -> None:
    """What was counted last, and what all rounds have done together."""
    vitals = Vitals(Clock())
    vitals.count(lambda: SOME)
    vitals.round_ended(Done(taken=3, set_aside=1))
    vitals.round_ended(Done(taken=1, away="Redis is away"))
    assert told(vitals) == {
        "readable": 1,
        "waiting": 7,
        "oldest_seconds": 12.5,
        "newer": 2,
        "set_aside": 1,
        "handed_over_total": 4,
        "refused_total": 1,
        "failures_total": 1,
    }
    assert [family.type for family in text_string_to_metric_families(exposition(vitals).decode())] == [
        metric.kind for metric in METRICS
    ]


def test_what_is_not_known_is_left_out() -> None:
    """Before the first count, while the database is away, and of a relay that hangs; 0 would look well."""
    clock = Clock()
    vitals = Vitals(clock)
    counters = {"readable", "handed_over_total", "refused_total", "failures_total"}
    assert told(vitals).keys() == counters
    vitals.count(lambda: SOME)
    assert told(vitals).keys() > counters
    vitals.database_is_away()
    assert told(vitals).keys() == counters
    clock.now += 10
    vitals.count(lambda: SOME)
    clock.now += 200
    assert told(vitals).keys() == counters
    assert told(vitals)["readable"] == 0


def test_a_count_that_fails_is_not_tried_again_at_once() -> None:
    """A table too long to be counted in time would have all of the relay's time; its orders could be handed over."""
    clock = Clock()
    vitals = Vitals(clock)
    counted = 0

    def counting() -> Counts:
        nonlocal counted
        counted += 1
        clock.now += 30
        raise OutboxUnusable("canceling statement due to statement timeout", may_pass=True)

    with pytest.raises(OutboxUnusable):
        vitals.count(counting)
    clock.now += 590
    vitals.count(counting)
    assert counted == 1
    clock.now += 20
    with pytest.raises(OutboxUnusable):
        vitals.count(counting)


@pytest.mark.parametrize(("takes", "rests"), [(0.125, 5), (1.0, 20)])
def test_counting_takes_little_of_the_relay_s_time(takes: float, rests: float) -> None:
    """It is done every five seconds at most, and less often where the table is so long that it takes long."""
    clock = Clock()
    vitals = Vitals(clock)
    times: list[float] = []

    def counting() -> Counts:
        clock.now += takes
        times.append(clock.now)
        return SOME

    while len(times) < 2:
        vitals.count(counting)
        clock.now += 0.5
    assert rests <= times[1] - times[0] - takes < rests + 1


def test_a_relay_that_hangs_is_not_live() -> None:
    """Its page says so with 503, so that it is restarted; before that and after a round it is live."""
    clock = Clock()
    vitals = Vitals(clock)
    port = free_port()
    server = health_server("127.0.0.1", port, vitals)
    server.start()
    try:
        for seconds, status in ((170, 200), (20, 503)):
            clock.now += seconds
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=10) as answer:
                    seen, said = answer.status, json.loads(answer.read())
            except HTTPError as error:
                with error:
                    seen, said = error.code, json.loads(error.read())
            assert (seen, said["live"]) == (status, status == 200)
        vitals.round_ended(Done())
        assert not vitals.hangs
        with pytest.raises(HTTPError, match="404") as missing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10)
        with missing.value as answer:
            assert json.loads(answer.read()) == {"error": "ask for /live or /metrics"}
    finally:
        server.close()
