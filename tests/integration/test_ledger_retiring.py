"""Workers that ended long ago leave the table that is read at every claim; no claim of theirs is forgotten."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_workers.audit.queries import read_story
from orderrelay_workers.ledger import caution, retiring, schema, sweeping
from orderrelay_workers.ledger.engine import reading
from orderrelay_workers.ledger.liveness import LifeSign

if TYPE_CHECKING:
    from tests.ledgers import Ledger

_LONG_AGO = timedelta(days=retiring.AFTER_DAYS, hours=1)


def appear(ledger: Ledger, state: str, ago: timedelta, *, claims: int = 0) -> uuid.UUID:
    """A worker that was last heard of so long ago."""
    boot_id, at = uuid.uuid4(), datetime.now(UTC) - ago
    row = {"boot_id": boot_id, "name": f"host of {boot_id}", "version": "1", "started_at": at, "beat_at": at}
    with ledger.engine.begin() as connection:
        connection.execute(sa.insert(schema.worker), {**row, "state": state, "claims": claims})
    return boot_id


def counted(ledger: Ledger) -> int:
    """How many claims the ledger counts."""
    with reading(ledger.engine) as connection:
        return caution.read_standing(connection).claims


def known(ledger: Ledger, table: sa.Table) -> set[uuid.UUID]:
    """The workers in a table."""
    return {row["boot_id"] for row in ledger.rows(table)}


def test_their_claims_stay_counted(ledger: Ledger) -> None:
    """However many are retired, and however often, the ledger counts the same claims, and its table stays short."""
    before = counted(ledger)
    others = known(ledger, schema.worker)
    gone = {appear(ledger, ("stopped", "dead")[n % 2], _LONG_AGO, claims=2) for n in range(retiring._BATCH + 3)}
    assert counted(ledger) == before + 2 * len(gone)
    assert retiring.retire(ledger.engine) == len(gone)
    assert counted(ledger) == before + 2 * len(gone)
    assert known(ledger, schema.past_worker) == gone
    assert known(ledger, schema.worker) == others | {retiring._KEEPER}

    later = appear(ledger, "stopped", _LONG_AGO, claims=5)
    assert retiring.retire(ledger.engine) == 1
    assert retiring.retire(ledger.engine) == 0
    assert counted(ledger) == before + 2 * len(gone) + 5
    assert later not in known(ledger, schema.worker)


def test_who_may_still_be_there_is_left(ledger: Ledger) -> None:
    """A worker that is held for running, or ended a short while ago, is none that ended long ago."""
    for state in ("running", "draining"):
        appear(ledger, state, _LONG_AGO, claims=1)
    appear(ledger, "stopped", timedelta(days=retiring.AFTER_DAYS, hours=-1), claims=1)
    before = ledger.rows(schema.worker)
    assert retiring.retire(ledger.engine) == 0
    assert ledger.rows(schema.worker) == before


def test_who_is_late_because_the_clock_jumped_is_not_forgotten(ledger: Ledger) -> None:
    """All was suspended for long, or the database's clock was wrong: who is found dead then beats a moment later."""
    late = appear(ledger, "running", _LONG_AGO, claims=3)
    assert sweeping.sweep(ledger.engine, actor="test").dead_workers == (late,)
    assert retiring.retire(ledger.engine) == 0
    assert LifeSign(ledger.engine, late, "late", "1").beat("running", made=3)


def test_the_audit_tells_their_names(ledger: Ledger) -> None:
    """An order's story names the worker that sent it, also when it has been retired."""
    [claim] = ledger.book_and_claim(1)
    gone = appear(ledger, "stopped", _LONG_AGO)
    with ledger.engine.begin() as connection:
        attempt = {"job_id": claim.job_id, "company_id": claim.company_id, "kind": "order", "token": claim.token}
        told = {"number": 1, "worker": gone, "began_at": datetime.now(UTC), "outcome": "unknown"}
        connection.execute(sa.insert(schema.attempt), {**attempt, **told})
    retiring.retire(ledger.engine)
    story = read_story(ledger.engine, claim.job_id)
    assert story is not None
    assert [attempt.worker for attempt in story.attempts] == [f"host of {gone}"]
