"""Redis: whether it answers, is new enough, keeps what was accepted, and never throws keys away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError

from orderrelay_shared.redis_connection import connect, masked
from orderrelay_workers.diagnosis.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    import redis

#: The oldest Redis whose commands the scripts and the intake use.
_OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What a Redis says of itself; None where it does not say."""

    version: str
    role: str
    append_only: bool
    append_fsync: str | None
    last_append_failed: bool
    snapshots: bool | None
    eviction: str | None


def look_at_redis(url: str) -> tuple[redis.Redis | None, list[Finding]]:
    """Look at the Redis of the intake and the gate.

    Returns:
        A client of it, to be closed by the caller, or None if it does not answer; and what was found.
    """
    client = connect(url, client_name="orderrelay-doctor")
    try:
        facts = _read(client)
    except RedisError as error:
        client.close()
        return None, [_away("redis", "REDIS_URL", url, error)]
    return client, judge(facts, masked(url))


def look_at_broker(url: str) -> list[Finding]:
    """Look at the Redis of Celery's messages, where it is another one."""
    client = connect(url, client_name="orderrelay-doctor")
    try:
        facts = _read(client)
    except RedisError as error:
        return [_away("broker", "BROKER_URL", url, error)]
    finally:
        client.close()
    # Its messages are hints, so nothing rests on what it keeps.
    return [ok("broker", f"{masked(url)} answers, version {facts.version}"), *_too_old("broker", facts.version)]


def _away(subject: str, name: str, url: str, error: RedisError) -> Finding:
    # The error's own text may hold the address, with its password.
    text = f"{masked(url)} does not answer ({type(error).__name__})"
    return problem(subject, text, f"check ORDERRELAY_{name} and that Redis runs", unreachable=True)


def _read(client: redis.Redis) -> RedisFacts:
    told: dict[str, Any] = client.info("everything")
    options: dict[str, str] = {}
    for name in ("appendfsync", "save"):
        try:
            answer = cast("dict[Any, Any]", client.config_get(name))
        except RedisError:  # many providers forbid CONFIG
            continue
        options |= {_text(key): _text(value) for key, value in answer.items()}
    eviction = told.get("maxmemory_policy")
    return RedisFacts(
        version=_text(told.get("redis_version", "0")),
        role=_text(told.get("role", "master")),
        append_only=str(told.get("aof_enabled", "0")) == "1",
        append_fsync=options.get("appendfsync"),
        last_append_failed=_text(told.get("aof_last_write_status", "ok")) != "ok",
        snapshots=bool(options["save"].strip()) if "save" in options else None,
        eviction=_text(eviction) if eviction is not None else None,
    )


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def judge(facts: RedisFacts, name: str) -> list[Finding]:
    """What a Redis' facts mean.

    Args:
        facts: As it says.
        name: Its address as it may be shown.
    """
    found = [ok("redis", f"{name} answers, version {facts.version}"), *_too_old("redis", facts.version)]
    if facts.role != "master":
        found.append(
            problem("redis", "it is a replica, which takes no orders", "set ORDERRELAY_REDIS_URL to its primary")
        )
    found.append(_kept(facts))
    if facts.last_append_failed:
        found.append(problem("redis", "its last write to the append-only file failed", "see its log and free its disk"))
    if facts.eviction is None:
        found.append(warning("redis", "does not tell its maxmemory-policy", "make sure that it is noeviction"))
    elif facts.eviction != "noeviction":
        text = f"maxmemory-policy is {facts.eviction}: short of memory, it would throw accepted orders away"
        found.append(problem("redis", text, "set maxmemory-policy noeviction"))
    else:
        found.append(ok("redis", "maxmemory-policy is noeviction"))
    return found


def _too_old(subject: str, version: str) -> list[Finding]:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers >= _OLDEST:
        return []
    return [problem(subject, f"version {version} is too old", "use Redis 6.2 or later, or Valkey")]


def _kept(facts: RedisFacts) -> Finding:
    booked = "use enqueue(..., booked=True) where that matters"
    if facts.append_only and facts.append_fsync == "always":
        return ok("redis", "appendfsync always: an accepted order is on Redis' disk; a crash loses none")
    if facts.append_only and facts.append_fsync == "everysec":
        return ok(
            "redis", f"appendfsync everysec: a crash of Redis may lose the last second of accepted orders; {booked}"
        )
    if facts.append_only and facts.append_fsync is None:
        text = "append-only file is on, but appendfsync is not told: accepted orders may get lost when Redis crashes"
        return warning("redis", text, f"ask your provider; {booked}")
    if facts.append_only:
        text = f"appendfsync {facts.append_fsync}: a crash of its host may lose half a minute of accepted orders"
        return warning("redis", text, f"set appendfsync everysec or always; {booked}")
    since = "since the last snapshot " if facts.snapshots else ""
    text = f"no append-only file: orders accepted {since}and not yet booked are lost when Redis ends"
    return warning("redis", text, f"set appendonly yes; {booked}")
