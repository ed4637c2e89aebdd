"""What became of every order, by the vendor's own books, by what the links carried, and by the ledger."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import reading
from tests.chaos import table
from tests.chaos.schedule import Link
from tests.chaos.world import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.chaos.world import World

_TOKEN_KEYS = b"orderrelay:token:"
_SHOWN = 5

#: So many answers are searched for in what the link brought; the others are compared by the order's id alone.
_COMPARED = 1000


@dataclass
class Verdict:
    """The outcome of a run.

    Attributes:
        violations: What must never be; empty after a good run.
        lines: The table for people.
        numbers: The same for machines.
    """

    violations: list[str] = field(default_factory=list[str])
    lines: list[str] = field(default_factory=list[str])
    numbers: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        told = [f"VIOLATION  {violation}" for violation in self.violations] or ["Nothing lost, nothing doubled."]
        return "\n".join([*self.lines, *told])


def judge(world: World, external_ids: Sequence[str]) -> Verdict:
    """The verdict over a run that has come to its end; Redis and the database are up."""
    verdict = Verdict(violations=list(world.violations))
    jobs, attempts = world.stack.jobs(), world.stack.attempts()
    _judge_orders(verdict, world, external_ids, jobs, attempts)
    _judge_requests(verdict, world, jobs, attempts)
    _judge_answers(verdict, world, attempts)
    _judge_alarms(verdict, world)
    _judge_secrets(verdict, world)
    verdict.numbers = table.numbers(world, external_ids, jobs)
    verdict.lines += [*table.lines(verdict.numbers), *table.story_of_slowest(world)]
    return verdict


def _some(verdict: Verdict, what: str, found: Sequence[object] | Mapping[str, object]) -> None:
    if found:
        each = found.items() if isinstance(found, Mapping) else found
        verdict.violations.append(f"{len(found)} {what}: {list(each)[:_SHOWN]}")


def _judge_orders(
    verdict: Verdict,
    world: World,
    external_ids: Sequence[str],
    jobs: Mapping[str, sa.RowMapping],
    attempts: Sequence[sa.RowMapping],
) -> None:
    created = world.simulator.books.created()
    _some(verdict, "orders doubled at the vendor", world.simulator.books.doubled())
    _some(verdict, "orders are not booked", [x for x in external_ids if x not in jobs])
    _some(verdict, "orders were created that nobody enqueued", sorted(set(created) - set(external_ids)))
    succeeded = {x: job for x, job in jobs.items() if job["state"] == JobState.SUCCEEDED}
    _some(verdict, "orders succeeded that the vendor does not have so",
          {x: (job["vendor_id"], created.get(x)) for x, job in succeeded.items()
           if created.get(x, [None])[0] != job["vendor_id"]})  # fmt: skip
    _some(verdict, "orders are not settled",
          {x: (job["state"], job["reason"]) for x, job in jobs.items()
           if not JobState(job["state"]).is_settled})  # fmt: skip
    _some(verdict, "orders are rejected or cancelled, and yet created",
          [x for x, job in jobs.items()
           if job["state"] in (JobState.REJECTED, JobState.CANCELLED) and x in created])  # fmt: skip
    if world.has_lookup:
        _some(verdict, "orders are parked although a look-up finds them",
              {x: job["reason"] for x, job in jobs.items()
               if job["state"] == JobState.PARKED and x in created})  # fmt: skip
    else:
        _some(verdict, "orders were sent again although nobody could look them up", _sent_after_doubt(attempts))
    attempted = {a["external_id"] for a in attempts}
    stopped = [x for x, job in jobs.items() if job["state"] in (JobState.PARKED, JobState.REJECTED)]
    _some(verdict, "orders are stopped without a reason or an attempt",
          [x for x in stopped if not jobs[x]["reason"] or x not in attempted])  # fmt: skip


def _sent_after_doubt(attempts: Sequence[sa.RowMapping]) -> list[str]:
    """Orders of which a request left after another one of theirs had ended unknown."""
    doubted: set[str] = set()
    found: list[str] = []
    for attempt in attempts:  # in the order of their ids: a claim's attempt is written before the next claim
        if attempt["external_id"] in doubted and attempt["sent"]:
            found.append(attempt["external_id"])
        if attempt["outcome"] == Outcome.UNKNOWN:
            doubted.add(attempt["external_id"])
    return found


def _judge_requests(
    verdict: Verdict, world: World, jobs: Mapping[str, sa.RowMapping], attempts: Sequence[sa.RowMapping]
) -> None:
    left = Counter(a["external_id"] for a in attempts if a["sent"] is not False)
    _some(verdict, "orders reached the vendor oftener than they have attempts",
          {x: (seen, left[x]) for x, seen in world.seen.counts.items() if seen > left[x]})  # fmt: skip
    counted = Counter(a["external_id"] for a in attempts if a["outcome"] != Outcome.NOT_CREATED)
    _some(verdict, "orders count other requests than they have attempts",
          {x: (job["requests"], counted[x]) for x, job in jobs.items() if job["requests"] != counted[x]})  # fmt: skip


def _judge_answers(verdict: Verdict, world: World, attempts: Sequence[sa.RowMapping]) -> None:
    answered = [a for a in attempts if a["answer_complete"]]
    _some(verdict, "attempts lack the answer that they had", [a["id"] for a in answered if a["answer"] is None])
    _some(verdict, "attempts have a whole answer and no digest of what was sent",
          [a["id"] for a in answered if not a["body_digest"]])  # fmt: skip
    brought = b"\0\0".join(world.links[Link.VENDOR].brought())
    compared = random.Random(0).sample(answered, min(len(answered), _COMPARED))
    _some(verdict, "attempts have an answer that the vendor did not give",
          [a["id"] for a in compared if a["answer"] and a["answer"] not in brought])  # fmt: skip
    created = world.simulator.books.created()
    for attempt in (a for a in answered if a["outcome"] == Outcome.CREATED):
        vendor_ids = json.loads(attempt["answer"].decode("utf-8-sig").casefold())["keys"]
        if not set(vendor_ids) & set(created.get(attempt["external_id"], [])):
            verdict.violations.append(f"attempt {attempt['id']} has another order's answer")


def _judge_alarms(verdict: Verdict, world: World) -> None:
    alarms = Counter(world.stack.alarms())
    for kind in ("doubled", "company_paused", "set_aside", "answer_set_aside", "vendor_id_held"):
        if alarms[kind]:
            verdict.violations.append(f"{alarms[kind]} alarms {kind!r}")


def _judge_secrets(verdict: Verdict, world: World) -> None:
    words = {name: value.encode() for name, value in SECRETS.items()}
    words |= {f"token {number}": token.encode() for number, token in enumerate(sorted(world.tokens))}
    for place, text in _places(world):
        verdict.violations += [f"{name} stands in {place}" for name, word in words.items() if word in text]


def _places(world: World) -> Iterator[tuple[str, bytes]]:
    for log in world.crew.logs:
        yield str(log), log.read_bytes()
    with world.servers.redis.connect() as client:
        for key in client.scan_iter(count=1000):
            if not key.startswith(_TOKEN_KEYS):
                yield f"Redis key {key!r}", key + repr(_value(client, key)).encode()
    with reading(world.stack.engine) as connection:
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                cells = (cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)
                yield f"table {table.name}", b"\0".join(cells)


def _value(client: redis.Redis, key: bytes) -> object:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"stream":
            return client.xrange(key)
        case _:  # it has expired meanwhile
            return None
