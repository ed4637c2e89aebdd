"""The story of finding out: look unknown orders up by ExternalId, and believe an empty list only with evidence."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from orderrelay_workers import statuses
from orderrelay_workers.gate import Kind, Report
from orderrelay_workers.ledger import companies, unknowns
from orderrelay_workers.ledger.engine import clock, reading
from orderrelay_workers.ledger.settling import LookedUp, settle_lookups
from orderrelay_workers.tokens import NoToken, Token
from orderrelay_workers.vendor.answers import LookupVerdict, read_lookup_answer

if TYPE_CHECKING:
    from orderrelay_workers.gate import Permits
    from orderrelay_workers.ledger.settling import Settled
    from orderrelay_workers.ledger.unknowns import Unknown
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.vendor.exchange import Exchange

#: A reconciliation works for so long on one company, then others have their turn, in seconds.
FLOW_SECONDS = 10.0

#: Look-ups may reserve so far ahead, in seconds. Orders may reserve only one second, so look-ups always get a turn.
_HORIZON_SECONDS = 3.0

#: Look-ups ask for this share of the company's rate while orders want all of it.
_SHARE = 0.2

#: A control is believed for so long.
_CONTROL_HOLDS = timedelta(hours=1)

_THROTTLE_SECONDS = 1.0

_log = structlog.get_logger(__name__)


def reconcile(worker: Runtime, company: str, *, for_seconds: float = FLOW_SECONDS) -> None:
    """Look up a company's unknown orders that are due, for a while. Returns at once if this process is at it."""
    if company not in worker.companies or not worker.reconciling.begin(company):
        return
    with structlog.contextvars.bound_contextvars(company=company):
        try:
            _Flow(worker, company).run(time.monotonic() + for_seconds)
        except (RedisError, SQLAlchemyError) as error:  # the promoter asks again
            _log.warning("nothing_looked_up", error=type(error).__name__)
        finally:
            worker.reconciling.end(company)


class _Flow:
    def __init__(self, worker: Runtime, company: str) -> None:
        self._worker = worker
        self._company = company
        self._company_id = worker.companies[company].id
        settings = worker.settings
        self._batch = max(1, int(settings.companies[company].rate_per_second * _SHARE))
        self._taken_for_seconds = settings.request_timeout_seconds + _HORIZON_SECONDS + 5

    def run(self, ends_at: float) -> None:
        worker = self._worker
        while time.monotonic() < ends_at and not worker.draining.is_set():
            token = worker.tokens.get(self._company)
            if isinstance(token, NoToken):
                return  # the promoter asks again
            permits = self._admit(self._batch)
            if not permits.granted:
                return
            taken: list[Unknown] = []
            try:
                taken = unknowns.take_due(
                    worker.engine,
                    self._company_id,
                    permits.granted,
                    for_seconds=self._taken_for_seconds,
                    owner=worker.boot_id,
                )
            finally:
                self._give_back(permits, permits.granted - len(taken))
            if not taken:
                return
            self._look_up(taken, token, permits)

    def _admit(self, want: int) -> Permits:
        return self._worker.gate.admit(self._company, Kind.LOOKUP, want, horizon_seconds=_HORIZON_SECONDS)

    def _give_back(self, permits: Permits, unused: int) -> None:
        try:
            self._worker.gate.give_back(permits, unused)
        except RedisError as error:  # what was taken has to be looked up all the same; the beat tells the gate
            _log.warning("gate_not_told", error=type(error).__name__)

    def _look_up(self, taken: list[Unknown], token: Token, permits: Permits) -> None:
        worker = self._worker
        exchanges = self._ask([u.external_id for u in taken], token, permits)
        verdicts = [read_lookup_answer(exchange) for exchange in exchanges]
        self._report(verdicts, token, permits)
        control = self._control(token) if any(v.kind == "absent" for v in verdicts) else False
        batch = [
            LookedUp(u.job_id, u.company_id, u.claim, u.number, worker.boot_id, exchange, verdict, control, u.taken_at)
            for u, exchange, verdict in zip(taken, exchanges, verdicts, strict=True)
        ]
        self._tell(settle_lookups(worker.engine, batch, worker.policy, actor=worker.actor), batch)

    def _ask(self, external_ids: list[str], token: Token, permits: Permits) -> list[Exchange]:
        granted_at = time.monotonic()

        async def ask(index: int, external_id: str) -> Exchange:
            await asyncio.sleep(max(0.0, granted_at + permits.wait_of(index) - time.monotonic()))
            return await self._worker.vendor.look_up(self._company, token.text, external_id)

        async def ask_all() -> list[Exchange]:
            return await asyncio.gather(*(ask(i, x) for i, x in enumerate(external_ids)))

        return self._worker.loop.run(ask_all())

    def _report(self, verdicts: list[LookupVerdict], token: Token, permits: Permits) -> None:
        worker = self._worker
        kinds = [v.kind for v in verdicts]
        throttles = [v.retry_after_seconds or _THROTTLE_SECONDS for v in verdicts if v.kind == "throttled"]
        report = Report(
            finished=len(verdicts),
            good=kinds.count("found") + kinds.count("absent"),
            unwell=kinds.count("failing") + kinds.count("not_sent"),
            trip=next((v.reason for v in verdicts if v.kind == "misconfigured"), None),
            throttle_seconds=max(throttles, default=None),
            probe=permits.probe,
        )
        try:
            worker.gate.report(self._company, Kind.LOOKUP, report)
            if "unauthorized" in kinds:
                worker.tokens.refused(self._company, token, "the look-up was answered 401")
            elif report.good:
                worker.tokens.accepted(self._company, token)
        except RedisError as error:  # what the look-ups found has to be settled all the same
            _log.warning("gate_not_told", error=type(error).__name__)

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
            try:
                permits = self._admit(1)
            except RedisError:
                return False
            if not permits.granted:
                return False
            [exchange] = self._ask([known.external_id], token, permits)
            verdict = read_lookup_answer(exchange)
            self._report([verdict], token, permits)
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
                _log.error(happening.kind, job=str(job_id), **happening.detail)
