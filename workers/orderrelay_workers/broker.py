"""How Celery is told where its broker is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from redis.backoff import NoBackoff
from redis.retry import Retry

from orderrelay_shared.sentinel_urls import is_sentinel_url, read_sentinel_url

if TYPE_CHECKING:
    from collections.abc import Mapping


def broker_options(url: str, transport_options: Mapping[str, Any]) -> dict[str, Any]:
    """What Celery's configuration says of the broker.

    Args:
        url: Its address, as Orderrelay understands it.
        transport_options: What there is to say of connections to it, wherever it is.
    """
    if not is_sentinel_url(url):
        return {"broker_url": url, "broker_transport_options": dict(transport_options)}
    from orderrelay_shared.sentinels import sentinel_options, tls_options  # noqa: PLC0415  others need none of it

    address = read_sentinel_url(url)
    login = (
        f"{quote(address.user or '', safe='')}:{quote(address.password or '', safe='')}@" if address.password else ""
    )
    # Each by itself, with all that there is to say: kombu takes user, password and database from whichever is its turn.
    one_by_one = [f"sentinel://{login}{_netloc(host, port)}/{address.database}" for host, port in address.sentinels]
    return {
        "broker_url": ";".join(one_by_one),
        "broker_use_ssl": tls_options(address) or False,
        "broker_transport_options": {
            **transport_options,
            "master_name": address.primary,
            # redis-py would ask a sentinel that is away four times, with seconds between.
            "sentinel_kwargs": {
                **sentinel_options(address, transport_options["socket_timeout"]),
                "retry": Retry(NoBackoff(), 0),
            },
        },
    }


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
