"""Settling in spite of everything: held while the database is away, halved around bad data, spooled at exit."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import exc

from orderrelay_workers import metrics, spool
from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import claims, settling
from orderrelay_workers.ledger.engine import clock, is_away
from orderrelay_workers.ledger.rows import write_events
from orderrelay_workers.ledger.settling import Settled, Settlement
from orderrelay_workers.vendor.answers import read_order_answer
from orderrelay_workers.vendor.exchange import Exchange, Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.runtime import Runtime

#: The wait between two tries while the database is away, in seconds: first, and at most.
_FIRST_WAIT_SECONDS = 0.2
_MOST_WAIT_SECONDS = 5.0

#: The longest such wait of a worker that is to exit, in seconds: its patience shall not be overrun by it.
_MOST_WAIT_AT_EXIT_SECONDS = 1.0

#: A worker that is to exit waits so long for the database, then spools, in seconds.
_PATIENCE_AT_EXIT_SECONDS = 10.0

#: Two workers may be told one vendor id at once; the second try sees the first's commit.
_TRIES_ON_BAD_CONTENT = 2

_log = structlog.get_logger(__name__)


def settle_surely(worker: Runtime, batch: Sequence[Settlement], unsent: Sequence[Claim]) -> Settled | None:
    """Settle a batch and give back unsent claims, however long the database is away.

    Returns:
        What the batch has become; None if the worker had to exit first and the batch is in the spool.
    """
    wait = _FIRST_WAIT_SECONDS
    leaving_since: float | None = None
    away = False
    while True:
        try:
            claims.give_back(worker.engine, unsent)
            settled = settle_or_halve(worker, batch)
        except exc.SQLAlchemyError as error:
            if not is_away(error):
                raise
            if not away:
                _log.error("ledger_away", held=len(batch), error=type(error.__cause__ or error).__name__)
            away = True
            if worker.draining.is_set():
                leaving_since = leaving_since or time.monotonic()
                # What came after answers that are in the spool already finds the database given up.
                given_up = spool.is_begun(worker.spool_folder, worker.boot_id)
                if given_up or time.monotonic() - leaving_since > _PATIENCE_AT_EXIT_SECONDS:
                    _spool(worker, [*batch, *(_unsent(worker, claim) for claim in unsent)])
                    return None
            _wait(worker, wait)
            wait = min(wait * 2, _MOST_WAIT_SECONDS)
        else:
            if away:
                _log.info("ledger_back", settled=len(batch))
            return settled


def _wait(worker: Runtime, seconds: float) -> None:
    """Wait before the next try; not as long where this worker is to exit, or is told to meanwhile."""
    if worker.draining.is_set():
        time.sleep(min(seconds, _MOST_WAIT_AT_EXIT_SECONDS))
    else:
        worker.draining.wait(seconds)


def _spool(worker: Runtime, batch: Sequence[Settlement]) -> None:
    if batch:
        path = spool.write(worker.spool_folder, worker.boot_id, batch)
        _log.warning("settlements_spooled", file=str(path), settlements=len(batch))


def _unsent(worker: Runtime, claim: Claim) -> Settlement:
    """A claim that could not be given back, as what it comes to: a request of which nothing was sent."""
    now = datetime.now(UTC)
    exchange = Exchange(
        sent=False,
        status=None,
        headers={},
        body=None,
        partial=b"",
        failure=Failure.FENCED,
        began_at=now,
        ended_at=now,
    )
    return Settlement(
        job_id=claim.job_id,
        company_id=claim.company_id,
        token=claim.token,
        number=claim.number,
        body_digest=claim.body_digest,
        worker=worker.boot_id,
        exchange=exchange,
        verdict=read_order_answer(exchange),
    )


def settle_or_halve(worker: Runtime, batch: Sequence[Settlement]) -> Settled:
    """Settle a batch; where it fails on its content, all but the bad answer, which is kept in a file and told of.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database is away; settling the whole batch again does no harm.
    """
    return _settle_or_halve(worker, batch, _TRIES_ON_BAD_CONTENT)


def _settle_or_halve(worker: Runtime, batch: Sequence[Settlement], tries: int) -> Settled:
    if not batch:
        return Settled({}, [])
    try:
        settled = settling.settle(worker.engine, batch, worker.policy, actor=worker.actor)
    except (exc.DBAPIError, exc.StatementError, ValueError, OverflowError) as error:
        if is_away(error):
            raise
        if len(batch) == 1 and tries <= 1:
            return _set_aside(worker, batch[0], error)
    else:
        _count(worker, batch)
        return settled
    if len(batch) == 1:
        return _settle_or_halve(worker, batch, tries - 1)
    middle = len(batch) // 2
    first = _settle_or_halve(worker, batch[:middle], tries)
    second = _settle_or_halve(worker, batch[middle:], tries)
    return Settled(first.statuses | second.statuses, first.happenings + second.happenings)


def _count(worker: Runtime, batch: Sequence[Settlement]) -> None:
    aliases = {company.id: alias for alias, company in worker.companies.items()}
    outcomes = Counter((s.company_id, str(s.verdict.outcome)) for s in batch)
    for (company_id, outcome), number in outcomes.items():
        metrics.settled(aliases.get(company_id, ""), {outcome: number})


def _set_aside(worker: Runtime, settlement: Settlement, error: Exception) -> Settled:
    """One answer cannot be stored: its claim lapses, so the order is looked up; a person is told."""
    reason = type(getattr(error, "orig", None) or error).__name__
    kept = spool.write(worker.spool_folder / "bad", worker.boot_id, [settlement])
    happening = Happening("answer_set_aside", alarm=True, detail={"reason": reason, "kept_in": str(kept)})
    with worker.engine.begin() as connection:
        events = [(settlement.company_id, settlement.job_id, happening)]
        write_events(connection, clock(connection), worker.actor, events)
    return Settled({}, [(settlement.job_id, happening)])
