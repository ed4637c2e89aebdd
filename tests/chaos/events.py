"""What each kind of event does to the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import redis

from tests.chaos.schedule import Event, Kind, Link
from tests.chaos.trapped import WORKER_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.crew import Worker
    from tests.chaos.world import World

_SMALL_MEMORY = "1mb"

_NOBODY = "nobody is there"
_NOT_HERE = "cannot be done on this machine"

#: These take something away that orders in doubt need to be decided.
_OUTAGES: Final = frozenset({
    Kind.KILL_REDIS, Kind.WIPE_REDIS, Kind.PAUSE_REDIS, Kind.FILL_REDIS, Kind.KILL_POSTGRES, Kind.FILL_DISK,
    Kind.SLOW_LINK, Kind.CUT_LINK, Kind.HALF_OPEN_LINK, Kind.TRUNCATE_LINK, Kind.REFUSE_VENDOR_LINK,
})  # fmt: skip
_FREEZES: Final = frozenset({Kind.FREEZE_WORKER, Kind.HALT_WORKER})


def perform(world: World, event: Event) -> None:
    """Do what an event says; the world sees to its end."""
    if _takes_away(world, event):
        name = f"{event.name} {event.at_seconds}"
        world.outages.begin(name, world.now)
        world.later(event.lasts_seconds, lambda: world.outages.end(name, world.now))
    text = _EVENTS[event.kind](world, event)
    if event.kind is not Kind.KILL_AT_POINT and text not in (_NOBODY, _NOT_HERE):  # points are counted when reached
        world.counts[event.name] += 1
    lasts = f" for {event.lasts_seconds:.1f} s" if event.lasts_seconds else ""
    world.say(f"{event.name}{lasts}{', ' + text if text else ''}")


def _takes_away(world: World, event: Event) -> bool:
    if event.link is Link.PRODUCERS:
        return False
    # A worker may be frozen with the write lock of SQLite in its hand.
    return event.kind in _OUTAGES or (event.kind in _FREEZES and world.servers.postgres is None)


def _chosen(workers: list[Worker], event: Event) -> Worker | None:
    return workers[int(event.choice * len(workers))] if workers else None


def _awake(world: World) -> list[Worker]:
    return [worker for worker in world.crew.workers if worker.is_ready and not worker.is_frozen]


def _kill_worker(world: World, event: Event) -> str:
    # One that has not begun yet holds nothing; killing it again and again would leave nobody to kill.
    workers = [worker for worker in world.crew.workers if worker.is_ready] or world.crew.workers
    if (worker := _chosen(workers, event)) is None:
        return _NOBODY
    world.crew.kill(worker)
    return f"{worker}; then {world.crew.start()}"


def _kill_all_workers(world: World, _: Event) -> str:
    gone = list(world.crew.workers)
    for worker in gone:
        world.crew.kill(worker)
    return f"{', '.join(map(str, gone))}; then {', '.join(str(world.crew.start()) for _ in gone)}"


def _kill_at_point(world: World, event: Event) -> str:
    point = list(WORKER_POINTS)[int(event.choice * len(WORKER_POINTS))]
    world.crew.arm(point)
    return f"{point}: armed"


def _stop_worker(world: World, event: Event) -> str:
    if (worker := _chosen(_awake(world), event)) is None:
        return _NOBODY
    world.crew.stop(worker)
    return f"{worker}; then {world.crew.start()}"


def _freeze_worker(world: World, event: Event) -> str:
    if (worker := _chosen(_awake(world), event)) is None:
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
        with world.servers.redis.connect() as client:
            client.execute_command(*command)
    except redis.RedisError as error:
        return f"not done, {type(error).__name__}"
    return ""


def _kill_redis(world: World, event: Event) -> str:
    world.servers.redis.kill9()
    world.later(event.lasts_seconds, world.servers.redis.start)
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
    assert world.servers.postgres is not None
    world.servers.postgres.kill9()
    world.later(event.lasts_seconds, lambda: _start_postgres(world))
    return ""


def _start_postgres(world: World) -> None:
    """Start it if it does not run. On a full disk it does not come up, and is tried again."""
    assert world.servers.postgres is not None
    try:
        world.servers.postgres.start()
    except AssertionError:
        world.later(1.0, lambda: _start_postgres(world))


def _fill_disk(world: World, event: Event) -> str:
    disk, postgres = world.servers.disk, world.servers.postgres
    if disk is None:
        return _NOT_HERE
    pids = [worker.process.pid for worker in world.crew.workers]
    if not (how := disk.fill(pids, is_sqlite=postgres is None)):
        return _NOT_HERE

    def free() -> None:
        disk.free()
        if postgres is not None:  # it may give up, at once or soon: a write-ahead log without room is a panic
            _start_postgres(world)
            world.later(2.0, lambda: _start_postgres(world))

    world.later(event.lasts_seconds, free)
    return how


def _slow_link(world: World, event: Event) -> str:
    assert event.link is not None
    link = world.links[event.link]
    # A statement's round trip to the database takes two pieces, and a transaction some statements.
    link.delay_seconds = 0.01 + (0.05 if event.link is Link.DATABASE else 0.4) * event.choice
    world.later(event.lasts_seconds, link.heal)
    return f"{link.delay_seconds * 1000:.0f} ms each piece"


def _cut_link(world: World, event: Event) -> str:
    assert event.link is not None
    world.links[event.link].reset_all()
    return ""


def _half_open_link(world: World, event: Event) -> str:
    assert event.link is not None
    link = world.links[event.link]
    link.is_swallowing = True
    world.later(event.lasts_seconds, link.heal)
    return ""


def _truncate_link(world: World, event: Event) -> str:
    assert event.link is not None
    link = world.links[event.link]
    link.is_truncating = True
    world.later(event.lasts_seconds, link.heal)
    return ""


def _refuse_vendor_link(world: World, event: Event) -> str:
    link = world.links[Link.VENDOR]
    link.is_refusing = True
    link.reset_all()
    world.later(event.lasts_seconds, link.heal)
    return ""


def _end_sessions(world: World, _: Event) -> str:
    world.simulator.end_sessions()
    return ""


_EVENTS: Final[dict[Kind, Callable[[World, Event], str]]] = {
    Kind.KILL_WORKER: _kill_worker,
    Kind.KILL_ALL_WORKERS: _kill_all_workers,
    Kind.KILL_AT_POINT: _kill_at_point,
    Kind.STOP_WORKER: _stop_worker,
    Kind.FREEZE_WORKER: _freeze_worker,
    Kind.HALT_WORKER: _freeze_worker,
    Kind.KILL_REDIS: _kill_redis,
    Kind.WIPE_REDIS: _wipe_redis,
    Kind.PAUSE_REDIS: _pause_redis,
    Kind.FILL_REDIS: _fill_redis,
    Kind.KILL_POSTGRES: _kill_postgres,
    Kind.FILL_DISK: _fill_disk,
    Kind.SLOW_LINK: _slow_link,
    Kind.CUT_LINK: _cut_link,
    Kind.HALF_OPEN_LINK: _half_open_link,
    Kind.TRUNCATE_LINK: _truncate_link,
    Kind.REFUSE_VENDOR_LINK: _refuse_vendor_link,
    Kind.END_SESSIONS: _end_sessions,
}
