"""What follows when order requests have ended: settle, free their places, judge tokens, learn, and tell."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from orderrelay_shared.states import Outcome
from orderrelay_workers import metrics, statuses
from orderrelay_workers.gate import Kind, Report
from orderrelay_workers.ledger.settling import Settlement
from orderrelay_workers.request_ends import Answered, Ended, learn_size, read_answers, report_of, unsent_claims
from orderrelay_workers.settle_surely import settle_surely

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Sequence

    from orderrelay_workers.group_size import GroupSize
    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.ledger.settling import Settled
    from orderrelay_workers.places import Ahead
    from orderrelay_workers.runtime import Runtime

#: What was submitted is told at most so often, in seconds.
_TELL_SECONDS = 1.0

#: Where the vendor says "later" and not when, this worker uses none of the slots that it has, for so long in seconds.
_THROTTLE_SECONDS = 0.2

_log = structlog.get_logger(__name__)


class Aftermath:
    """What follows from the ends of one flow's requests.

    Args:
        worker: The worker process.
        company: The company's alias.
        size: How many orders may share a request; learns from each end.
        ahead: How many may be claimed ahead; learns from each answer.

    Attributes:
        hold_until: None of the slots before this are used, by `time.monotonic()`: the vendor said "later".
    """

    def __init__(self, worker: Runtime, company: str, size: GroupSize, ahead: Ahead) -> None:
        self._worker = worker
        self._company = company
        self._size = size
        self._ahead = ahead
        self._outcomes: Counter[str] = Counter()
        self._told_at = time.monotonic()
        self._gate_answers = True
        self.hold_until = 0.0

    def settle(self, batch: Sequence[Ended], places: int) -> None:
        """Bring the ends of requests into the ledger, and do all that follows from them.

        Args:
            batch: The requests that ended; at least one.
            places: How many places in flight become free.
        """
        worker = self._worker
        began_ns = time.time_ns()
        answered = read_answers(batch)
        unsent = unsent_claims(batch)
        settlements = [settlement for one in answered for settlement in _settlements(one, worker.boot_id)]
        worker.gate.retries_unused(self._company, sum(claim.number > 1 for claim in unsent))
        report = report_of(batch, answered, places)
        # Whatever comes of one, the other is done: no answer is lost, and no place in flight is kept.
        if self._gate_answers:
            try:  # before the settle, however long that takes: these requests are not in flight any more
                self._report(report)
            finally:
                settled = settle_surely(worker, settlements, unsent)
        else:
            try:  # no answer of the vendor waits for a Redis that did not answer the last time
                settled = settle_surely(worker, settlements, unsent)
            finally:
                self._report(report)
        settled_ns = time.time_ns()
        learn_size(self._size, answered)
        if report.latency_seconds is not None:
            self._ahead.learn(report.latency_seconds, report.good)
        self._judge_tokens(answered)
        if settled is not None:
            statuses.publish(worker.redis, settled.statuses)
            _tell(answered, settled)
        if worker.traces is not None:
            worker.traces.settled(self._company, answered, settled, began_ns, settled_ns)
        for one in answered:
            self._outcomes.update(str(verdict.outcome) for verdict in one.verdicts)
            metrics.request_ended(self._company, Kind.ORDER, str(one.outcome), one.seconds)

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Give back claims for which there was no permit; their places in flight were never taken."""
        if claims:
            settle_surely(self._worker, [], claims)

    def free(self, places: int) -> None:
        """Tell the gate that so many places in flight are free. If it is away, the beat tells it later."""
        if places:
            self._report(Report(finished=places))

    def tell_progress(self, *, now: bool = False) -> None:
        """Log how many orders' requests ended how since this was last told, if that is long ago and some did."""
        if not now and time.monotonic() - self._told_at <= _TELL_SECONDS:
            return
        if self._outcomes:
            _log.info("orders_submitted", **dict(self._outcomes))
        self._outcomes.clear()
        self._told_at = time.monotonic()

    def _report(self, report: Report) -> None:
        metrics.reported(self._company, Kind.ORDER, report)
        if report.throttled:  # the slots that are still ahead were given before this was known
            until = time.monotonic() + (report.throttle_seconds or _THROTTLE_SECONDS)
            self.hold_until = max(self.hold_until, until)
        try:
            self._worker.gate.report(self._company, Kind.ORDER, report)
            self._gate_answers = True
        except RedisError as error:  # the beat tells the gate how many are really out, once Redis is back
            self._gate_answers = False
            _log.warning("gate_not_told", error=type(error).__name__)

    def _judge_tokens(self, answered: Sequence[Answered]) -> None:
        seen = [(one.request.token, one.whole) for one in answered]
        refused = {token.text: (token, v.reason) for token, v in seen if v.outcome is Outcome.UNAUTHORIZED}
        taken = {token.text: token for token, v in seen if v.outcome in (Outcome.CREATED, Outcome.REJECTED)}
        try:
            for token in taken.values():
                self._worker.tokens.accepted(self._company, token)
            for token, reason in refused.values():
                self._worker.tokens.refused(self._company, token, reason)
        except RedisError as error:
            _log.warning("token_cache_away", error=type(error).__name__)


def _settlements(answered: Answered, worker: uuid.UUID) -> Iterable[Settlement]:
    """The end of a request for each order in it: every one has its own claim, and so its own attempt and decision."""
    claims = answered.request.claims
    for place, (claim, verdict) in enumerate(zip(claims, answered.verdicts, strict=True)):
        yield Settlement(
            job_id=claim.job_id,
            company_id=claim.company_id,
            token=claim.token,
            number=claim.number,
            body_digest=claim.body_digest,
            worker=worker,
            exchange=answered.exchange,
            verdict=verdict,
            place=place,
            orders=len(claims),
            fresh=claim.fresh,
        )


def _tell(answered: Sequence[Answered], settled: Settled) -> None:
    is_debugging = logging.getLogger(__name__).isEnabledFor(logging.DEBUG)
    for one in answered:
        if one.outcome is Outcome.CREATED and not is_debugging:  # nearly all are
            continue
        for claim, verdict in zip(one.request.claims, one.verdicts, strict=True):
            tell = _log.debug if verdict.outcome is Outcome.CREATED else _log.info
            tell(
                "order_answered",
                job=str(claim.job_id),
                external_id=claim.external_id,
                outcome=str(verdict.outcome),
                reason=verdict.reason or None,
                order_number=verdict.order_number,
            )
    for job_id, happening in settled.happenings:
        tell = _log.error if happening.alarm else _log.info
        tell(happening.kind, job=str(job_id), **happening.for_log())
