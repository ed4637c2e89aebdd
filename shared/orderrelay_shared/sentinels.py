"""Clients of a Redis whose primary is named by sentinels: each new connection asks them where it is.

Sentinels close all connections to a primary when they make it a replica, and a connection that is told READONLY is
closed by redis-py; so the next command asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import redis
import redis.asyncio
from redis import sentinel
from redis.asyncio import sentinel as async_sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from orderrelay_shared.sentinel_urls import SentinelUrl, read_sentinel_url

if TYPE_CHECKING:
    from collections.abc import Mapping


def connect(url: str, options: Mapping[str, Any]) -> redis.Redis:
    """As `redis_connection.connect`.

    Args:
        url: A good `sentinel://`.
        options: Of each connection to Redis, by redis-py's names, with its timeouts.
    """
    address = read_sentinel_url(url)
    make_pool: Any = sentinel.SentinelConnectionPool  # redis does not type it
    pool = make_pool(
        address.primary,
        _Sentinels(address, options["socket_timeout"]),
        retry=Retry(NoBackoff(), 0),
        **_of_redis(address, options),
    )
    client: redis.Redis = redis.Redis.from_pool(pool)
    return client


def connect_async(url: str, options: Mapping[str, Any]) -> redis.asyncio.Redis:
    """As `redis_connection.connect_async`, otherwise as `connect`."""
    address = read_sentinel_url(url)
    make_pool: Any = _BlockingPool
    pool = make_pool(
        address.primary,
        _AsyncSentinels(address, options["socket_timeout"]),
        timeout=options["socket_timeout"],
        retry=AsyncRetry(NoBackoff(), 0),
        **_of_redis(address, options),
    )
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
    return client


def primary_of(address: SentinelUrl, timeout_seconds: float) -> tuple[str, int]:
    """Host and port of the primary, as sentinels say now; they have half of that time, all together.

    Raises:
        redis.RedisError: None names one that is up.
    """
    return _Sentinels(address, timeout_seconds).discover_master(address.primary)


def tls_options(address: SentinelUrl) -> dict[str, Any]:
    """What redis-py needs for TLS, besides that it is used."""
    return {"ssl_cert_reqs": "required", **address.tls_files} if address.is_tls else {}


def sentinel_options(address: SentinelUrl, timeout_seconds: float) -> dict[str, Any]:
    """Options of a connection to a sentinel, by redis-py's names.

    Args:
        address: Which sentinels.
        timeout_seconds: Half of it is enough to find all of them silent, one after the other.
    """
    seconds = timeout_seconds / 2 / len(address.sentinels)
    return {
        "username": address.sentinel_user,
        "password": address.sentinel_password,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "ssl": address.is_tls,
        **tls_options(address),
    }


def _of_redis(address: SentinelUrl, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **options,
        # The other half goes to the sentinels, so that all of it takes no longer than without them.
        "socket_connect_timeout": options["socket_connect_timeout"] / 2,
        "username": address.user,
        "password": address.password,
        "db": address.database,
        "ssl": address.is_tls,
        **tls_options(address),
    }


class _BlockingPool(async_sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Asks sentinels, and lets wait who finds all connections taken."""


class _Inquiry:
    """Asks sentinels one after the other, on connections that are closed at once; first the one that knew it last.

    redis-py's own `Sentinel` reorders its list in place, which threads that ask at once may lose a sentinel by; it
    leaves connections open, and tells of failures by showing its clients.
    """

    def __init__(self, address: SentinelUrl, timeout_seconds: float) -> None:
        self._options = sentinel_options(address, timeout_seconds)
        self._sentinels = address.sentinels

    def _prefer(self, one: tuple[str, int]) -> None:
        self._sentinels = (one, *(other for other in self._sentinels if other != one))


class _Sentinels(_Inquiry):
    """What `redis.sentinel.SentinelConnectionPool` asks."""

    def discover_master(self, name: str) -> tuple[str, int]:
        """Host and port of the primary.

        Raises:
            MasterNotFoundError: No sentinel names one that is up; the text tells what each said.
        """
        seen: list[str] = []
        for host, port in self._sentinels:
            try:
                with redis.Redis(host, port, retry=Retry(NoBackoff(), 0), **self._options) as client:
                    state = cast("Any", client.sentinel_masters()).get(name)
            except RedisError as error:
                seen.append(f"{host}:{port}: {str(error).rstrip('. ')}")
                continue
            if (problem := _problem(state)) is None:
                self._prefer((host, port))
                return state["ip"], state["port"]
            seen.append(f"{host}:{port}: {problem}")
        raise sentinel.MasterNotFoundError(_none_found(name, seen))


class _AsyncSentinels(_Inquiry):
    """What `redis.asyncio.sentinel.SentinelConnectionPool` asks."""

    async def discover_master(self, name: str) -> tuple[str, int]:
        """As `_Sentinels.discover_master`."""
        seen: list[str] = []
        for host, port in self._sentinels:
            try:
                async with redis.asyncio.Redis(
                    host=host, port=port, retry=AsyncRetry(NoBackoff(), 0), **self._options
                ) as client:
                    found = cast("Any", await client.sentinel_masters())
            except RedisError as error:
                seen.append(f"{host}:{port}: {str(error).rstrip('. ')}")
                continue
            state: Any = found.get(name)
            if (problem := _problem(state)) is None:
                self._prefer((host, port))
                return state["ip"], state["port"]
            seen.append(f"{host}:{port}: {problem}")
        raise async_sentinel.MasterNotFoundError(_none_found(name, seen))


def _problem(state: Mapping[str, Any] | None) -> str | None:
    """Why a sentinel's word on a primary is of no use."""
    if state is None:
        return "does not know it"
    if not state["is_master"] or state["is_sdown"] or state["is_odown"]:
        return "sees it down"
    return None


def _none_found(name: str, seen: list[str]) -> str:
    return f"no sentinel names a primary {name}: {'; '.join(seen)}"
