"""The one way into the intake: the typed function beside `accept.lua`."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orderrelay_producers.round_trip import ErrorReply, NoReply, Reply
from orderrelay_producers.safekeeping import Safekeeping
from orderrelay_producers.steps import Exchange
from orderrelay_shared import ids, keys
from orderrelay_shared.intake import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from orderrelay_producers.steps import Command, Steps
    from orderrelay_shared.states import Priority

#: A worker's word that it serves a company counts for so long, in seconds: without any, no company is refused.
COMPANIES_FRESH_SECONDS: Final = 120

_NOTHING_ASKED: Final = Safekeeping()

#: So many calls leave together at most, and less than what is made in so many seconds, while more are being made. In
#: an event loop nothing else happens while a piece is made.
_PIECE_SIZE: Final = 50
_PIECE_SECONDS: Final = 0.002

#: The fields of an intake entry that differ from order to order of one batch, in the order of `Envelope.to_fields`.
_OWN_FIELDS: Final = ("x", "d", "b", "tp")

#: Not by `importlib.resources`, whose import takes as long as this whole package's own modules.
_SCRIPT: Final = Path(__file__).with_name("accept.lua").read_bytes()
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


_VERDICTS: Final = {verdict.encode(): verdict for verdict in Verdict}


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
    envelopes: Iterable[Envelope],
    *,
    max_waiting: int,
    deadline: float,
    safekeeping: Safekeeping = _NOTHING_ASKED,
) -> Steps[list[Acceptance | NotAnswered]]:
    """Bring orders into the intake: one script call each, all in one round trip, each by itself.

    They leave some at a time, so that Redis takes the first while the next are being made. Only where Redis has
    forgotten the script (a restart) is there a second round trip, for those it did not run.

    Args:
        envelopes: The orders; may be made as they are sent.
        max_waiting: Refuse when this many wait; soft, as the ledger's share is counted by workers now and then.
        deadline: When to give up, by `time.monotonic()`; the time that it takes to make the orders does not count.
        safekeeping: What must hold of the orders that were taken; waited for once in each round trip. Where it does
            not hold in time, the order is `NotAnswered`, perhaps taken.

    Returns:
        A verdict for each, in order. Raises nothing that Redis or the network does.
    """
    coming = iter(envelopes)
    taken: list[Envelope] = []

    def make_some() -> list[bytes]:
        began_at = time.monotonic()
        made: list[bytes] = []
        for envelope in islice(coming, _PIECE_SIZE):
            taken.append(envelope)
            made.append(_call(envelope, max_waiting))
            if time.monotonic() - began_at > _PIECE_SECONDS:
                break
        exchange.deadline += time.monotonic() - began_at
        return made

    def pieces() -> Iterator[Sequence[Command | bytes]]:
        piece = first
        while piece:
            yield piece
            piece = make_some()
        if safekeeping:
            yield safekeeping.commands(exchange.deadline)

    exchange = Exchange((), deadline)
    if not (first := make_some()):
        return []
    exchange.pieces = pieces()
    answers = _with_safekeeping((yield exchange), len(taken), safekeeping)
    forgotten = [index for index, (reply, _) in enumerate(answers) if _is_noscript(reply)]
    if forgotten:
        again = yield from _teach([taken[index] for index in forgotten], max_waiting, exchange.deadline, safekeeping)
        for index, answer in zip(forgotten, again, strict=True):
            answers[index] = answer
    return [_read(reply, lacking) for reply, lacking in answers]


def accept_one(
    envelope: Envelope,
    *,
    max_waiting: int,
    deadline: float,
    safekeeping: Safekeeping = _NOTHING_ASKED,
    meanwhile: Callable[[], object] | None = None,
) -> Steps[Acceptance | NotAnswered]:
    """As `accept`, of one order that is made already; `meanwhile` as of `Exchange`."""
    calls: list[Command | bytes] = [_call(envelope, max_waiting)]
    if safekeeping:
        calls += safekeeping.commands(deadline)
    reply, *others = yield Exchange((calls,), deadline, meanwhile)
    lacking = safekeeping.lacking(others) if safekeeping else None
    if _is_noscript(reply):
        ((reply, lacking),) = yield from _teach([envelope], max_waiting, deadline, safekeeping)
    return _read(reply, lacking)


def _teach(
    forgotten: Sequence[Envelope], max_waiting: int, deadline: float, safekeeping: Safekeeping
) -> Steps[list[tuple[Reply, str | None]]]:
    """Bring in orders for which Redis had forgotten the script. EVAL teaches it; those after need only its digest."""
    one, *others = forgotten
    calls: list[Command | bytes] = [_call(one, max_waiting, by_text=True)]
    calls += [_call(other, max_waiting) for other in others]
    if safekeeping:
        calls += safekeeping.commands(deadline)
    replies = yield Exchange((calls,), deadline)
    return _with_safekeeping(replies, len(forgotten), safekeeping)


def _with_safekeeping(
    replies: list[Reply], count: int, safekeeping: Safekeeping
) -> list[tuple[Reply, str | None]]:  # fmt: skip
    """To each call its reply, and what is missing of the safekeeping."""
    lacking = safekeeping.lacking(replies[count:]) if safekeeping else None
    return [(reply, lacking) for reply in replies[:count]]


def _is_noscript(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "NOSCRIPT"


def _call(envelope: Envelope, max_waiting: int, *, by_text: bool = False) -> bytes:
    """A call of the script, packed as Redis reads it: by its digest, which Redis may have forgotten, or by its text."""
    form = _form(
        by_text,
        max_waiting,
        envelope.company,
        envelope.body_version,
        envelope.priority,
        envelope.due_at,
        envelope.deadline,
        envelope.traceparent is not None,
    )
    order = ids.order_digest(envelope.company, envelope.external_id)
    even, odd = keys.recent(order)
    field, content = keys.recent_field(order), keys.recent_content(envelope.content_digest)
    external_id, digest, body = envelope.external_id.encode(), envelope.content_digest, envelope.body
    own: tuple[int | bytes, ...] = (
        *(len(even), even.encode(), len(odd), odd.encode(), len(field), field, len(content), content),
        *(len(external_id), external_id, len(digest), digest, len(body), body),
    )
    if envelope.traceparent is not None:
        own += (len(envelope.traceparent), envelope.traceparent.encode())
    return form % own


@lru_cache(64)
def _form(
    by_text: bool,
    max_waiting: int,
    company: str,
    body_version: int,
    priority: Priority,
    due_at: datetime | None,
    deadline: datetime | None,
    is_traced: bool,
) -> bytes:
    """A call with gaps for what is the order's own: packing all the other words each time would cost more than them."""
    script = ("EVAL", _SCRIPT) if by_text else ("EVALSHA", _SHA)
    words: list[bytes | str | int | None] = [
        *(*script, 5, None, None, keys.INTAKE, keys.COMPANIES, keys.waiting(company)),
        *(company, None, None, keys.RECENT_DAY_SECONDS, max_waiting, COMPANIES_FRESH_SECONDS),
    ]
    traceparent = "" if is_traced else None
    like = Envelope(company, "", b"", b"", body_version, priority, due_at, deadline, traceparent)
    for name, value in like.to_fields().items():
        words += [name, None if name in _OWN_FIELDS else value]
    return b"*%d\r\n" % len(words) + b"".join(map(_packed, words))


def _packed(word: bytes | str | int | None) -> bytes:
    """A word of a command in Redis' protocol, "%" doubled; None is a gap for another one."""
    if word is None:
        return b"$%d\r\n%b\r\n"
    raw = word if isinstance(word, bytes) else str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw.replace(b"%", b"%%"))


def _read(reply: Reply, lacking: str | None) -> Acceptance | NotAnswered:
    if isinstance(reply, NoReply):
        return NotAnswered(reply.reason, maybe_taken=reply.sent)
    if isinstance(reply, ErrorReply):
        return NotAnswered(_REFUSALS.get(reply.code, f"Redis refuses: {reply.text}"), maybe_taken=False)
    verdict, detail = _VERDICTS[reply[0]], reply[1].decode()
    if verdict is Verdict.FULL:
        return Acceptance(verdict, waiting=int(detail))
    if verdict is Verdict.UNKNOWN_COMPANY:
        return Acceptance(verdict, companies=detail)
    if lacking is not None and verdict is not Verdict.CONFLICT:  # A conflict is refused wherever it is kept.
        return NotAnswered(lacking, maybe_taken=True)
    return Acceptance(verdict, entry_id=detail)
