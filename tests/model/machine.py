"""The state machine: Hypothesis chooses what happens next in a `History`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orderrelay_shared.states import JobState
from tests.model.ending import end
from tests.model.ground import FENCE_SECONDS, LEASE_SECONDS, SETTLING_SECONDS
from tests.model.history import History
from tests.model.vendor_world import DENYING, MOODS, TELLING, Fate, Mood

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.model.ground import Ground

_T = TypeVar("_T")
_LONG_AGO: Final = -(10**9)

_pick = st.integers(0, 5)
_fates = st.one_of(
    st.builds(Fate, st.just(True), st.sampled_from([0.0, 0.1, 0.6, 1.0]), st.sampled_from(TELLING)),
    st.builds(Fate, st.just(False), st.just(0.0), st.sampled_from(DENYING)),
)
_plans = st.one_of(_fates, _fates, st.none())
_seldom = st.sampled_from([False, False, True])
_seconds = st.sampled_from([0, 0, 0, 1, 6, 20, 41, 61, 121, 601])


class LedgerMachine(RuleBasedStateMachine):
    """Any history of one company's orders."""

    history: History

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.began = False
        self.weather = "plain"
        self.crash = False
        self.orders = 1
        self.jumped_at = _LONG_AGO

    @initialize(
        weather=st.sampled_from(["plain", "plain", "jumps", "jumps", "restores", "no look-up"]),
        crash=st.booleans(),
        orders=st.sampled_from([1, 1, 2, 3]),
        known=st.sampled_from([True, True, True, False]),
    )
    def begin(self, weather: str, crash: bool, orders: int, known: bool) -> None:
        """Choose the conditions of this history; mostly one order is known to be created already."""
        self.history = History(self.ground, jumps=weather == "jumps")
        self.began = True
        self.weather, self.crash, self.orders = weather, crash, orders
        self.history.has_lookup = weather != "no look-up"
        if known:
            self.history.create_one()
        self.history.book(*range(orders))

    @rule(numbers=st.lists(st.integers(0, 2), min_size=1, max_size=4), other=st.sampled_from([0, 0, 0, 1]))
    def book(self, numbers: list[int], other: int) -> None:
        """Orders come through the intake once more, or after a restore; perhaps with another content."""
        self.history.book(*(number % self.orders for number in numbers), other=other)

    @precondition(lambda self: self.history.jobs_in(JobState.WAITING))
    @rule(which=_pick, wait=_seldom, plans=st.lists(_plans, min_size=1, max_size=3))
    def claim(self, which: int, wait: bool, plans: list[Fate | None]) -> None:
        """A worker claims due jobs, as many as it has plans for, and sends most of them at once."""
        if wait:
            self.history.pass_time(self.history.next_instant)
        for held, plan in zip(self.history.claim(len(plans), worker=which), plans, strict=False):
            if plan is not None:
                self.history.send(held, plan)

    @precondition(lambda self: any(h.is_unsent for h in self.history.held))
    @rule(which=_pick, what=st.sampled_from(["send", "hand back", "hand all back", "spool"]), fate=_fates, wait=_pick)
    def end_waiting(self, which: int, what: str, fate: Fate, wait: int) -> None:
        """A worker sends what it holds, if the start fence still lets it; else it is handed back, however late."""
        unsent = [h for h in self.history.held if h.is_unsent]
        one = _choose(unsent, which)
        still = one.at + FENCE_SECONDS - self.history.clock.true
        if what == "send" and still >= 0:
            self.history.pass_time(min(wait, still), beating=False)
            self.history.send(one, fate)
        elif what == "spool":
            one.never_left = True
        else:
            all_ = what == "hand all back"
            self.history.give_back(*(h for h in unsent if h is one or (all_ and h.worker is one.worker)))

    @precondition(lambda self: any(h.can_settle for h in self.history.held))
    @rule(which=_pick, more=st.sampled_from([0, 0, 0, 1, 2]))
    def settle(self, which: int, more: int) -> None:
        """Answers are settled: on time, late, or once more."""
        able = sorted((h for h in self.history.held if h.can_settle), key=lambda h: h.settled)
        start = which % len(able)
        self.history.settle(*able[start : start + 1 + more])

    @rule(seconds=_seconds, beating=st.booleans())
    def sweep(self, seconds: int, beating: bool) -> None:
        """Any worker sweeps; before, workers may have been frozen for some time, and may have beaten again."""
        self.history.pass_time(seconds, beating=beating)
        self.history.sweep()
        self.history.park()

    @precondition(lambda self: self.history.has_lookup and self.history.jobs_in(JobState.UNKNOWN))
    @rule(which=_pick, wait=st.booleans(), mood=st.sampled_from(MOODS), limit=st.integers(1, 3), held_up=_seldom)
    def look_up(self, which: int, wait: bool, mood: Mood, limit: int, held_up: bool) -> None:
        """A worker looks up what is due; what it was told may reach the ledger much later."""
        if wait:
            self.history.pass_time(self.history.next_instant, beating=False)
        self.history.look_up(mood, limit=limit, worker=which, held_up=held_up)

    @precondition(lambda self: bool(self.history.looking))
    @rule(which=_pick)
    def settle_lookups(self, which: int) -> None:
        """Look-ups that were held up reach the ledger."""
        self.history.settle_lookups(which % len(self.history.looking))

    @precondition(lambda self: self.history.jobs_in(JobState.PARKED, JobState.REJECTED))
    @rule(which=_pick, what=st.sampled_from(["resend", "resend", "resolve", "resolve by number", "drop"]))
    def person(self, which: int, what: str) -> None:
        """A person has a stopped order sent again, has found it at the vendor, or gives it up.

        They never err: without a look-up they vouch only for what the vendor truly does not have.
        """
        history = self.history
        job_id = _choose(history.jobs_in(JobState.PARKED, JobState.REJECTED), which)
        found = history.vendor.shown(job_id, history.clock.true)
        if what == "drop":
            history.drop(job_id)
        elif what == "resend":
            if history.has_lookup or not history.vendor.creations(job_id):
                history.resend(job_id)
        elif found and job_id in history.jobs_in(JobState.PARKED):
            history.resolve(job_id, found[0], by_number=what == "resolve by number")

    @rule(seconds=_seconds, beating=st.booleans())
    def pass_time(self, seconds: int, beating: bool) -> None:
        """Time passes, to the next instant that matters or for some seconds; who beats is not taken for dead."""
        self.history.pass_time(seconds or self.history.next_instant, beating=beating)

    @precondition(lambda self: self.weather == "jumps" and self._may_jump())
    @rule(seconds=st.sampled_from([-7200, -100, -3, 3, 50, 200, 200, 7200]))
    def jump(self, seconds: int) -> None:
        """The shared clock is set, once in a while."""
        self.history.clock.jump(seconds)
        self.jumped_at = self.history.clock.true

    @rule(which=_pick, seconds=st.sampled_from([0, 0, 6]))
    def die(self, which: int, seconds: int) -> None:
        """A worker is killed; another one starts."""
        self.history.die(which)
        self.history.pass_time(seconds)

    @precondition(lambda self: self.weather == "restores")
    @rule()
    def back_up(self) -> None:
        """The database is backed up."""
        self.history.back_up()

    @precondition(lambda self: self.history.backup is not None)
    @rule()
    def restore(self) -> None:
        """The database is restored from its last backup."""
        self.history.restore()

    @precondition(lambda self: self.weather == "restores" and self.history.all_sent_is_booked)
    @rule()
    def end_caution(self) -> None:
        """A person ends cautious mode."""
        self.history.end_caution()

    @precondition(lambda self: self.weather in ("plain", "no look-up"))
    @rule(on=_seldom)
    def switch_lookup(self, on: bool) -> None:
        """An operator takes the look-up out of the settings, or puts it back."""
        self.history.has_lookup = on or not self.history.has_lookup

    def teardown(self) -> None:
        """Nothing is stuck, lost or doubled."""
        if self.began:
            end(self.history, crash=self.crash)

    def _may_jump(self) -> bool:
        return self.history.clock.true - self.jumped_at > LEASE_SECONDS + SETTLING_SECONDS


def _choose(some: Sequence[_T], which: int) -> _T:
    return some[which % len(some)]
