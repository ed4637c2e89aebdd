"""One round trip to Redis under one deadline, telling for each command whether it can have been carried out.

redis-py's own `execute_command` cannot: it has a timeout per socket operation and not in all, and after an error it
does not say whether the command had left, nor which commands of a pipeline had been answered.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from redis import Redis
    from redis.exceptions import ResponseError

    Command = Sequence[bytes | str | int]


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

#: What may stand in place of a reply: bytes, int, None, a list of such, or one of the two above.
Reply = Any


def round_trip(client: Redis, commands: Sequence[Command], *, deadline: float) -> list[Reply]:
    """Send commands in one piece and read their replies, in order; raises nothing that Redis or the network does.

    Args:
        client: Whose connection pool is used.
        commands: The commands; not a transaction.
        deadline: When to give up waiting for replies, by `time.monotonic()`.

    Returns:
        As many members as there are commands.
    """
    from redis import exceptions  # noqa: PLC0415  redis takes long to import, and callers may never enqueue

    replies: list[Reply] = []
    sent = False
    reason = ""
    try:
        with _connection(client) as connection:
            connection.check_health()  # Here, and not within sending, so that its failure proves that nothing was sent.
            packed = connection.pack_commands(commands)
            sent = True
            connection.send_packed_command(packed, check_health=False)
            for _ in commands:
                replies.append(reply := _read(connection, deadline))
                if isinstance(reply, ErrorReply) and reply.code in _CLOSING:
                    reason = reply.text
                    break
    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
        reason = _seen(error)
    except exceptions.ResponseError as error:  # While connecting, as `_read` returns those that answer a command.
        reason = f"Redis refuses the connection: {error}"
    return replies + [NoReply(reason, sent)] * (len(commands) - len(replies))


@contextmanager
def _connection(client: Redis) -> Generator[Any, None, None]:
    """A connection of the client's pool, which goes back closed if it was left with replies unread."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _read(connection: Any, deadline: float) -> Reply:
    from redis import exceptions  # noqa: PLC0415  as above

    if not connection.can_read(timeout=max(0.0, deadline - time.monotonic())):
        raise exceptions.TimeoutError("no answer in time")
    try:
        return connection.read_response(disable_decoding=True)
    except exceptions.BusyLoadingError as error:  # A ConnectionError to redis-py, but it is an answer.
        return ErrorReply("LOADING", str(error))
    except exceptions.AuthenticationError as error:  # Likewise: the password was changed under the connection.
        return ErrorReply("NOAUTH", str(error))
    except exceptions.ResponseError as error:
        return ErrorReply(_code(error), str(error))


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


def _seen(error: Exception) -> str:
    from redis import exceptions  # noqa: PLC0415  as above

    if isinstance(error, exceptions.BusyLoadingError):
        return "Redis is loading its data"
    if isinstance(error, exceptions.AuthenticationError):
        return "Redis refuses the user or password of ORDERRELAY_REDIS_URL"
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "Redis did not answer in time"
    return f"Redis cannot be reached ({str(error).rstrip('. ')})"
