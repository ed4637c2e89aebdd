"""One round trip to Redis under one deadline, telling for each command whether it can have been carried out.

redis-py's own `execute_command` cannot: it has a timeout per socket operation and not in all, and after an error it
does not say whether the command had left, nor which commands of a pipeline had been answered.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from orderrelay_producers.ears import Ears
from orderrelay_producers.failures import failures, seen
from orderrelay_producers.steps import Pause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis
    from redis.exceptions import ResponseError

    from orderrelay_producers.steps import Command, Exchange, Steps
    from orderrelay_shared.keeping_pool import Line

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NoReply:
    """In place of a reply that did not come.

    Attributes:
        reason: What was seen, for people.
        sent: Whether the command may have reached Redis. False is proved.
    """

    reason: str
    sent: bool


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """Redis answered with an error, so the command changed nothing that a script had not changed before failing.

    Attributes:
        code: Redis' own word: "OOM", "READONLY", "LOADING", "NOSCRIPT", "ERR", …
        text: All of the answer.
    """

    code: str
    text: str


#: Error replies after which redis-py has closed the connection, so that the replies behind them are lost.
_CLOSING: Final = frozenset({"LOADING", "NOAUTH"})

#: A socket has to wait for something, if it is to say that nothing came in time.
_SHORTEST_SECONDS: Final = 0.001

#: A longer reply is not glanced at.
_GLANCE_BYTES: Final = 256

_CLOSED: Final = "the connection to Redis was closed meanwhile"

#: What redis-py raises where another thread closes the connection under it; raised on, it would hide that a command
#: may have left.
_STUMBLES: Final = (AttributeError, TypeError, ValueError)

#: What may stand in place of a reply: bytes, int, None, a list of such, or one of the two above.
Reply = Any


def run(client: Redis, steps: Steps[_T]) -> _T:
    """Carry steps out in this thread.

    Args:
        client: Whose connection pool is used.
        steps: What to do.

    Returns:
        What the steps return. Raises what they raise, and nothing that Redis or the network does.
    """
    result: Any = None
    ears: Ears | None = None
    try:
        while True:
            try:
                step = steps.send(result)
            except StopIteration as ended:
                return cast("_T", ended.value)
            if not isinstance(step, Pause):
                result = _exchange(client, step)
            elif step.channel is not None:
                ears = ears or Ears(client)
                result = ears.hear(step.channel, step.seconds)
            else:
                time.sleep(step.seconds)
                result = False
    finally:
        if ears is not None:
            ears.close()


def _exchange(client: Redis, exchange: Exchange) -> list[Reply]:
    with Trip(client) as trip:
        for piece in exchange.pieces:
            trip.send(piece)
        if exchange.meanwhile is not None:
            exchange.meanwhile()
        return trip.replies(exchange.deadline)


class Account:
    """What is known of a round trip: how many commands were given, had left and were answered, and what went wrong.

    Attributes:
        reason: Why nothing more is sent or read, for people; None while all is well.
    """

    # Of the class, as most of them never change: setting them for each trip would take longer.
    _pool: Any
    _connection: Any = None
    _link: Any = None
    _count: int = 0
    _departed: int = 0
    _answered: int = 0
    reason: str | None = None

    @property
    def _is_spent(self) -> bool:
        """Whether replies may be left on the connection, so that nobody else may read from it."""
        return self.reason is not None or self._answered < self._departed

    @property
    def _left_to_answer(self) -> Iterator[None]:
        """A turn for each reply that is to be read; ends early where the connection is closed by an answer."""
        for _ in range(self._count - self._answered):
            yield
            if self.reason is not None:
                return

    def _depart(self) -> None:
        self._departed = self._count

    def _note(self, reply: Reply) -> Reply:
        self._answered += 1
        if isinstance(reply, ErrorReply) and reply.code in _CLOSING:
            self.reason = reply.text
        return reply

    def _stay_on(self, link: Any) -> None:
        """Fail where the pool was closed under this trip, as by `close` in another thread.

        redis-py then connects again by itself, and on the new connection the replies to the later commands would be
        read as those to the first.
        """
        if self._link is None:
            self._link = link
        if link is None or link is not self._link:
            self.reason = _CLOSED

    def _filled_up(self, replies: list[Reply]) -> list[Reply]:
        """The replies, and in place of those that did not come why."""
        reason = self.reason or ""
        replies += [NoReply(reason, sent=True)] * (self._departed - len(replies))
        return replies + [NoReply(reason, sent=False)] * (self._count - len(replies))

    def _packed(self, commands: Sequence[Command | bytes]) -> list[bytes]:
        if len(commands) == 1 and type(commands[0]) is bytes:
            return cast("list[bytes]", commands)
        if set(map(type, commands)) == {bytes}:
            return [b"".join(cast("Sequence[bytes]", commands))]
        packed: list[bytes] = []
        for command in commands:
            packed += [command] if isinstance(command, bytes) else self._connection.pack_command(*command)
        return packed


class Trip(Account):
    """A round trip whose commands may leave in several pieces, so that Redis works on one while the next is made.

    It takes a connection of the client's pool, which goes back when the context ends: closed, if replies are unread.
    Nothing raises what Redis or the network does; after a failure nothing more is sent.

    Args:
        client: Whose connection pool is used.
    """

    #: Of a connection that was at hand, as long as redis-py has nothing to do with what comes.
    _line: Line | None = None

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool

    def __enter__(self) -> Self:
        try:
            try:
                self._take()
            except _STUMBLES:  # If it was no other thread, it comes again.
                self._take()
        except failures() as error:
            self.reason = seen(error)
        return self

    def _take(self) -> None:
        take = getattr(self._pool, "take_with_line", None)
        if take is not None:
            self._connection, self._line = take()
        else:
            self._connection = self._pool.get_connection()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._connection is not None:
            # A Ctrl-C may have come between the last reply and the socket's usual timeout.
            if kind is not None or self._is_spent:
                self._connection.disconnect()
            elif self._line is not None:
                self._pool.keep(self._connection, self._line)
                return
            self._pool.release(self._connection)

    def send(self, commands: Sequence[Command | bytes]) -> None:
        """Send some more commands; those that are bytes are packed already."""
        self._count += len(commands)
        if self.reason is not None:
            return
        try:
            if not self._departed:
                # Here, and not within sending, so that its failure proves that nothing was sent.
                self._connection.check_health()
            packed = self._packed(commands)
            self._depart()
            if self._line is not None and self._count == 1:
                self._link = self._line.socket
                for some in packed:
                    self._link.sendall(some)
            else:
                self._connection.send_packed_command(packed, check_health=False)
        except _troubles() as error:
            self._failed(error)
        else:
            self._stay_on(self._connection._sock)  # noqa: SLF001  redis-py tells it nowhere else

    def replies(self, deadline: float) -> list[Reply]:
        """The replies to all that was sent, in order, as many as there were commands.

        Args:
            deadline: When to give up waiting for them, by `time.monotonic()`.
        """
        replies: list[Reply] = []
        if self.reason is None:
            usual_timeout = self._link.gettimeout() if hasattr(self._link, "gettimeout") else None
            try:
                if self._line is not None:
                    if self._departed == 1 and (reply := self._glance(self._line, deadline)) is not None:
                        self._answered = 1
                        return [reply]
                    self._line = None
                for _ in self._left_to_answer:
                    replies.append(self._note(self._read(deadline)))  # noqa: PERF401  what came before a failure stays
                if usual_timeout is not None:
                    self._link.settimeout(usual_timeout)
            except _troubles() as error:
                self._failed(error)
        return self._filled_up(replies)

    def _glance(self, line: Line, deadline: float) -> list[bytes] | None:
        """The reply to a single command, if it is what nearly all are: a list of two texts, and came whole.

        To look at it first, and to leave to redis-py whatever else came, or did not come within the socket's usual
        timeout, costs a fraction of redis-py's own way to read.
        """
        link, now = line.socket, time.monotonic()
        usual_seconds = link.gettimeout()
        if usual_seconds is None or now + usual_seconds > deadline:
            return None
        self._pool.look(line)
        try:
            came = link.recv(_GLANCE_BYTES, socket.MSG_PEEK)
        except TimeoutError:
            return None
        parts = came.split(b"\r\n")
        if len(parts) != 6 or parts[0] != b"*2" or parts[5]:
            return None
        _, first_length, first, second_length, second, _ = parts
        if first_length != b"$%d" % len(first) or second_length != b"$%d" % len(second):
            return None
        if link.recv(len(came)) != came:
            raise ConnectionError(_CLOSED)
        connection = self._connection
        connection.next_health_check = now + connection.health_check_interval
        return [first, second]

    def _failed(self, error: Exception) -> None:
        self.reason = seen(error) if isinstance(error, failures()) else _CLOSED

    def _read(self, deadline: float) -> Reply:
        self._give_until(deadline)
        try:
            return self._connection.read_response(disable_decoding=True)
        except _redis_error() as error:
            return error_reply(error)

    def _give_until(self, deadline: float) -> None:
        """Have the next read fail when the deadline comes; what is there already is read in any case.

        redis-py's `can_read` needs five calls of the system to find out that there is something to read, and before
        version 8 a read has no time of its own; the socket has one.
        """
        left_seconds = deadline - time.monotonic()
        if not hasattr(self._link, "settimeout"):  # A stand-in for a socket, such as fakeredis has.
            if not self._connection.can_read(timeout=max(0.0, left_seconds)):
                raise TimeoutError
        elif self._connection._sock is not self._link:  # noqa: SLF001  as above
            raise ConnectionError("the connection was closed meanwhile")
        else:
            self._link.settimeout(max(_SHORTEST_SECONDS, left_seconds))


def _troubles() -> tuple[type[Exception], ...]:
    return (*failures(), *_STUMBLES)


def _redis_error() -> type[Exception]:
    from redis import exceptions  # noqa: PLC0415  as above

    return exceptions.RedisError


def error_reply(error: Exception) -> ErrorReply:
    """What redis-py raised in place of an error reply; if it was none, it is raised again."""
    from redis import exceptions  # noqa: PLC0415  as above

    if isinstance(error, exceptions.BusyLoadingError):  # A ConnectionError to redis-py, but it is an answer.
        return ErrorReply("LOADING", str(error))
    if isinstance(error, exceptions.AuthenticationError):  # Likewise: the password was changed under the connection.
        return ErrorReply("NOAUTH", str(error))
    if isinstance(error, exceptions.ResponseError):
        return ErrorReply(_code(error), str(error))
    raise error


def _code(error: ResponseError) -> str:
    """Redis' word for the error; redis-py cuts it off if it has a class for it, and Redis before 7 wraps it."""
    from redis import exceptions  # noqa: PLC0415  as above

    text = str(error)
    known: dict[type[ResponseError], str] = {
        exceptions.NoScriptError: "NOSCRIPT",
        exceptions.OutOfMemoryError: "OOM",
        exceptions.ReadOnlyError: "READONLY",
        exceptions.NoPermissionError: "NOPERM",
    }
    if type(error) in known:
        return known[type(error)]
    for code in ("OOM", "READONLY", "MISCONF", "NOREPLICAS"):
        if text.startswith(f"{code} ") or f"-{code} " in text:
            return code
    first = text.split(" ", 1)[0]
    return first if first.isupper() else "ERR"
