"""How Celery's consumer finds the way back to its broker: soon, and without a line in the log for every try."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery.app.amqp import AMQP
from kombu import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

#: While the broker is away it is asked for so often, in seconds; kombu's own waits grow to 30.
_ASK_AGAIN_SECONDS = 1

#: ... and that it is away is told so often, in seconds.
_TELL_SECONDS = 30.0

#: The longest wait for an answer of the broker, in seconds. A hint that is lost with it is sent again.
_TIMEOUT_SECONDS = 2

#: What `broker_transport_options` says of lost connections. Without these a half-open one makes a worker deaf for ever.
PATIENCE: dict[str, Any] = {
    "socket_timeout": _TIMEOUT_SECONDS,
    "socket_connect_timeout": _TIMEOUT_SECONDS,
    "socket_keepalive": True,
    # A BRPOP waits a second at the server. One without an answer for this long, and a second more, is given up.
    "health_check_interval": 1,
    "retry_on_timeout": False,
}


class PatientConnection(Connection):
    """A connection whose broker is asked for every second while it is away."""

    def ensure_connection(self, errback: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Connect, however long that takes; the parameters are kombu's."""
        kwargs |= {
            "interval_start": _ASK_AGAIN_SECONDS,
            "interval_step": 0,
            "interval_max": _ASK_AGAIN_SECONDS,
        }
        return super().ensure_connection(errback and _now_and_then(errback), *args, **kwargs)


class PatientAMQP(AMQP):
    """Celery's AMQP whose connections are patient ones."""

    Connection = PatientConnection


def _now_and_then(tell: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is called at most every `_TELL_SECONDS`."""
    told_at = float("-inf")

    def tell_now_and_then(*args: Any, **kwargs: Any) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_SECONDS:
            told_at = time.monotonic()
            tell(*args, **kwargs)

    return tell_now_and_then
