"""Unknown jobs: taken for one look-up at a time, decided by evidence, and known orders for the control."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orderrelay_shared.states import JobState
from orderrelay_workers import decisions
from orderrelay_workers.ledger import schema, unknowns
from tests.ledgers import ACTOR, LEASE_SECONDS, POLICY, Ledger, created, cut_off, job_id

if TYPE_CHECKING:
    import uuid

    from orderrelay_workers.ledger.claims import Claim


def in_doubt(ledger: Ledger, *numbers: int) -> list[Claim]:
    """Orders whose answers were cut off just now."""
    claimed = ledger.book_and_claim(*numbers)
    ledger.settle(*((claim, cut_off()) for claim in claimed))
    return claimed


def take(ledger: Ledger, limit: int = 100) -> list[unknowns.Unknown]:
    """Take what is due."""
    return unknowns.take_due(ledger.engine, ledger.company_id, limit, for_seconds=30)


def test_doubt_is_due_at_once(ledger: Ledger) -> None:
    """An order in doubt is due for its first look-up now, and is named by its ExternalId."""
    [claim] = in_doubt(ledger, 1)
    assert unknowns.has_due(ledger.engine, ledger.company_id)
    [taken] = take(ledger)
    assert (taken.job_id, taken.external_id, taken.number) == (claim.job_id, "order-1", 1)
    assert abs(taken.taken_at - datetime.now(UTC)) < timedelta(seconds=5)


def test_what_is_taken_is_left_alone_for_a_while(ledger: Ledger) -> None:
    """A taken job is nobody else's for so many seconds, then due again, in case its look-up got lost."""
    in_doubt(ledger, 1)
    take(ledger)
    assert not unknowns.has_due(ledger.engine, ledger.company_id)
    assert take(ledger) == []
    ledger.pass_time(31)
    assert len(take(ledger)) == 1


def test_each_is_taken_once(ledger: Ledger) -> None:
    """Workers that take at once look every order up once."""
    in_doubt(ledger, *range(60))
    ready = threading.Barrier(4)

    def take_at_once(_: int) -> list[uuid.UUID]:
        ready.wait(timeout=10)
        taken: list[uuid.UUID] = []
        while some := take(ledger, 9):
            taken += [t.job_id for t in some]
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [job for part in threads.map(take_at_once, range(4)) for job in part]
    assert sorted(taken) == sorted(job_id(n) for n in range(60))


def test_found_is_succeeded(ledger: Ledger) -> None:
    """An order that is found is created, at the first look."""
    [claim] = in_doubt(ledger, 1)
    ledger.look_up(claim.job_id, b"[77]")
    assert (ledger.job(claim.job_id)["state"], ledger.job(claim.job_id)["vendor_id"]) == ("succeeded", 77)
    assert ledger.events() == ["found"]
    assert [(a["kind"], a["outcome"]) for a in ledger.rows(schema.attempt)] == [
        ("order", "unknown"),
        ("lookup", "found"),
    ]


def test_two_empty_lists_send_it_again(ledger: Ledger) -> None:
    """After two empty lists in their time the job waits, and its next claim is another request."""
    [claim] = in_doubt(ledger, 1)
    for seconds in (LEASE_SECONDS, POLICY.settling_seconds):
        ledger.pass_time(seconds + 1)
        ledger.look_up(claim.job_id, b"[]")
    assert ledger.states() == {"waiting": 1}
    ledger.pass_time(60)
    [again] = ledger.claim()
    assert (again.number, again.token == claim.token) == (2, False)


def test_empty_lists_too_soon_do_not(ledger: Ledger) -> None:
    """However many empty lists there are before the lease is over, the job stays unknown."""
    [claim] = in_doubt(ledger, 1)
    for _ in range(5):
        ledger.look_up(claim.job_id, b"[]")
    assert (ledger.states(), ledger.job(claim.job_id)["absent_at"]) == ({"unknown": 1}, None)


def test_a_late_find_stops_the_next_request(ledger: Ledger) -> None:
    """A look-up that finds the order after its job waits again ends the job; nothing is sent any more."""
    [claim] = in_doubt(ledger, 1)
    ledger.set(claim.job_id, state="waiting", token=None)
    ledger.look_up(claim.job_id, b"[77]")
    assert ledger.claim() == []
    assert ledger.events() == ["late_find!"]


def test_one_found_id_is_one_jobs(ledger: Ledger) -> None:
    """An id that another job holds decides nothing about the job that was looked up."""
    first, second = in_doubt(ledger, 1, 2)
    ledger.look_up(first.job_id, b"[77]")
    ledger.look_up(second.job_id, b"[77]")
    assert ledger.states() == {"parked": 1, "succeeded": 1}
    assert ledger.events("vendor_id_held") == ["vendor_id_held!"]


def test_several_found_alarm(ledger: Ledger) -> None:
    """More than one order found is succeeded, and told as doubled."""
    [claim] = in_doubt(ledger, 1)
    ledger.look_up(claim.job_id, b"[77, 78]")
    assert ledger.states() == {"succeeded": 1}
    assert ledger.events("doubled") == ["doubled!"]


def test_without_look_up_all_park(ledger: Ledger) -> None:
    """Where there is no look-up unknown orders are parked, as soon as their requests are surely over."""
    in_doubt(ledger, 1, 2)
    unknowns.park_all(ledger.engine, ledger.company_id, actor=ACTOR)
    assert ledger.states() == {"unknown": 2}
    ledger.pass_time(LEASE_SECONDS + 1)
    settled = unknowns.park_all(ledger.engine, ledger.company_id, actor=ACTOR)
    assert (ledger.states(), len(settled.statuses)) == ({"parked": 2}, 2)


def test_the_best_control_is_settled(ledger: Ledger) -> None:
    """The control is the latest order that the vendor has had time to settle, then the very latest."""
    first, second, third = ledger.book_and_claim(1, 2, 3)
    ledger.settle((first, created(71)))
    ledger.settle((second, replace(created(72), ended_at=datetime.now(UTC))))
    ledger.settle((third, cut_off()))
    assert [k.vendor_id for k in unknowns.known_orders(ledger.engine, ledger.company_id, 120)] == [71, 72]
    assert unknowns.known_orders(ledger.engine, ledger.company_id, 1e9) == [
        unknowns.Known(second.job_id, "order-2", 72)
    ]


def test_what_was_only_found_is_no_control(ledger: Ledger) -> None:
    """An order that only a look-up says is created proves nothing about the look-up."""
    [claim] = in_doubt(ledger, 1)
    ledger.look_up(claim.job_id, b"[77]")
    assert unknowns.known_orders(ledger.engine, ledger.company_id, 120) == []


def test_a_failing_look_up_fails_for_all(ledger: Ledger) -> None:
    """One failing look-up starts the time of all that wait for theirs, so all are parked in time, not one by one."""
    claims = in_doubt(ledger, 1, 2, 3)
    ledger.look_up(claims[0].job_id, b"<html>", control=True)
    policy = decisions.Policy(lookup_failing_seconds=600)
    ledger.pass_time(590)
    assert unknowns.park_failed(ledger.engine, ledger.company_id, policy, actor="us").statuses == {}
    ledger.pass_time(11)
    parked = unknowns.park_failed(ledger.engine, ledger.company_id, policy, actor="us").statuses
    assert {status.state for status in parked.values()} == {JobState.PARKED}
    assert len(parked) == 3


def test_a_look_up_that_works_again_works_for_all(ledger: Ledger) -> None:
    """One good answer ends the failing time of every unknown order of the company."""
    claims = in_doubt(ledger, 1, 2, 3)
    ledger.look_up(claims[0].job_id, b"<html>")
    ledger.pass_time(500)
    ledger.look_up(claims[1].job_id, b"[4711]")
    ledger.pass_time(500)
    policy = decisions.Policy(lookup_failing_seconds=600)
    assert unknowns.park_failed(ledger.engine, ledger.company_id, policy, actor="us").statuses == {}
