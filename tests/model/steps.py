"""What often happens in the written histories, in one word each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orderrelay_shared.states import JobState
from tests.model.ground import LEASE_SECONDS, SETTLING_SECONDS
from tests.model.vendor_world import Fate

if TYPE_CHECKING:
    from tests.model.history import History
    from tests.model.processes import Held

#: Created, but shown by look-ups only at the last moment that the vendor is allowed.
LATE: Final = 1.0
#: Everything is shown after so long, in seconds.
SHOWN: Final = SETTLING_SECONDS + LEASE_SECONDS


def claim_and_send(history: History, answer: str, *, creates: bool, delay: float = 0.0, worker: int = 0) -> Held:
    """A worker claims the order and sends it."""
    [held] = history.claim(worker=worker)
    history.send(held, Fate(creates, delay, answer))
    return held


def lapse(history: History) -> None:
    """The lease ends, and the sweep finds it."""
    history.pass_time(LEASE_SECONDS + 1)
    history.sweep()


def fall_silent(history: History, *, creates: bool = True) -> Held:
    """A worker sends the order and is not heard of again."""
    held = claim_and_send(history, "silence", creates=creates)
    lapse(history)
    return held


def prove_absent(history: History) -> None:
    """Look-ups find nothing, as often as it takes, and the job is due again."""
    while history.jobs_in(JobState.UNKNOWN):
        history.look_up()
        history.pass_time(history.next_instant)


def park_without_lookup(history: History) -> None:
    """There is no look-up, so what is in doubt is parked; then there is one again."""
    history.has_lookup = False
    history.pass_time(LEASE_SECONDS + 1)
    history.park()
    assert history.jobs_in(JobState.PARKED)
    history.has_lookup = True


def two_requests(history: History, first: str, second: str, *, creates: bool = False) -> tuple[Held, Held]:
    """A worker is frozen after its request, which creates nothing; another worker's request follows."""
    frozen = claim_and_send(history, first, creates=False)
    lapse(history)
    prove_absent(history)
    return frozen, claim_and_send(history, second, creates=creates, worker=1)
