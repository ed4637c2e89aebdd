"""What the simulator does by time and by load: moving limits, outages that begin and end, latency that rises."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from orderrelay_workers.simulator import Credentials, FaultPlan, PlanInvalid, Rule, RunningSimulator, running_simulator
from orderrelay_workers.simulator.faults import On
from orderrelay_workers.simulator.plan import Chooser, Subject
from tests.servers import wait_until
from tests.unit.simulator_client import KEYS, call, look_up, order, post_order

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    """One simulator for all tests here."""
    with running_simulator(credentials=Credentials(token=KEYS["token"])) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: RunningSimulator) -> RunningSimulator:
    """The simulator in good health, its books empty."""
    running.set_plan(FaultPlan())
    running.books.reset()
    return running


class SteeredClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The present second."""
        return self.now


def struck_at(plan: FaultPlan, seconds: float, count: int = 1) -> list[str]:
    """The faults that strike so many order requests so long after the plan was put in force; "" for none."""
    clock = SteeredClock()
    chooser = Chooser(plan, clock)
    clock.now += seconds
    found = [chooser.read(On.ORDER, chooser.draw(On.ORDER), Subject()) for _ in range(count)]
    return ["" if one is None else one[0].name for one in found]


def test_limit_moves_by_its_steps() -> None:
    """The hidden limit is that of the last step that was reached; before the first there is none."""
    plan = FaultPlan(rate_limit_per_second=((10, 50), (90, 80), (180, None)))
    assert [plan.limit_at(seconds) for seconds in (0, 9.9, 10, 89, 90, 179, 180)] == [None, None, 50, 50, 80, 80, None]
    assert FaultPlan(rate_limit_per_second=7).limit_at(1e9) == 7


def test_limit_moves_while_it_runs(simulator: RunningSimulator) -> None:
    """The server refuses by the limit of the moment: none from the first step, all but one a second from the next."""
    simulator.set_plan(FaultPlan(rate_limit_per_second=((0, 1000), (0.3, 1))))
    numbers = itertools.count()

    def refused() -> bool:
        return post_order(simulator.url, order(str(next(numbers)))).status == 429

    assert not any(refused() for _ in range(3))
    wait_until(refused, what="the limit fell to one order a second")


def test_limit_is_each_companys_own(simulator: RunningSimulator) -> None:
    """One company that is at its limit leaves another its own."""
    simulator.set_plan(FaultPlan(rate_limit_per_second=1))
    body = json.dumps([order()]).encode()
    statuses = [
        call(simulator.url, "POST", "/Economy/Billing/Orders", {**KEYS, "companyApiKey": key}, body).status
        for key in ("one", "one", "two")
    ]
    assert statuses == [200, 429, 200]


@pytest.mark.parametrize(("form", "shown"), [("none", None), ("seconds", "7"), ("date", "date")])
def test_refusal_tells_when_to_come_back(simulator: RunningSimulator, form: str, shown: str | None) -> None:
    """A 429 of the hidden limit carries Retry-After in the form that the plan names, or none."""
    changes = {"rate_limit_per_second": 1, "rate_limit_retry_after": form, "rate_limit_wait_seconds": 7}
    simulator.set_plan(FaultPlan().changed(**changes))
    post_order(simulator.url, order("first"))
    seen = post_order(simulator.url, order("second"))
    header = seen.headers.get("retry-after")
    assert seen.status == 429
    if shown == "date":
        ahead = parsedate_to_datetime(str(header)) - parsedate_to_datetime(seen.headers["date"])
        assert 6 <= ahead.total_seconds() <= 8
    else:
        assert header == shown


def test_rule_strikes_between_its_times() -> None:
    """A rule with times strikes from the one and before the other; the next one takes over."""
    plan = FaultPlan(
        rules=(
            Rule(fault="503-before", from_seconds=20, to_seconds=80),
            Rule(fault="500-before", from_seconds=80),
        )
    )
    faults = [struck_at(plan, seconds)[0] for seconds in (0, 19.9, 20, 79.9, 80, 1e6)]
    assert faults == ["", "", "503-before", "503-before", "500-before", "500-before"]


def test_brown_out_has_its_share() -> None:
    """A share by time strikes that share of the requests while it lasts."""
    plan = FaultPlan(rules=(Rule(fault="503-before", share=0.5, from_seconds=20, to_seconds=80),))
    assert struck_at(plan, 50, 1000).count("503-before") == pytest.approx(500, abs=60)
    assert set(struck_at(plan, 80, 100)) == {""}


def test_shares_of_different_times_may_add_up_to_more_than_one() -> None:
    """Two shares of 0.7 are possible one after the other, and not at once."""
    earlier, later = Rule(fault="429", share=0.7, to_seconds=5), Rule(fault="403", share=0.7, from_seconds=5)
    assert len(FaultPlan(rules=(earlier, later)).rules) == 2
    with pytest.raises(PlanInvalid, match=r"add up to 1.4"):
        FaultPlan().changed(rules=[earlier.model_dump(), {**later.model_dump(), "from_seconds": 4}])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"rules":[{"fault":"429","from_seconds":5,"to_seconds":5}]}',
            "rules.0: to_seconds has to be more than from_seconds, which is 5",
        ),
        (
            '{"rate_limit_per_second":[[5,1],[5,2]]}',
            "rate_limit_per_second: the steps must be one or more, each later than the one before",
        ),
        (
            '{"rate_limit_per_second":[]}',
            "rate_limit_per_second: the steps must be one or more, each later than the one before",
        ),
        (
            '{"rate_limit_per_second":0}',
            "rate_limit_per_second: must be orders a second, as 50, or steps, as [[0, 50], [90, 80]]",
        ),
        ('{"away_seconds":[5,1]}', "away_seconds: must be [from, to], to later than from"),
    ],
)
def test_wrong_times_are_told_in_one_line(text: str, told: str) -> None:
    """Steps and times that make no sense are told by their place and what is allowed."""
    with pytest.raises(PlanInvalid) as caught:
        FaultPlan.read(text)
    assert str(caught.value) == f"the plan is wrong: {told}"


def test_latency_rises_with_load() -> None:
    """Each order request at work above the threshold adds its milliseconds."""
    chooser = Chooser(FaultPlan(latency_ms=100, latency_rise_above=10, latency_rise_ms=5))
    assert [chooser.latency_seconds(at_work) for at_work in (0, 10, 11, 30)] == pytest.approx([0.1, 0.1, 0.105, 0.2])


def test_load_is_what_is_at_work(simulator: RunningSimulator) -> None:
    """A request that comes while others are at work waits longer; one alone does not."""
    simulator.set_plan(FaultPlan(latency_ms=200, latency_rise_above=2, latency_rise_ms=400))
    others = [threading.Thread(target=post_order, args=(simulator.url, order(str(n)))) for n in range(2)]
    for thread in others:
        thread.start()
    wait_until(lambda: simulator.books.in_flight == 2, what="two requests are at work")
    began = time.monotonic()
    post_order(simulator.url, order("third"))
    crowded = time.monotonic() - began
    for thread in others:
        thread.join()
    began = time.monotonic()
    post_order(simulator.url, order("alone"))
    assert time.monotonic() - began < 0.6 <= crowded


def is_refused(simulator: RunningSimulator) -> bool:
    """Whether a connection is refused."""
    address = urlsplit(simulator.url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_door_closes_and_opens(simulator: RunningSimulator) -> None:
    """A closed door refuses connections and cuts those at work; opened, the same address answers again."""
    simulator.set_plan(FaultPlan(rules=(Rule(fault="hang-before"),)))
    ends: list[str] = []
    waiting = threading.Thread(target=lambda: ends.append(post_order(simulator.url, order("cut")).end))
    waiting.start()
    wait_until(lambda: simulator.books.in_flight == 1, what="the request is at work")
    simulator.close_door()
    waiting.join()
    assert is_refused(simulator)
    simulator.set_plan(FaultPlan())
    simulator.open_door()
    assert ends[0] in ("reset", "closed")
    assert post_order(simulator.url, order()).status == 200


def test_planned_absence(simulator: RunningSimulator) -> None:
    """A plan closes the door from one time to another; a plan that is changed meanwhile opens it."""
    simulator.set_plan(FaultPlan(away_seconds=(0.2, 0.4)))
    assert not is_refused(simulator)
    wait_until(lambda: is_refused(simulator), what="the door is closed")
    wait_until(lambda: not is_refused(simulator), what="the door is open again")
    simulator.set_plan(FaultPlan(away_seconds=(0, 3600)))
    wait_until(lambda: is_refused(simulator), what="the door is closed for an hour")
    simulator.set_plan(FaultPlan())
    wait_until(lambda: not is_refused(simulator), what="the new plan opened the door")


def test_arrivals_are_stamped_when_the_request_comes_in(simulator: RunningSimulator) -> None:
    """A stamp is monotonic and of the arrival, however late the answer is."""
    simulator.set_plan(FaultPlan(latency_ms=200))
    before = time.monotonic()
    post_order(simulator.url, order("slow"))
    after = time.monotonic()
    simulator.set_plan(FaultPlan())
    post_order(simulator.url, order("quick"))
    first, second = simulator.arrivals()
    assert before <= first < after - 0.2
    assert second > after


def test_arrivals_and_statuses_per_company(simulator: RunningSimulator) -> None:
    """Arrivals and statuses are told for all companies, or for one by its key."""
    body = json.dumps([order()]).encode()
    for key, content_type in (("one", "application/json"), ("two", "text/plain"), ("one", "application/json")):
        parameters = {**KEYS, "companyApiKey": key}
        call(simulator.url, "POST", "/Economy/Billing/Orders", parameters, body, content_type=content_type)
    look_up(simulator.url, "A-1")
    books = simulator.books
    assert len(books.arrivals()) == 3
    assert books.arrivals(company_key="one") == [books.arrivals()[0], books.arrivals()[2]]
    assert (books.statuses(company_key="one"), books.statuses(company_key="two")) == ([200, 200], [415])
    shown = call(simulator.url, "GET", "/arrivals", {"companyApiKey": "two"}).json
    assert (shown["monotonic_seconds"], shown["statuses"]) == (books.arrivals(company_key="two"), [415])
    assert len(shown["epoch_seconds"]) == 1
    assert call(simulator.url, "GET", "/arrivals", {"kind": "lookup"}).json["statuses"] == [200]


def test_page_tells_times_and_load(simulator: RunningSimulator) -> None:
    """The books' page shows when the limit moves, when a rule strikes, and how latency rises."""
    plan = FaultPlan(
        rules=(Rule(fault="503-before", share=0.5, from_seconds=20, to_seconds=80),),
        latency_rise_above=10,
        latency_rise_ms=5,
        rate_limit_per_second=((0, 50), (90, None)),
        away_seconds=(100, 200),
    )
    simulator.set_plan(plan)
    text = call(simulator.url, "GET", "/").body.decode()
    for shown in (
        "50 orders/s from 0 s, no orders/s from 90 s",
        "50.00% of requests; from 20 s; until 80 s",
        "0 ms, and 5 ms for each order request at work above 10",
        "from 100 to 200 s",
    ):
        assert shown in text
