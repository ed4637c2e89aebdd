"""Several orders in one request, against the simulator: whatever it does to a request, each order is created once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from orderrelay_shared.intake import Envelope
from orderrelay_shared.orders import Order
from orderrelay_shared.states import JobState
from orderrelay_workers import reconciliation, submission
from orderrelay_workers.app import make_app
from orderrelay_workers.group_size import GroupSize
from orderrelay_workers.ledger import booking, schema
from orderrelay_workers.runtime import Runtime
from orderrelay_workers.settings import CompanySettings, WorkerSettings
from orderrelay_workers.simulator import FaultPlan, Rule, running_simulator
from tests.gates import open_circuit, pass_time
from tests.ledgers import ACME, ACTOR, Ledger
from tests.stack import order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from orderrelay_workers.simulator import RunningSimulator

_SIZE = 5


class Office:
    """A worker in this process that may send five orders in a request, and its vendor."""

    def __init__(self, worker: Runtime, simulator: RunningSimulator) -> None:
        self.worker = worker
        self.simulator = simulator
        self.ledger = Ledger(worker.engine, worker.companies[ACME].id, owner=worker.boot_id)
        self._booked = 0

    def book(self, *external_ids: str, **changes: object) -> None:
        """Book orders."""
        accepted: list[booking.Accepted] = []
        for external_id in external_ids:
            made = Order.parse(order(external_id, **changes))
            self._booked += 1
            envelope = Envelope(ACME, external_id, made.content_digest(), made.body())
            accepted.append(booking.Accepted(f"{1_700_000_000_000 + self._booked}-0", envelope))
        booking.book(self.worker.engine, accepted, actor=ACTOR)

    def submit(self, size: int = _SIZE) -> None:
        """Submit what is due, so many orders in a request."""
        group = GroupSize(_SIZE, self.worker.settings.request_timeout_seconds)
        group.size = size
        self.worker.group_sizes[ACME] = group
        submission.submit(self.worker, ACME, for_seconds=3.0)

    def strike(self, fault: str, **rule: Any) -> None:
        """Let the next order request meet a fault."""
        self.simulator.set_plan(FaultPlan(rules=(Rule(fault=fault, times=1, **rule),)))

    def find_out(self) -> None:
        """Look up what is in doubt until it is decided, and let time pass meanwhile."""
        for _ in range(4):
            if "unknown" not in self.ledger.states():
                return
            reconciliation.reconcile(self.worker, ACME, for_seconds=3.0)
            self.ledger.pass_time(300)
        raise AssertionError(self.ledger.states())

    def requests(self) -> int:
        """How many order requests the vendor saw."""
        return len(self.simulator.arrivals())

    def jobs(self) -> dict[str, sa.RowMapping]:
        """Every job by its ExternalId."""
        return {row["external_id"]: row for row in self.ledger.rows(schema.job)}

    def outcomes(self) -> list[str]:
        """How the attempts ended, sorted."""
        return sorted(row["outcome"] for row in self.ledger.rows(schema.attempt, schema.attempt.c.kind == "order"))

    def assert_created_once(self, *external_ids: str) -> None:
        """The vendor has these orders and no other, each once and under the id that the ledger has."""
        created = self.simulator.books.created()
        jobs = self.jobs()
        assert sorted(created) == sorted(external_ids)
        assert {x: [jobs[x]["vendor_id"]] for x in external_ids} == created
        assert {jobs[x]["state"] for x in external_ids} == {JobState.SUCCEEDED}
        assert [kind for kind in self.ledger.events() if kind.endswith("!")] == []

    def in_flight(self) -> int:
        """How many requests are out by the gate's count."""
        state = self.worker.gate.state(ACME)
        assert state is not None
        return state.in_flight


@pytest.fixture
def office(redis_url: str, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """A worker whose vendor knows one order already, so that look-ups are believed."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    company = CompanySettings(
        company_api_key=SecretStr("company-key"),
        connect_api_key=SecretStr("connect-key"),
        license="100",
        user_name=SecretStr("user"),
        password=SecretStr("password"),
        rate_per_second=200,
        burst=5,
    )
    with running_simulator() as simulator:
        settings = WorkerSettings(
            redis_url=redis_url,
            database_url=sqlite_url,
            base_url=simulator.url,
            orders_per_request=_SIZE,
            request_timeout_seconds=1.0,
            companies={ACME: company},
        )
        worker = Runtime(settings, make_app(settings), threads=4)
        office = Office(worker, simulator)
        office.book("known")
        office.submit()
        office.assert_created_once("known")
        yield office
        worker.close()


def names(count: int) -> list[str]:
    """So many ExternalIds."""
    return [f"A-{number}" for number in range(count)]


def test_orders_travel_together(office: Office) -> None:
    """Twelve orders leave in three requests; each gets its own id, attempt and verbatim answer."""
    office.book(*names(12))
    office.submit()
    office.assert_created_once("known", *names(12))
    assert office.requests() == 1 + 3
    attempts = office.ledger.rows(schema.attempt)
    jobs = {row["id"]: row for row in office.ledger.rows(schema.job)}
    digests = {row["job_id"]: row["body_digest"] for row in office.ledger.rows(schema.revision)}
    assert len({a["answer"] for a in attempts}) == 4
    assert all(a["body_digest"] == digests[a["job_id"]] and a["number"] == 1 for a in attempts)
    assert all(jobs[a["job_id"]]["order_number"].encode() in a["answer"] for a in attempts)
    assert office.in_flight() == 0


def test_one_bad_order_neither_sinks_nor_doubles_its_neighbours(office: Office) -> None:
    """Refused together, they are looked up and go out one by one: the good are created, only the bad is rejected."""
    office.book("A-0", "A-1")
    office.book("bad", CustomerNr="BLOCKED")
    office.submit()
    assert office.ledger.states() == {"succeeded": 1, "unknown": 3}
    office.find_out()
    assert office.ledger.states() == {"succeeded": 1, "waiting": 3}
    office.submit()
    office.assert_created_once("known", "A-0", "A-1")
    assert office.jobs()["bad"]["state"] == JobState.REJECTED
    assert office.jobs()["bad"]["error_number"] == 26
    assert office.requests() == 1 + 1 + 3


@pytest.mark.parametrize("fault", ["partial-first", "partial-some", "400", "500-before"])
def test_what_was_created_is_found_and_the_rest_goes_alone(office: Office, fault: str) -> None:
    """Whatever part of a refused or unclear request was created is found, and only the others are sent again."""
    office.book(*names(5))
    office.strike(fault)
    office.submit()
    assert office.outcomes().count("unknown") == 5
    there = len(office.simulator.books.created()) - 1
    office.find_out()
    office.submit()
    office.assert_created_once("known", *names(5))
    assert office.requests() == 1 + 1 + (5 - there)


@pytest.mark.parametrize("fault", ["short-keys", "repeated-keys", "hang-after", "no-keys-after", "error-11-after"])
def test_all_created_without_a_clear_answer_are_found(office: Office, fault: str) -> None:
    """No answer in time, or one whose counts disagree: every order is found by a look-up, and none is sent again."""
    office.book(*names(5))
    office.strike(fault)
    office.submit()
    assert office.outcomes().count("unknown") == 5
    office.find_out()
    office.assert_created_once("known", *names(5))
    assert office.requests() == 2


def test_success_that_names_nothing_and_is_not_found_is_parked(office: Office) -> None:
    """It is never sent again by itself, as if each order had been sent alone."""
    office.book(*names(3))
    office.strike("no-keys-before")
    office.submit()
    office.find_out()
    assert office.ledger.states() == {"parked": 3, "succeeded": 1}


@pytest.mark.parametrize(("fault", "outcome"), [("401-session-expired", "unauthorized"), ("429", "throttled")])
def test_not_now_holds_for_all(office: Office, fault: str, outcome: str) -> None:
    """It costs no attempt and needs no look-up; as a request of theirs has left, they go alone from then on."""
    office.book(*names(3))
    office.strike(fault)
    office.submit()
    assert office.outcomes().count(outcome) == 3
    assert {office.jobs()[name]["attempts"] for name in names(3)} <= {0, 1}
    for _ in range(3):
        office.ledger.pass_time(60)
        office.worker.gate.resume(ACME)
        office.submit()
    office.assert_created_once("known", *names(3))
    assert office.requests() == 2 + 3
    assert len(office.simulator.arrivals("lookup")) == 0


def test_nothing_sent_leaves_all_as_they_were(office: Office) -> None:
    """Where nobody takes the connection, none of them has had a request, so they may still travel together."""
    office.book(*names(4))
    office.simulator.set_plan(FaultPlan(away_seconds=(0.0, 1.0)))
    office.submit()
    assert {(office.jobs()[name]["requests"], office.jobs()[name]["lane"]) for name in names(4)} == {(0, 2)}
    office.ledger.pass_time(60)
    office.worker.gate.resume(ACME)
    office.simulator.set_plan(FaultPlan())
    office.submit()
    office.assert_created_once("known", *names(4))
    assert office.requests() == 2


def test_a_passed_start_fence_gives_all_back(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that comes too late for its fence is not sent; all of its orders wait again, at no cost."""
    office.book(*names(5))
    monkeypatch.setattr(submission._Flow, "_is_in_time", lambda *_: False)
    office.submit()
    assert office.ledger.states() == {"succeeded": 1, "waiting": 5}
    assert {(row["requests"], row["attempts"]) for name, row in office.jobs().items() if name != "known"} == {(0, 0)}
    assert (office.requests(), office.in_flight()) == (1, 0)


def test_a_probe_is_one_order(office: Office) -> None:
    """While a circuit is open a single order decides whether it closes; then the others travel together."""
    office.book(*names(5))
    open_circuit(office.worker.gate)
    pass_time(office.worker.redis, 60)
    office.submit()
    office.assert_created_once("known", *names(5))
    assert office.requests() == 1 + 1 + 1


def test_large_orders_share_no_request(office: Office) -> None:
    """Three orders of 400 kB need two requests, and the next group is no larger."""
    row = order("x")["InvoiceRows"][0]  # type: ignore[index]
    office.book(*names(3), InvoiceRows=[{**row, "Text": "x" * 1000} for _ in range(380)])
    office.submit()
    office.assert_created_once("known", *names(3))
    assert office.requests() == 1 + 2
