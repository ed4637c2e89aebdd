"""Run the product under chaos, and judge: `python -m tests.chaos.run --seed 1 --seconds 60 --orders 400`.

Three worker processes, a real Redis and a real PostgreSQL (or SQLite) are killed, frozen, wiped and cut off at random
while the vendor goes wrong too. In the end the vendor's books must hold every order exactly once.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import Credentials, FaultPlan, running_simulator
from tests.chaos import schedule
from tests.chaos.events import perform
from tests.chaos.producing import Producing
from tests.chaos.verdict import Verdict, judge
from tests.chaos.world import COMPANY, SECRETS, World
from tests.processes import Processes, dismiss_guardian
from tests.servers import PostgresServer, RedisServer, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

#: After the last event all orders are settled within this time, in seconds: some leases, settling times and holds.
_CALM_SECONDS = 150.0

#: Producers begin their files over this share of the run.
_BUSY_SHARE = 0.7

#: Workers may send so many times faster than orders come, to make up for the time in which nothing works.
_SPARE_RATE = 3.0


@dataclass(frozen=True)
class Options:
    """What a run is made of; times in seconds, `faults` a share of the order requests."""

    seed: int = 1
    seconds: float = 60.0
    orders: int = 300
    workers: int = 3
    database: str = "sqlite"
    faults: float = 0.1
    lookup: bool = True


def run(options: Options, folder: Path) -> Verdict:
    """Run and judge. Everything that was started has ended when this returns.

    Args:
        options: What to do.
        folder: An empty one, for logs and the database.
    """
    plan = schedule.fault_plan(options.seed, options.faults)
    credentials = Credentials(SECRETS["COMPANY_API_KEY"], SECRETS["CONNECT_API_KEY"], SECRETS["LICENSE"],
                              SECRETS["USER_NAME"], SECRETS["PASSWORD"])  # fmt: skip
    with ExitStack() as opened:
        # Written before each answer, and never held back for a sync: its kill loses nothing, only a wipe does.
        redis_server = RedisServer(folder / "redis", options=("--appendonly", "yes", "--appendfsync", "no"))
        opened.callback(redis_server.kill9)
        redis_server.start()
        postgres_server = None
        database_url = f"sqlite:///{folder / 'orderrelay.db'}"
        if options.database == "postgres":
            postgres_server = PostgresServer()
            opened.callback(postgres_server.remove)
            postgres_server.start()
            database_url = postgres_server.url(postgres_server.create_database())
        simulator = opened.enter_context(running_simulator(plan, credentials=credentials, login_failure_seconds=0.2))
        processes = Processes(folder)
        opened.callback(processes.end)
        world = World(
            processes, folder, redis_server, postgres_server, database_url, simulator,
            workers=options.workers, has_lookup=options.lookup,
            rate_per_second=max(5.0, _SPARE_RATE * options.orders / (options.seconds * _BUSY_SHARE)),
        )  # fmt: skip
        opened.callback(world.stack.close)
        opened.callback(world.vendor_link.close)
        opened.callback(world.redis_link.close)
        return _run(options, world, folder)


def _run(options: Options, world: World, folder: Path) -> Verdict:
    print(f"seed {options.seed}, {options.orders} orders on {options.database}, look-up {options.lookup}: {folder}")
    world.begin()
    producing = Producing(world, folder, options.orders, options.seconds * _BUSY_SHARE, options.seed)
    producing.start()
    _wreak(options, world)
    world.calm()
    world.simulator.set_plan(FaultPlan())
    producing.stop()
    world.say("calm")
    alone: list[str] = []
    try:
        producing.finish(_CALM_SECONDS)
        world.say("all booked")
        _settle(world, producing)
        world.say("all settled")
        alone = world.find_deaf()
        wait_until(lambda: _are_settled(world, alone), 40, what="what workers submitted alone is settled")
        world.say("each worker hears")
    except AssertionError as error:
        world.violations.append(str(error))
    world.stop_all()
    world.say(f"producers: {dict(producing.runs)}")
    return judge(world, producing.external_ids + alone)


def _wreak(options: Options, world: World) -> None:
    never = threading.Event()
    has_postgres = world.postgres_server is not None
    for event in schedule.events(options.seed, options.seconds, has_postgres=has_postgres):
        while world.now < event.at_seconds:
            world.tick()
            never.wait(0.05)
        perform(world, event)
    while world.now < options.seconds:
        world.tick()
        never.wait(0.05)


def _settle(world: World, producing: Producing) -> None:
    """Wait until nothing waits and nothing is in doubt."""

    def all_settled() -> bool:
        world.tick()
        return _are_settled(world, producing.external_ids)

    def all_stored() -> bool:
        return not world.stack.rows("SELECT id FROM attempt WHERE stored_at IS NULL LIMIT 1")

    wait_until(all_settled, _CALM_SECONDS, what=f"all {len(producing.external_ids)} orders are settled")
    wait_until(all_stored, 30, what="every answer is stored as an operation result")
    assert world.stack.rows("SELECT alias FROM company WHERE paused_reason IS NOT NULL") == [], f"{COMPANY} is paused"


def _are_settled(world: World, external_ids: Sequence[str]) -> bool:
    states = world.stack.states()
    return all(x in states and JobState(states[x]).is_settled for x in external_ids)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 if nothing was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="of the events and the faults")
    parser.add_argument("--seconds", type=float, default=60.0, help="of chaos; then it has to settle")
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--faults", type=float, default=0.1, help="share of the order requests that go wrong")
    parser.add_argument("--no-lookup", dest="lookup", action="store_false", help="the vendor cannot be asked")
    parser.add_argument("--keep", action="store_true", help="leave the folder with all logs even if all went well")
    given = vars(parser.parse_args(arguments))
    keep = given.pop("keep")
    options = Options(**given)
    folder = Path(tempfile.mkdtemp(prefix=f"orderrelay-chaos-{options.seed}-"))
    try:
        verdict = run(options, folder)
    finally:
        dismiss_guardian()
    print(verdict)
    if verdict.violations or keep:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
