"""Run the product under chaos, and judge: `python -m tests.chaos.run --seed 1 --seconds 60 --orders 400`.

Worker processes, a real Redis and a real PostgreSQL (or SQLite) are killed, frozen, wiped, filled and cut off at
random while the vendor goes wrong too. In the end the vendor's books must hold every order exactly once. With
`--kill-every` and `--wipe-every` it is a soak: many orders, and nothing but kills and wipes beside the vendor's faults.
"""

from __future__ import annotations

import json
import pwd
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import schema
from orderrelay_workers.simulator import Credentials, FaultPlan, running_simulator
from tests.chaos import options as command_line
from tests.chaos import schedule
from tests.chaos.alone import find_deaf
from tests.chaos.disk import SmallDisk
from tests.chaos.events import perform
from tests.chaos.producing import Producing
from tests.chaos.verdict import Verdict, judge
from tests.chaos.world import COMPANY, SECRETS, Servers, World
from tests.processes import Processes, dismiss_guardian
from tests.servers import PostgresServer, RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.options import Options

#: After the last event all orders are settled within this time, in seconds: some leases, settling times and holds.
_CALM_SECONDS = 150.0

#: Producers begin their files over this share of the run.
_BUSY_SHARE = 0.7

#: Workers may send so many times faster than orders come, to make up for the time in which nothing works.
_SPARE_RATE = 3.0

#: Where orders may share requests there are so many times fewer of these.
_SHARED_RATE_PART = 3.0

#: A soak goes on for so long at most, and so many orders a second are brought to it.
_SOAK_SECONDS = 3600.0
_SOAK_ORDERS_PER_SECOND = 150.0
_SOAK_RATE = 200.0

#: The disk of the database, in megabytes: large enough for the run, small enough to be filled at once.
_SQLITE_MEGABYTES, _POSTGRES_MEGABYTES = 64, 256


def run(options: Options, folder: Path) -> Verdict:
    """Run and judge. Everything that was started has ended when this returns.

    Args:
        options: What to do.
        folder: An empty one, for logs and the database.
    """
    with ExitStack() as opened:
        servers = _start_servers(options, folder, opened)
        processes = Processes(folder)
        opened.callback(processes.end)
        rate = max(5.0, _SPARE_RATE * options.orders / (options.seconds * _BUSY_SHARE))
        if options.orders_per_request > 1:  # orders share requests only where they have to wait
            rate = max(5.0, rate / _SHARED_RATE_PART)
        rate = options.rate or (_SOAK_RATE if options.is_soak else rate)
        limits = {"RATE_PER_SECOND": f"{rate:g}", "MAX_IN_FLIGHT": "400" if options.is_soak else "50"}
        world = World(
            processes,
            folder,
            servers,
            workers=options.workers,
            limits=limits,
            has_lookup=options.lookup,
            orders_per_request=options.orders_per_request,
        )
        opened.callback(world.close)
        return _run(options, world, folder)


def _start_servers(options: Options, folder: Path, opened: ExitStack) -> Servers:
    # Written before each answer, and never held back for a sync: its kill loses nothing, only a wipe does.
    redis_server = RedisServer(folder / "redis", options=("--appendonly", "yes", "--appendfsync", "no"))
    opened.callback(redis_server.kill9)
    redis_server.start()
    disk = postgres_server = None
    database_url = f"sqlite:///{folder / 'ledger' / 'orderrelay.db'}"
    if options.database == "postgres":
        postgres_server = PostgresServer(options={"max_wal_size": "64MB", "min_wal_size": "32MB"})
        opened.callback(postgres_server.remove)
    if not options.is_soak:
        disk = _small_disk(folder, postgres_server)
        opened.callback(disk.remove)
    if postgres_server is not None:
        opened.callback(postgres_server.kill9)
        postgres_server.start()
        database_url = postgres_server.url(postgres_server.create_database())
    keys = ("COMPANY_API_KEY", "CONNECT_API_KEY", "LICENSE", "USER_NAME", "PASSWORD")
    plan = schedule.fault_plan(options.seed, options.faults, several=options.orders_per_request > 1)
    simulator = opened.enter_context(
        running_simulator(plan, credentials=Credentials(*(SECRETS[key] for key in keys)), login_failure_seconds=0.2)
    )
    return Servers(redis_server, postgres_server, database_url, simulator, disk)


def _small_disk(folder: Path, postgres_server: PostgresServer | None) -> SmallDisk:
    if postgres_server is None:
        return SmallDisk(folder / "ledger", _SQLITE_MEGABYTES)
    owner = pwd.getpwnam("nobody").pw_uid if Path("/proc/self").owner() == "root" else None  # as PostgresServer has it
    return SmallDisk(postgres_server.folder / "cluster", _POSTGRES_MEGABYTES, owner)


def _run(options: Options, world: World, folder: Path) -> Verdict:
    print(f"seed {options.seed}, {options.orders} orders on {options.database}, look-up {options.lookup}: {folder}")
    world.begin()
    seconds = options.orders / _SOAK_ORDERS_PER_SECOND if options.is_soak else options.seconds * _BUSY_SHARE
    producing = Producing(world, folder, options.orders, seconds, options.seed)
    producing.start()
    _wreak(options, world, producing)
    world.simulator.set_plan(FaultPlan())
    world.calm()
    producing.stop()
    world.say("calm")
    alone: list[str] = []
    try:
        producing.finish(_CALM_SECONDS)
        world.say("all booked")
        _settle(world, producing)
        world.say("all settled")
        if not options.is_soak:
            alone = find_deaf(world)
            world.wait(lambda: _are_settled(world, len(producing.external_ids)), 40, what="those are settled too")
            world.say("each worker hears")
    except AssertionError as error:
        world.violations.append(str(error))
    world.crew.stop_all()
    world.say(f"producers: {dict(producing.runs)}")
    return judge(world, producing.external_ids + alone)


def _wreak(options: Options, world: World, producing: Producing) -> None:
    if not options.is_soak:
        has_postgres = world.servers.postgres is not None
        _perform_all(world, schedule.events(options.seed, options.seconds, has_postgres=has_postgres), options.seconds)
        return
    coming = schedule.soak_events(options.seed, _SOAK_SECONDS, options.kill_every, options.wipe_every)
    for event in coming:
        _perform_all(world, [event], event.at_seconds)
        if producing.is_done and _are_worked_on(world):
            return


def _perform_all(world: World, events: Sequence[schedule.Event], until: float) -> None:
    for event in [*events, None]:
        while world.now < (until if event is None else event.at_seconds):
            world.tick()
            time.sleep(0.05)
        if event is not None:
            perform(world, event)


def _settle(world: World, producing: Producing) -> None:
    """Wait until nothing waits and nothing is in doubt."""
    count = len(producing.external_ids)
    world.wait(lambda: _are_settled(world, count), _CALM_SECONDS, what=f"all {count} orders are settled")
    waiting = sa.select(schema.attempt.c.id).where(schema.attempt.c.stored_at.is_(None)).limit(1)
    world.wait(lambda: not world.read(waiting), 30, what="every answer is stored as an operation result")
    assert world.stack.rows("SELECT alias FROM company WHERE paused_reason IS NOT NULL") == [], f"{COMPANY} is paused"
    # A dead worker's are free as soon as its death is noticed, or a minute after it spoke for the last time.
    world.wait(lambda: not _places_taken(world), 75, what="no place in flight is taken any more")


def _places_taken(world: World) -> dict[str, str]:
    """What the gate counts as in flight: boot id -> count and when it was told. Nothing is, where nothing is out."""
    with world.servers.redis.connect() as client:
        told = client.hgetall(keys.gate_in_flight(COMPANY))
    return {boot.decode(): count.decode() for boot, count in told.items()}


def _counts(world: World) -> dict[JobState, int]:
    state = schema.job.c.state
    rows = world.read(sa.select(state, sa.func.count().label("jobs")).group_by(state))
    return {JobState(row.state): row.jobs for row in rows}


def _are_settled(world: World, at_least: int) -> bool:
    counts = _counts(world)
    return sum(counts.values()) >= at_least and all(state.is_settled for state, count in counts.items() if count)


def _are_worked_on(world: World) -> bool:
    """Whether none of the booked orders waits or is out. What a wipe has taken is enqueued again in the calm."""
    counts = _counts(world)
    return bool(counts) and not counts.get(JobState.WAITING) and not counts.get(JobState.IN_PROGRESS)


def write_json(file: Path, options: Options, verdict: Verdict) -> None:
    """Append a run as one line."""
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": asdict(options),
        "violations": verdict.violations,
        **verdict.numbers,
    }
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if nothing was violated."""
    given = command_line.read(arguments, __doc__)
    begun = command_line.DATABASES.index(given.options.database)
    good = True
    try:
        for number in range(given.runs):
            database = command_line.DATABASES[(begun + number) % len(command_line.DATABASES)]
            options = replace(given.options, seed=given.options.seed + number, database=database)
            good = _run_one(options, given.json, keep=given.keep) and good
    finally:
        dismiss_guardian()
    return 0 if good else 1


def _run_one(options: Options, file: Path | None, *, keep: bool) -> bool:
    folder = Path(tempfile.mkdtemp(prefix=f"orderrelay-chaos-{options.seed}-"))
    verdict = run(options, folder)
    print(verdict)
    if file is not None:
        write_json(file, options, verdict)
    if verdict.violations or keep:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return not verdict.violations


if __name__ == "__main__":
    sys.exit(main())
