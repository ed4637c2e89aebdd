"""Hints: Celery messages that name a company. Any may be lost or come twice; the ledger knows what is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from orderrelay_shared import keys, redis_connection

if TYPE_CHECKING:
    from celery import Celery

#: A queue this long holds hints enough; another would tell nobody anything new.
_ENOUGH = 2

RESULTS_QUEUE = "results"
RECONCILE_QUEUE = "reconcile"

_log = structlog.get_logger(__name__)


def orders_queue(company: str) -> str:
    """The Celery queue of a company's orders."""
    return f"orders.{company}"


class Hints:
    """Sends hints, each only while its queue is short."""

    def __init__(self, app: Celery, broker_url: str) -> None:
        self._app = app
        self._broker = redis_connection.connect(broker_url, client_name="orderrelay-hints")

    def orders(self, company: str) -> bool:
        """Tell some worker that a company has due orders. False if enough was told already, or the broker is away."""
        return self._send("orderrelay.submit", orders_queue(company), company)

    def reconcile(self, company: str) -> bool:
        """Tell some worker that a company has unknown orders to look up."""
        return self._send("orderrelay.reconcile", RECONCILE_QUEUE, company)

    def results(self) -> bool:
        """Tell some worker that there are answers to be stored."""
        return self._send("orderrelay.store_results", RESULTS_QUEUE)

    def _send(self, task: str, queue: str, *args: str) -> bool:
        try:
            if self._broker.llen(keys.celery_queue(queue)) >= _ENOUGH:
                return False
            self._app.send_task(task, args=args, queue=queue, retry=False, ignore_result=True)
        except (OperationalError, RedisError, OSError) as error:
            _log.debug("hint_not_sent", queue=queue, error=type(error).__name__)
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()
