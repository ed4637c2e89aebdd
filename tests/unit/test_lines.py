"""The short way to Redis and back on a connection that was at hand: it ends as redis-py's own way would."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orderrelay_producers.accept import Acceptance, NotAnswered, Verdict, accept_one
from orderrelay_producers.round_trip import run
from orderrelay_shared import keys
from orderrelay_shared.intake import Envelope
from orderrelay_shared.keeping_pool import Line
from orderrelay_shared.redis_connection import connect
from tests.in_loop import run_in_loop
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import RedisServer

#: The client's connections wait so long for an answer, in seconds, before the call's own deadline counts.
USUAL_SECONDS = 1.0


class Between:
    """Stands between clients and Redis, and passes all on; but for one command it is told what to say instead.

    Args:
        port: Of the Redis.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._told: list[tuple[tuple[bytes, ...], bool]] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5.0)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def say(self, *pieces: bytes, close: bool = False) -> None:
        """Answer the next command so, each piece a moment after the one before; Redis does not hear of the command."""
        self._told.append((pieces, close))

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def _attend(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), closing(client), socket.create_connection(("127.0.0.1", self._port)) as server:
            threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()
            while asked := client.recv(65536):
                if not self._told:
                    server.sendall(asked)
                    continue
                pieces, is_to_close = self._told.pop()
                for piece in pieces:
                    client.sendall(piece)
                    at = time.monotonic() + 0.05
                    wait_until(lambda at=at: time.monotonic() > at, what="a moment has passed")  # type: ignore[misc]
                if is_to_close:
                    break
            server.shutdown(socket.SHUT_RDWR)  # Whoever reads from it goes too.

    @staticmethod
    def _pass_back(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answer := server.recv(65536):
                client.sendall(answer)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def between(redis_server: RedisServer, redis_client: redis.Redis) -> Iterator[Between]:
    """Someone between the client and a Redis that is empty."""
    with Between(redis_server.port) as made:
        yield made


@pytest.fixture
def client(between: Between) -> Iterator[redis.Redis]:
    """A client with a pool of its own, whose one connection is at hand."""
    with connect(between.url, timeout_seconds=USUAL_SECONDS, client_name="lines") as made:
        assert verdict(ask(made, "A-0")) is Verdict.ACCEPTED
        assert verdict(ask(made, "A-0")) is Verdict.ALREADY
        yield made


def envelope(external_id: str) -> Envelope:
    """An order on its way."""
    return Envelope("acme", external_id, b"d" * 32, b"{}")


def ask(
    client: redis.Redis, external_id: str, *, seconds: float = 5.0, meanwhile: Callable[[], object] | None = None
) -> Acceptance | NotAnswered:
    """Hand one order over."""
    deadline = time.monotonic() + seconds
    return run(client, accept_one(envelope(external_id), max_waiting=1000, deadline=deadline, meanwhile=meanwhile))


def verdict(answer: Acceptance | NotAnswered) -> Verdict:
    """The verdict of an answer that must be one."""
    assert isinstance(answer, Acceptance), answer
    return answer.verdict


def connection_of(client: redis.Redis) -> Any:
    """The connection that the next command takes."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    return connection


def test_an_order_needs_no_redis_py(client: redis.Redis) -> None:
    """Neither to leave nor to be answered: that is what makes it short."""
    connection = connection_of(client)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    connection.send_packed_command = connection.read_response = refuse
    assert verdict(ask(client, "A-1")) is Verdict.ACCEPTED
    assert verdict(ask(client, "A-1")) is Verdict.ALREADY


ANSWERS = [
    b"*2\r\n$8\r\naccepted\r\n$3\r\n1-1\r\n",
    b"*2\r\n$4\r\nfull\r\n$4\r\n1234\r\n",
    b"*2\r\n$15\r\nunknown_company\r\n$600\r\n%s\r\n" % (b"abcdefghij" * 60),
    b"*2\r\n$8\r\naccepted\r\n+1-1\r\n",
    b"*2\r\n+accepted\r\n$5\r\n$1\r\n2\r\n",
    b"*2\r\n$15\r\nunknown_company\r\n$6\r\na\r\n\r\nb\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-MOVED 1234 127.0.0.1:7000\r\n",
    b"-ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed\r\n",
]


@pytest.mark.parametrize("cut", [0, 1, 6, 20, -5], ids=lambda cut: f"cut at {cut}")
@pytest.mark.parametrize("said", ANSWERS, ids=lambda said: said.split(b"\r\n")[-2][:11].decode())
def test_an_answer_says_what_it_says_to_redis_py(
    between: Between, client: redis.Redis, said: bytes, cut: int
) -> None:  # fmt: skip
    """Whatever it is, and in however many pieces it comes; and the next order is told its own."""
    pieces = (said[:cut], said[cut:]) if cut else (said,)
    with redis.Redis.from_url(between.url, retry=Retry(NoBackoff(), 0)) as plain:
        ask(plain, "A-0")
        between.say(*pieces)
        expected = ask(plain, "A-1")
    between.say(*pieces)
    assert ask(client, "A-1") == expected
    assert verdict(ask(client, "A-1")) is Verdict.ACCEPTED


def test_a_lost_answer_may_have_been_a_verdict(between: Between, client: redis.Redis) -> None:
    """The connection is closed with the order under way, or amid the answer; the next order takes another."""
    for said in (b"", b"*2\r\n$8\r\naccepted\r\n$3"):
        between.say(said, close=True)
        answer = ask(client, "A-1")
        assert isinstance(answer, NotAnswered)
        assert answer.maybe_taken
        assert verdict(ask(client, "A-0")) is Verdict.ALREADY


def test_a_slow_answer_is_waited_for_until_the_deadline(between: Between, client: redis.Redis) -> None:
    """The socket's usual timeout is over before, and counts for nothing."""
    between.say(*[b""] * 24, b"*2\r\n$8\r\naccepted\r\n$3\r\n1-1\r\n")
    assert ask(client, "A-1") == Acceptance(Verdict.ACCEPTED, "1-1")
    assert connection_of(client)._sock.gettimeout() == USUAL_SECONDS
    assert between.connections == 1


@pytest.mark.parametrize("seconds", [0.1, 1.2], ids=["before the usual timeout", "after it"])
def test_a_silent_redis_costs_no_more_than_the_deadline(
    redis_server: RedisServer, client: redis.Redis, seconds: float
) -> None:
    """And its late answer is not taken for the next order's."""
    redis_server.process.freeze()
    began_at = time.monotonic()
    lost = ask(client, "A-1", seconds=seconds)
    elapsed_seconds = time.monotonic() - began_at
    redis_server.process.thaw()
    assert isinstance(lost, NotAnswered)
    assert lost.maybe_taken
    assert seconds <= elapsed_seconds < seconds + 0.8
    assert verdict(ask(client, "A-0")) is Verdict.ALREADY


def test_who_is_interrupted_leaves_no_answer_behind(client: redis.Redis) -> None:
    """A Ctrl-C while Redis works: the next order is not told this one's verdict."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(client, "A-1", meanwhile=interrupt)
    assert verdict(ask(client, "A-0")) is Verdict.ALREADY


def test_an_order_under_way_when_another_thread_closes_may_have_been_taken(client: redis.Redis) -> None:
    """The producer's `close` may come at any time, and the next order connects anew."""
    answer = ask(client, "A-1", meanwhile=client.close)
    assert isinstance(answer, NotAnswered)
    assert answer.maybe_taken
    assert verdict(ask(client, "A-0")) is Verdict.ALREADY


def test_a_connection_that_redis_closed_is_not_used(redis_client: redis.Redis, client: redis.Redis) -> None:
    """Nothing has left by then, so the order goes out on another one and is taken."""
    clients: list[dict[str, str]] = redis_client.client_list()
    (before,) = [one["id"] for one in clients if one["name"] == "lines"]
    pool: Any = client.connection_pool
    connection, line = pool.take_with_line()
    redis_client.client_kill_filter(_id=before)
    wait_until(lambda: not line.is_quiet, what="the end of the connection has come through")
    pool.keep(connection, line)
    assert verdict(ask(client, "A-1")) is Verdict.ACCEPTED


def test_a_connection_that_connected_anew_has_a_line_of_its_own(client: redis.Redis) -> None:
    """As in another thread's hands; the old socket is closed, though its number may be the new one's."""
    pool: Any = client.connection_pool
    connection, line = pool.take_with_line()
    pool.keep(connection, line)
    connection.disconnect()
    connection.connect()
    assert verdict(ask(client, "A-1")) is Verdict.ACCEPTED


def test_an_order_shows_that_the_connection_is_sound(client: redis.Redis) -> None:
    """redis-py asks one that it has not read from for ten seconds, and sees only what it reads itself."""
    connection = connection_of(client)
    connection.next_health_check = time.monotonic() + 1.0
    assert verdict(ask(client, "A-1")) is Verdict.ACCEPTED
    assert connection.next_health_check > time.monotonic() + 5.0


@pytest.mark.parametrize("carry_out", [run, run_in_loop], ids=["in a thread", "in a loop"])
def test_what_is_done_meanwhile_is_done_while_redis_works(
    redis_server: RedisServer, redis_client: redis.Redis, carry_out: Any
) -> None:  # fmt: skip
    """The order has left by then; and it is done also where no answer comes."""

    def see() -> None:
        wait_until(lambda: redis_client.xlen(keys.INTAKE) == 2, what="the order has left")

    ask(redis_client, "A-0")  # Redis knows the script now.
    steps = accept_one(envelope("A-1"), max_waiting=9, deadline=time.monotonic() + 5.0, meanwhile=see)
    assert verdict(carry_out(redis_client, steps)) is Verdict.ACCEPTED
    redis_server.process.freeze()
    done: list[str] = []
    steps = accept_one(
        envelope("A-2"), max_waiting=9, deadline=time.monotonic() + 0.1, meanwhile=lambda: done.append("it")
    )
    answer = carry_out(redis_client, steps)
    redis_server.process.thaw()
    assert isinstance(answer, NotAnswered)
    assert done == ["it"]


def test_an_answer_is_looked_for_only_where_that_finds_it() -> None:
    """After one that did not come in a moment a hundred are slept for at once."""
    here, there = socket.socketpair()
    with closing(here), closing(there):
        line = Line(here)
        assert line.is_quiet
        assert not line.look()
        there.sendall(b"+OK\r\n")
        assert not line.is_quiet
        assert [line.look() for _ in range(102)] == [False] * 100 + [True] * 2


def test_who_is_not_alone_does_not_look(client: redis.Redis) -> None:
    """Another thread that enqueues has better use for the time."""
    pool: Any = client.connection_pool
    connections = [pool.get_connection(), pool.get_connection()]
    for connection in connections:
        pool.release(connection)
    one, line = pool.take_with_line()
    looked = Looked()
    pool.look(looked)
    other, _ = pool.take_with_line()
    pool.look(looked)
    assert looked.times == 1
    pool.release(other)
    pool.look(looked)
    assert looked.times == 2
    assert pool.get_connection() is other
    pool.keep(one, line)
    pool.look(looked)
    assert looked.times == 3
    pool.release(other)
    assert {pool.get_connection(), pool.get_connection()} == set(connections)


class Looked:
    """A line that counts how often it is looked along."""

    def __init__(self) -> None:
        self.times = 0

    def look(self) -> bool:
        """Look."""
        self.times += 1
        return True


def test_a_connection_that_moves_does_not_stay_at_hand(client: redis.Redis) -> None:
    """redis-py notes where Redis itself moves, also while an order is under way."""
    connection = connection_of(client)
    before = connection._sock
    if not hasattr(connection, "mark_for_reconnect"):
        return  # Before version 7 there is none.
    assert verdict(ask(client, "A-1", meanwhile=connection.mark_for_reconnect)) is Verdict.ACCEPTED
    assert connection._sock is not before
