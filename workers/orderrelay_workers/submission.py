"""The story of submitting a company's due orders: token, permits, claim, send, settle.

One flow works on one company in one process for a bounded time. Requests run on the event loop; this thread claims
what the gate permits and settles what has ended, in batches, until nothing is due or its time is over.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_shared.states import Outcome
from orderrelay_workers import metrics, statuses
from orderrelay_workers.ends import Ends
from orderrelay_workers.gate import Kind, Permits, Refusal
from orderrelay_workers.ledger import caution, claims
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.ledger.settling import Settlement
from orderrelay_workers.request_ends import Ended, Request, report_of
from orderrelay_workers.runtime import CompanyGone
from orderrelay_workers.settle_surely import settle_surely
from orderrelay_workers.slots import LATEST_SECONDS, Lead, give_back, other_slots, wait_for_slot
from orderrelay_workers.stopwatch import Stopwatch
from orderrelay_workers.tokens import NoToken
from orderrelay_workers.vendor.answers import Verdict, read_order_answer
from orderrelay_workers.vendor.exchange import Failure

if TYPE_CHECKING:
    from orderrelay_workers.gate import Report
    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.ledger.settling import Settled
    from orderrelay_workers.runtime import Runtime

#: So many orders are claimed, and so many settled, in one transaction at most.
_BATCH = 250

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

#: What was submitted is told at most so often, in seconds.
_TELL_SECONDS = 1.0

#: Where the vendor says "later" and not when, this worker uses none of the slots that it has, for so long in seconds.
_THROTTLE_SECONDS = 0.2

_log = structlog.get_logger(__name__)


def submit(worker: Runtime, company: str, *, for_seconds: float | None = None) -> None:
    """Submit a company's due orders for a while. Returns at once if this process is at it already.

    Args:
        worker: The worker process.
        company: The company's alias.
        for_seconds: How long, after which others have their turn; None: as this worker's threads allow.
    """
    if company not in worker.companies or not worker.submitting.begin(company):
        return
    with structlog.contextvars.bound_contextvars(company=company):
        try:
            flow = _Flow(worker, company, worker.flow_seconds if for_seconds is None else for_seconds)
            try:
                more = flow.run()
            finally:
                flow.see_out()
                flow.tell_progress()
        except CompanyGone:
            return
        finally:
            asked = worker.submitting.end(company)
    if (more or asked) and not worker.draining.is_set():
        worker.hints.orders(company)


class _Flow:
    def __init__(self, worker: Runtime, company: str, for_seconds: float) -> None:
        self._worker = worker
        self._company = company
        self._company_id = worker.serve(company).id
        self._ends_at = time.monotonic() + for_seconds
        self._ended: Ends[Ended] = Ends()
        self._out = 0
        self._full = False
        self._turn = random.randrange(1024)
        self._lead = Lead()
        self._hold_until = 0.0
        self._outcomes: Counter[str] = Counter()
        self._told_at = time.monotonic()

    def run(self) -> bool:
        """Work until nothing is due, the gate says "not now" for long, or the time is over.

        Returns:
            Whether there may be more to do now.
        """
        next_look = 0.0
        while True:
            now = time.monotonic()
            over = self._worker.draining.is_set() or now >= self._ends_at
            if not over and (now >= next_look or self._worker.submitting.asked_again(self._company)):
                wait = self._start_more_if_possible()
                if not self._out and (wait is None or wait > _WORTH_WAITING_SECONDS):
                    return False  # jobs wait in the ledger, not here; the promoter sends a hint when the gate is open
                next_look = time.monotonic() + (_LOOK_AGAIN_SECONDS if wait is None else wait)
            if over and not self._out:
                return True
            if time.monotonic() - self._told_at > _TELL_SECONDS:
                self.tell_progress()
            ended = self._gather(next_look)
            again = [self._may_go_again(one) for one in ended]
            self._settle([one for one, goes in zip(ended, again, strict=True) if not goes])
            self._start_again([one for one, goes in zip(ended, again, strict=True) if goes])
            if ended and self._full:  # their places have just become free
                next_look = 0.0

    def tell_progress(self) -> None:
        """Log how many requests ended how since this was last told; nothing if none did."""
        if self._outcomes:
            _log.info("orders_submitted", **dict(self._outcomes))
        self._outcomes.clear()
        self._told_at = time.monotonic()

    def _start_more_if_possible(self) -> float | None:
        """Start more, unless Redis or the database is away: what is out has to be settled all the same."""
        try:
            return self._start_more()
        except (RedisError, SQLAlchemyError) as error:
            _log.warning("nothing_claimed", error=type(error).__name__)
            return _TROUBLE_SECONDS
        except LedgerWentBack as error:
            self._be_cautious(error)
            return _TROUBLE_SECONDS

    def _be_cautious(self, went_back: LedgerWentBack) -> None:
        try:
            self._worker.be_cautious(went_back)
        except (RedisError, SQLAlchemyError) as error:  # nothing is claimed until somebody's beat has begun it
            _log.warning("cautious_mode_not_begun", error=type(error).__name__)

    def see_out(self) -> None:
        """After an unforeseen error: what is out has to be settled all the same."""
        latest = time.monotonic() + self._worker.settings.lease_seconds
        while self._out and time.monotonic() < latest:  # what is late by now is not sent
            self._settle(self._gather(time.monotonic() + _LOOK_AGAIN_SECONDS))

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
        permits = worker.gate.admit(company, Kind.ORDER, _BATCH, lead_seconds=self._lead.seconds)
        metrics.answered(permits)
        self._full = permits.refusal is Refusal.IN_FLIGHT
        if not permits.granted:
            return max(permits.wait_seconds, 0.01)
        granted_at = time.monotonic()
        watch = Stopwatch.start()  # before the claim: the fence must not depend on how long its commit took
        claimed: list[Claim] = []
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
            )
        finally:
            give_back(worker.gate, permits, permits.granted - len(claimed))
            retried = sum(claim.number > 1 for claim in claimed)
            worker.gate.retries_unused(company, max(0, permits.retries - retried))
        self._remember(claimed)
        self._lead.learn(time.monotonic() - granted_at)
        metrics.claimed(company, len(claimed))
        self._start(
            [
                (Request(claim, token, watch, permits.probe), granted_at + permits.wait_of(index))
                for index, claim in enumerate(claimed)
            ]
        )
        if not claimed:
            return None
        return self._pause_after(permits, len(claimed), granted_at)

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
        return max(0.0, granted_at + permits.wait_of(started - 1) - _AHEAD_SECONDS - time.monotonic())

    def _start(self, requests: list[tuple[Request, float]]) -> None:
        """Start requests, each in its slot by `time.monotonic()`."""
        self._worker.loop.start_all(self._carry(request, at) for request, at in requests)
        self._out += len(requests)  # not before: what does not even reach the loop never ends

    async def _carry(self, request: Request, at: float) -> None:
        """Send a request, and tell its end whatever that is."""
        try:
            ended = await self._send(request, at)
        except BaseException as error:
            _log.error("request_lost", job=str(request.claim.job_id), error=type(error).__name__)
            self._ended.put(Ended(request, None, lost=True))
            if not isinstance(error, Exception):
                raise
        else:
            self._ended.put(ended)

    async def _send(self, request: Request, at: float) -> Ended:
        worker = self._worker
        is_in_slot = await wait_for_slot(at, worker.draining, tries=request.tries)
        if not (is_in_slot or request.probe):
            return Ended(request, None, late=True)

        def may_start() -> bool:
            now = time.monotonic()
            # What stalled while it connected must not go out with all others that did, nor after a "later".
            in_slot = request.probe or (now - at <= LATEST_SECONDS and now >= self._hold_until)
            return in_slot and self._is_in_time(request) and not worker.draining.is_set()

        if not may_start():
            return Ended(request, None, late=True)
        exchange = await worker.vendor.post_order(
            self._company, request.token.text, request.claim.body, may_start=may_start
        )
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
        slots: list[float] = []
        try:
            slots = other_slots(self._worker.gate, self._company, Kind.ORDER, len(late))
        finally:
            self._settle(late[len(slots) :])
        self._out -= len(slots)
        self._start([(replace(e.request, tries=e.request.tries + 1), at) for e, at in zip(late, slots, strict=False)])

    def _gather(self, until: float) -> list[Ended]:
        """Wait for a request to end, then take what ends with it."""
        timeout = until - time.monotonic()
        if self._out:
            timeout = max(timeout, 0.0) if timeout < _LOOK_AGAIN_SECONDS else _LOOK_AGAIN_SECONDS
        timeout = max(0.001, min(timeout, _LOOK_AGAIN_SECONDS))
        return self._ended.take(max(1, min(_BATCH, self._out)), timeout=timeout, linger_seconds=_LINGER_SECONDS)

    def _settle(self, batch: list[Ended]) -> None:
        if not batch:
            return
        worker = self._worker
        self._out -= len(batch)
        answered = [(e, read_order_answer(e.exchange)) for e in batch if e.exchange is not None]
        unsent = [e.request.claim for e in batch if e.exchange is None and not e.lost]
        settlements = [self._settlement(e, verdict) for e, verdict in answered]
        worker.gate.retries_unused(self._company, sum(claim.number > 1 for claim in unsent))
        try:
            settled = settle_surely(worker, settlements, unsent)
        finally:  # whatever becomes of the settle, these requests are not in flight any more
            self._report(report_of(batch, answered))
        self._judge_tokens(answered)
        if settled is not None:
            statuses.publish(worker.redis, settled.statuses)
            self._tell(answered, settled)
        self._outcomes.update(str(verdict.outcome) for _, verdict in answered)
        for ended, verdict in answered:
            metrics.request_ended(self._company, Kind.ORDER, str(verdict.outcome), _seconds_of(ended))

    def _settlement(self, ended: Ended, verdict: Verdict) -> Settlement:
        assert ended.exchange is not None  # noqa: S101  the caller chose those
        claim = ended.request.claim
        return Settlement(
            job_id=claim.job_id,
            company_id=claim.company_id,
            token=claim.token,
            number=claim.number,
            body_digest=claim.body_digest,
            worker=self._worker.boot_id,
            exchange=ended.exchange,
            verdict=verdict,
        )

    def _report(self, report: Report) -> None:
        metrics.reported(self._company, Kind.ORDER, report)
        if report.throttled:  # the slots that are still ahead were given before this was known
            until = time.monotonic() + (report.throttle_seconds or _THROTTLE_SECONDS)
            self._hold_until = max(self._hold_until, until)
        try:
            self._worker.gate.report(self._company, Kind.ORDER, report)
        except RedisError as error:  # the beat tells the gate how many are really out, once Redis is back
            _log.warning("gate_not_told", error=type(error).__name__)

    def _judge_tokens(self, answered: list[tuple[Ended, Verdict]]) -> None:
        seen = [(e.request.token, v) for e, v in answered]
        refused = {token.text: (token, v.reason) for token, v in seen if v.outcome is Outcome.UNAUTHORIZED}
        taken = {token.text: token for token, v in seen if v.outcome in (Outcome.CREATED, Outcome.REJECTED)}
        try:
            for token in taken.values():
                self._worker.tokens.accepted(self._company, token)
            for token, reason in refused.values():
                self._worker.tokens.refused(self._company, token, reason)
        except RedisError as error:
            _log.warning("token_cache_away", error=type(error).__name__)

    @staticmethod
    def _tell(answered: list[tuple[Ended, Verdict]], settled: Settled) -> None:
        for ended, verdict in answered:
            tell = _log.debug if verdict.outcome is Outcome.CREATED else _log.info
            tell(
                "order_answered",
                job=str(ended.request.claim.job_id),
                external_id=ended.request.claim.external_id,
                outcome=str(verdict.outcome),
                reason=verdict.reason or None,
                order_number=verdict.order_number,
            )
        for job_id, happening in settled.happenings:
            tell = _log.error if happening.alarm else _log.info
            tell(happening.kind, job=str(job_id), **happening.for_log())


def _seconds_of(ended: Ended) -> float:
    return 0.0 if ended.exchange is None else (ended.exchange.ended_at - ended.exchange.began_at).total_seconds()
