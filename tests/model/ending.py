"""The end of a history: everything works again, every job comes to its end, and what came of each is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderrelay_shared.states import JobState
from orderrelay_workers.audit import results
from orderrelay_workers.ledger import caution
from tests.model.ground import LEASE_SECONDS
from tests.model.vendor_world import Fate

if TYPE_CHECKING:
    from tests.model.history import History

#: A history that has not ended after so many rounds of good weather has a job that is stuck.
_ROUNDS: Final = 60

#: A round is at most so long, in seconds: what waits for much longer is stuck too.
_ROUND_SECONDS: Final = 10_000


def end(history: History, *, crash: bool = False) -> None:
    """Bring a history to its end.

    Args:
        history: The history.
        crash: All workers are killed first; otherwise they settle what they have, and hand the rest back.

    Raises:
        AssertionError: A job is stuck, lost, doubled, or in a state that denies what the vendor did.
    """
    try:
        _come_to_rest(history, crash=crash)
        for _ in range(_ROUNDS):
            if not history.jobs_in(JobState.WAITING, JobState.IN_PROGRESS, JobState.UNKNOWN):
                break
            _fair_weather(history)
        else:
            stuck = [(row["external_id"], row["state"], row["reason"]) for row in history.books.jobs.values()]
            raise AssertionError(f"something is stuck: {stuck}")
        _judge(history)
    finally:
        history.close()


def _come_to_rest(history: History, *, crash: bool) -> None:
    if crash:
        history.start_anew()
        history.pass_time(6)
        return
    history.give_back(*(h for h in history.held if h.is_unsent))
    history.settle(*(h for h in history.held if h.can_settle and not h.settled))
    history.held = []
    history.settle_lookups()


def _fair_weather(history: History) -> None:
    """One round in which everything works."""
    history.sweep()
    if history.has_lookup:
        caution.doubt_waiting(history.engine, [history.company_id], lease_seconds=LEASE_SECONDS)
        history.look_up()
    elif history.all_sent_is_booked:
        # Without a look-up only a person ends cautious mode, and they know what the vendor has.
        history.has_lookup = True
    history.park()
    for held in history.claim(100):
        history.send(held, Fate(True, 0.0, "created"))
        history.settle(held)
    history.pass_time(max(1, min(history.next_instant, _ROUND_SECONDS)))


def _judge(history: History) -> None:
    history.check()
    recorded = history.books.tokens()
    for job_id, row in history.books.jobs.items():
        state = JobState(row["state"])
        history.ground.ended[state] += 1
        created = history.vendor.creations(job_id)
        assert len(created) <= 1, f"{row['external_id']} was created as {created}"
        if created:
            assert state in (JobState.SUCCEEDED, JobState.PARKED, JobState.CANCELLED), f"{state}, but created"
        if history.books.counts:
            for request in history.vendor.requests.get(job_id, []):
                assert request.token in recorded[job_id], "a request left, and is nowhere on record"
    results.store_all(history.engine)
    assert not results.any_waiting(history.engine)
    history.ground.histories += 1
