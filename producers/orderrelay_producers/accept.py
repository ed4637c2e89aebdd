"""The one way into the intake: the typed function beside `accept.lua`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from orderrelay_producers.round_trip import ErrorReply, NoReply, Reply, round_trip
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_shared import ids, keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from orderrelay_producers.round_trip import Command
    from orderrelay_shared.intake import Envelope

#: A worker's word that it serves a company counts for so long, in seconds: without any, no company is refused.
COMPANIES_FRESH_SECONDS: Final = 120

_NOTHING_ASKED: Final = Safekeeping()

_SCRIPT: Final = files("orderrelay_producers").joinpath("accept.lua").read_bytes()
_SHA: Final = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest()

#: Error replies in words; the rest is told in Redis' own.
_REFUSALS: Final = {
    "OOM": "Redis is full (maxmemory)",
    "READONLY": "Redis is read-only here (a replica, or a failover is going on)",
    "LOADING": "Redis is loading its data",
    "MISCONF": "Redis cannot write its data to disk (MISCONF) and takes nothing",
    "NOREPLICAS": "Redis has too few replicas (min-replicas-to-write) and takes nothing",
    "NOPERM": "this Redis user may not enqueue (needs EVALSHA, EVAL and the keys orderrelay:*)",
    "NOAUTH": "Redis refuses the user or password of ORDERRELAY_REDIS_URL",
}


class Verdict(StrEnum):
    """What became of one order at the intake."""

    ACCEPTED = "accepted"  #: In the stream; not seen lately.
    ALREADY = "already"  #: In the stream; the same content was accepted lately.
    CONFLICT = "conflict"  #: In the stream, for the record; other content was accepted lately, and stays.
    UNKNOWN_COMPANY = "unknown_company"  #: Not taken: workers serve other companies.
    FULL = "full"  #: Not taken: too many wait.


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Redis' answer for one order.

    Attributes:
        verdict: What became of it.
        entry_id: Its entry in the stream; empty if it was not taken.
        waiting: With `FULL`, how many orders wait.
        companies: With `UNKNOWN_COMPANY`, the aliases (at most 20) that workers serve, comma separated.
    """

    verdict: Verdict
    entry_id: str = ""
    waiting: int = 0
    companies: str = ""


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """Redis gave no verdict on one order, or the order is not kept as was asked for.

    Attributes:
        reason: What was seen, for people.
        maybe_taken: Whether the order may be in the stream nevertheless. False is proved.
    """

    reason: str
    maybe_taken: bool


def accept(
    client: redis.Redis,
    envelopes: Sequence[Envelope],
    *,
    max_waiting: int,
    deadline: float,
    safekeeping: Safekeeping = _NOTHING_ASKED,
) -> list[Acceptance | NotAnswered]:
    """Bring orders into the intake stream: one script call each, all in one round trip, each by itself.

    Only where Redis has forgotten the script (a restart) is there a second round trip, for those it did not run.

    Args:
        client: Redis.
        envelopes: The orders.
        max_waiting: Refuse when this many wait; soft, as the ledger's share is counted by workers now and then.
        deadline: When to give up, by `time.monotonic()`.
        safekeeping: What must hold of the orders that were taken; waited for once in each round trip. Where it does
            not hold in time, the order is `NotAnswered`, perhaps taken.

    Returns:
        A verdict for each, in order. Raises nothing that Redis or the network does.
    """
    calls = [_call(envelope, max_waiting) for envelope in envelopes]
    replies = _exchange(client, [("EVALSHA", _SHA, *call) for call in calls], deadline, safekeeping)
    forgotten = [index for index, (reply, _) in enumerate(replies) if _is_noscript(reply)]
    if forgotten:
        # EVAL teaches Redis the script again; those after it need only its digest.
        again: list[Command] = [("EVALSHA", _SHA, *calls[index]) for index in forgotten]
        again[0] = ("EVAL", _SCRIPT, *calls[forgotten[0]])
        for index, answer in zip(forgotten, _exchange(client, again, deadline, safekeeping), strict=True):
            replies[index] = answer
    return [_read(reply, lacking) for reply, lacking in replies]


def _exchange(
    client: redis.Redis, commands: Sequence[Command], deadline: float, safekeeping: Safekeeping
) -> list[tuple[Reply, str | None]]:
    """One round trip: to each command its reply, and what is missing of the safekeeping."""
    if not safekeeping:
        return [(reply, None) for reply in round_trip(client, commands, deadline=deadline)]
    replies = round_trip(client, [*commands, *safekeeping.commands(deadline)], deadline=deadline)
    lacking = safekeeping.lacking(replies[len(commands) :])
    return [(reply, lacking) for reply in replies[: len(commands)]]


def _is_noscript(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "NOSCRIPT"


def _call(envelope: Envelope, max_waiting: int) -> tuple[bytes | str | int, ...]:
    fields = [part for pair in envelope.to_fields().items() for part in pair]
    return (
        4,
        keys.recent(envelope.company, ids.external_id_digest(envelope.external_id)),
        keys.INTAKE,
        keys.COMPANIES,
        keys.waiting(envelope.company),
        envelope.company,
        envelope.content_digest,
        keys.RECENT_TTL_SECONDS,
        max_waiting,
        COMPANIES_FRESH_SECONDS,
        *fields,
    )


def _read(reply: Reply, lacking: str | None) -> Acceptance | NotAnswered:
    if isinstance(reply, NoReply):
        return NotAnswered(reply.reason, maybe_taken=reply.sent)
    if isinstance(reply, ErrorReply):
        return NotAnswered(_REFUSALS.get(reply.code, f"Redis refuses: {reply.text}"), maybe_taken=False)
    verdict, detail = Verdict(reply[0].decode()), reply[1].decode()
    if verdict is Verdict.FULL:
        return Acceptance(verdict, waiting=int(detail))
    if verdict is Verdict.UNKNOWN_COMPANY:
        return Acceptance(verdict, companies=detail)
    if lacking is not None and verdict is not Verdict.CONFLICT:  # A conflict is refused wherever it is kept.
        return NotAnswered(lacking, maybe_taken=True)
    return Acceptance(verdict, entry_id=detail)
