"""Telling what became of the entries of a batch: to producers through Redis, and to operators."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import structlog

from orderrelay_shared import ids, keys
from orderrelay_shared.job_status import JobStatus, content_mark
from orderrelay_shared.states import JobState
from orderrelay_workers import metrics, statuses
from orderrelay_workers.ledger.engine import reading
from orderrelay_workers.ledger.rows import read_statuses

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    import redis
    import sqlalchemy as sa

    from orderrelay_workers.ledger.booking import Booked

_log = structlog.get_logger(__name__)


def tell(engine: sa.Engine, client: redis.Redis, booked: Sequence[Booked], asked: Sequence[uuid.UUID]) -> None:
    """Tell of orders that were booked, and of jobs that were asked for.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database is away.
        redis.RedisError: Redis is away, and somebody asked for a job that the ledger does not have.
    """
    new = {b.job_id: _waiting(b) for b in booked if b.result == "new"}
    told: dict[uuid.UUID, JobStatus] = {}
    others = {b.job_id for b in booked if b.result in ("already", "conflict")} | set(asked)
    if others:
        with reading(engine) as connection:
            told |= read_statuses(connection, others)
    statuses.publish(client, new, only_first=True)  # it may be on its way already, and more be known
    statuses.publish(client, told)
    unheard_of = [job_id for job_id in asked if job_id not in told and job_id not in new]
    statuses.publish_unheard_of(client, unheard_of)
    of_company = Counter([(b.accepted.envelope.company, b.result) for b in booked])
    results: Counter[str] = Counter()
    for (company, result), orders in of_company.items():
        results[result] += orders
        metrics.booked(company, result, orders)
    if booked:
        _log.info("booked", **dict(sorted(results.items())))
    for conflict in (b for b in booked if b.result == "conflict"):
        _log.warning(
            "order_conflict",
            job=str(conflict.job_id),
            company=conflict.accepted.envelope.company,
            external_id=conflict.accepted.envelope.external_id,
        )


def forget_content(client: redis.Redis, conflict: Booked) -> None:
    """Where the cache was lost it has this content: with it, the true order would be told a conflict.

    Where it has the content that was accepted first, that stays, so that the next conflict is told as well.

    Raises:
        redis.RedisError: Redis is away.
    """
    envelope = conflict.accepted.envelope
    order = ids.order_digest(envelope.company, envelope.external_id)
    field, content = keys.recent_field(order), keys.recent_content(envelope.content_digest)
    of_days = keys.recent(order)
    with client.pipeline(transaction=False) as pipeline:
        for recent in of_days:
            pipeline.hget(recent, field)
        known = pipeline.execute()
        # Not one step with that: at worst the cache forgets an order, and the next conflict is told by the ledger.
        for recent, first in zip(of_days, known, strict=True):
            if first == content:
                pipeline.hdel(recent, field)
        pipeline.delete(keys.recent_before(envelope.company, ids.external_id_digest(envelope.external_id)))
        pipeline.execute()


def _waiting(booked: Booked) -> JobStatus:
    envelope = booked.accepted.envelope
    content = content_mark(envelope.content_digest)
    return JobStatus(
        JobState.WAITING,
        envelope.company,
        envelope.external_id,
        booked.accepted.accepted_at,
        content=content,
        priority=envelope.priority,
        due_at=envelope.due_at,
        deadline=envelope.deadline,
    )
