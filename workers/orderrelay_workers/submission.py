"""The story of submitting a company's due orders: token, permits, claim, send, settle.

One flow works on one company in one process for a bounded time. Requests run on the event loop; this thread claims
what the gate permits and settles what has ended, in batches, until nothing is due or its time is over.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers import metrics
from orderrelay_workers.aftermath import Aftermath
from orderrelay_workers.ends import Ends
from orderrelay_workers.gate import Kind, Permits
from orderrelay_workers.group_size import GroupSize
from orderrelay_workers.ledger import caution, claims
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.packing import Packed, pack
from orderrelay_workers.places import Ahead, Going, Places
from orderrelay_workers.request_ends import Ended, Request
from orderrelay_workers.runtime import CompanyGone
from orderrelay_workers.slots import LATEST_SECONDS, Lead, give_back, other_slots, slots_of, wait_for_slot
from orderrelay_workers.stopwatch import Stopwatch
from orderrelay_workers.tokens import NoToken
from orderrelay_workers.vendor.exchange import Failure

if TYPE_CHECKING:
    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.slots import Slot

#: So many requests are claimed for, and so many settled, in one transaction at most; or so many orders, if they share
#: requests.
_BATCH = 250
_BATCH_ORDERS = 1000

#: After an answer has come, others may join its settle for so long, in seconds.
_LINGER_SECONDS = 0.015

#: When nothing is due but requests are out, look again after so long, in seconds.
_LOOK_AGAIN_SECONDS = 0.25

#: A closed gate is waited for so long, in seconds; beyond that the thread is better used for others.
_WORTH_WAITING_SECONDS = 1.0

#: After Redis or the database failed, try again after so long, in seconds.
_TROUBLE_SECONDS = 2.0

#: A worker asks for more so long before its last slot, in seconds: it gathers, settles and claims in between.
_AHEAD_SECONDS = 0.15

_log = structlog.get_logger(__name__)


def submit(worker: Runtime, company: str, *, for_seconds: float | None = None) -> None:
    """Submit a company's due orders for a while. Returns at once if this process is at it already.

    Args:
        worker: The worker process.
        company: The company's alias.
        for_seconds: How long, after which others have their turn; None: as this worker's threads allow.
    """
    ended: Ends[Ended] = Ends()
    if company not in worker.companies or not worker.submitting.begin(company, ended.wake):
        return
    with structlog.contextvars.bound_contextvars(company=company):
        try:
            flow = _Flow(worker, company, ended, worker.flow_seconds if for_seconds is None else for_seconds)
            try:
                more = flow.run()
            finally:
                flow.see_out()
                flow.aftermath.tell_progress(now=True)
        except CompanyGone:
            return
        finally:
            asked = worker.submitting.end(company)
    if (more or asked) and not worker.draining.is_set():
        worker.hints.orders(company)


class _Flow:
    def __init__(self, worker: Runtime, company: str, ended: Ends[Ended], for_seconds: float) -> None:
        self._worker = worker
        self._company = company
        self._company_id = worker.serve(company).id
        self._ends_at = time.monotonic() + for_seconds
        self._ended = ended
        self._out = 0
        self._places = Places()
        self._full = False
        #: How many places this worker may keep or go ahead for, by the gate's last word.
        self._share = _BATCH
        #: Of those that lie idle, the ones up to so many in all are kept for what is claimed next.
        self._keep = 0
        self._turn = random.randrange(1024)
        self._lead = Lead()
        most, timeout = worker.settings.orders_per_request, worker.settings.request_timeout_seconds
        self._size = worker.group_sizes.setdefault(company, GroupSize(most, timeout))
        self._ahead = worker.ahead.setdefault(company, Ahead())
        self.aftermath = Aftermath(worker, company, self._size, self._ahead)

    def run(self) -> bool:
        """Work until nothing is due, the gate says "not now" for long, or the time is over.

        Returns:
            Whether there may be more to do now.
        """
        next_look = 0.0
        while True:
            now = time.monotonic()
            over = self._worker.draining.is_set() or now >= self._ends_at
            self._keep = 0 if over else self._keep
            if not over and (now >= next_look or self._worker.submitting.asked_again(self._company)):
                wait = self._start_more_if_possible()
                if not self._out and (wait is None or wait > _WORTH_WAITING_SECONDS):
                    return False  # jobs wait in the ledger, not here; the promoter sends a hint when the gate is open
                next_look = time.monotonic() + (_LOOK_AGAIN_SECONDS if wait is None else wait)
            if over and not self._out:
                return True
            self.aftermath.tell_progress()
            ended = self._gather(math.inf if over else next_look)
            again = [self._may_go_again(one) for one in ended]
            late = [one for one, goes in zip(ended, again, strict=True) if goes]
            self._settle([one for one, goes in zip(ended, again, strict=True) if not goes], places_for=len(late))
            self._start_again(late)
            if ended and self._full:  # their places have just become free
                next_look = 0.0

    def _start_more_if_possible(self) -> float | None:
        """Start more, unless Redis or the database is away: what is out has to be settled all the same."""
        self._keep = 0
        try:
            return self._start_more()
        except (RedisError, SQLAlchemyError) as error:
            _log.warning("nothing_claimed", error=type(error).__name__)
            return _TROUBLE_SECONDS
        except LedgerWentBack as error:
            self._be_cautious(error)
            return _TROUBLE_SECONDS
        finally:
            self.aftermath.free(self._places.give_up(keep=self._keep))

    def _be_cautious(self, went_back: LedgerWentBack) -> None:
        try:
            self._worker.be_cautious(went_back)
        except (RedisError, SQLAlchemyError) as error:  # nothing is claimed until somebody's beat has begun it
            _log.warning("cautious_mode_not_begun", error=type(error).__name__)

    def see_out(self) -> None:
        """After an unforeseen error: what is out has to be settled all the same."""
        latest = time.monotonic() + self._worker.settings.lease_seconds
        self._keep = 0
        while self._out and time.monotonic() < latest:  # what is late by now is not sent
            self._settle(self._gather(time.monotonic() + _LOOK_AGAIN_SECONDS))
        self.aftermath.free(self._places.give_up())

    def _start_more(self) -> float | None:
        """Claim and start what is due and permitted.

        Returns:
            Seconds until it is worth trying again; None if nothing is due.

        Raises:
            CompanyGone: The company is not served here any more.
        """
        worker, company = self._worker, self._company
        worker.serve(company)
        token = worker.tokens.get(company)
        if isinstance(token, NoToken):
            return max(token.wait_seconds, 0.05)
        size = self._size.size
        want = max(1, min(_BATCH, _BATCH_ORDERS // size))
        permits = worker.gate.admit(
            company,
            Kind.ORDER,
            want,
            lead_seconds=self._lead.seconds,
            idle=self._places.idle,
            ahead=max(0, self._ahead.of(min(self._places.held, self._share)) - self._places.waiting),
        )
        metrics.answered(permits)
        self._full = permits.is_full
        self._share = permits.keep
        self._places.share = permits.keep or math.inf
        if not permits.granted:
            return max(permits.wait_seconds, 0.01)
        granted_at = time.monotonic()
        watch = Stopwatch.start()  # before the claim: the fence must not depend on how long its commit took
        size = 1 if permits.probe else size
        claimed: list[Claim] = []
        packed = Packed(())
        self._turn += 1
        try:
            claimed = claims.claim(
                worker.engine,
                self._company_id,
                permits.granted,
                owner=worker.boot_id,
                lease_seconds=worker.settings.lease_seconds,
                alias=company,
                remembered=caution.recall(worker.redis, worker.ledger_id),
                made=worker.claims_made,
                retries=permits.retries,
                turn=self._turn,
                start_seconds=worker.settings.start_fence_seconds,
                together=size,
            )
            packed = pack(claimed, permits.granted, size)
        finally:
            give_back(worker.gate, permits, permits.granted - len(packed.groups))
            retried = sum(group[0].number > 1 for group in packed.groups)
            worker.gate.retries_unused(company, max(0, permits.retries - retried))
        self._remember(claimed)
        self._lead.learn(time.monotonic() - granted_at)
        metrics.claimed(company, len(claimed))
        self._start(
            [
                Going(Request(group, token, watch, permits.probe), slot)
                for group, slot in zip(packed.groups, slots_of(permits, granted_at), strict=False)
            ],
            permits.places - permits.places_of(permits.granted - len(packed.groups)),
        )
        if len(packed.groups) == permits.granted:  # else nothing more is due
            self._keep = permits.keep
        self.aftermath.give_back(packed.left)
        if packed.fitted is not None:
            self._size.did_not_fit(packed.fitted)
        if not claimed:
            return None
        return self._pause_after(permits, len(packed.groups), granted_at)

    def _remember(self, claimed: list[Claim]) -> None:
        """Before anything leaves: if the database forgets these claims, Redis still knows that there were some."""
        if claimed:
            self._worker.count_claims(len(claimed))
            try:
                caution.remember(self._worker.redis, self._worker.ledger_id, claimed[0].claims)
            except RedisError as error:  # what was claimed has to start all the same; the beat tells it
                _log.warning("claims_not_remembered", error=type(error).__name__)

    @staticmethod
    def _pause_after(permits: Permits, started: int, granted_at: float) -> float:
        """After a full grant the next is asked for so early that no slot passes meanwhile; else look when asked."""
        if started < permits.granted:
            return _LOOK_AGAIN_SECONDS
        if permits.is_full:
            return permits.wait_seconds
        return max(0.0, granted_at + permits.wait_of(started - 1) - _AHEAD_SECONDS - time.monotonic())

    def _start(self, going: list[Going], places: int) -> None:
        """Start requests, each in its slot, with so many new places in flight."""
        carried = self._places.add(going, places)
        self._worker.loop.start_all(self._carry(each) for each in carried)
        self._out += len(going)  # not before: what does not even reach the loop never ends

    async def _carry(self, going: Going | None) -> None:
        """Send a request and tell its end, whatever that is; then others that wait for its place in flight."""
        while going is not None:
            request = going.request
            try:
                ended = await self._send(request, going.slot)
            except BaseException as error:
                jobs = ", ".join(str(claim.job_id) for claim in request.claims)
                _log.error("request_lost", job=jobs, error=type(error).__name__)
                self._places.leave()
                self._ended.put(Ended(request, None, lost=True))
                if not isinstance(error, Exception):
                    raise
                return
            if ended.is_well:
                going = self._places.following()
            else:  # none follows that was permitted before such an answer came
                self._places.leave()
                going = None
            self._ended.put(ended)

    async def _send(self, request: Request, slot: Slot) -> Ended:
        worker = self._worker
        is_in_slot = await wait_for_slot(
            slot.at, worker.draining, tries=request.tries, patience_seconds=slot.patience_seconds
        )
        if not (is_in_slot or request.probe):
            return Ended(request, None, late=True)

        def may_start() -> bool:
            now = time.monotonic()
            # What stalled while it connected must not go out with all others that did, nor after a "later".
            in_slot = request.probe or (now - slot.at <= LATEST_SECONDS and now >= self.aftermath.hold_until)
            return in_slot and self._is_in_time(request) and not worker.draining.is_set()

        if not may_start():
            return Ended(request, None, late=True)
        exchange = await worker.vendor.post_order(self._company, request.token.text, request.body, may_start=may_start)
        if exchange.failure == Failure.FENCED and not exchange.sent:
            return Ended(request, None, late=True)
        return Ended(request, exchange)

    def _is_in_time(self, request: Request) -> bool:
        return request.watch.elapsed_seconds() <= self._worker.settings.start_fence_seconds

    def _may_go_again(self, ended: Ended) -> bool:
        """Whether a request that missed its slot may have another one."""
        is_draining = self._worker.draining.is_set()
        return ended.late and not ended.request.probe and not is_draining and self._is_in_time(ended.request)

    def _start_again(self, late: list[Ended]) -> None:
        """Give requests that missed their slots other ones; those that get none are not sent."""
        if not late:
            return
        slots: list[Slot] = []
        try:
            slots = other_slots(self._worker.gate, self._company, Kind.ORDER, len(late))
        finally:
            self._settle(late[len(slots) :], places_for=len(slots))
        self._out -= len(slots)
        again = [replace(ended.request, tries=ended.request.tries + 1) for ended in late[: len(slots)]]
        self._start([Going(request, slot) for request, slot in zip(again, slots, strict=True)], 0)

    def _gather(self, until: float) -> list[Ended]:
        """Wait for a request to end, then take what ends with it, and those that waited in vain for a place."""
        timeout = until - time.monotonic()
        if self._out:
            timeout = max(timeout, 0.0) if timeout < _LOOK_AGAIN_SECONDS else _LOOK_AGAIN_SECONDS
        timeout = max(0.001, min(timeout, _LOOK_AGAIN_SECONDS))
        most = max(1, min(_BATCH, self._out, _BATCH_ORDERS // self._size.size))
        ended = self._ended.take(most, timeout=timeout, linger_seconds=_LINGER_SECONDS)
        overdue = self._places.take_overdue(math.inf if self._worker.draining.is_set() else time.monotonic())
        if overdue:
            self._ahead.in_vain()
        return ended + [Ended(going.request, None) for going in overdue]

    def _settle(self, batch: list[Ended], *, places_for: int = 0) -> None:
        """Settle requests that ended; give places back, but those that are kept or needed for others."""
        if batch:
            self._out -= len(batch)
            self.aftermath.settle(batch, self._places.give_up(keep=self._keep, but=places_for))
