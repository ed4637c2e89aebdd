"""Claims: the exclusive, time-bounded right of one worker to send one request of a job."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orderrelay_shared.intake import BODY_VERSION
from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers import decisions, lanes
from orderrelay_workers.ledger import bulk, caution, schema
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.ledger.engine import clock, reading
from orderrelay_workers.ledger.rows import Names, lock_jobs, write_jobs
from orderrelay_workers.vendor.answers import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    #: Of what is taken: the columns of `_OF_CLAIMED`.
    _Row = Sequence[Any]

_job = schema.job.c
_revision = schema.revision.c

#: A job of which an earlier request was found to be in doubt meanwhile must be looked up before it may wait again.
_AFTER_GIVING_BACK = sa.case((_job.if_absent.is_not(None), str(JobState.UNKNOWN)), else_=str(JobState.WAITING))


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed order. At most one request may leave under it, and only before its start fence has passed.

    Attributes:
        job_id: The job.
        company_id: Its company in the ledger.
        token: The fencing token, shared by all that was claimed together.
        external_id: The order's ExternalId as given.
        number: The number of the request that this claim allows, from 1.
        body: The order as one JSON object, to be sent.
        body_digest: SHA-256 of the body.
        claims: How many claims the ledger has counted, with those that were made together with this one.
        alone: Whether the order must not share its request with others: one of its requests has left, or is in doubt.
        fresh: The job as it was claimed, if none of its requests had left; None: what is to be settled is read anew.
        traceparent: Where the trace of the producer's call goes on; None: it has none.
    """

    job_id: uuid.UUID
    company_id: int
    token: uuid.UUID
    external_id: str
    number: int
    body: bytes
    body_digest: bytes
    claims: int
    alone: bool = True
    fresh: Fresh | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Fresh:
    """A job that was claimed for its first request, and what is told of it; `place` is as `bulk.update` takes it."""

    job: decisions.Job
    names: Names
    place: int | None


def claim(
    engine: sa.Engine,
    company_id: int,
    limit: int,
    *,
    owner: uuid.UUID,
    lease_seconds: float,
    alias: str | None = None,
    remembered: int | None = None,
    made: int = 0,
    retries: int | None = None,
    turn: int = 0,
    start_seconds: float = 0.0,
    together: int = 1,
) -> list[Claim]:
    """Claim a company's due jobs for so many requests, by lanes and in each the longest due first; committed on return.

    Args:
        engine: The ledger.
        company_id: The company.
        limit: How many requests at most.
        owner: Boot id of the claiming worker.
        lease_seconds: After so long the claim is over, and its jobs are unknown.
        alias: What the worker takes the company to be.
        remembered: How many claims Redis remembered just before; None: it remembers nothing.
        made: How many claims the worker itself has made so far, at least.
        retries: How many of the claimed may be jobs of which requests have left before; None: all.
        turn: Whose turn it is, as `lanes.share` takes it; it should grow by one with every call.
        start_seconds: A request may begin to leave so long after its claim; an earlier deadline is not claimed.
        together: So many orders of which no request has left may share a request.

    Raises:
        LedgerWentBack: The database has forgotten claims, so what waits may have been sent; nothing was claimed.
    """
    token = uuid.uuid4()
    with engine.begin() as connection:
        now = clock(connection)
        standing = caution.read_standing(connection)
        if (why := standing.went_back(remembered)) is not None:
            raise LedgerWentBack(why, standing)
        claimed: dict[str, Any] = {
            "since": now,
            "token": token,
            "owner": owner,
            "claimed_at": now,
            "lease_until": now + timedelta(seconds=lease_seconds),
        }
        taking = _Taking(
            connection,
            company_id,
            standing.since is not None,
            now,
            latest_start=now + timedelta(seconds=start_seconds),
            claim={"state": str(JobState.IN_PROGRESS), **claimed},
        )
        rows = taking.take(limit, turn, retries, together)
        if not rows:
            return []
        company = None if alias is None else (company_id, alias)
        is_counted = caution.count_claims(connection, owner, len(rows), made=made, company=company)
        if alias is not None and not is_counted:
            why = f"the database no longer knows this worker, or {alias} as the company that it was"
            raise LedgerWentBack(why, standing)
    claims = standing.claims + len(rows)
    made_now: list[Claim] = []
    for job_id, external_id, requests, if_absent, body, digest, revision, attempts, due_at, lane, *more in rows:
        not_before, deadline, content, called, traceparent, place = more
        alone = requests > 0 or if_absent is not None
        fresh = None
        if not alone and attempts == 0 and revision == 1:
            job = decisions.Job(
                job_id, company_id, JobState.IN_PROGRESS, due_at=due_at, lane=lane, not_before=not_before,
                deadline=deadline, **claimed,
            )  # fmt: skip
            fresh = Fresh(job, Names(called, external_id, content), place)
        made_now.append(
            Claim(
                job_id,
                company_id,
                token,
                external_id,
                requests + 1,
                body,
                digest,
                claims,
                alone=alone,
                fresh=fresh,
                traceparent=traceparent,
            )
        )
    return made_now


@dataclass(frozen=True, slots=True)
class _Taking:
    """One claim under way: what may be taken, and what is written on it."""

    connection: sa.Connection
    company_id: int
    is_cautious: bool
    now: datetime
    latest_start: datetime
    claim: dict[str, object]

    def take(self, limit: int, turn: int, retries: int | None, together: int) -> list[_Row]:
        """Take what fits into so many requests, by shares; what a lane has not got goes to the others."""
        taken: list[_Row] = []
        due = _due_lanes(self.connection, self.company_id, self.now, self.latest_start, cautious=self.is_cautious)
        while limit > 0 and (shares := lanes.share(limit, turn, due, retries)):
            for lane, requests in shares:
                in_each = 1 if lanes.is_retry(lane) else together
                wanted = requests * in_each
                found = self._take_of(lane, wanted)
                taken += found
                limit -= math.ceil(len(found) / in_each)
                if retries is not None and lanes.is_retry(lane):
                    retries -= len(found)
                if len(found) < wanted:
                    due.discard(lane)
        return taken

    def _take_of(self, lane: int, wanted: int) -> Sequence[_Row]:
        which = {"company": self.company_id, "now": self.now, "latest": self.latest_start}
        query = _first_due_of_lane(cautious=self.is_cautious, placed=self.connection.dialect.name == "sqlite")
        rows = self.connection.execute(query, {**which, "of_lane": lane, "wanted": wanted}).all()
        if rows:
            ids, places = [row[0] for row in rows], [row[-1] for row in rows]
            bulk.update(self.connection, schema.job, ids, {}, self.claim, places=places)
        return rows


# The statements are built once: building one costs as much as running it.


@cache
def _due(*, cautious: bool) -> sa.ColumnElement[bool]:
    """What is due of the company, for its lanes: parameters `company`, `now` and `latest`, the latest start."""
    now = sa.bindparam("now", type_=_job.due_at.type)
    due = sa.and_(
        _job.company_id == sa.bindparam("company"),
        _job.state == sa.literal_column(f"'{JobState.WAITING}'"),  # a literal, so that the partial index serves
        _job.due_at <= now,
        sa.or_(_job.not_before.is_(None), _job.not_before <= now),  # older workers' look-ups do not heed it
        sa.or_(_job.deadline.is_(None), _job.deadline > sa.bindparam("latest", type_=_job.deadline.type)),
        _job.body_version <= BODY_VERSION,  # what a newer version wrote is left for newer workers
    )
    return sa.and_(due, caution.is_cleared()) if cautious else due


_OF_CLAIMED: tuple[sa.ColumnElement[Any], ...] = (
    _job.id, _job.external_id, _job.requests, _job.if_absent, _revision.body, _revision.body_digest, _job.revision,
    _job.attempts, _job.due_at, _job.lane, _job.not_before, _job.deadline, _revision.content_digest,
    schema.company.c.alias, _revision.traceparent,
)  # fmt: skip


@cache
def _first_due_of_lane(*, cautious: bool, placed: bool) -> sa.Select[Any]:
    live = sa.and_(_revision.job_id == _job.id, _revision.number == _job.revision)
    return (
        sa.select(*_OF_CLAIMED, sa.literal_column("job.rowid" if placed else "NULL", sa.Integer))
        .join_from(schema.job, schema.revision, live)
        .join(schema.company)
        .where(_due(cautious=cautious), _job.lane == sa.bindparam("of_lane"))
        .order_by(_job.due_at)
        .limit(sa.bindparam("wanted"))
        .with_for_update(of=schema.job, key_share=True, skip_locked=True)
    )


@cache
def _any_due_by_lane(*, cautious: bool) -> sa.Select[Any]:
    """One look into the index for each lane, which the order makes PostgreSQL take."""
    looks = [
        sa.select(1)
        .where(_due(cautious=cautious), _job.lane == lane)
        .order_by(_job.due_at)
        .limit(1)
        .scalar_subquery()
        .label(f"lane_{lane}")
        for lane in lanes.LANES
    ]
    return sa.select(*looks)


def _due_lanes(
    connection: sa.Connection, company_id: int, now: datetime, latest_start: datetime, *, cautious: bool
) -> set[int]:  # fmt: skip
    """Which lanes have due jobs."""
    which = {"company": company_id, "now": now, "latest": latest_start}
    found = connection.execute(_any_due_by_lane(cautious=cautious), which).one()
    return {lane for lane, is_due in zip(lanes.LANES, found, strict=True) if is_due}


def give_back(engine: sa.Engine, claims: Sequence[Claim], *, reason: str | None = None) -> int:
    """Give back claims of which provably nothing was sent: their jobs wait again, due now, at no cost.

    Returns:
        How many were still ours to give back.
    """
    if not claims:
        return 0
    with engine.begin() as connection:
        now = clock(connection)
        given = connection.execute(
            sa.update(schema.job)
            .where(
                _job.id.in_(sorted(c.job_id for c in claims)),
                _job.token.in_({c.token for c in claims}),
                _job.state == str(JobState.IN_PROGRESS),
            )
            .values(
                state=_AFTER_GIVING_BACK,
                since=now,
                due_at=sa.case((_job.not_before > now, _job.not_before), else_=sa.literal(now, schema.UtcDateTime())),
                token=None,
                owner=None,
                reason=reason,
                lane=sa.case((_job.requests > 0, _job.lane.bitwise_or(1)), else_=_job.lane),
            )
        )
        swept = _give_back_swept(connection, claims, now) if given.rowcount < len(claims) else 0
        return given.rowcount + swept


def _give_back_swept(connection: sa.Connection, claims: Sequence[Claim], now: datetime) -> int:
    """A frozen worker's claims were swept meanwhile. Nothing was sent under them, so there is nothing to look up."""
    tokens = {claim.job_id: claim.token for claim in claims}
    nothing_sent = Verdict(Outcome.NOT_CREATED, "handed back unsent by a worker that was taken for dead")
    given = [
        decisions.settle(job, tokens[job.id], nothing_sent, now, decisions.Policy(), None).job
        for job in lock_jobs(connection, tokens).values()
        if job.state is JobState.UNKNOWN and job.token == tokens[job.id]
    ]
    write_jobs(connection, given)
    swept = schema.attempt.c
    for job in given:  # seldom more than a few: what a worker held back in one freeze
        connection.execute(
            sa.update(schema.attempt)
            .where(swept.job_id == job.id, swept.token == tokens[job.id], swept.ended_at.is_(None))
            .values(ended_at=now, sent=False, outcome=str(nothing_sent.outcome), reason=nothing_sent.reason)
        )
    return len(given)


def due_companies(engine: sa.Engine, aliases: dict[int, str]) -> list[str]:
    """Which of these companies (id to alias) have due jobs that this version can submit."""
    found: list[str] = []
    with reading(engine) as connection:
        now = clock(connection)
        cautious = caution.read_standing(connection).since is not None
        for company_id, alias in aliases.items():
            if _due_lanes(connection, company_id, now, now, cautious=cautious):
                found.append(alias)
    return found


def in_flight_by_owner(engine: sa.Engine, company_id: int) -> dict[str, int]:
    """How many claims of a company each worker holds: boot id as 32 hex digits to count.

    Where orders share requests it is more than there are requests out, until the worker's next beat says how many.
    """
    with reading(engine) as connection:
        query = (
            sa.select(_job.owner, sa.func.count())
            .where(
                _job.company_id == company_id,
                _job.state == sa.literal_column(f"'{JobState.IN_PROGRESS}'"),
                _job.owner.is_not(None),
            )
            .group_by(_job.owner)
        )
        return {owner.hex: count for owner, count in connection.execute(query)}
