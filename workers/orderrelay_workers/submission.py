"""The story of submitting a company's due orders: token, permits, claim, send, settle.

One flow works on one company in one process for a bounded time. Requests run on the event loop; this thread claims
what the gate permits and settles what has ended, in batches, until nothing is due or its time is over.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_shared.states import Outcome
from orderrelay_workers import statuses
from orderrelay_workers.gate import Kind, Permits, Refusal, Report
from orderrelay_workers.ledger import caution, claims
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.ledger.settling import Settlement
from orderrelay_workers.runtime import CompanyGone
from orderrelay_workers.settle_surely import settle_surely
from orderrelay_workers.stopwatch import Stopwatch
from orderrelay_workers.tokens import NoToken, Token
from orderrelay_workers.vendor.answers import Verdict, read_order_answer
from orderrelay_workers.vendor.exchange import Failure

if TYPE_CHECKING:
    from concurrent.futures import Future

    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.ledger.settling import Settled
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.vendor.exchange import Exchange

#: A flow works for so long on one company, then others have their turn, in seconds.
FLOW_SECONDS = 10.0

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

#: What was submitted is told at most so often, in seconds.
_TELL_SECONDS = 1.0

#: How long all orders of a company pause after a 429 without Retry-After, in seconds.
_THROTTLE_SECONDS = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """A claim whose request has ended.

    Attributes:
        claim: The claim.
        token: The access token that was used.
        exchange: What was seen; None: provably nothing was sent, so the claim is given back.
        probe: Whether the request decides if the company's circuit closes.
        lost: An unforeseen error: nothing is known, so the claim is left to lapse, and the order is looked up.
    """

    claim: Claim
    token: Token
    exchange: Exchange | None
    probe: bool = False
    lost: bool = False


def submit(worker: Runtime, company: str, *, for_seconds: float = FLOW_SECONDS) -> None:
    """Submit a company's due orders for a while. Returns at once if this process is at it already."""
    if company not in worker.companies or not worker.submitting.begin(company):
        return
    with structlog.contextvars.bound_contextvars(company=company):
        try:
            flow = _Flow(worker, company, for_seconds)
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
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._out = 0
        self._full = False
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
            self._settle(ended)
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
        while self._out:
            self._settle(self._gather(time.monotonic() + _LOOK_AGAIN_SECONDS))

    def _start_more(self) -> float | None:
        """Claim and start what is due and permitted.

        Returns:
            Seconds until it is worth trying again; None if nothing is due.
        """
        worker, company = self._worker, self._company
        token = worker.tokens.get(company)
        if isinstance(token, NoToken):
            return max(token.wait_seconds, 0.05)
        permits = worker.gate.admit(company, Kind.ORDER, _BATCH)
        self._full = permits.refusal is Refusal.IN_FLIGHT
        if not permits.granted:
            return max(permits.wait_seconds, 0.01)
        granted_at = time.monotonic()
        watch = Stopwatch.start()  # before the claim: the fence must not depend on how long its commit took
        claimed: list[Claim] = []
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
            )
        finally:
            self._give_back(permits, permits.granted - len(claimed))
        self._remember(claimed)
        for index, claim in enumerate(claimed):
            self._start(claim, token, watch, permits, granted_at + permits.wait_of(index))
        if not claimed:
            return None
        return self._pause_after(permits, len(claimed), granted_at)

    def _give_back(self, permits: Permits, unused: int) -> None:
        try:
            self._worker.gate.give_back(permits, unused)
        except RedisError as error:  # what was claimed has to start all the same; the beat tells the gate
            _log.warning("gate_not_told", error=type(error).__name__)

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
        """After a full grant the next permits begin to be free about half-way through; else look when asked."""
        if started < permits.granted:
            return _LOOK_AGAIN_SECONDS
        return max(0.0, granted_at + permits.wait_of(started // 2) - time.monotonic())

    def _start(self, claim: Claim, token: Token, watch: Stopwatch, permits: Permits, at: float) -> None:
        future = self._worker.loop.start(self._send(claim, token, watch, at))
        self._out += 1

        def ended(done: Future[Exchange | None]) -> None:
            error = None if done.cancelled() else done.exception()
            if done.cancelled() or error is not None:
                _log.error("request_lost", job=str(claim.job_id), error=type(error).__name__)
                self._ended.put(Ended(claim, token, None, permits.probe, lost=True))
            else:
                self._ended.put(Ended(claim, token, done.result(), permits.probe))

        future.add_done_callback(ended)

    async def _send(self, claim: Claim, token: Token, watch: Stopwatch, at: float) -> Exchange | None:
        worker = self._worker
        while (wait := at - time.monotonic()) > 0:
            if worker.draining.is_set():
                return None
            await asyncio.sleep(min(wait, 0.1))
        fence = worker.settings.start_fence_seconds

        def may_start() -> bool:
            return watch.elapsed_seconds() <= fence and not worker.draining.is_set()

        if not may_start():
            return None
        exchange = await worker.vendor.post_order(self._company, token.text, claim.body, may_start=may_start)
        return None if exchange.failure == Failure.FENCED and not exchange.sent else exchange

    def _gather(self, until: float) -> list[Ended]:
        """Wait for a request to end, then take what ends with it."""
        timeout = until - time.monotonic()
        if self._out:
            timeout = max(timeout, 0.0) if timeout < _LOOK_AGAIN_SECONDS else _LOOK_AGAIN_SECONDS
        try:
            batch = [self._ended.get(timeout=max(0.001, min(timeout, _LOOK_AGAIN_SECONDS)))]
        except queue.Empty:
            return []
        linger_until = time.monotonic() + _LINGER_SECONDS
        while len(batch) < min(_BATCH, self._out):
            try:
                batch.append(self._ended.get(timeout=max(0.0, linger_until - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _settle(self, batch: list[Ended]) -> None:
        if not batch:
            return
        worker = self._worker
        self._out -= len(batch)
        answered = [(e, read_order_answer(e.exchange)) for e in batch if e.exchange is not None]
        unsent = [e.claim for e in batch if e.exchange is None and not e.lost]
        settlements = [self._settlement(e, verdict) for e, verdict in answered]
        settled = settle_surely(worker, settlements, unsent)
        self._report(batch, [verdict for _, verdict in answered])
        self._judge_tokens(answered)
        if settled is not None:
            statuses.publish(worker.redis, settled.statuses)
            self._tell(answered, settled)
        self._outcomes.update(str(verdict.outcome) for _, verdict in answered)

    def _settlement(self, ended: Ended, verdict: Verdict) -> Settlement:
        assert ended.exchange is not None  # noqa: S101  the caller chose those
        claim = ended.claim
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

    def _report(self, batch: list[Ended], verdicts: list[Verdict]) -> None:
        throttles = [v for v in verdicts if v.outcome is Outcome.THROTTLED]
        throttle = max((v.retry_after_seconds or _THROTTLE_SECONDS for v in throttles), default=None)
        trip = next((v.reason for v in verdicts if v.trips), None)
        unwell = sum(v.outcome in (Outcome.NOT_CREATED, Outcome.UNKNOWN) for v in verdicts)
        good = sum(v.outcome in (Outcome.CREATED, Outcome.REJECTED) for v in verdicts)
        probe = any(e.probe for e in batch)
        report = Report(len(batch), good, unwell, trip, throttle, probe)
        try:
            self._worker.gate.report(self._company, Kind.ORDER, report)
        except RedisError as error:  # the beat tells the gate how many are really out, once Redis is back
            _log.warning("gate_not_told", error=type(error).__name__)

    def _judge_tokens(self, answered: list[tuple[Ended, Verdict]]) -> None:
        refused = {e.token.text: (e.token, v.reason) for e, v in answered if v.outcome is Outcome.UNAUTHORIZED}
        taken = {
            e.token.text: e.token for e, v in answered if v.outcome in (Outcome.CREATED, Outcome.REJECTED)
        }  # fmt: skip
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
                job=str(ended.claim.job_id),
                external_id=ended.claim.external_id,
                outcome=str(verdict.outcome),
                reason=verdict.reason or None,
                order_number=verdict.order_number,
            )
        for job_id, happening in settled.happenings:
            tell = _log.error if happening.alarm else _log.info
            tell(happening.kind, job=str(job_id), **happening.for_log())
