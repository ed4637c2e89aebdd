"""Redis: whether it answers, is new enough, keeps what was accepted, and never throws keys away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import RedisError, ResponseError

from orderrelay_shared import keys
from orderrelay_shared.intake import Cancel
from orderrelay_shared.redis_connection import connect, masked
from orderrelay_workers.diagnosis.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    import redis

#: The oldest Redis whose commands the scripts and the intake use.
_OLDEST = (6, 2)

#: The shares of its memory from which on a Redis is worth a warning, and is as good as full.
_MEMORY_NEARLY_FULL, _MEMORY_FULL = 0.75, 0.95

_MIB = 1024**2

#: The oldest Redis that knows WAITAOF, and the oldest whose WAITAOF tells the truth also under appendfsync everysec,
#: which Valkey's does not. Producers go by the same.
_KNOWS_WAITAOF, _TRUTHFUL_WAITAOF = (7, 2), (8, 0)


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What a Redis says of itself; None where it does not say.

    `used_bytes` is the memory it uses, `most_bytes` what it may (maxmemory; 0: no limit), `host_bytes` its host's.
    """

    version: str
    role: str
    append_only: bool
    append_fsync: str | None
    last_append_failed: bool
    snapshots: bool | None
    eviction: str | None
    replicas: int = 0
    is_valkey: bool = False
    used_bytes: int = 0
    most_bytes: int = 0
    host_bytes: int = 0
    last_snapshot_failed: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What producers ask for before they call an order accepted, as far as it is set here."""

    replicas: int = 0
    on_disk: bool = False


_NOTHING_ASKED = Asked()


def look_at_redis(url: str, asked: Asked) -> tuple[redis.Redis | None, list[Finding]]:
    """Look at the Redis of the intake and the gate.

    Args:
        url: Where it is.
        asked: What producers ask of it.

    Returns:
        A client of it, to be closed by the caller, or None if it does not answer; and what was found.
    """
    client = connect(url, client_name="orderrelay-doctor")
    try:
        facts = _read(client)
        newer = _left_for_newer_workers(client)
    except RedisError as error:
        client.close()
        return None, [_away("redis", "REDIS_URL", url, error)]
    return client, [*judge(facts, masked(url), asked), *judge_newer(newer)]


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
        replicas=int(told.get("connected_slaves", 0)),
        is_valkey="valkey_version" in told,
        used_bytes=int(told.get("used_memory", 0)),
        most_bytes=int(told.get("maxmemory", 0)),
        host_bytes=int(told.get("total_system_memory", 0)),
        last_snapshot_failed=_text(told.get("rdb_last_bgsave_status", "ok")) != "ok",
    )


def _left_for_newer_workers(client: redis.Redis) -> dict[str, int]:
    """What the entries need that workers could not read (such as "v2"), and how many there are of each."""
    try:
        readers = client.xinfo_consumers(keys.INTAKE, keys.INTAKE_GROUP)
    except ResponseError:  # no worker has made the group yet
        return {}
    pending = {_text(reader["name"]): int(reader["pending"]) for reader in readers if reader["pending"]}
    newer = keys.INTAKE_NEWER_READER
    needs = {name.removeprefix(newer): count for name, count in sorted(pending.items()) if name.startswith(newer)}
    return {need: count for need, count in needs.items() if need != Cancel.NEEDS}  # these wait for their orders only


def judge_newer(entries: dict[str, int]) -> list[Finding]:
    """What it means that entries wait in the intake for newer workers.

    Args:
        entries: What they need to be read, and how many there are of each.
    """
    if not entries:
        return []
    needs = ", ".join(f"{count} of {need}" for need, count in entries.items())
    number = sum(entries.values())
    told = "1 entry of the intake waits" if number == 1 else f"{number} entries of the intake wait"
    return [
        warning(
            "redis",
            f"{told} for a newer version of the workers ({needs}); nothing is lost",
            "bring the workers up to the version of the services that enqueue",
        )
    ]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def judge(facts: RedisFacts, name: str, asked: Asked = _NOTHING_ASKED) -> list[Finding]:
    """What a Redis' facts mean.

    Args:
        facts: As it says.
        name: Its address as it may be shown.
        asked: What producers ask of it.
    """
    found = [ok("redis", f"{name} answers, version {facts.version}"), *_too_old("redis", facts.version)]
    if facts.role != "master":
        found.append(
            problem("redis", "it is a replica, which takes no orders", "set ORDERRELAY_REDIS_URL to its primary")
        )
    found.append(_with_replicas(_kept(facts), facts, asked))
    found += _asked_in_vain(facts, asked)
    if facts.last_append_failed:
        found.append(problem("redis", "its last write to the append-only file failed", "see its log and free its disk"))
    if facts.eviction is None:
        found.append(warning("redis", "does not tell its maxmemory-policy", "make sure that it is noeviction"))
    elif facts.eviction != "noeviction":
        text = f"maxmemory-policy is {facts.eviction}: short of memory, it would throw accepted orders away"
        found.append(problem("redis", text, "set maxmemory-policy noeviction"))
    else:
        found.append(ok("redis", "maxmemory-policy is noeviction"))
    if facts.last_snapshot_failed and not facts.append_only:
        text = "its last snapshot failed: by its default (stop-writes-on-bgsave-error) it takes no orders now"
        found.append(problem("redis", text, "see its log; free its disk, or set appendonly yes"))
    found.append(judge_memory(facts))
    return found


def judge_memory(facts: RedisFacts) -> Finding:
    """How much memory is left for orders that are accepted and not yet booked."""
    used = f"{facts.used_bytes / _MIB:,.0f} MiB"
    limit = facts.most_bytes or facts.host_bytes
    what = "maxmemory" if facts.most_bytes else "its host's memory"
    if not limit:
        return ok("redis", f"{used} of memory used, no limit told")
    share = facts.used_bytes / limit
    text = f"{used} of memory used, {share:.0%} of the {limit / _MIB:,.0f} MiB of {what}"
    refuses = "when that is full, no order is accepted any more"
    to_do = "raise maxmemory, or see why orders are not booked: orderrelay watch"
    if share >= _MEMORY_FULL:
        return problem("redis", f"{text}: {refuses}", to_do)
    if share >= _MEMORY_NEARLY_FULL:
        return warning("redis", f"{text}: {refuses}", to_do)
    return ok("redis", text)


def _too_old(subject: str, version: str) -> list[Finding]:
    if _numbers(version) >= _OLDEST:
        return []
    return [problem(subject, f"version {version} is too old", "use Redis 6.2 or later, or Valkey")]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _with_replicas(kept: Finding, facts: RedisFacts, asked: Asked) -> Finding:
    """What is kept, and what of it a failover keeps."""
    if not facts.replicas or asked.replicas > facts.replicas:
        return kept
    if asked.replicas:
        text = f"an accepted order is at {asked.replicas} of {facts.replicas} replicas (ORDERRELAY_ACCEPT_REPLICAS)"
    else:
        text = "a failover may lose what its replica did not have yet (ORDERRELAY_ACCEPT_REPLICAS=1 waits for that)"
    return replace(kept, text=f"{kept.text}; {text}")


def _asked_in_vain(facts: RedisFacts, asked: Asked) -> list[Finding]:
    """What producers ask and this Redis cannot do: they are told "unavailable" at each order."""
    found: list[Finding] = []
    if asked.replicas > facts.replicas:
        text = f"ORDERRELAY_ACCEPT_REPLICAS is {asked.replicas}, but {facts.replicas} replicas are connected"
        found.append(problem("redis", f"{text}: nothing is accepted", "connect the replicas, or ask for fewer"))
    truthful = facts.append_fsync == "always" or (not facts.is_valkey and _numbers(facts.version) >= _TRUTHFUL_WAITAOF)
    if asked.on_disk and not (facts.append_only and truthful and _numbers(facts.version) >= _KNOWS_WAITAOF):
        text = "ORDERRELAY_ACCEPT_ON_DISK is set, but this Redis cannot be relied on for that: nothing is accepted"
        to_do = "use Redis 7.2 or later, or Valkey, with appendonly yes and appendfsync always"
        found.append(problem("redis", text, to_do))
    return found


def _kept(facts: RedisFacts) -> Finding:
    booked = "use enqueue(..., booked=True) where that matters"
    if facts.append_only and facts.append_fsync == "always":
        return ok("redis", "appendfsync always: an accepted order is on Redis' disk; a crash loses none")
    if facts.append_only and facts.append_fsync == "everysec":
        return ok(
            "redis", f"appendfsync everysec: a crash of its host may lose the last second of accepted orders; {booked}"
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
