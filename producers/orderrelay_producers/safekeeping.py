"""Where an order must be kept before it counts as accepted, and how Redis is asked whether it is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from orderrelay_producers.round_trip import ErrorReply, NoReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orderrelay_producers.round_trip import Reply
    from orderrelay_producers.steps import Command

#: Redis looks up to a tenth of a second late whether a wait is over, and its answer must still arrive in time.
_FOR_THE_ANSWER_SECONDS: Final = 0.2

#: Redis whose WAITAOF is believed under any appendfsync. Before, and in Valkey to this day (9.1.2: measured), it says
#: under everysec that an order is on disk before it is (https://github.com/redis/redis/pull/13793).
_TRUTHFUL_FROM: Final = 8

_REPLICAS, _ON_DISK = "ORDERRELAY_ACCEPT_REPLICAS", "ORDERRELAY_ACCEPT_ON_DISK"


@dataclass(frozen=True, slots=True)
class Safekeeping:
    """What must hold of an order in the intake before the caller is told that it is accepted.

    Attributes:
        replicas: So many replicas have it, in memory; 0: none is asked for.
        on_disk: It is on the primary's disk.
    """

    replicas: int = 0
    on_disk: bool = False

    def __bool__(self) -> bool:
        return self.replicas > 0 or self.on_disk

    def commands(self, deadline: float) -> list[Command]:
        """What asks Redis to wait, at the end of the pipeline that wrote: it covers its own connection's writes only.

        Args:
            deadline: When the caller gives up, by `time.monotonic()`.
        """
        left_seconds = deadline - time.monotonic()
        wait_seconds = max(left_seconds - _FOR_THE_ANSWER_SECONDS, left_seconds / 2)
        waits: list[Command] = [("WAIT", self.replicas)] if self.replicas else []
        waits += [("WAITAOF", 1, 0)] if self.on_disk else []
        # Never 0, which to Redis means without end.
        wait_ms = max(1, int(wait_seconds * 1000 / max(1, len(waits))))
        how_truly: list[Command] = [("CONFIG", "GET", "appendfsync"), ("INFO", "server")] if self.on_disk else []
        return [*((*wait, wait_ms) for wait in waits), *how_truly]

    def lacking(self, replies: Sequence[Reply]) -> str | None:
        """What is missing by Redis' answers to `commands`, in words; None if all holds."""
        left = list(replies)
        missing = _lacking_copies(left.pop(0), self.replicas) if self.replicas else None
        if missing is None and self.on_disk:
            missing = _lacking_on_disk(*left)
        return missing


def _lacking_copies(copies: Reply, wanted: int) -> str | None:
    if isinstance(copies, NoReply | ErrorReply):
        return _not_told(copies, "WAIT")
    return None if int(copies) >= wanted else f"{copies} of {wanted} replicas had the order in time ({_REPLICAS})"


def _lacking_on_disk(synced: Reply, appendfsync: Reply, server: Reply) -> str | None:
    if isinstance(synced, NoReply | ErrorReply):
        return _not_told(synced, "WAITAOF")
    if synced[0] < 1:
        return f"the order was not on Redis' disk in time ({_ON_DISK} needs appendfsync always)"
    policy = _policy(appendfsync)
    if policy == "always" or _is_truthful(server):
        return None
    what = f"its appendfsync is {policy}" if policy else "it does not tell its appendfsync (CONFIG GET)"
    return (
        f"this Redis may say too early that an order is on disk: {what}; {_ON_DISK} needs appendfsync always, "
        f"or Redis {_TRUTHFUL_FROM} or later"
    )


def _policy(reply: Reply) -> str | None:
    """The value in an answer to CONFIG GET, which RESP2 gives as a list and RESP3 as a dictionary."""
    if isinstance(reply, dict):
        reply = list(cast("dict[bytes, bytes]", reply).values())
    values = cast("list[bytes]", reply) if isinstance(reply, list) else []
    return values[-1].decode() if values else None


def _is_truthful(server: Reply) -> bool:
    if not isinstance(server, bytes) or b"valkey_version:" in server:
        return False
    version = re.search(rb"^redis_version:(\d+)", server, re.MULTILINE)
    return version is not None and int(version[1]) >= _TRUTHFUL_FROM


def _not_told(reply: NoReply | ErrorReply, command: str) -> str:
    if isinstance(reply, NoReply):
        return f"Redis took the order, but did not say where it is kept ({reply.reason})"
    text = reply.text.lower()
    if "unknown command" in text:
        return f"this Redis cannot tell what is on its disk: {_ON_DISK} needs Redis 7.2 or later, or Valkey"
    if "appendonly" in text:
        return f"this Redis has no append-only file: {_ON_DISK} needs appendonly yes"
    if reply.code == "UNBLOCKED" or "replica instances" in text:
        return "Redis ceased to be the primary before the order was kept as asked for"
    if reply.code == "NOPERM":
        return f"this Redis user may not ask where the order is kept (needs {command})"
    return f"Redis does not say where the order is kept: {reply.text}"
