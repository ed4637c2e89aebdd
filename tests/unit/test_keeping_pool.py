"""Connections that are kept at hand: the same one goes out again, and only while it is sound."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_producers.round_trip import NoReply, Trip, run
from orderrelay_producers.steps import ask_redis
from orderrelay_shared.redis_connection import connect
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.servers import RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client with a pool of its own."""
    with connect(redis_server.url, client_name="keeping") as made:
        yield made


def connection_id(client: Any) -> int:
    """What Redis calls the connection that the next command takes."""
    return int(client.client_id())


def ids_of(client: Any) -> set[int]:
    """The connections that Redis has of this pool."""
    return {int(one["id"]) for one in client.client_list() if one["name"] == "keeping"}


def test_one_connection_serves_one_command_after_the_other(client: redis.Redis) -> None:
    """It is not opened anew, and no second one is."""
    assert len({connection_id(client) for _ in range(3)}) == 1
    assert len(ids_of(client)) == 1


def test_who_comes_while_it_is_out_gets_another(client: redis.Redis) -> None:
    """Two that are out are two, and both are kept."""
    pool: Any = client.connection_pool
    one, other = pool.get_connection(), pool.get_connection()
    assert one is not other
    pool.release(one)
    pool.release(other)
    assert {pool.get_connection(), pool.get_connection()} == {one, other}


def test_one_that_is_given_back_twice_goes_out_once(client: redis.Redis) -> None:
    """As by a pipeline that a Ctrl-C interrupts while it gives its connection back: on the way out it does so again."""
    pool: Any = client.connection_pool
    release = pool.release

    def interrupted(connection: Any) -> None:
        pool.release = release
        release(connection)
        raise KeyboardInterrupt

    pool.release = interrupted
    pipeline: Any = client.pipeline()
    with pytest.raises(KeyboardInterrupt), pipeline:
        pipeline.ping().execute()
    assert pool.get_connection() is not pool.get_connection()


def test_one_that_redis_closed_does_not_go_out_again(client: redis.Redis, redis_client: redis.Redis) -> None:
    """The next command finds a new one, and does not fail."""
    before = connection_id(client)
    redis_client.client_kill_filter(_id=str(before))
    wait_until(lambda: before not in ids_of(redis_client), what="the connection is gone")
    assert connection_id(client) != before


def test_one_with_an_answer_unread_does_not_go_out_again(client: redis.Redis) -> None:
    """Who took it next would read the answer to another's command."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    connection.send_command("ECHO", "another's")
    wait_until(connection.can_read, what="the answer is there")
    pool.release(connection)
    assert client.echo("mine") == b"mine"


def test_one_that_was_closed_here_connects_anew(client: redis.Redis) -> None:
    """As after `close`, which may be called while another thread goes on."""
    before = connection_id(client)
    client.close()
    assert connection_id(client) != before


def test_those_at_hand_are_closed_as_idle_ones(client: redis.Redis) -> None:
    """A worker whose Redis went away drops them, as each would cost its own wait to find out; one in use stays."""
    pool: Any = client.connection_pool
    at_hand, in_use = pool.get_connection(), pool.get_connection()
    pool.release(at_hand)
    pool.disconnect(inuse_connections=False)
    assert (at_hand._sock, in_use._sock is None) == (None, False)
    assert pool.get_connection() is at_hand


@pytest.mark.parametrize("error", [TypeError, AttributeError, ValueError])
def test_one_that_is_closed_while_it_is_looked_at_is_not_lost(client: redis.Redis, error: type[Exception]) -> None:
    """redis-py stumbles over a socket that another thread has just taken away; the next command finds a connection."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)

    def can_read() -> bool:
        del connection.can_read
        connection.disconnect()
        raise error

    connection.can_read = can_read
    assert client.echo("mine") == b"mine"
    assert pool.get_connection() is connection


def test_a_child_takes_none_of_its_parents(client: redis.Redis) -> None:
    """After a fork both go on, each on connections of its own."""
    before = connection_id(client)
    child = os.fork()
    if not child:
        os._exit(0 if connection_id(client) != before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert connection_id(client) == before


def test_a_producer_leaves_it_as_it_was(client: redis.Redis) -> None:
    """A call's own timeout ends with the call, and the next user of the connection waits as long as before."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    usual = connection._sock.gettimeout()
    pool.release(connection)
    assert run(client, ask_redis("ECHO", "hello", deadline=time.monotonic() + 60.0)) == b"hello"
    assert pool.get_connection() is connection
    assert connection._sock.gettimeout() == usual


@pytest.mark.parametrize("error", [AttributeError, TypeError, ValueError])
@pytest.mark.parametrize("step", ["send_packed_command", "read_response"])  # of two, as one may need neither
def test_a_producer_that_another_thread_closes_tells_what_may_have_left(
    client: redis.Redis, step: str, error: type[Exception]
) -> None:
    """redis-py stumbles over a socket that is gone; the order may have been taken all the same."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)

    def stumble(*_: object, **__: object) -> None:
        delattr(connection, step)
        client.close()
        raise error

    setattr(connection, step, stumble)
    with Trip(client) as trip:
        trip.send([("ECHO", "hello"), ("ECHO", "and hello")])
        replies = trip.replies(time.monotonic() + 60.0)
    assert replies == [NoReply("the connection to Redis was closed meanwhile", sent=True)] * 2
    assert run(client, ask_redis("ECHO", "again", deadline=time.monotonic() + 60.0)) == b"again"


def test_a_producer_that_another_thread_closes_while_it_connects_connects_again(client: redis.Redis) -> None:
    """Nothing has left by then."""
    pool: Any = client.connection_pool

    def stumble() -> None:
        del pool.get_connection
        raise AttributeError

    pool.get_connection = stumble
    assert run(client, ask_redis("ECHO", "hello", deadline=time.monotonic() + 60.0)) == b"hello"


def test_a_producer_that_is_interrupted_leaves_no_timeout_behind(client: redis.Redis) -> None:
    """A Ctrl-C after the last answer: the connection would have kept what was left of the call's own time."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)

    def interrupted_call() -> None:
        with Trip(client) as trip:
            trip.send([("ECHO", "hello")])
            assert trip.replies(time.monotonic() + 60.0) == [b"hello"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_call()
    assert connection._sock is None
