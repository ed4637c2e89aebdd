"""One history of one company's orders: what workers, people, clocks and the vendor do, each followed by a judgement.

What the vendor truly does stands in `VendorWorld`; the ledger is compared with it: never may a request leave whose
order another request has created, or still will. The vendor keeps design.md's one condition (invariant 8): what a
request creates is shown by look-ups within lease and settling time of its claim.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, Final

from orderrelay_shared.intake import Envelope
from orderrelay_shared.states import JobState, Outcome, Priority
from orderrelay_workers import people
from orderrelay_workers.ledger import (
    booking,
    caution,
    claims,
    companies,
    identity,
    liveness,
    settling,
    sweeping,
    unknowns,
)
from orderrelay_workers.ledger import people as people_ledger
from orderrelay_workers.ledger.booking import Accepted
from orderrelay_workers.ledger.settling import LookedUp, Settlement
from orderrelay_workers.vendor.answers import read_lookup_answer, read_order_answer
from tests.model import ground as grounds
from tests.model.bookkeeping import Bookkeeping
from tests.model.ground import LEASE_SECONDS, LOOK_UP_SECONDS, POLICY, SETTLING_SECONDS
from tests.model.processes import Held, Worker
from tests.model.vendor_world import BUSY_NUMBER, Fate, VendorWorld, number_of, unsent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderrelay_workers.decisions import Decision, Job
    from orderrelay_workers.ledger.claims import Claim
    from tests.model.ground import AllRows, Ground
    from tests.model.vendor_world import Mood

ACME: Final = "acme"
ACTOR: Final = "model"
_WORKERS: Final = 3
#: The number of the order that is created before a history begins.
_KNOWN: Final = 9


class History:
    """An empty ledger with three workers, and what happens to it.

    Args:
        ground: The database and the clock.
        jumps: Whether the shared clock is set wrong at times; the vendor then shows an order within the lease.
    """

    def __init__(self, ground: Ground, *, jumps: bool = False) -> None:
        self.ground, self.engine, self.clock = ground, ground.engine, ground.clock
        self.jumps = jumps
        self.clock.begin()
        grounds.empty(self.engine)
        identity.ledger_id(self.engine)
        self.company_id = companies.ensure(self.engine, [ACME])[ACME]
        self.vendor = VendorWorld()
        self.books = Bookkeeping(self.engine, counts_absences=not jumps)
        self.has_lookup = True
        self.contents: dict[uuid.UUID, bytes] = {}
        self.held: list[Held] = []
        #: Look-ups that were answered, and are not settled yet.
        self.looking: list[LookedUp] = []
        self.workers = [self._new_worker() for _ in range(_WORKERS)]
        #: How many claims Redis remembers.
        self.remembered = 0
        self.backup: tuple[AllRows, dict[uuid.UUID, bytes]] | None = None
        self.restored = False
        #: What the ledger has been told, and must not forget: the id under which a job was created.
        self.told: dict[uuid.UUID, int] = {}

    # Workers.

    def create_one(self) -> None:
        """An order is created and told of: what the look-up's control asks for."""
        self.book(_KNOWN)
        [held] = self.claim()
        self.send(held, Fate(True, 0.0, "created"))
        self.settle(held)
        self.held = []
        self.pass_time(1)

    def book(self, *numbers: int, other: int = 0) -> None:
        """Orders come through the intake: new ones, known ones, and known ones with another content."""
        batch = [an_order(number, other) for number in numbers]
        for accepted, booked in zip(batch, booking.book(self.engine, batch, actor=ACTOR), strict=True):
            first = self.contents.setdefault(booked.job_id, accepted.envelope.body)
            assert booked.result != "set_aside"
            assert (booked.result == "conflict") == (first != accepted.envelope.body), "a conflict is not told"
        self.check()

    def claim(self, limit: int = 1, *, worker: int = 0) -> list[Held]:
        """A worker claims due jobs; if it sees that the database went back, it begins cautious mode instead."""
        by = self.workers[worker % len(self.workers)]
        try:
            taken = claims.claim(
                self.engine, self.company_id, limit, owner=by.boot_id, lease_seconds=LEASE_SECONDS, alias=ACME,
                remembered=self.remembered,
            )  # fmt: skip
        except caution.LedgerWentBack as error:
            self._begin_caution(str(error), error.standing)
            self.beat()
            self.check()
            return []
        for claim in taken:
            self.remembered = max(self.remembered, claim.claims)
            assert self.books.jobs[claim.job_id]["state"] == JobState.WAITING, "claimed what did not wait"
            assert claim.body == self.contents[claim.job_id], "another content than the first is sent"
            self._assert_not_created(claim)
        held = [Held(by, claim, self.clock.true) for claim in taken]
        self.held += held
        if self.has_lookup:
            caution.doubt_waiting(self.engine, [self.company_id], lease_seconds=LEASE_SECONDS)
        self.check()
        return held

    def send(self, held: Held, fate: Fate) -> None:
        """The one request that a claim allows leaves, or is found to be impossible ("unsent")."""
        self._assert_not_created(held.claim)
        if fate.answer == "unsent":
            held.never_left = True
            return
        latest = held.at + LEASE_SECONDS - 1 + (0 if self.jumps else SETTLING_SECONDS)
        claim, clock = held.claim, self.clock
        held.request = self.vendor.receive(claim.job_id, claim.token, fate, clock.true, clock.now, latest=latest)

    def settle(self, *some: Held) -> None:
        """Ends of requests are settled in one batch: on time, late, or once more."""
        batch: list[Settlement] = []
        doubts: list[tuple[uuid.UUID, JobState]] = []
        for held in some:
            exchange = (held.request and held.request.exchange) or unsent(self.clock.now)
            verdict, claim = read_order_answer(exchange), held.claim
            batch.append(
                Settlement(
                    claim.job_id, claim.company_id, claim.token, claim.number, claim.body_digest, held.worker.boot_id,
                    exchange, verdict, fresh=claim.fresh,
                )
            )  # fmt: skip
            held.settled += 1
            if verdict.outcome is Outcome.UNKNOWN and held.settled == 1:
                doubts.append((claim.job_id, verdict.if_absent))
            elif (
                verdict.outcome is Outcome.REJECTED
                and verdict.error_number != BUSY_NUMBER
                and self._is(JobState.IN_PROGRESS, claim)
            ):
                doubts.append((claim.job_id, JobState.REJECTED))
            if verdict.vendor_id is not None and claim.job_id in self.contents:
                self.told[claim.job_id] = verdict.vendor_id
        settling.settle(self.engine, batch, POLICY, actor=ACTOR)
        self.check(doubts if len(some) == 1 else [])

    def give_back(self, *some: Held) -> None:
        """Claims of which nothing was sent are handed back, however late."""
        swept = [h.claim.job_id for h in some if self._is(JobState.UNKNOWN, h.claim)]
        claims.give_back(self.engine, [h.claim for h in some])
        self.held = [h for h in self.held if h not in some]
        self.check()
        for job_id in swept:
            assert self.books.jobs[job_id]["state"] == JobState.WAITING, "what was handed back unsent is in doubt"

    def sweep(self) -> None:
        """Any worker sweeps."""
        sweeping.sweep(self.engine, actor=ACTOR)
        self.check()

    def look_up(self, mood: Mood = "healthy", *, limit: int = 9, worker: int = 0, held_up: bool = False) -> None:
        """A worker looks up what is due; if it is held up, the ledger is told later, or never."""
        by = self.workers[worker % len(self.workers)]
        taken = unknowns.take_due(
            self.engine, self.company_id, limit, for_seconds=LOOK_UP_SECONDS, owner=by.boot_id
        )  # fmt: skip
        answers = [self.vendor.look_up(u.job_id, mood, self.clock.true, self.clock.now) for u in taken]
        verdicts = [read_lookup_answer(answer) for answer in answers]
        control = any(v.kind == "absent" for v in verdicts) and self._control(by, mood)
        already = len(self.looking)
        self.looking += [
            LookedUp(u.job_id, u.company_id, u.claim, u.number, by.boot_id, answer, verdict, control, u.taken_at)
            for u, answer, verdict in zip(taken, answers, verdicts, strict=True)
        ]
        if not held_up:
            self.settle_lookups(already)

    def settle_lookups(self, since: int = 0) -> None:
        """Look-ups from a place in the queue on reach the ledger; the earlier ones stay held up."""
        batch, self.looking = self.looking[since:], self.looking[:since]
        for one in batch:
            if one.verdict.vendor_ids and one.job_id in self.contents:
                self.told[one.job_id] = one.verdict.vendor_ids[0]
        settling.settle_lookups(self.engine, batch, POLICY, actor=ACTOR)
        self.check()

    def park(self) -> None:
        """Jobs are parked of which nothing more can be found out."""
        if not self.has_lookup:
            unknowns.park_all(self.engine, self.company_id, actor=ACTOR)
            self.check()
            return
        unknowns.park_failed(self.engine, self.company_id, POLICY, actor=ACTOR)
        self.check()
        self.books.assert_none_fails_for_too_long(self.clock.now)

    def end_caution(self) -> None:
        """A person ends cautious mode, after all that was lost has been enqueued again."""
        caution.end(self.engine, actor=ACTOR, lease_seconds=LEASE_SECONDS)
        self.check()

    # People.

    def resend(self, job_id: uuid.UUID) -> None:
        """A person has a stopped order sent again, and vouches that the vendor does not have it."""
        has_lookup = self.has_lookup
        self._decide(
            job_id, lambda j, now, _: people.resend(j, now, "y", has_lookup=has_lookup, surely_not_created=True)
        )

    def resolve(self, job_id: uuid.UUID, vendor_id: int, *, by_number: bool = False) -> None:
        """A person has found a parked order at the vendor."""
        named = None if by_number else vendor_id

        def resolve(job: Job, now: Any, holder: uuid.UUID | None) -> Decision:
            return people.resolve(
                job, now, "seen", vendor_id=named, order_number=number_of(vendor_id), holder=holder
            )  # fmt: skip

        self._decide(job_id, resolve, named)

    def drop(self, job_id: uuid.UUID) -> None:
        """A person gives a stopped order up."""
        self._decide(job_id, lambda job, now, _: people.drop(job, now, "not wanted"))

    # Time, death and disaster.

    def pass_time(self, seconds: int, *, beating: bool = True) -> None:
        """Time passes; who does not beat may be taken for dead."""
        self.clock.pass_time(seconds)
        if beating:
            self.beat()

    def beat(self) -> None:
        """All workers tell that they live; one that the database has forgotten comes back, as `Runtime.come_back`."""
        for worker in self.workers:
            if not worker.life_sign.beat("running"):
                self._begin_caution("the database no longer knows a worker that runs", None)
                worker.life_sign.appear()

    def die(self, which: int) -> None:
        """A worker is killed; another one starts."""
        dead = self.workers.pop(which % len(self.workers))
        dead.kill()
        self.held = [h for h in self.held if h.worker is not dead]
        self.looking = [one for one in self.looking if one.worker != dead.boot_id]
        self.workers.append(self._new_worker())

    def start_anew(self) -> None:
        """All workers are killed, and one is started."""
        self.close()
        self.held, self.looking = [], []
        self.workers = [self._new_worker()]

    def back_up(self) -> None:
        """The database is backed up."""
        self.backup = grounds.back_up(self.engine), dict(self.contents)

    def restore(self) -> None:
        """The database is restored from its backup: it forgets all that came after."""
        assert self.backup is not None
        rows, contents = self.backup
        grounds.restore(self.engine, rows)
        self.contents, self.backup, self.restored = dict(contents), None, True
        self.told = {}
        self.books.forget()

    # What must hold.

    def check(self, doubts: Sequence[tuple[uuid.UUID, JobState]] = ()) -> None:
        """The rows agree with themselves, with what they were, and with the vendor's books."""
        self.ground.steps += 1
        self.books.judge(doubts)
        recorded = self.books.tokens()
        for held in self.held:
            if held.request is not None and self.books.counts:
                open_ = self._is(JobState.IN_PROGRESS, held.claim)
                there = held.claim.token in recorded[held.claim.job_id]
                assert open_ or there, f"a request of {held.claim.external_id} left, and is nowhere on record"
        for job_id, vendor_id in self.told.items():
            row = self.books.jobs[job_id]
            known = row["state"] == JobState.SUCCEEDED and row["vendor_id"] == vendor_id
            assert known, f"{row['external_id']} is {row['state']} as {row['vendor_id']}, but was told {vendor_id}"
        for job_id, row in self.books.jobs.items():
            if row["state"] == JobState.SUCCEEDED:
                created = self.vendor.creations(job_id)
                named = row["vendor_id"] in created or row["order_number"] in [number_of(c) for c in created]
                assert named, f"{row['external_id']} is called {row['vendor_id']}, but the vendor has {created}"
        alarms = self.books.alarms("doubled", "vendor_id_held")
        assert not alarms, f"alarms without a cause: {alarms}"

    def close(self) -> None:
        """No worker is left."""
        for worker in self.workers:
            worker.kill()

    # What stands where.

    def jobs_in(self, *states: JobState) -> list[uuid.UUID]:
        """The jobs that are in one of these states."""
        return sorted(job_id for job_id, row in self.books.jobs.items() if row["state"] in states)

    @property
    def next_instant(self) -> int:
        """Seconds until the next lease ends or the next job is due by the shared clock; 0 if there is none."""
        now = self.clock.now
        coming = [
            (row[name] - now).total_seconds()
            for row in self.books.jobs.values()
            if not JobState(row["state"]).is_settled
            for name in ("due_at", "lease_until")
            if row[name] is not None and row[name] > now
        ]
        return int(min(coming, default=0)) + bool(coming)

    @property
    def all_sent_is_booked(self) -> bool:
        """Whether the ledger knows every order that was ever sent."""
        return self.vendor.requests.keys() <= self.contents.keys()

    def _is(self, state: JobState, claim: Claim) -> bool:
        """Whether a claim's job is in that state, and the claim is its last."""
        row = self.books.jobs.get(claim.job_id)
        return row is not None and row["state"] == state and row["token"] == claim.token

    def _assert_not_created(self, claim: Claim) -> None:
        created = self.vendor.creations(claim.job_id)
        assert not created, f"{claim.external_id} may be sent, but is or will be created as {created}"

    def _new_worker(self) -> Worker:
        boot_id = uuid.uuid4()
        life_sign = liveness.LifeSign(self.engine, boot_id, "model:1", "0")
        life_sign.begin()
        return Worker(boot_id, life_sign)

    def _control(self, worker: Worker, mood: Mood) -> bool:
        """As the reconciliation has it: whether the look-up finds an order that is known to be created."""
        for known in unknowns.known_orders(self.engine, self.company_id, SETTLING_SECONDS):
            now = self.clock.now
            answer = self.vendor.look_up(known.job_id, mood, self.clock.true, now)
            verdict = read_lookup_answer(answer)
            record = LookedUp(
                known.job_id, self.company_id, uuid.uuid4(), 0, worker.boot_id, answer, verdict, False, now
            )  # fmt: skip
            settling.settle_lookups(self.engine, [record], POLICY, actor=ACTOR)
            if known.vendor_id in verdict.vendor_ids:
                return True
        return False

    def _begin_caution(self, why: str, seen: caution.Standing | None) -> None:
        assert self.restored, "nothing was restored"
        begun = caution.begin(self.engine, why, actor=ACTOR, lease_seconds=LEASE_SECONDS, seen=seen)
        self.remembered = self.remembered if begun is None else begun.claims

    def _decide(
        self, job_id: uuid.UUID, decide: Callable[[Job, Any, uuid.UUID | None], Decision], vendor_id: int | None = None
    ) -> None:
        decided = people_ledger.decide(self.engine, [job_id], decide, actor="person", vendor_id=vendor_id)
        assert not decided.refused, f"a person was refused: {decided.refused}"
        self.check()


def an_order(number: int, other: int = 0) -> Accepted:
    """An accepted order; with `other` another content of the same ExternalId."""
    body = json.dumps({"ExternalId": f"order-{number}", "Text": "other" if other else ""}).encode()
    priority = list(Priority)[number % 3]
    envelope = Envelope(ACME, f"order-{number}", hashlib.sha256(body).digest(), body, priority=priority)
    return Accepted(f"{1_700_000_000_000 + number}-0", envelope)
