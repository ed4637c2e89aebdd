"""The one way to connect to Redis: with limits on every wait, and without retries behind the caller's back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orderrelay_shared.sentinel_urls import is_sentinel_url
from orderrelay_shared.settings import SettingsInvalid
from orderrelay_shared.urls import REDIS_SCHEMES, masked, redis_url_problem

if TYPE_CHECKING:
    import redis
    import redis.asyncio

__all__ = ["check_client", "check_url", "connect", "connect_async", "masked"]


def connect(url: str, *, timeout_seconds: float = 5.0, client_name: str) -> redis.Redis:
    """A client of the Redis at an address; it connects at the first command.

    Args:
        url: `redis://`, `rediss://`, `unix://` or `sentinel://`.
        timeout_seconds: The longest wait for a connection, and for each answer. A blocking read must ask for less.
        client_name: What `CLIENT LIST` calls the connections; spaces become "-".

    Returns:
        A thread-safe client whose answers are bytes. A command that fails raises at once and is not repeated: a
        script that Redis has already run must not run twice unseen.

    Raises:
        SettingsInvalid: The address is none that Orderrelay understands.
    """
    check_url(url)
    if is_sentinel_url(url):
        from orderrelay_shared import sentinels  # noqa: PLC0415  as below

        return sentinels.connect(url, _options(url, timeout_seconds, client_name))
    import redis  # noqa: PLC0415  it takes 100 ms, which `orderrelay --help` need not wait for
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    from orderrelay_shared.keeping_pool import KeepingPool  # noqa: PLC0415

    pool = KeepingPool.from_url(  # pyright: ignore[reportUnknownMemberType]  redis types no **kwargs
        url,
        retry=Retry(NoBackoff(), 0),
        **_options(url, timeout_seconds, client_name),
    )
    client: redis.Redis = redis.Redis.from_pool(pool)
    return client


def connect_async(url: str, *, timeout_seconds: float = 5.0, client_name: str) -> redis.asyncio.Redis:
    """As `connect`, for the event loop that first uses it; who finds all 50 connections taken waits for one.

    Raises:
        SettingsInvalid: The address is none that Orderrelay understands.
    """
    check_url(url)
    if is_sentinel_url(url):
        from orderrelay_shared import sentinels  # noqa: PLC0415  as above

        return sentinels.connect_async(url, _options(url, timeout_seconds, client_name))
    from redis import asyncio  # noqa: PLC0415  as above
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    pool = asyncio.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  as above
        url, timeout=timeout_seconds, retry=Retry(NoBackoff(), 0), **_options(url, timeout_seconds, client_name)
    )
    return asyncio.Redis.from_pool(pool)


def check_url(url: str) -> None:
    """Do nothing if an address is one of Redis.

    Raises:
        SettingsInvalid: The address is none that Orderrelay understands.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]  not everybody checks types
        kind = type(url).__name__
        raise SettingsInvalid([f"ORDERRELAY_REDIS_URL: must be text such as redis://127.0.0.1:6379/0, not {kind}"])
    if (problem := redis_url_problem(url)) is not None:
        schemes = ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES)
        raise SettingsInvalid([f"ORDERRELAY_REDIS_URL: {problem} (allowed: {schemes})"])


def check_client(client: object, *, is_async: bool) -> None:
    """Do nothing if something is a client of redis-py, of the wanted kind.

    Raises:
        TypeError: It is none.
    """
    import redis  # noqa: PLC0415  as above
    import redis.asyncio  # noqa: PLC0415  as above

    wanted, other = ("redis.asyncio.Redis", redis.Redis) if is_async else ("redis.Redis", redis.asyncio.Redis)
    if isinstance(client, other) or not hasattr(client, "connection_pool"):
        kind = type(client)
        raise TypeError(
            f"redis must be a client, as {wanted} makes them, not a {kind.__module__}.{kind.__qualname__}; "
            "an address is handed in as redis_url"
        )


def _options(url: str, timeout_seconds: float, client_name: str) -> dict[str, Any]:
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return {
        "decode_responses": False,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": 10,
        "client_name": "-".join(client_name.split()),
        **keepalive,
    }
