"""Accepting orders into the intake: the script `accept.lua` and the typed function beside it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orderrelay_producers.accept import Acceptance, NotAnswered, Verdict
from orderrelay_producers.accept import accept as accept_steps
from orderrelay_producers.round_trip import run
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Ask, Cancel, Envelope, read_entry
from tests.in_loop import run_in_loop
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.servers import RedisServer


def envelope(external_id: str = "A-1", *, content: str = "1", company: str = "acme") -> Envelope:
    """An order of some content on its way."""
    return Envelope(company, external_id, content.encode().ljust(32, b"."), b'{"CustomerNr":"%s"}' % content.encode())


_run = run


@pytest.fixture(autouse=True, params=[run, run_in_loop], ids=["in threads", "in a loop"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """How steps are carried out: each way in turn, for every test here."""
    monkeypatch.setattr("tests.unit.test_accept._run", request.param)
    return request.param


def accept(
    client: redis.Redis, envelopes: Iterable[Envelope], *, max_waiting: int, deadline: float
) -> list[Acceptance | NotAnswered]:  # fmt: skip
    """Bring orders into the intake, the way that is tested."""
    return _run(client, accept_steps(envelopes, max_waiting=max_waiting, deadline=deadline))


def accept_one(client: redis.Redis, order: Envelope, *, max_waiting: int = 1000) -> Acceptance | NotAnswered:
    """Accept one order within two seconds."""
    (answer,) = accept(client, [order], max_waiting=max_waiting, deadline=time.monotonic() + 2.0)
    return answer


def verdict(answer: Acceptance | NotAnswered) -> Verdict:
    """The verdict of an answer that must be one."""
    assert isinstance(answer, Acceptance), answer
    return answer.verdict


def entries(client: redis.Redis) -> list[Envelope]:
    """All orders in the intake."""
    return [entry for entry in stream(client).values() if isinstance(entry, Envelope)]


def stream(client: redis.Redis) -> dict[bytes, Envelope | Ask | Cancel]:
    """The intake: entry ids, and what they carry."""
    found = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(keys.INTAKE))
    return {entry_id: read_entry(fields) for entry_id, fields in found}


def recent_keys(external_id: str, company: str = "acme") -> tuple[str, str]:
    """Where the cache has an order, on even and on odd days."""
    return keys.recent(ids.order_digest(company, external_id))


def recent_hash(client: redis.Redis) -> bytes:
    """The only hash that the cache has."""
    (key,) = cast("list[bytes]", client.keys("orderrelay:recent:*"))
    return key


def day_of(entry_id: bytes) -> int:
    """The day on which an entry came, by Redis' clock."""
    return int(entry_id.split(b"-")[0]) // 1000 // keys.RECENT_DAY_SECONDS


def go_on_to_the_next_day(client: redis.Redis) -> None:
    """Have the stream's next entries come a day later: they never have a smaller id than the last one."""
    last = max(map(day_of, stream(client)))
    next_day_ms = (last + 1) * keys.RECENT_DAY_SECONDS * 1000
    client.xdel(keys.INTAKE, client.xadd(keys.INTAKE, {"v": "1"}, id=f"{next_day_ms}-1"))


def heard_of(client: redis.Redis, company: str, *, seconds_ago: float = 0.0) -> None:
    """A worker said so long ago that it serves the company."""
    client.zadd(keys.COMPANIES, {company: time.time() - seconds_ago})


def test_an_accepted_order_is_an_entry_of_the_stream(fake_or_real_redis: redis.Redis) -> None:
    """What a worker reads from the intake is exactly what was accepted."""
    order = envelope("Ä-1", content="å\n\0")
    assert verdict(accept_one(fake_or_real_redis, order)) is Verdict.ACCEPTED
    assert entries(fake_or_real_redis) == [order]


def test_the_entry_is_named(fake_or_real_redis: redis.Redis) -> None:
    """The answer carries the id of the order's entry."""
    answer = accept_one(fake_or_real_redis, envelope())
    (entry_id,) = stream(fake_or_real_redis)
    assert isinstance(answer, Acceptance)
    assert answer.entry_id.encode() == entry_id


def test_the_same_order_again_is_told_and_still_added(fake_or_real_redis: redis.Redis) -> None:
    """The cache only informs: an order that it knows goes into the stream all the same."""
    answers = [verdict(accept_one(fake_or_real_redis, envelope())) for _ in range(3)]
    assert answers == [Verdict.ACCEPTED, Verdict.ALREADY, Verdict.ALREADY]
    assert entries(fake_or_real_redis) == [envelope()] * 3


def test_other_content_is_a_conflict_and_still_added(fake_or_real_redis: redis.Redis) -> None:
    """A conflict is told after it is in the stream, so that the ledger records it."""
    accept_one(fake_or_real_redis, envelope(content="1"))
    assert verdict(accept_one(fake_or_real_redis, envelope(content="2"))) is Verdict.CONFLICT
    assert entries(fake_or_real_redis) == [envelope(content="1"), envelope(content="2")]


def test_the_first_content_stays(fake_or_real_redis: redis.Redis) -> None:
    """After a conflict the first order is still the known one, and the other still a conflict."""
    contents = ["1", "2", "2", "1"]
    answers = [verdict(accept_one(fake_or_real_redis, envelope(content=content))) for content in contents]
    assert answers == [Verdict.ACCEPTED, Verdict.CONFLICT, Verdict.CONFLICT, Verdict.ALREADY]


def test_ids_that_fold_alike_are_one_order(fake_or_real_redis: redis.Redis) -> None:
    """The cache compares ExternalIds as the ledger does."""
    accept_one(fake_or_real_redis, envelope("straße"))
    assert verdict(accept_one(fake_or_real_redis, envelope("STRASSE"))) is Verdict.ALREADY


def test_companies_share_no_ids(fake_or_real_redis: redis.Redis) -> None:
    """The same ExternalId in two companies is two orders."""
    accept_one(fake_or_real_redis, envelope(company="acme"))
    assert verdict(accept_one(fake_or_real_redis, envelope(company="beta", content="2"))) is Verdict.ACCEPTED


def test_the_cache_expires_when_the_next_day_is_over(fake_or_real_redis: redis.Redis) -> None:
    """What is remembered lives until the day after it was first set is over, and no longer when it comes again."""
    accept_one(fake_or_real_redis, envelope())
    hash_of_day = recent_hash(fake_or_real_redis)
    (entry_id,) = stream(fake_or_real_redis)
    two_days_on = (day_of(entry_id) + 2) * keys.RECENT_DAY_SECONDS
    assert fake_or_real_redis.expiretime(hash_of_day.decode()) == two_days_on
    fake_or_real_redis.expire(hash_of_day, 100)
    accept_one(fake_or_real_redis, envelope())
    assert fake_or_real_redis.ttl(hash_of_day) <= 100


def test_the_cache_knows_what_came_the_day_before(fake_or_real_redis: redis.Redis) -> None:
    """An order of one day is known on the next, and its content stays the first one; so is what comes on that day."""
    accept_one(fake_or_real_redis, envelope("A-1", content="1"))
    go_on_to_the_next_day(fake_or_real_redis)
    assert verdict(accept_one(fake_or_real_redis, envelope("A-1", content="2"))) is Verdict.CONFLICT
    assert verdict(accept_one(fake_or_real_redis, envelope("A-1", content="1"))) is Verdict.ALREADY
    assert verdict(accept_one(fake_or_real_redis, envelope("B-1", content="1"))) is Verdict.ACCEPTED
    assert verdict(accept_one(fake_or_real_redis, envelope("B-1", content="2"))) is Verdict.CONFLICT


def test_the_cache_has_a_hash_for_each_day(fake_or_real_redis: redis.Redis) -> None:
    """What is new on the next day is not written where it would expire with the day before."""
    accept_one(fake_or_real_redis, envelope("A-1"))
    first = recent_hash(fake_or_real_redis)
    go_on_to_the_next_day(fake_or_real_redis)
    fake_or_real_redis.delete(first)
    accept_one(fake_or_real_redis, envelope("A-1"))
    assert {first, recent_hash(fake_or_real_redis)} == {key.encode() for key in recent_keys("A-1")}


def test_the_cache_is_small(redis_client: redis.Redis) -> None:
    """Redis keeps the hashes of the cache as one block each, in which an order has 18 bytes."""
    together: dict[tuple[str, str], list[Envelope]] = {}
    for number in range(2000):
        together.setdefault(recent_keys(f"A-{number}"), []).append(envelope(f"A-{number}"))
    in_one = max(together.values(), key=len)
    assert len(in_one) > 1
    accept(redis_client, in_one, max_waiting=1000, deadline=time.monotonic() + 2.0)
    hash_of_day = recent_hash(redis_client)
    assert redis_client.object("encoding", hash_of_day) == b"listpack"
    kept = cast("dict[bytes, bytes]", redis_client.hgetall(hash_of_day))
    assert [len(field) + len(content) for field, content in kept.items()] == [18] * len(in_one)


def test_a_cache_that_cannot_be_read_keeps_no_order_out(fake_or_real_redis: redis.Redis) -> None:
    """Something else under the names of the cache: the order is taken, and the caller is not told otherwise."""
    for key in recent_keys("A-1"):
        fake_or_real_redis.set(key, "something else", ex=60)
    assert verdict(accept_one(fake_or_real_redis, envelope("A-1"))) is Verdict.ACCEPTED
    assert entries(fake_or_real_redis) == [envelope("A-1")]


def test_a_company_that_no_worker_serves_is_refused(fake_or_real_redis: redis.Redis) -> None:
    """Where workers lately said which companies they serve, another is refused, and those are named."""
    heard_of(fake_or_real_redis, "beta")
    answer = accept_one(fake_or_real_redis, envelope(company="acme"))
    assert answer == Acceptance(Verdict.UNKNOWN_COMPANY, companies="beta")
    assert entries(fake_or_real_redis) == []


def test_without_word_of_workers_any_company_is_taken(fake_or_real_redis: redis.Redis) -> None:
    """No list of companies means nothing is known, not that there are none."""
    assert verdict(accept_one(fake_or_real_redis, envelope())) is Verdict.ACCEPTED


def test_a_stale_list_refuses_nothing(fake_or_real_redis: redis.Redis) -> None:
    """A list that workers wrote long ago may be wrong by now."""
    heard_of(fake_or_real_redis, "beta", seconds_ago=3600)
    assert verdict(accept_one(fake_or_real_redis, envelope(company="acme"))) is Verdict.ACCEPTED


def test_a_company_whose_workers_rest_is_taken(fake_or_real_redis: redis.Redis) -> None:
    """A company in the list stays known while its own workers are away."""
    heard_of(fake_or_real_redis, "acme", seconds_ago=3600)
    heard_of(fake_or_real_redis, "beta")
    assert verdict(accept_one(fake_or_real_redis, envelope(company="acme"))) is Verdict.ACCEPTED


def test_a_full_intake_takes_no_more(fake_or_real_redis: redis.Redis) -> None:
    """As many entries as may wait: the next is refused, with their number."""
    for number in range(3):
        accept_one(fake_or_real_redis, envelope(f"A-{number}"), max_waiting=3)
    answer = accept_one(fake_or_real_redis, envelope("A-4"), max_waiting=3)
    assert answer == Acceptance(Verdict.FULL, waiting=3)
    assert len(entries(fake_or_real_redis)) == 3


def test_jobs_in_the_ledger_count_as_waiting(fake_or_real_redis: redis.Redis) -> None:
    """What workers last counted in the ledger adds to what is in the stream."""
    accept_one(fake_or_real_redis, envelope("A-1"))
    fake_or_real_redis.set(keys.waiting("acme"), 9, ex=60)
    assert accept_one(fake_or_real_redis, envelope("A-2"), max_waiting=10) == Acceptance(Verdict.FULL, waiting=10)
    assert verdict(accept_one(fake_or_real_redis, envelope("A-2"), max_waiting=11)) is Verdict.ACCEPTED


def test_each_order_of_a_batch_has_its_own_verdict(fake_or_real_redis: redis.Redis) -> None:
    """One round trip, a verdict for each order, in order."""
    batch = [envelope("A-1"), envelope("A-2"), envelope("A-1"), envelope("A-2", content="2")]
    answers = accept(fake_or_real_redis, batch, max_waiting=1000, deadline=time.monotonic() + 2.0)
    expected = [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.ALREADY, Verdict.CONFLICT]
    assert [verdict(answer) for answer in answers] == expected


def test_a_forgotten_script_is_taught_again(fake_or_real_redis: redis.Redis) -> None:
    """After a restart Redis knows no script; each order is accepted all the same, and once."""
    accept_one(fake_or_real_redis, envelope())
    fake_or_real_redis.script_flush()
    fake_or_real_redis.delete(keys.INTAKE)
    batch = [envelope(f"B-{number}") for number in range(5)]
    answers = accept(fake_or_real_redis, batch, max_waiting=1000, deadline=time.monotonic() + 2.0)
    assert {verdict(answer) for answer in answers} == {Verdict.ACCEPTED}
    assert entries(fake_or_real_redis) == batch


def test_a_full_redis_is_told_and_took_nothing(redis_client: redis.Redis) -> None:
    """Out of memory is an answer: the order is provably not taken."""
    redis_client.config_set("maxmemory", 1)
    try:
        answer = accept_one(redis_client, envelope())
    finally:
        redis_client.config_set("maxmemory", 0)
    assert answer == NotAnswered("Redis is full (maxmemory)", maybe_taken=False)
    assert entries(redis_client) == []


def test_a_replica_is_told_and_took_nothing(redis_client: redis.Redis) -> None:
    """Read-only is an answer: the order is provably not taken."""
    accept_one(redis_client, envelope("A-0"))  # Or the script would be unknown, which a replica says first.
    redis_client.replicaof("127.0.0.1", str(free_port()))
    try:
        answer = accept_one(redis_client, envelope())
    finally:
        redis_client.replicaof("NO", "ONE")
    assert isinstance(answer, NotAnswered)
    assert not answer.maybe_taken
    assert "read-only" in answer.reason
    assert len(entries(redis_client)) == 1


@contextmanager
def answering(replies: bytes, *, to_commands: int = 1) -> Iterator[redis.Redis]:
    """A client of a server that reads so many commands, answers with these bytes, and closes the connection."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            read = b""
            while read.count(b"EVALSHA") < to_commands or not read.endswith(b"\r\n"):
                read += connection.recv(65536)
            connection.sendall(replies)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with redis.Redis(
            port=listener.getsockname()[1],
            protocol=2,
            driver_info=None,
            socket_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            yield client
        thread.join(5.0)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk\r\n", "disk"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", "replicas"),
        (b"-NOPERM User x has no permissions to run the 'evalsha' command\r\n", "may not enqueue"),
        (b"-NOAUTH Authentication required.\r\n", "password"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "full"),
        (b"-ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed\r\n", "full"),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "WRONGTYPE"),
    ],
    ids=lambda value: value.split()[0].decode() if isinstance(value, bytes) else "",
)
def test_an_error_reply_proves_that_nothing_was_taken(reply: bytes, told: str) -> None:
    """Redis answered, with an error: the order is not taken, and the reason is told in words."""
    with answering(reply) as client:
        answer = accept_one(client, envelope())
    assert isinstance(answer, NotAnswered)
    assert not answer.maybe_taken
    assert told in answer.reason


def test_a_refused_connection_proves_that_nothing_was_taken() -> None:
    """Without a connection nothing was sent."""
    with redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as client:
        answer = accept_one(client, envelope())
    assert isinstance(answer, NotAnswered)
    assert not answer.maybe_taken
    assert "cannot be reached" in answer.reason


def test_a_lost_reply_may_have_been_taken() -> None:
    """The connection closed after the order was sent: nobody knows."""
    with answering(b"") as client:
        answer = accept_one(client, envelope())
    assert isinstance(answer, NotAnswered)
    assert answer.maybe_taken


def test_a_connection_lost_amid_a_batch_keeps_the_answers_before() -> None:
    """What was answered before the connection broke is known; only the rest is not."""
    accepted = b"*2\r\n$8\r\naccepted\r\n$3\r\n1-1\r\n"
    batch = [envelope(f"A-{number}") for number in range(3)]
    with answering(accepted * 2 + b"*2\r\n$8\r\nacc", to_commands=3) as client:
        answers = accept(client, batch, max_waiting=10, deadline=time.monotonic() + 2.0)
    assert [isinstance(answer, Acceptance) for answer in answers] == [True, True, False]
    assert isinstance(answers[2], NotAnswered)
    assert answers[2].maybe_taken


def test_orders_that_were_made_too_late_are_not_taken() -> None:
    """Orders that are made as they are sent have a verdict each, also those behind a failure, which never left."""
    with redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as client:
        coming = (envelope(f"A-{number}") for number in range(120))
        answers = accept(client, coming, max_waiting=1000, deadline=time.monotonic() + 2.0)
    assert len(answers) == 120
    assert not any(answer.maybe_taken for answer in answers if isinstance(answer, NotAnswered))


def test_an_error_in_making_orders_is_the_callers(fake_or_real_redis: redis.Redis) -> None:
    """It comes through, and the replies that were not read are never taken for those of the next orders."""

    def coming() -> Iterator[Envelope]:
        yield from (envelope(f"A-{number}") for number in range(60))
        raise LookupError

    with pytest.raises(LookupError):
        accept(fake_or_real_redis, coming(), max_waiting=1000, deadline=time.monotonic() + 2.0)
    (answer,) = accept(fake_or_real_redis, [envelope("B-1")], max_waiting=1000, deadline=time.monotonic() + 2.0)
    (known,) = [entry_id for entry_id, entry in stream(fake_or_real_redis).items() if entry == envelope("B-1")]
    assert isinstance(answer, Acceptance)
    assert answer.entry_id.encode() == known


@pytest.mark.parametrize("way", [run], indirect=True)
def test_replies_of_another_connection_are_not_those_of_the_first(redis_client: redis.Redis) -> None:
    """Closed amid a batch, as by another thread, the client connects again: no order is told another's verdict."""
    for number in range(50):
        accept_one(redis_client, envelope(f"A-{number}", content="first"))

    def coming() -> Iterator[Envelope]:
        yield from (envelope(f"A-{number}", content="second") for number in range(50))
        redis_client.close()
        yield from (envelope(f"B-{number}") for number in range(50))

    answers = accept(redis_client, coming(), max_waiting=1000, deadline=time.monotonic() + 2.0)
    assert [answer for answer in answers if isinstance(answer, Acceptance)] == []
    surely_not = {f"B-{n}" for n, a in enumerate(answers[50:]) if isinstance(a, NotAnswered) and not a.maybe_taken}
    assert not surely_not & {entry.external_id for entry in entries(redis_client)}


def test_time_to_make_orders_does_not_count(fake_or_real_redis: redis.Redis) -> None:
    """The deadline is Redis' alone: orders that take longer to make than that are accepted all the same."""

    def coming() -> Iterator[Envelope]:
        for number in range(100):
            ready_at = time.monotonic() + 0.015
            wait_until(lambda at=ready_at: time.monotonic() >= at, what="an order is made")  # type: ignore[misc]
            yield envelope(f"A-{number}")

    answers = accept(fake_or_real_redis, coming(), max_waiting=1000, deadline=time.monotonic() + 1.0)
    assert {verdict(answer) for answer in answers} == {Verdict.ACCEPTED}


def test_a_silent_redis_costs_no_more_than_the_deadline() -> None:
    """A server that never answers is given up at the deadline, whatever the socket's own timeout."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        redis.Redis(
            port=silent.getsockname()[1], protocol=2, driver_info=None, socket_timeout=30.0, retry=Retry(NoBackoff(), 0)
        ) as client,
    ):
        began_at = time.monotonic()
        (answer,) = accept(client, [envelope()], max_waiting=10, deadline=began_at + 0.2)
        elapsed_seconds = time.monotonic() - began_at
    assert isinstance(answer, NotAnswered)
    assert answer.maybe_taken
    assert elapsed_seconds < 2.0


@pytest.mark.parametrize("way", [run], indirect=True)
def test_a_late_reply_is_never_read_as_the_next_one(redis_server: RedisServer, redis_client: redis.Redis) -> None:
    """A connection whose reply was given up on is closed, so that the next order does not read it."""
    accept_one(redis_client, envelope("A-0"))
    redis_server.process.freeze()
    (lost,) = accept(redis_client, [envelope("A-1")], max_waiting=1000, deadline=time.monotonic() + 0.1)
    redis_server.process.thaw()
    assert isinstance(lost, NotAnswered)
    wait_until(lambda: len(entries(redis_client)) == 2, what="Redis took the order that it was not heard on")
    answer = accept_one(redis_client, envelope("A-2"))
    (known,) = [entry_id for entry_id, entry in stream(redis_client).items() if entry == envelope("A-2")]
    assert isinstance(answer, Acceptance)
    assert answer.entry_id.encode() == known
