"""The story of finding out: look unknown orders up by ExternalId, and believe an empty list only with evidence.

One flow works on one company in one process for a bounded time. Look-ups run on the event loop; this thread takes
what is due and settles what has ended, so that one slow answer holds up no other.
"""

from __future__ import annotations

import hashlib
import queue
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers import metrics, statuses
from orderrelay_workers.gate import Kind, Refusal, Report
from orderrelay_workers.ledger import companies, unknowns
from orderrelay_workers.ledger.engine import clock, is_away, reading
from orderrelay_workers.ledger.settling import LookedUp, settle_lookups
from orderrelay_workers.runtime import CompanyGone
from orderrelay_workers.slots import Lead, give_back, other_slots, wait_for_slot
from orderrelay_workers.tokens import NoToken, Token
from orderrelay_workers.vendor.answers import LookupVerdict, read_lookup_answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from orderrelay_workers.gate import Permits
    from orderrelay_workers.ledger.settling import Settled
    from orderrelay_workers.ledger.unknowns import Unknown
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.slots import Slot
    from orderrelay_workers.vendor.exchange import Exchange

#: A reconciliation works for so long on one company, then others have their turn, in seconds.
FLOW_SECONDS = 10.0

#: Look-ups may reserve so far ahead, in seconds. Orders may reserve only one second, so look-ups always get a turn.
_HORIZON_SECONDS = 2.0

#: Look-ups ask for this share of the company's rate while orders want all of it.
_SHARE = 0.2

#: So many look-ups may be out at once even where the rate is low, so that one that hangs holds up no others.
_MOST_OUT_AT_LEAST = 10

#: A control is believed for so long.
_CONTROL_HOLDS = timedelta(hours=1)

#: After an answer has come, others may join its settle for so long, in seconds.
_LINGER_SECONDS = 0.05

#: When nothing more is due but look-ups are out, look again after so long, in seconds.
_LOOK_AGAIN_SECONDS = 0.25

#: A closed gate is waited for so long, in seconds; beyond that the thread is better used for others.
_WORTH_WAITING_SECONDS = 1.0

#: After Redis or the database failed, try again after so long, in seconds. What was seen is kept meanwhile.
_TROUBLE_SECONDS = 0.5

_log = structlog.get_logger(__name__)


def reconcile(worker: Runtime, company: str, *, for_seconds: float = FLOW_SECONDS) -> None:
    """Look up a company's unknown orders that are due, for a while. Returns at once if this process is at it."""
    if company not in worker.companies or not worker.reconciling.begin(company):
        return
    with structlog.contextvars.bound_contextvars(company=company):
        try:
            flow = _Flow(worker, company, for_seconds)
            try:
                flow.run()
            except (RedisError, SQLAlchemyError) as error:  # the promoter asks again
                _log.warning("nothing_looked_up", error=type(error).__name__)
            finally:
                flow.let_go()
        except CompanyGone:
            return
        finally:
            worker.reconciling.end(company)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A look-up that has ended; without an exchange nothing was seen, and the job comes due again by itself.

    One that was late for its slot needs another.
    """

    unknown: Unknown
    token: Token
    exchange: Exchange | None
    probe: bool
    late: bool = False
    tries: int = 0


class _Flow:
    def __init__(self, worker: Runtime, company: str, for_seconds: float) -> None:
        self._worker = worker
        self._company = company
        self._company_id = worker.serve(company).id
        self._ends_at = time.monotonic() + for_seconds
        settings = worker.settings
        self._batch = max(1, int(settings.companies[company].rate_per_second * _SHARE))
        # What one process has taken is lost time for its orders if it dies, so it takes no more than it soon asks.
        self._most_out = max(_MOST_OUT_AT_LEAST, self._batch)
        self._taken_for_seconds = settings.request_timeout_seconds + _HORIZON_SECONDS + 5
        self._ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        self._out = 0
        self._lead = Lead()
        self._unsettled: list[LookedUp] = []

    def run(self) -> None:
        """Work until nothing is due, the gate says "not now" for long, or the time is over."""
        next_take = 0.0
        while True:
            now = time.monotonic()
            over = now >= self._ends_at or self._worker.draining.is_set()
            may_take = not over and not self._unsettled and self._out < self._most_out
            if may_take and now >= next_take:
                wait = self._take_more_if_possible()
                if not self._out and (wait is None or wait > _WORTH_WAITING_SECONDS):
                    return  # jobs wait in the ledger, not here; the promoter asks again
                next_take = time.monotonic() + (_LOOK_AGAIN_SECONDS if wait is None else wait)
            if over and not self._out:
                return  # what could not be settled comes due again by itself
            ended = self._gather(next_take if may_take else now + _LOOK_AGAIN_SECONDS)
            again = [one.late and not self._worker.draining.is_set() for one in ended]
            self._settle([one for one, goes in zip(ended, again, strict=True) if not goes])
            self._start_again([one for one, goes in zip(ended, again, strict=True) if goes])

    def let_go(self) -> None:
        """Give back the places of look-ups that are still out, as after an error; their jobs come due again."""
        latest = time.monotonic() + self._worker.settings.lease_seconds
        while self._out and time.monotonic() < latest:
            ended = self._gather(time.monotonic() + _LOOK_AGAIN_SECONDS)
            self._out -= len(ended)
            if ended:
                self._report([], len(ended), any(e.probe for e in ended))

    def _take_more_if_possible(self) -> float | None:
        """Take more, unless Redis or the database is away: what is out has to be settled all the same."""
        try:
            return self._take_more()
        except (RedisError, SQLAlchemyError) as error:
            _log.warning("nothing_looked_up", error=type(error).__name__)
            return _TROUBLE_SECONDS

    def _take_more(self) -> float | None:
        """Take and start what is due and permitted.

        Returns:
            Seconds until it is worth trying again; None if nothing is due.
        """
        worker = self._worker
        token = worker.tokens.get(self._company)
        if isinstance(token, NoToken):
            return max(token.wait_seconds, 0.05)
        permits = self._admit(self._batch)
        if not permits.granted:
            return max(permits.wait_seconds, 0.05)
        granted_at = time.monotonic()
        taken: list[Unknown] = []
        try:
            taken = unknowns.take_due(
                worker.engine,
                self._company_id,
                permits.granted,
                for_seconds=self._taken_for_seconds,
                owner=worker.boot_id,
                alias=self._company,
            )
        finally:
            give_back(worker.gate, permits, permits.granted - len(taken))
        self._lead.learn(time.monotonic() - granted_at)
        for index, unknown in enumerate(taken):
            self._start(unknown, token, granted_at + permits.wait_of(index), probe=permits.probe)
        if not taken:
            return None
        return _LOOK_AGAIN_SECONDS if len(taken) < permits.granted else permits.wait_of(len(taken) - 1)

    def _admit(self, want: int) -> Permits:
        permits = self._ask_gate(want)
        if permits.refusal is not Refusal.UNSEEDED:
            return permits
        # After a wipe the orders in doubt shall not wait for the next mirroring.
        self._worker.refresh_companies(companies.by_alias(self._worker.engine))
        return self._ask_gate(want)

    def _ask_gate(self, want: int) -> Permits:
        permits = self._worker.gate.admit(
            self._company, Kind.LOOKUP, want, horizon_seconds=_HORIZON_SECONDS, lead_seconds=self._lead.seconds
        )
        metrics.answered(permits)
        return permits

    def _start(self, unknown: Unknown, token: Token, at: float, *, probe: bool, tries: int = 0) -> None:
        self._out += 1
        future = self._worker.loop.start(self._ask(unknown.external_id, token, at, is_patient=probe, tries=tries))

        def ended(done: Future[Exchange | None]) -> None:
            error = None if done.cancelled() else done.exception()
            if done.cancelled() or error is not None:
                _log.error("look_up_lost", job=str(unknown.job_id), error=type(error).__name__)
                self._ended.put(_Ended(unknown, token, None, probe))
            else:
                exchange = done.result()
                self._ended.put(_Ended(unknown, token, exchange, probe, late=exchange is None, tries=tries))

        future.add_done_callback(ended)

    async def _ask(
        self, external_id: str, token: Token, at: float, *, is_patient: bool, tries: int = 0
    ) -> Exchange | None:
        """Look one order up; None if its slot was missed, unless it goes all the same."""
        if not await wait_for_slot(at, tries=tries) and not is_patient:
            return None
        return await self._worker.vendor.look_up(self._company, token.text, external_id)

    def _start_again(self, late: list[_Ended]) -> None:
        """Give look-ups that missed their slots other ones; those that get none come due again by themselves."""
        if not late:
            return
        slots: list[Slot] = []
        try:
            slots = other_slots(self._worker.gate, self._company, Kind.LOOKUP, len(late))
        finally:
            self._settle(late[len(slots) :])
        for ended, slot in zip(late, slots, strict=False):
            self._out -= 1
            self._start(ended.unknown, ended.token, slot.at, probe=ended.probe, tries=ended.tries + 1)

    def _gather(self, until: float) -> list[_Ended]:
        """Wait for a look-up to end, then take what ends with it."""
        timeout = min(max(until - time.monotonic(), 0.001), _LOOK_AGAIN_SECONDS)
        try:
            batch = [self._ended.get(timeout=timeout)]
        except queue.Empty:
            return []
        linger_until = time.monotonic() + _LINGER_SECONDS
        while len(batch) < self._out:
            try:
                batch.append(self._ended.get(timeout=max(0.0, linger_until - time.monotonic())))
            except queue.Empty:
                break
        return batch

    def _settle(self, ended: list[_Ended]) -> None:
        worker = self._worker
        self._out -= len(ended)
        seen = [(e, e.exchange, read_lookup_answer(e.exchange)) for e in ended if e.exchange is not None]
        for _, exchange, verdict in seen:
            seconds = (exchange.ended_at - exchange.began_at).total_seconds()
            metrics.request_ended(self._company, Kind.LOOKUP, verdict.kind, seconds)
        if ended:
            self._report([(e.token, verdict) for e, _, verdict in seen], len(ended), any(e.probe for e in ended))
        batch = [*self._unsettled]
        self._unsettled = []
        control = any(v.kind == "absent" for _, _, v in seen) and self._control_if_possible(seen[0][0].token)
        for e, exchange, verdict in seen:
            u = e.unknown
            asked = (u.job_id, u.company_id, u.claim, u.number, worker.boot_id)
            batch.append(LookedUp(*asked, exchange, verdict, control, u.taken_at, u.traceparent))
        if not batch:
            return
        try:
            settled = settle_lookups(worker.engine, batch, worker.policy, actor=worker.actor)
        except SQLAlchemyError as error:
            if not is_away(error):
                raise
            _log.warning("look_ups_not_settled_yet", held=len(batch), error=type(error).__name__)
            self._unsettled = batch
            time.sleep(_TROUBLE_SECONDS)
            return
        self._tell(settled, batch)

    def _report(self, seen: Sequence[tuple[Token, LookupVerdict]], finished: int, probe: bool) -> None:
        worker = self._worker
        kinds = [v.kind for _, v in seen]
        throttled = [v.retry_after_seconds for _, v in seen if v.kind == "throttled"]
        report = Report(
            finished=finished,
            good=kinds.count("found") + kinds.count("absent"),
            unwell=kinds.count("failing") + kinds.count("not_sent"),
            trip=next((v.reason for _, v in seen if v.kind == "misconfigured"), None),
            throttle_seconds=max((wait for wait in throttled if wait is not None), default=None),
            throttled=len(throttled),
            probe=probe,
        )
        refused = {token.text: token for token, v in seen if v.kind == "unauthorized"}
        taken = {token.text: token for token, v in seen if v.kind in ("found", "absent")}
        try:
            metrics.reported(self._company, Kind.LOOKUP, report)
            worker.gate.report(self._company, Kind.LOOKUP, report)
            for token in taken.values():
                worker.tokens.accepted(self._company, token)
            for token in refused.values():
                worker.tokens.refused(self._company, token, "the look-up was answered 401")
        except RedisError as error:  # what the look-ups found has to be settled all the same
            _log.warning("gate_not_told", error=type(error).__name__)

    def _control_if_possible(self, token: Token) -> bool:
        try:
            return self._control(token)
        except (RedisError, SQLAlchemyError) as error:
            _log.warning("lookup_control_not_made", error=type(error).__name__)
            return False

    def _control(self, token: Token) -> bool:
        """Whether this look-up finds an order that is known to exist; asked anew every hour, or with new settings."""
        worker = self._worker
        digest = self._settings_digest()
        company = companies.by_alias(worker.engine)[self._company]
        with reading(worker.engine) as connection:
            now = clock(connection)
        passed_at = company.control_at if company.control_digest == digest else None
        if passed_at is not None and now - passed_at < _CONTROL_HOLDS:
            return True
        for known in unknowns.known_orders(worker.engine, self._company_id, worker.settings.settling_seconds):
            permits = self._admit(1)
            if not permits.granted:
                return False
            at = time.monotonic() + permits.wait_of(0)
            exchange = worker.loop.run(self._ask(known.external_id, token, at, is_patient=True))
            assert exchange is not None  # noqa: S101  a patient one goes, however late
            verdict = read_lookup_answer(exchange)
            self._report([(token, verdict)], 1, permits.probe)
            record = LookedUp(
                known.job_id, self._company_id, uuid.uuid4(), 0, worker.boot_id, exchange, verdict, False, now
            )
            self._tell(settle_lookups(worker.engine, [record], worker.policy, actor=worker.actor), [record])
            if known.vendor_id in verdict.vendor_ids:
                companies.remember_control(worker.engine, self._company_id, digest)
                _log.info("lookup_control_passed", external_id=known.external_id)
                return True
        _log.warning("lookup_control_failed", known_orders="none found by the look-up")
        return False

    def _settings_digest(self) -> bytes:
        settings = self._worker.settings
        keys = settings.companies[self._company]
        secret = keys.company_api_key.get_secret_value() + "\0" + keys.connect_api_key.get_secret_value()
        salted = hashlib.scrypt(secret.encode(), salt=self._worker.ledger_id.bytes, n=2**10, r=8, p=1, dklen=32)
        return hashlib.sha256(f"{settings.base_url}\0{settings.lookup_path}\0".encode() + salted).digest()

    def _tell(self, settled: Settled, batch: list[LookedUp]) -> None:
        statuses.publish(self._worker.redis, settled.statuses)
        if self._worker.traces is not None:
            self._worker.traces.looked_up(self._company, batch, settled)
        for looked_up in batch:
            status = settled.statuses.get(looked_up.job_id)
            _log.info(
                "order_looked_up",
                job=str(looked_up.job_id),
                answer=looked_up.verdict.kind,
                reason=looked_up.verdict.reason,
                state=None if status is None else str(status.state),
            )
        for job_id, happening in settled.happenings:
            if happening.alarm:  # anything else is told above
                _log.error(happening.kind, job=str(job_id), **happening.for_log())
