"""The periodic duties: beat, promote, sweep, mirror. Each is guarded, so that any number of workers may do them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from orderrelay_shared import keys
from orderrelay_shared.outlook import OUTLOOK_TTL_SECONDS, Outlook
from orderrelay_shared.states import JobState
from orderrelay_workers import statuses
from orderrelay_workers.audit import backlog
from orderrelay_workers.gate import Kind
from orderrelay_workers.ledger import caution, claims, companies, identity, retiring, sweeping, unknowns
from orderrelay_workers.outlook import outlook_of
from orderrelay_workers.sidecar.resting import seconds_to_rest

if TYPE_CHECKING:
    from orderrelay_workers.runtime import Runtime

#: Waiting jobs are counted at most so often, by one worker, in seconds; less often where there are very many.
_COUNT_SECONDS = 5
_COUNT_TTL_SECONDS = 60

#: Workers that ended long ago are retired at most so often, by one worker, in seconds.
_RETIRE_SECONDS = 3600

#: A company that no worker has spoken of for so long is no longer published, in seconds.
_FORGET_COMPANY_SECONDS = 7 * 24 * 3600

_log = structlog.get_logger(__name__)


def beat(worker: Runtime) -> None:
    """Say that this worker is alive; check the intake's owner and the ledger's memory; tell the gate what is out."""
    if not worker.life_sign.beat("draining" if worker.draining.is_set() else "running", made=worker.claims_made):
        worker.come_back()
    identity.check(worker.redis, worker.ledger_id)
    worker.check_ledger()
    worker.gate.sync_in_flight()


def mirror(worker: Runtime) -> None:
    """Carry the ledger's companies to Redis: their names, their pauses, and the gates whose keys are missing."""
    known = companies.by_alias(worker.engine)
    worker.refresh_companies(known)
    now = time.time()
    served = {alias: now for alias, company in known.items() if company.key_digest is not None}
    if served:
        worker.redis.zadd(keys.COMPANIES, served)
        worker.redis.zremrangebyscore(keys.COMPANIES, 0, now - _FORGET_COMPANY_SECONDS)
    if worker.redis.set(keys.duty("count"), worker.boot_id.hex, nx=True, ex=_COUNT_SECONDS):
        began = time.monotonic()
        for company in known.values():
            _count(worker, company)
        rest = seconds_to_rest(time.monotonic() - began, at_least=_COUNT_SECONDS)
        if rest > _COUNT_SECONDS:
            worker.redis.expire(keys.duty("count"), rest)


def _count(worker: Runtime, company: companies.Company) -> None:
    """Publish how many orders of a company wait, and what is to be expected of them."""
    waiting = backlog.read_backlog(worker.engine, company.id)
    before = worker.redis.get(keys.outlook(company.alias))
    outlook = outlook_of(
        worker.gate.state(company.alias),
        company,
        waiting,
        Outlook.from_json(before) if isinstance(before, bytes) else None,
    )
    worker.redis.set(keys.waiting(company.alias), outlook.waiting, ex=_COUNT_TTL_SECONDS)
    worker.redis.set(keys.outlook(company.alias), outlook.to_json(), ex=OUTLOOK_TTL_SECONDS)


def promote(worker: Runtime) -> None:
    """Send hints for what is due: orders whose gate is open, look-ups, answers to be stored."""
    if worker.draining.is_set():
        return
    _look_up_first(worker)
    idle = {c.id: alias for alias, c in worker.companies.items() if alias not in worker.submitting}
    for alias in claims.due_companies(worker.engine, idle):
        if _is_open(worker, alias):
            worker.hints.orders(alias)
    for alias, company in worker.companies.items():
        _park_undecidable(worker, alias, company.id)
        at_it = alias in worker.reconciling or not worker.settings.lookup_path
        if not at_it and unknowns.has_due(worker.engine, company.id):
            worker.hints.reconcile(alias)
    if worker.results_wait():
        worker.hints.results()


def _look_up_first(worker: Runtime) -> None:
    """In cautious mode, due orders go to their look-up before they may be sent; without one, they are parked."""
    served = [company.id for company in worker.companies.values()]
    moved = caution.doubt_waiting(worker.engine, served, lease_seconds=worker.settings.lease_seconds)
    statuses.publish(worker.redis, moved)


def _park_undecidable(worker: Runtime, company: str, company_id: int) -> None:
    """Park unknown orders that no look-up will decide: there is none, or it has failed for too long."""
    if worker.settings.lookup_path:
        parked = unknowns.park_failed(worker.engine, company_id, worker.policy, actor=worker.actor)
    else:
        parked = unknowns.park_all(worker.engine, company_id, actor=worker.actor)
    statuses.publish(worker.redis, parked.statuses)
    jobs = sum(status.state is JobState.PARKED for status in parked.statuses.values())
    if jobs:
        _log.warning("unknown_orders_parked", company=company, jobs=jobs, look_up=bool(worker.settings.lookup_path))


def _is_open(worker: Runtime, company: str) -> bool:
    state = worker.gate.state(company)
    if state is None or state.is_newer or state.paused is not None:
        return False
    if state.throttled_seconds > 0 or state.closed_seconds > 0:
        return False
    return not any(hold.kind is Kind.ORDER and (hold.seconds_left > 0 or hold.probing) for hold in state.holds)


def sweep(worker: Runtime) -> None:
    """Find dead workers and lapsed claims."""
    swept = sweeping.sweep(worker.engine, actor=worker.actor)
    if swept.statuses:
        _log.warning("claims_lapsed", jobs=len(swept.statuses))
    statuses.publish(worker.redis, swept.statuses)
    for boot_id in swept.dead_workers:
        _log.warning("worker_died", worker=str(boot_id))
        worker.gate.forget_worker(list(worker.companies), boot_id)
        worker.tokens.forget_worker(list(worker.companies), boot_id)
    if worker.redis.set(keys.duty("retire"), worker.boot_id.hex, nx=True, ex=_RETIRE_SECONDS):
        retiring.retire(worker.engine)
