"""The duty that looks after deadlines: it parks what has missed its own, and tells in time what will."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from orderrelay_shared import keys
from orderrelay_shared.outlook import Outlook
from orderrelay_workers import statuses
from orderrelay_workers.deadlines import Pace
from orderrelay_workers.ledger import deadlines
from orderrelay_workers.limits import limits_of, schedule_of
from orderrelay_workers.sidecar.resting import seconds_to_rest

if TYPE_CHECKING:
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.runtime import Runtime

#: Risks are looked for at most so often, by one worker, in seconds; less often where very much waits.
_LOOK_SECONDS: Final = 5

#: So many jobs at most are parked in one go, and so many goes there are in one round.
_BATCH: Final = 500
_ROUNDS: Final = 10

_log = structlog.get_logger(__name__)


class DeadlineWatch:
    """One worker's watch. It looks at some jobs at a time, and remembers how far it has come."""

    def __init__(self) -> None:
        self._places: dict[str, deadlines.Place | None] = {}

    def watch(self, worker: Runtime) -> None:
        """Park what has missed its deadline, and tell what will."""
        companies = list(worker.companies.values())
        for company in companies:
            self._park(worker, company)
        if worker.redis.set(keys.duty("deadlines"), worker.boot_id.hex, nx=True, ex=_LOOK_SECONDS):
            began = time.monotonic()
            for company in companies:
                self._warn(worker, company)
            rest = seconds_to_rest(time.monotonic() - began, at_least=_LOOK_SECONDS)
            if rest > _LOOK_SECONDS:
                worker.redis.expire(keys.duty("deadlines"), rest)

    def _park(self, worker: Runtime, company: Company) -> None:
        parked = 0
        for _ in range(_ROUNDS):
            settled = deadlines.park_passed(worker.engine, company.id, actor=worker.actor, limit=_BATCH)
            statuses.publish(worker.redis, settled.statuses)
            parked += len(settled.statuses)
            if len(settled.statuses) < _BATCH:
                break
        if parked:
            _log.warning("deadlines_passed", company=company.alias, jobs=parked)

    def _warn(self, worker: Runtime, company: Company) -> None:
        warned = deadlines.warn(
            worker.engine,
            company.id,
            _pace_of(worker, company),
            actor=worker.actor,
            after=self._places.get(company.alias),
        )
        self._places[company.alias] = warned.goes_on
        if warned.happenings:
            _log.warning("deadlines_at_risk", company=company.alias, jobs=len(warned.happenings))


def _pace_of(worker: Runtime, company: Company) -> Pace:
    """As fast as orders went lately; where nothing says how fast that is, as fast as they may go."""
    published = worker.redis.get(keys.outlook(company.alias))
    outlook = Outlook.from_json(published) if isinstance(published, bytes) else None
    lately = None if outlook is None else outlook.expected_per_second
    return Pace(lately or limits_of(company).rate_per_second, schedule_of(company))
