"""The users of `deploy/redis/users.acl` on a real Redis: what they may is enough, and no more than is needed."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from orderrelay_producers import AsyncOrderProducer, OrderConflict, OrderProducer
from orderrelay_shared.states import JobState
from orderrelay_workers.simulator import FaultPlan, Rule, running_simulator
from tests.servers import RedisServer
from tests.stack import Stack, order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Processes

_FILE = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
#: Needed where other things happen than here: entries of a reader that died or that are for newer workers, a restored
#: database, somebody who gives up waiting, the doctor.
_SELDOM = {
    "info", "scan", "unlink", "unsubscribe", "xclaim", "xgroup|delconsumer", "xpending", "xrange", "zrangebyscore",
}  # fmt: skip
_PRODUCER, _WORKER = "orderrelay-producer", "orderrelay-worker"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with these users, where the tests themselves may do everything."""
    users = re.sub(r"^user default off$", "user default on nopass ~* &* +@all", _FILE.read_text(), flags=re.MULTILINE)
    acl = tmp_path / "users.acl"
    acl.write_text(users)
    server = RedisServer(tmp_path / "redis", options=("--aclfile", str(acl), "--acllog-max-len", "1000"))
    server.start()
    yield server
    server.stop()


def url(server: RedisServer, user: str) -> str:
    """The address for a user, whose password is in the file."""
    return server.url.replace("redis://", f"redis://{user}:change-me-{user.removeprefix('orderrelay-')}@")


def allowed(user: str) -> set[str]:
    """The commands that the file gives to a user."""
    (line,) = re.findall(rf"^user {user} .*$", _FILE.read_text(), flags=re.MULTILINE)
    return {word[1:] for word in line.split() if word.startswith("+")}


def used(server: RedisServer) -> set[str]:
    """The commands that anybody has used since the last reset."""
    with server.connect() as client:
        counted: Any = client.info("commandstats")
    return {name.removeprefix("cmdstat_") for name in counted}


def refused(server: RedisServer) -> list[str]:
    """What was refused to the users, but for the client library's name, which Redis 7.0 does not know how to allow."""
    with server.connect() as client:
        entries: Any = client.acl_log()
    return [
        f"{entry['username']}: {entry['reason']} {entry['object']}"
        for entry in entries
        if entry["object"] not in ("client|setinfo", "client")
    ]


def every_trade(stack: Stack, producer_url: str) -> None:
    """All that producers and workers do but for what takes hours: book, send, look up, cancel, come and go."""
    first = stack.worker()
    with OrderProducer(producer_url) as producer:
        job = producer.enqueue(order("A-1"), company="acme", booked=True)
        assert job.wait(timeout=20).state is JobState.SUCCEEDED
        with pytest.raises(OrderConflict):
            producer.enqueue(order("A-1", CustomerNr="14"), company="acme")
        stack.simulator.set_plan(FaultPlan(rules=(Rule(fault="500-after", external_id_prefix="A-2"),)))
        doubtful = producer.enqueue(order("A-2"), company="acme")
        assert doubtful.wait(timeout=30).state is JobState.SUCCEEDED  # found by a look-up
        first.kill9()
        late = producer.enqueue(order("A-3"), company="acme")
        assert producer.cancel(late) == "requested"
        stack.worker()
        assert late.wait(timeout=20).state is JobState.CANCELLED
        assert producer.find(external_id="A-2", company="acme") is not None
        producer.estimate(company="acme")

    async def in_a_loop() -> JobState:
        async with AsyncOrderProducer(producer_url) as producer:
            job = await producer.enqueue(order("A-4"), company="acme")
            return (await job.wait(timeout=20)).state

    assert asyncio.run(in_a_loop()) is JobState.SUCCEEDED


def test_the_users_may_do_what_is_needed(
    server: RedisServer, sqlite_url: str, processes: Processes, tmp_path: Path
) -> None:
    """Nothing of the daily work is refused to them, and of what they are given all is used."""
    with running_simulator(login_failure_seconds=0.2) as simulator:
        stack = Stack(processes, url(server, _WORKER), sqlite_url, simulator, tmp_path)
        every_trade(stack, url(server, _PRODUCER))
        processes.end()
        stack.close()
    assert refused(server) == []
    assert (allowed(_PRODUCER) | allowed(_WORKER)) - used(server) == _SELDOM


@pytest.mark.parametrize(
    ("user", "command"),
    [
        (_PRODUCER, ["GET", "orderrelay:token:acme"]),
        (_PRODUCER, ["HGETALL", "orderrelay:gate:acme"]),
        (_PRODUCER, ["XRANGE", "orderrelay:intake", "-", "+"]),
        (_PRODUCER, ["XDEL", "orderrelay:intake", "1-1"]),
        (_PRODUCER, ["EVAL", "return redis.call('DEL', KEYS[1])", "1", "orderrelay:intake"]),
        (_PRODUCER, ["SET", "orderrelay:status:1", "{}"]),
        (_PRODUCER, ["KEYS", "*"]),
        (_WORKER, ["GET", "somebody:else"]),
        (_WORKER, ["FLUSHALL"]),
        (_WORKER, ["XTRIM", "orderrelay:intake", "MAXLEN", "0"]),
        (_WORKER, ["CONFIG", "GET", "requirepass"]),
        (_WORKER, ["KEYS", "*"]),
    ],
)
def test_more_is_refused(server: RedisServer, user: str, command: list[str]) -> None:
    """No producer reads the vendor's token or anybody's orders; no worker empties the server or reads of others."""
    with (
        redis.Redis.from_url(url(server, user)) as client,
        pytest.raises(redis.ResponseError, match=r"(?i)permission|can't run"),
    ):
        client.execute_command(*command)
