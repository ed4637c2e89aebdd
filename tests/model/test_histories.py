"""Histories written down: each has its own way to double, lose or strand an order, which the random ones seldom find.

`mutants.py` tells which mistakes in the product they find. `end` sends whatever the ledger then lets be sent, so most
of them stop where a mistake would have an order waiting that is, or will be, created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderrelay_shared.states import JobState
from tests.model.ending import end
from tests.model.ground import LEASE_SECONDS, SETTLING_SECONDS, a_ground
from tests.model.history import History
from tests.model.steps import (
    LATE,
    SHOWN,
    claim_and_send,
    fall_silent,
    lapse,
    park_without_lookup,
    prove_absent,
    two_requests,
)
from tests.model.vendor_world import Fate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.model.ground import Ground


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One database for all."""
    folder: Path = tmp_path_factory.mktemp("histories")
    with a_ground(f"sqlite:///{folder / 'ledger.db'}") as ground:
        yield ground


@pytest.fixture
def history(ground: Ground) -> Iterator[History]:
    """A history with one order that is known to be created, and one that waits."""
    history = History(ground)
    history.create_one()
    history.book(0)
    yield history
    history.close()


@pytest.fixture
def jumpy(ground: Ground) -> Iterator[History]:
    """A history in which the clock may be set wrong, and an order that may be created, and is shown late."""
    history = History(ground, jumps=True)
    history.create_one()
    history.book(0)
    history.settle(claim_and_send(history, "cut off", creates=True, delay=LATE))
    yield history
    history.close()


# Absence.


def test_an_order_that_is_shown_late_is_found_by_the_second_look_up(history: History) -> None:
    """One empty list proves nothing."""
    history.settle(claim_and_send(history, "cut off", creates=True, delay=LATE))
    history.pass_time(LEASE_SECONDS + 1)
    history.look_up()
    end(history)


def test_an_empty_list_from_within_the_lease_counts_for_nothing(jumpy: History) -> None:
    """Not even when the clock is set forward by more than all waits together."""
    jumpy.look_up()
    jumpy.clock.jump(200)
    jumpy.pass_time(1)
    jumpy.look_up()
    end(jumpy)


def test_two_look_ups_are_well_apart_after_the_clock_was_set_forward(jumpy: History) -> None:
    """When lease and settling time seem to be over at once, the second look-up still comes later."""
    jumpy.clock.jump(200)
    jumpy.look_up()
    jumpy.look_up()
    end(jumpy)


def test_a_look_up_says_nothing_of_what_came_after_it_was_asked(history: History) -> None:
    """An empty list that was held up for minutes is as old as its question."""
    history.settle(claim_and_send(history, "cut off", creates=True, delay=LATE))
    history.look_up(held_up=True)
    history.pass_time(LEASE_SECONDS + 1)
    history.look_up()
    history.looking.reverse()
    history.pass_time(SETTLING_SECONDS)
    history.settle_lookups()
    end(history)


def test_a_blind_look_up_is_not_believed(history: History) -> None:
    """Empty lists from a look-up that does not find a known order either prove nothing."""
    history.settle(claim_and_send(history, "cut off", creates=True))
    for _ in range(3):
        history.pass_time(SHOWN)
        history.look_up("blind")
    end(history)


def test_a_new_doubt_begins_without_absence(history: History) -> None:
    """An empty list from before an answer that came late does not count after it."""
    held = claim_and_send(history, "cut off", creates=False)
    lapse(history)
    history.look_up()
    history.pass_time(5)
    history.settle(held)
    end(history)


@pytest.mark.parametrize(("answer", "state"), [("nameless", JobState.PARKED), ("partly saved", JobState.REJECTED)])
def test_absence_leads_to_what_the_answer_demanded(history: History, answer: str, state: JobState) -> None:
    """An order whose answer hints at a save is not sent again only because nothing is found."""
    held = claim_and_send(history, answer, creates=False)
    history.settle(held)
    prove_absent(history)
    assert history.jobs_in(state) == [held.claim.job_id]
    end(history)


# Claims, leases and hand-backs.


def test_a_silent_worker_leaves_an_order_in_doubt(history: History) -> None:
    """A lapsed claim is counted, on record, and looked up."""
    fall_silent(history)
    end(history)


def test_a_lease_ends_although_its_worker_lives(history: History) -> None:
    """A worker that beats and never settles strands nothing."""
    claim_and_send(history, "silence", creates=False)
    end(history)


def test_what_is_claimed_is_claimed_once(history: History) -> None:
    """A second worker gets nothing."""
    [held] = history.claim()
    assert history.claim(worker=1) == []
    history.give_back(held)
    end(history)


def test_a_hand_back_touches_no_other_claim(history: History) -> None:
    """A worker that was frozen hands back what another one has sent meanwhile, and changes nothing."""
    [frozen] = history.claim()
    lapse(history)
    prove_absent(history)
    claim_and_send(history, "silence", creates=True, worker=1)
    history.give_back(frozen)
    end(history)


def test_what_was_never_sent_is_in_no_doubt(history: History) -> None:
    """A worker that was taken for dead hands back what it had not sent: it waits again, at no cost."""
    [frozen] = history.claim()
    lapse(history)
    history.give_back(frozen)
    end(history)


def test_what_is_refused_is_not_sent_for_ever(history: History) -> None:
    """A refusal that is worth another attempt is worth a few."""
    for _ in range(3):
        history.settle(claim_and_send(history, "busy", creates=False))
        history.pass_time(history.next_instant)
    assert history.jobs_in(JobState.PARKED)
    end(history)


# Late answers.


def test_a_late_refusal_does_not_speak_for_the_next_request(history: History) -> None:
    """Nothing is decided by the answer to another request."""
    frozen, _ = two_requests(history, "refused", "silence", creates=True)
    history.settle(frozen)
    end(history)


def test_a_late_doubt_keeps_an_order_from_being_sent(history: History) -> None:
    """An order that waits again is looked up when an earlier request turns out to be in doubt."""
    frozen = claim_and_send(history, "error 500", creates=False)
    lapse(history)
    prove_absent(history)
    history.settle(frozen)
    end(history)


@pytest.mark.parametrize("answer", ["refused", "busy", "later", "unsent"])
def test_a_late_doubt_outlives_the_next_request(history: History, answer: str) -> None:
    """An answer that says "not created" says so of its own request only."""
    frozen, second = two_requests(history, "nameless", answer)
    history.settle(frozen)
    history.settle(second)
    assert history.jobs_in(JobState.UNKNOWN)
    end(history)


def test_a_late_doubt_outlives_the_last_attempt(history: History) -> None:
    """Where no attempt is left, a look-up still decides before a person has to."""
    history.settle(claim_and_send(history, "busy", creates=False))
    history.pass_time(history.next_instant)
    frozen, last = two_requests(history, "error 500", "busy", creates=False)
    history.settle(frozen)
    history.settle(last)
    assert history.jobs_in(JobState.UNKNOWN)
    prove_absent(history)
    assert history.jobs_in(JobState.PARKED) == [last.claim.job_id]
    end(history)


def test_the_next_refusal_counts_when_nothing_is_found(history: History) -> None:
    """An order that was refused, and is not there, is not sent again because of the request before."""
    frozen, second = two_requests(history, "error 500", "refused", creates=False)
    history.settle(frozen)
    history.settle(second)
    prove_absent(history)
    assert history.jobs_in(JobState.REJECTED) == [second.claim.job_id]
    end(history)


def test_a_late_doubt_outlives_a_hand_back(history: History) -> None:
    """An order that is handed back unsent is looked up if an earlier request is in doubt."""
    frozen = claim_and_send(history, "error 500", creates=False)
    lapse(history)
    prove_absent(history)
    [second] = history.claim(worker=1)
    history.settle(frozen)
    history.give_back(second)
    end(history)


def test_of_two_doubts_neither_is_dispelled_by_an_answer_to_the_other(history: History) -> None:
    """When the second claim lapses too, its late refusal does not end the first one's doubt."""
    frozen, second = two_requests(history, "nameless", "refused", creates=False)
    history.settle(frozen)
    lapse(history)
    history.settle(second)
    end(history)


def test_a_success_counts_however_late(history: History) -> None:
    """The answer from a spool, after the order was parked: it is created."""
    held = claim_and_send(history, "created", creates=True)
    lapse(history)
    park_without_lookup(history)
    history.settle(held)
    end(history)


def test_a_find_counts_however_late(history: History) -> None:
    """What a look-up found, after the order was parked: it is created."""
    fall_silent(history)
    history.look_up(held_up=True)
    park_without_lookup(history)
    history.settle_lookups()
    end(history)


def test_an_answer_in_doubt_does_not_wait(history: History) -> None:
    """An error page after the order was created is looked up, not sent again."""
    history.settle(claim_and_send(history, "error 500", creates=True))
    end(history)


def test_settling_again_changes_nothing(history: History) -> None:
    """A spool that is replayed does not take back what another request has cost."""
    history.settle(claim_and_send(history, "busy", creates=False))
    history.pass_time(history.next_instant)
    unsent = claim_and_send(history, "unsent", creates=False)
    history.settle(unsent)
    history.settle(unsent)
    end(history)


# People, and the look-up that is away.


def test_what_a_person_sends_again_is_looked_up(history: History) -> None:
    """A person can be wrong."""
    held = fall_silent(history)
    park_without_lookup(history)
    history.resend(held.claim.job_id)
    end(history)


@pytest.mark.parametrize("later", ["answer", "look-up"])
def test_an_order_that_a_person_named_by_its_number_takes_its_id(history: History, later: str) -> None:
    """What is told of it afterwards is the same order, and alarms nobody."""
    held = claim_and_send(history, "created", creates=True)
    lapse(history)
    history.look_up(held_up=True)
    park_without_lookup(history)
    [vendor_id] = history.vendor.creations(held.claim.job_id)
    history.resolve(held.claim.job_id, vendor_id, by_number=True)
    if later == "answer":
        history.settle(held)
    else:
        history.settle_lookups()
    end(history)


def test_another_content_is_a_conflict(history: History) -> None:
    """The first content of an ExternalId stays, and whoever sends another is told."""
    history.book(0, other=1)
    end(history)


def test_a_look_up_that_fails_for_long_is_given_up(history: History) -> None:
    """Also for an order that gets no look-up of its own meanwhile."""
    fall_silent(history)
    history.look_up("error")
    history.pass_time(601)
    history.park()
    assert history.jobs_in(JobState.PARKED)
    end(history)


def test_a_look_up_that_is_lost_is_made_again(history: History) -> None:
    """A worker that takes a job to look it up, and does not, strands nothing."""
    fall_silent(history)
    history.look_up(held_up=True)
    history.looking.clear()
    end(history)


# Restored databases.


def test_what_a_restored_database_lets_wait_is_looked_up(history: History) -> None:
    """Orders that were sent after the backup are not sent again."""
    history.back_up()
    history.settle(claim_and_send(history, "created", creates=True))
    history.restore()
    assert history.claim() == []
    history.claim()
    end(history)


def test_absence_from_before_a_restore_counts_no_more(history: History) -> None:
    """An order that was proved absent, then sent, then forgotten is looked up again."""
    history.back_up()
    history.restore()
    history.remembered += 1  # as if another order had been claimed, and forgotten
    assert history.claim() == []
    history.claim()
    prove_absent(history)
    history.back_up()
    [held] = history.claim()
    history.send(held, Fate(True, 0.0, "created"))
    history.settle(held)
    history.held = []
    history.restore()
    assert history.claim() == []
    end(history)


def test_requests_of_forgotten_claims_are_waited_for(history: History) -> None:
    """An order that was in doubt when the backup was made may have been sent again since."""
    fall_silent(history, creates=False)
    history.look_up()
    history.back_up()
    prove_absent(history)
    claim_and_send(history, "silence", creates=True, delay=LATE)
    history.restore()
    history.held = []
    assert history.claim() == []
    history.look_up()
    history.pass_time(SETTLING_SECONDS + 2)
    history.look_up()
    end(history)


def test_workers_that_a_restored_database_does_not_know_come_back(history: History) -> None:
    """All that run began after the backup: none of them could claim anything, for ever."""
    history.back_up()
    history.die(0)
    history.restore()
    history.die(0)
    history.die(0)
    assert history.claim() == []
    end(history)
