"""The demonstration, step by step: server, simulator, workers, orders, waiting, verdict."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import redis

from orderrelay_shared import keys, redis_connection
from orderrelay_shared.orders import OrderInvalid
from orderrelay_shared.urls import masked
from orderrelay_workers.demo.orders import make_orders, make_plan
from orderrelay_workers.demo.private_redis import NoRedis, PrivateRedis, find_binary
from orderrelay_workers.demo.verdict import Verdict, count_states, judge
from orderrelay_workers.demo.worker_process import settings_of, wait_until_ready, worker_process
from orderrelay_workers.ledger.engine import open_engine
from orderrelay_workers.simulator import Credentials, running_simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_WORKERS = 2

#: The demonstration's vendor takes no orders but with these; they are nobody's.
_CREDENTIALS = Credentials("demo-company-key", "demo-connect-key", "1", "demonstrator", "demo-password", None)

#: Beyond the time that the orders themselves need, the demonstration waits so long for all to be decided, in seconds.
_PATIENCE_SECONDS = 50.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a demonstration did.

    Attributes:
        orders: How many orders were offered.
        accepted: How many were accepted.
        refused: Why others were refused at the door: the first problem of each, counted.
        verdict: What became of the accepted ones.
        seconds: How long it all took, from the first order to the last decision.
        killed: Whether a worker was killed half-way.
    """

    orders: int
    accepted: int
    verdict: Verdict
    seconds: float
    killed: bool
    refused: dict[str, int] = field(default_factory=dict[str, int])


def run(
    folder: Path, *, orders: int, seed: int, kill: bool, tell: Callable[[str], None], show: Callable[[str], None]
) -> Run:  # fmt: skip
    """Run the demonstration in a folder.

    Args:
        folder: Where ledger and logs go.
        orders: How many orders.
        seed: The same seed makes the same orders and the same faults.
        kill: Whether to kill -9 a worker half-way, and start another.
        tell: Called with a line that is to stay.
        show: Called with a line of progress that the next one replaces.

    Raises:
        NoRedis: There is none to use.
    """
    with contextlib.ExitStack() as stack:
        redis_url = stack.enter_context(_redis(folder, tell))
        simulator = stack.enter_context(running_simulator(make_plan(seed), credentials=_CREDENTIALS))
        tell(f"vendor    a simulator that fails in about one order of twelve; its books: {simulator.url}/")
        environment = settings_of(
            folder,
            redis_url=redis_url,
            base_url=simulator.url,
            companies={"default": _CREDENTIALS},
            rate_per_second=max(100, orders // 15),
            request_timeout_seconds=3,
        )
        tell(f"workers   {_WORKERS} Celery worker processes, ledger {folder / 'ledger.db'}")
        numbers = range(1, _WORKERS + 1)
        workers = {number: stack.enter_context(worker_process(folder, environment, number)) for number in numbers}
        wait_until_ready(folder, workers)
        began_at = time.monotonic()
        accepted, refused = _enqueue(redis_url, orders, seed)
        tell(f"enqueued  {len(accepted)} of {orders} orders in {time.monotonic() - began_at:.1f} s")
        engine = open_engine(environment["ORDERRELAY_DATABASE_URL"])
        killed = False
        for states in _watch(environment, len(accepted), give_up_at=began_at + _PATIENCE_SECONDS + orders / 100):
            show(_progress(states, len(accepted), time.monotonic() - began_at))
            if kill and not killed and states["succeeded"] > len(accepted) // 3:
                workers[1].send_signal(signal.SIGKILL)
                workers[1].wait()
                killed = True
                tell("killed    one worker with kill -9, in the middle of its requests; another takes its place")
                stack.enter_context(worker_process(folder, environment, _WORKERS + 1))
        seconds = time.monotonic() - began_at
        verdict = judge(engine, accepted, simulator.books.created())
        engine.dispose()
    return Run(orders, len(accepted), verdict, seconds, killed, refused)


@contextlib.contextmanager
def _redis(folder: Path, tell: Callable[[str], None]) -> Iterator[str]:
    """The Redis of the environment if it is free of other ledgers, else a private one."""
    url = os.environ.get("ORDERRELAY_REDIS_URL")
    if not url:
        binary = find_binary()
        with PrivateRedis(binary, folder) as private:
            tell(f"redis     {binary.source}, private, at {private.url}; it keeps nothing")
            yield private.url
        return
    client = redis_connection.connect(url, client_name="orderrelay-demo")
    with contextlib.closing(client):
        try:
            if client.exists(keys.LEDGER_ID, keys.INTAKE):
                raise NoRedis(
                    f"{masked(url)} is in use by Orderrelay; give the demonstration another database number, "
                    "or unset ORDERRELAY_REDIS_URL for a private server"
                )
        except redis.RedisError as error:
            raise NoRedis(f"{masked(url)} does not answer ({type(error).__name__})") from None
        tell(f"redis     {masked(url)} from ORDERRELAY_REDIS_URL; what the demonstration leaves there is removed")
        try:
            yield url
        finally:
            for key in cast("Iterator[bytes]", client.scan_iter("orderrelay:*", count=1000)):
                client.delete(key)


def _enqueue(redis_url: str, orders: int, seed: int) -> tuple[list[str], dict[str, int]]:
    # The demonstration plays both sides; nothing else in the workers' package knows the producers'.
    from orderrelay_producers import OrderProducer  # noqa: PLC0415

    refused: Counter[str] = Counter()
    accepted: list[str] = []
    with OrderProducer(redis_url) as producer:
        report = producer.enqueue_many(make_orders(orders, seed), timeout=60)
        for line in report:
            if line.error is None and line.job is not None:
                accepted.append(line.job.external_id)
            elif isinstance(line.error, OrderInvalid):
                problems = [f"{p.path}: {p.message}" if p.path else p.message for p in line.error.problems]
                refused["; ".join(problems)] += 1
            else:
                refused[str(line.error)] += 1
    return accepted, dict(refused)


def _watch(environment: dict[str, str], accepted: int, *, give_up_at: float) -> Iterator[dict[str, int]]:
    engine = open_engine(environment["ORDERRELAY_DATABASE_URL"])
    try:
        while time.monotonic() < give_up_at:
            states = count_states(engine)
            yield states
            settled = states["succeeded"] + states["rejected"] + states["parked"] + states["cancelled"]
            if settled >= accepted:
                return
            time.sleep(0.25)
    finally:
        engine.dispose()


def _progress(states: dict[str, int], accepted: int, seconds: float) -> str:
    told = {
        "created": states["succeeded"],
        "rejected": states["rejected"],
        "waiting": states["waiting"] + max(0, accepted - sum(states.values())),
        "in flight": states["in_progress"],
        "unknown": states["unknown"],
        "parked": states["parked"],
    }
    return f"{seconds:5.1f} s  " + "  ".join(f"{count} {name}" for name, count in told.items())
