"""Publishing what the ledger says to Redis, where producers read it. A lost word is made good when they ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import structlog
from redis.exceptions import RedisError

from orderrelay_shared import job_status, keys

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Iterator, Mapping

    import redis

    from orderrelay_shared.job_status import JobStatus

#: How long the answer "the ledger has no such job" lives, in seconds.
_UNHEARD_TTL_SECONDS = 2

_log = structlog.get_logger(__name__)


def publish(redis: redis.Redis, statuses: Mapping[uuid.UUID, JobStatus], *, only_first: bool = False) -> None:
    """Publish statuses. If Redis is away, the old ones expire and producers ask.

    Args:
        redis: Where.
        statuses: By job.
        only_first: Leave what is known of a job already; it can only be newer.
    """
    if not statuses:
        return
    pipeline = redis.pipeline(transaction=False)
    for job_id, status in statuses.items():
        lives = keys.SETTLED_STATUS_TTL_SECONDS if status.state.is_settled else keys.MOVING_STATUS_TTL_SECONDS
        pipeline.set(keys.status(job_id), status.to_json(), ex=lives, nx=only_first)
    try:
        pipeline.execute()
    except RedisError as error:
        _log.warning("statuses_not_published", jobs=len(statuses), error=type(error).__name__)


def publish_unheard_of(redis: redis.Redis, job_ids: Iterable[uuid.UUID]) -> None:
    """Answer asks for jobs that the ledger does not have."""
    for job_id in job_ids:
        redis.set(keys.status(job_id), job_status.UNHEARD_OF, ex=_UNHEARD_TTL_SECONDS, nx=True)


def forget_all(redis: redis.Redis) -> None:
    """Forget every status, as a database that went back may no longer have those jobs; producers ask.

    Raises:
        redis.RedisError: Redis is away; some may be left.
    """
    every = list(cast("Iterator[bytes]", redis.scan_iter(match=keys.EVERY_STATUS, count=1000)))
    for begin in range(0, len(every), 1000):
        redis.unlink(*every[begin : begin + 1000])
