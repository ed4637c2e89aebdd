"""Hints: Celery messages that name a company. Any may be lost or come twice; the ledger knows what is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from orderrelay_shared import keys, redis_connection
from orderrelay_workers import metrics

if TYPE_CHECKING:
    import uuid

    from celery import Celery

#: A queue this long holds hints enough; another would tell nobody anything new.
_ENOUGH = 2

RESULTS_QUEUE = "results"
RECONCILE_QUEUE = "reconcile"

#: The longest wait for Redis, in seconds: a connection that is silently dead must not hold up hints for long.
TIMEOUT_SECONDS = 2.0

#: The canaries of a worker that is gone vanish after so long, in seconds.
_CANARY_TTL_SECONDS = 60

_BROKER_AWAY = (OperationalError, RedisError, OSError)

_log = structlog.get_logger(__name__)


def orders_queue(company: str) -> str:
    """The Celery queue of a company's orders."""
    return f"orders.{company}"


def canary_queue(boot_id: uuid.UUID) -> str:
    """The Celery queue of one worker's own canaries.

    Each worker has its own: of a shared one the others would take the canaries of a worker that is deaf.
    """
    return f"canary.{boot_id.hex}"


class Hints:
    """Sends hints, each only while its queue is short."""

    def __init__(self, app: Celery, broker_url: str) -> None:
        self._app = app
        self._broker = redis_connection.connect(
            broker_url, timeout_seconds=TIMEOUT_SECONDS, client_name="orderrelay-hints"
        )

    def orders(self, company: str) -> bool:
        """Tell some worker that a company has due orders. False if enough was told already, or the broker is away."""
        return self._send("orderrelay.submit", orders_queue(company), company)

    def reconcile(self, company: str) -> bool:
        """Tell some worker that a company has unknown orders to look up."""
        return self._send("orderrelay.reconcile", RECONCILE_QUEUE, company)

    def results(self) -> bool:
        """Tell some worker that there are answers to be stored."""
        return self._send("orderrelay.store_results", RESULTS_QUEUE)

    def canary(self, boot_id: uuid.UUID) -> bool:
        """Send this worker a message of its own. False if the broker is away, or takes none."""
        queue = canary_queue(boot_id)
        try:
            if self._broker.llen(keys.celery_queue(queue)) < _ENOUGH:
                self._publish("orderrelay.canary", queue)
            self._broker.expire(keys.celery_queue(queue), _CANARY_TTL_SECONDS)
        except _BROKER_AWAY as error:
            _log.debug("canary_not_sent", error=type(error).__name__)
            return False
        return True

    def _send(self, task: str, queue: str, *args: str) -> bool:
        try:
            if self._broker.llen(keys.celery_queue(queue)) >= _ENOUGH:
                metrics.hinted(queue, "enough")
                return False
            self._publish(task, queue, *args)
        except _BROKER_AWAY as error:
            _log.debug("hint_not_sent", queue=queue, error=type(error).__name__)
            metrics.hinted(queue, "failed")
            return False
        metrics.hinted(queue, "sent")
        return True

    def _publish(self, task: str, queue: str, *args: str) -> None:
        self._app.send_task(task, args=args, queue=queue, retry=False, ignore_result=True)

    def drop_idle_connections(self) -> None:
        """Close what is open and unused: where one connection was silently dead, others of its age are."""
        self._broker.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()
