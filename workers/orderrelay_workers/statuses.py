"""Publishing what the ledger says to Redis, where producers read it. A lost word is made good when they ask."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final, cast

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

#: So many are published in one call at most: Redis does nothing else meanwhile.
_TOGETHER: Final = 250

_SCRIPT: Final = files("orderrelay_workers").joinpath("publish.lua").read_text()

_log = structlog.get_logger(__name__)


def publish(redis: redis.Redis, statuses: Mapping[uuid.UUID, JobStatus], *, only_first: bool = False) -> None:
    """Publish statuses. If Redis is away, the old ones expire and producers ask.

    Args:
        redis: Where.
        statuses: By job.
        only_first: Leave what is known of a job already; it can only be newer.
    """
    script = redis.register_script(_SCRIPT)
    by_life: dict[int, list[tuple[str, bytes]]] = {}
    for job_id, status in statuses.items():
        lives = keys.SETTLED_STATUS_TTL_SECONDS if status.state.is_settled else keys.MOVING_STATUS_TTL_SECONDS
        by_life.setdefault(lives, []).append((keys.status(job_id), status.to_json()))
    try:
        for lives, words in by_life.items():
            for begin in range(0, len(words), _TOGETHER):
                some = words[begin : begin + _TOGETHER]
                order = "first" if only_first else "last"
                tell = int(lives == keys.SETTLED_STATUS_TTL_SECONDS)
                script(
                    keys=[key for key, _ in some],
                    args=[lives, order, job_status.UNHEARD_OF, tell, *(word for _, word in some)],
                )
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
