"""Cautious mode: what to do when the database has forgotten claims that it had once committed.

A restored backup and a failover that lost commits bring back orders as waiting that were sent long ago. The ledger
therefore counts its claims, and Redis remembers how many there were before any request of theirs leaves. When the
database counts fewer, or PostgreSQL is on another timeline, whoever notices puts the ledger into cautious mode: every
order is then looked up before it may be sent, until a person ends the mode. A person can also begin it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from orderrelay_workers import lanes
from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import TIMELINE, clock, reading, tells_timeline
from orderrelay_workers.ledger.rows import read_statuses, text, write_events

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    import redis

    from orderrelay_shared.job_status import JobStatus

_job = schema.job.c
_ledger = schema.ledger.c

#: So many orders are moved to their look-up in one transaction.
BATCH = 1000


class LedgerWentBack(Exception):
    """The database has forgotten claims: it was restored, or lost commits in a failover. The text says how one knows.

    Attributes:
        standing: What the ledger said of itself then.
    """

    def __init__(self, why: str, standing: Standing) -> None:
        super().__init__(why)
        self.standing = standing


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says of itself.

    Attributes:
        claims: How many claims it has counted.
        timeline: PostgreSQL's timeline; None on SQLite, and where the server does not tell.
        known_timeline: The one that the ledger was last used on; None: not noted yet.
        since: When cautious mode began; None: it is not on.
        reason: Why.
        by: Who began it.
    """

    claims: int
    timeline: int | None
    known_timeline: int | None
    since: datetime | None
    reason: str | None
    by: str | None

    def went_back(self, remembered: int | None) -> str | None:
        """How one knows that the database has forgotten claims; None if it has not.

        Args:
            remembered: How many claims Redis remembered before this was read; None: it remembers nothing.
        """
        if remembered is not None and self.claims < remembered:
            return f"the database counts {self.claims} claims, but there were {remembered}: it has lost the last ones"
        if None not in (self.timeline, self.known_timeline) and self.timeline != self.known_timeline:
            return (
                f"PostgreSQL is on timeline {self.timeline}, no longer on {self.known_timeline}: "
                f"after a restore or a failover it may have lost the last claims"
            )
        return None


def read_standing(connection: sa.Connection) -> Standing:
    """Read what the ledger says of itself, as of now."""
    asks_timeline = tells_timeline(connection.engine)
    row = connection.execute(_said(asks_timeline=asks_timeline)).one()
    timeline = int(row.present_timeline, 16) if asks_timeline and row.present_timeline is not None else None
    return Standing(
        int(row.claims), timeline, row.timeline, row.cautious_since, row.cautious_reason, row.cautious_by
    )  # fmt: skip


@cache  # building it costs as much as running it
def _said(*, asks_timeline: bool) -> sa.Select[Any]:
    counted = sa.select(sa.func.coalesce(sa.func.sum(schema.worker.c.claims), 0).label("claims")).subquery()
    said = sa.select(counted.c.claims, schema.ledger).select_from(counted.outerjoin(schema.ledger, sa.true()))
    if asks_timeline:
        said = said.add_columns(sa.literal_column(TIMELINE, sa.Text()).label("present_timeline"))
    return said


def count_claims(
    connection: sa.Connection, owner: uuid.UUID, claims: int, *, made: int = 0, company: tuple[int, str] | None = None
) -> bool:
    """Count a worker's claims, in the transaction that makes them.

    Each worker counts in its own row, so that claims of several do not wait for each other.

    Args:
        connection: The transaction.
        owner: Boot id of the worker.
        claims: How many are made now.
        made: How many the worker has made before, at least.
        company: The company's id, and the alias that the worker knows it by: a restored backup may give its number to
            another one. None: not looked at.

    Returns:
        False if the ledger does not know that worker, or has forgotten claims of it, or knows the company by another
        alias; then nothing was counted.
    """
    values: dict[str, object] = {"owner": owner, "more": claims, "made": made}
    if company is not None:
        values |= {"company": company[0], "alias": company[1]}
    return connection.execute(_counting(of_company=company is not None), values).rowcount == 1


@cache
def _counting(*, of_company: bool) -> sa.Update:
    table = schema.worker.c
    counting = sa.update(schema.worker).where(
        table.boot_id == sa.bindparam("owner"), table.claims >= sa.bindparam("made", type_=sa.BigInteger)
    )
    if of_company:
        called = schema.company.c
        counting = counting.where(
            sa.exists(
                sa.select(1).where(called.id == sa.bindparam("company"), called.alias == sa.bindparam("alias"))
            )
        )  # fmt: skip
    return counting.values(claims=table.claims + sa.bindparam("more", type_=sa.BigInteger))


def recall(redis: redis.Redis, ledger_id: uuid.UUID) -> int | None:
    """How many claims Redis remembers; None if it was wiped."""
    score = redis.zscore(keys.CLAIMS, ledger_id.hex)
    return None if score is None else int(score)


def remember(redis: redis.Redis, ledger_id: uuid.UUID, claims: int) -> None:
    """Have Redis remember that there were so many claims at least."""
    redis.zadd(keys.CLAIMS, {ledger_id.hex: claims}, gt=True)


def check(engine: sa.Engine, redis: redis.Redis, ledger_id: uuid.UUID) -> Standing:
    """Compare what Redis remembers with what the database counts; a wiped Redis is refilled.

    Raises:
        LedgerWentBack: The database has forgotten claims.
        redis.RedisError: Redis is away.
        sqlalchemy.exc.SQLAlchemyError: The database is away.
    """
    remembered = recall(redis, ledger_id)  # first, so that claims in between are no alarm
    with reading(engine) as connection:
        standing = read_standing(connection)
    if (why := standing.went_back(remembered)) is not None:
        raise LedgerWentBack(why, standing)
    remember(redis, ledger_id, standing.claims)
    if standing.timeline is not None and standing.known_timeline is None:
        with engine.begin() as connection:
            unnoted = sa.update(schema.ledger).where(_ledger.timeline.is_(None))
            connection.execute(unnoted.values(timeline=standing.timeline))
    return standing


def begin(
    engine: sa.Engine, reason: str, *, actor: str, lease_seconds: float, seen: Standing | None = None
) -> Standing | None:  # fmt: skip
    """Begin cautious mode, or begin it anew: what was looked up before counts no more.

    Requests of forgotten claims may still be out. So no empty list counts as evidence until a whole lease from now has
    passed, not even for orders that were being looked up already.

    Args:
        engine: The ledger.
        reason: Why, for people.
        actor: Who.
        lease_seconds: The workers' lease.
        seen: What the ledger said when it was noticed; if another has begun meanwhile, nothing is done.

    Returns:
        What the ledger says now; None if another was first.
    """
    with engine.begin() as connection:
        now = clock(connection)
        standing = read_standing(connection)
        values = {
            "cautious_since": now,
            "cautious_reason": text(reason),
            "cautious_by": actor,
            "timeline": standing.timeline,
        }
        those = sa.update(schema.ledger)
        if seen is not None:
            those = those.where(_ledger.cautious_since.is_not_distinct_from(seen.since))
        if connection.execute(those.values(values)).rowcount == 0:
            return None
        out_until = now + timedelta(seconds=lease_seconds)
        # Requests of forgotten later claims may have created what a claim that is left still waits for, so no answer
        # to that one alone decides any more.
        doubted: dict[JobState, dict[str, object]] = {
            JobState.IN_PROGRESS: {"if_absent": sa.func.coalesce(_job.if_absent, str(JobState.WAITING))},
            JobState.UNKNOWN: {"token": None},
        }
        for state, more in doubted.items():
            changes: dict[str, object] = {"absent_at": None, "lease_until": _later(_job.lease_until, out_until), **more}
            connection.execute(sa.update(schema.job).where(_is(state)).values(changes))
        # Forgotten rather than compared with now: after a failover the clock may be another one, and behind.
        for state in (JobState.WAITING, JobState.PARKED, *doubted):
            was_cleared = sa.and_(_is(state), _job.cleared_at.is_not(None))
            connection.execute(sa.update(schema.job).where(was_cleared).values(cleared_at=None))
        detail: dict[str, object] = {"reason": reason}
        write_events(connection, now, actor, [(None, None, Happening("cautious_began", alarm=True, detail=detail))])
        return read_standing(connection)


def forget(redis: redis.Redis, ledger_id: uuid.UUID, standing: Standing) -> None:
    """Have Redis remember what the database counts, now that cautious mode makes up for what it has forgotten."""
    redis.zadd(keys.CLAIMS, {ledger_id.hex: standing.claims})


def end(engine: sa.Engine, *, actor: str, lease_seconds: float) -> bool:
    """End cautious mode. False if it was not on.

    Orders that wait and were not looked up yet still are, before they are sent: the end of the mode only concerns what
    is booked after it.
    """
    while doubt_waiting(engine, lease_seconds=lease_seconds):  # most of it, in short transactions
        pass
    with engine.begin() as connection:
        now = clock(connection)
        standing = read_standing(connection)
        if standing.since is None:
            return False
        _doubt(connection, standing.since, _not_cleared(), now, lease_seconds)
        ended = connection.execute(
            sa.update(schema.ledger)
            .where(_ledger.cautious_since.is_not_distinct_from(standing.since))
            .values(cautious_since=None, cautious_reason=None, cautious_by=None)
        )
        if ended.rowcount == 0:  # begun anew meanwhile, and so it goes on
            return False
        detail: dict[str, object] = {"reason": standing.reason}
        write_events(connection, now, actor, [(None, None, Happening("cautious_ended", detail=detail))])
        return True


def count_not_looked_up(engine: sa.Engine) -> int:
    """How many waiting orders cautious mode holds back, as they were not looked up yet."""
    with reading(engine) as connection:
        since = read_standing(connection).since
        if since is None:
            return 0
        return connection.execute(sa.select(sa.func.count()).where(_not_cleared())).scalar_one()


def doubt_waiting(
    engine: sa.Engine, company_ids: Iterable[int] | None = None, *, lease_seconds: float
) -> dict[uuid.UUID, JobStatus]:  # fmt: skip
    """In cautious mode, move waiting orders that were not looked up yet to their look-up; some at a time.

    Args:
        engine: The ledger.
        company_ids: Only what is due of these companies; None: all that wait.
        lease_seconds: The workers' lease.
    """
    with reading(engine) as connection:
        now = clock(connection)
        since = read_standing(connection).since
        if since is None:
            return {}
        held = _not_cleared()
        if company_ids is not None:
            due = sa.and_(_job.company_id.in_(list(company_ids)), _job.lane.in_(lanes.LANES), _job.due_at <= now)
            held = sa.and_(held, due)
        if not connection.execute(sa.select(sa.exists(sa.select(1).where(held)))).scalar():
            return {}
    with engine.begin() as connection:
        now = clock(connection)
        some = sa.select(_job.id).where(held).limit(BATCH).with_for_update(key_share=True, skip_locked=True)
        moved = _doubt(connection, since, _job.id.in_(some), now, lease_seconds)
        return read_statuses(connection, moved)


def is_cleared() -> sa.ColumnElement[bool]:
    """Whether an order may be sent although cautious mode is on: proved absent, or vouched for, since it began."""
    return _job.cleared_at.is_not(None)


def _is(state: JobState) -> sa.ColumnElement[bool]:
    return _job.state == sa.literal_column(f"'{state}'")  # a literal, so that the partial index serves


def _not_cleared() -> sa.ColumnElement[bool]:
    return sa.and_(_is(JobState.WAITING), _job.cleared_at.is_(None))


def _doubt(
    connection: sa.Connection, since: datetime, which: sa.ColumnElement[bool], now: datetime, lease_seconds: float
) -> list[uuid.UUID]:  # fmt: skip
    """Waiting orders become unknown: in bulk, as there may be very many, so not through `decisions`."""
    out_until = since + timedelta(seconds=lease_seconds)
    statement = (
        sa.update(schema.job)
        .where(which)
        .values(
            state=str(JobState.UNKNOWN),
            since=now,
            due_at=now,
            owner=None,
            lease_until=_later(_job.lease_until, out_until),
            if_absent=str(JobState.WAITING),
            absent_at=None,
            lookups=0,
            lookup_failing_since=None,
            reason="cautious mode: looked up before it is sent",
        )
        .returning(_job.id)
    )
    return list(connection.execute(statement).scalars())


def _later(column: sa.ColumnElement[datetime | None], instant: datetime) -> sa.ColumnElement[datetime]:
    bound = sa.literal(instant, schema.UtcDateTime())
    return sa.case((column > bound, column), else_=bound)
