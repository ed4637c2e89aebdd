"""What each kind of event does to the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import redis

from tests.chaos.schedule import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.proxy import ChaosProxy
    from tests.chaos.world import Worker, World

_SMALL_MEMORY = "1mb"
_NOBODY = "nobody is there"


def perform(world: World, event: Event) -> None:
    """Do what an event says; the world sees to its end."""
    text = _EVENTS[event.kind](world, event)
    world.counts[event.kind] += text != _NOBODY
    lasts = f" for {event.lasts_seconds:.1f} s" if event.lasts_seconds else ""
    world.say(f"{event.kind}{lasts}{': ' + text if text else ''}")


def _chosen(workers: list[Worker], event: Event) -> Worker | None:
    return workers[int(event.choice * len(workers))] if workers else None


def _kill_worker(world: World, event: Event) -> str:
    if (worker := _chosen(world.workers, event)) is None:
        return _NOBODY
    world.kill(worker)
    return f"{worker}; then {world.start_worker()}"


def _kill_all_workers(world: World, _: Event) -> str:
    gone = list(world.workers)
    for worker in gone:
        world.kill(worker)
    return f"{', '.join(map(str, gone))}; then {', '.join(str(world.start_worker()) for _ in gone)}"


def _stop_worker(world: World, event: Event) -> str:
    if (worker := _chosen([w for w in world.workers if w.is_ready and not w.is_frozen], event)) is None:
        return _NOBODY
    world.stop(worker)
    return f"{worker}; then {world.start_worker()}"


def _freeze_worker(world: World, event: Event) -> str:
    if (worker := _chosen([w for w in world.workers if w.is_ready and not w.is_frozen], event)) is None:
        return _NOBODY
    worker.is_frozen = True
    worker.process.freeze()

    def thaw() -> None:
        worker.process.thaw()
        worker.is_frozen = False

    world.later(event.lasts_seconds, thaw)
    return str(worker)


def _ask_redis(world: World, *command: str) -> str:
    try:
        with world.redis_server.connect() as client:
            client.execute_command(*command)
    except redis.RedisError as error:
        return f"not done, {type(error).__name__}"
    return ""


def _kill_redis(world: World, event: Event) -> str:
    world.redis_server.kill9()
    world.later(event.lasts_seconds, world.redis_server.start)
    return ""


def _wipe_redis(world: World, _: Event) -> str:
    told = _ask_redis(world, "FLUSHALL") or _ask_redis(world, "SCRIPT", "FLUSH")
    world.wiped_at = world.now
    return told


def _pause_redis(world: World, event: Event) -> str:
    return _ask_redis(world, "CLIENT", "PAUSE", str(int(event.lasts_seconds * 1000)), "ALL")


def _fill_redis(world: World, event: Event) -> str:
    def empty() -> None:
        _ask_redis(world, "CONFIG", "SET", "maxmemory", "0")

    world.later(event.lasts_seconds, empty)
    return _ask_redis(world, "CONFIG", "SET", "maxmemory", _SMALL_MEMORY)


def _kill_postgres(world: World, event: Event) -> str:
    assert world.postgres_server is not None
    world.postgres_server.kill9()
    world.later(event.lasts_seconds, world.postgres_server.start)
    return ""


def _slow(world: World, link: ChaosProxy, event: Event) -> str:
    link.delay_seconds = 0.02 + 0.4 * event.choice
    world.later(event.lasts_seconds, link.heal)
    return f"{link.delay_seconds * 1000:.0f} ms each piece"


def _half_open(world: World, link: ChaosProxy, event: Event) -> str:
    link.is_swallowing = True
    world.later(event.lasts_seconds, link.heal)
    return ""


def _refuse(world: World, link: ChaosProxy, event: Event) -> str:
    link.is_refusing = True
    link.reset_all()
    world.later(event.lasts_seconds, link.heal)
    return ""


def _cut(link: ChaosProxy) -> str:
    link.reset_all()
    return ""


def _end_sessions(world: World, _: Event) -> str:
    world.simulator.end_sessions()
    return ""


_EVENTS: Final[dict[Kind, Callable[[World, Event], str]]] = {
    Kind.KILL_WORKER: _kill_worker,
    Kind.KILL_ALL_WORKERS: _kill_all_workers,
    Kind.STOP_WORKER: _stop_worker,
    Kind.FREEZE_WORKER: _freeze_worker,
    Kind.HALT_WORKER: _freeze_worker,
    Kind.KILL_REDIS: _kill_redis,
    Kind.WIPE_REDIS: _wipe_redis,
    Kind.PAUSE_REDIS: _pause_redis,
    Kind.FILL_REDIS: _fill_redis,
    Kind.KILL_POSTGRES: _kill_postgres,
    Kind.SLOW_REDIS_LINK: lambda world, event: _slow(world, world.redis_link, event),
    Kind.CUT_REDIS_LINK: lambda world, _: _cut(world.redis_link),
    Kind.HALF_OPEN_REDIS_LINK: lambda world, event: _half_open(world, world.redis_link, event),
    Kind.SLOW_VENDOR_LINK: lambda world, event: _slow(world, world.vendor_link, event),
    Kind.CUT_VENDOR_LINK: lambda world, _: _cut(world.vendor_link),
    Kind.HALF_OPEN_VENDOR_LINK: lambda world, event: _half_open(world, world.vendor_link, event),
    Kind.REFUSE_VENDOR_LINK: lambda world, event: _refuse(world, world.vendor_link, event),
    Kind.END_SESSIONS: _end_sessions,
}
