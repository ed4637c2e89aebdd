"""The essence of the model: what truly happens at the vendor, which the ledger can only guess at from answers.

What becomes of a request is settled when it leaves; the ledger learns of it late, twice or never. Nothing here knows
of states, leases or tokens.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from orderrelay_workers.vendor.exchange import Exchange, Failure

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

#: How a request that creates the order may be answered: by name, or so that nobody can tell.
TELLING: Final = ("created", "error 500", "cut off", "deadline", "nameless", "partly saved", "proxy 503", "silence")
#: How a request that creates nothing may be answered, among them what looks just as doubtful.
DENYING: Final = (
    "refused", "busy", "bad request", "unauthorized", "forbidden", "later", "unsent", "error 500", "cut off",
    "deadline", "nameless", "partly saved", "proxy 503", "silence",
)  # fmt: skip

Mood = Literal["healthy", "healthy ", "blind", "error", "missing", "later", "unauthorized", "unsent", "garbage"]
#: How a look-up may be answered. "blind" is a well-formed empty list, whatever there is; the healthy come oftener.
MOODS: Final[tuple[Mood, ...]] = (
    "healthy", "healthy ", "blind", "error", "missing", "later", "unauthorized", "unsent", "garbage",
)  # fmt: skip

#: An ErrorNumber that the policy tries again.
BUSY_NUMBER: Final = 77


@dataclass(frozen=True)
class Fate:
    """What becomes of a request: whether it creates the order, after how long a look-up shows it, the answer's kind."""

    creates: bool
    delay: float
    answer: str


@dataclass
class Request:
    """A request that reached the vendor. `shows_at` is when look-ups show its order, in true seconds."""

    token: uuid.UUID
    vendor_id: int | None
    shows_at: float
    #: What the worker sees of it; None: nothing ever.
    exchange: Exchange | None


@dataclass
class VendorWorld:
    """The vendor's books."""

    requests: dict[uuid.UUID, list[Request]] = field(default_factory=dict["uuid.UUID", list[Request]])
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    def receive(
        self, job: uuid.UUID, token: uuid.UUID, fate: Fate, at: int, shown: datetime, *, latest: float
    ) -> Request:  # fmt: skip
        """A request arrives.

        Args:
            job: Whose order it carries.
            token: Under which claim.
            fate: What becomes of it.
            at: True seconds.
            shown: What the shared clock shows.
            latest: The true second by which whatever it creates is shown: what the ledger is promised.
        """
        vendor_id = next(self._ids) if fate.creates else None
        shows_at = at + fate.delay * (latest - at)
        request = Request(token, vendor_id, shows_at, _exchange(fate.answer, vendor_id, shown))
        self.requests.setdefault(job, []).append(request)
        return request

    def creations(self, job: uuid.UUID) -> list[int]:
        """All ids under which an order was created, or certainly will be."""
        return [r.vendor_id for r in self.requests.get(job, []) if r.vendor_id is not None]

    def shown(self, job: uuid.UUID, at: int) -> list[int]:
        """The ids that a look-up shows at a true second."""
        requests = self.requests.get(job, [])
        return [r.vendor_id for r in requests if r.vendor_id is not None and r.shows_at <= at]

    def look_up(self, job: uuid.UUID, mood: Mood, at: int, shown: datetime) -> Exchange:
        """The answer to a look-up."""
        match mood:
            case "error":
                return _answer(500, b"<html>Server Error</html>", shown)
            case "missing":
                return _answer(404, b"", shown)
            case "later":
                return _answer(429, b"", shown, {"retry-after": "7"})
            case "unauthorized":
                return _answer(401, b'"Session Expired"', shown)
            case "unsent":
                return Exchange(False, None, {}, None, b"", Failure.REFUSED, shown, shown)
            case "garbage":
                return _answer(200, b'{"ids": []}', shown)
            case "blind":
                return _answer(200, b"[]", shown)
            case _:
                return _answer(200, json.dumps(self.shown(job, at)).encode(), shown)


def unsent(shown: datetime) -> Exchange:
    """Provably nothing left: the start fence had passed."""
    return Exchange(False, None, {}, None, b"", Failure.FENCED, shown, shown)


def _answer(status: int, body: bytes, shown: datetime, headers: dict[str, str] | None = None) -> Exchange:
    return Exchange(True, status, headers or {}, body, b"", None, shown, shown + timedelta(seconds=1))


def _result(shown: datetime, **properties: object) -> Exchange:
    return _answer(200, json.dumps(properties).encode(), shown)


def _exchange(answer: str, vendor_id: int | None, shown: datetime) -> Exchange | None:
    ended = shown + timedelta(seconds=1)
    match answer:
        case "created":
            return _result(shown, Success=True, Keys=[vendor_id], Strings=[number_of(vendor_id or 0)], StringValue="r")
        case "error 500":
            return _answer(500, b"<html>Server Error</html>", shown)
        case "cut off":
            return Exchange(True, 200, {}, None, b'{"Succ', Failure.TRUNCATED, shown, ended)
        case "deadline":
            return Exchange(True, None, {}, None, b"", Failure.DEADLINE, shown, ended)
        case "nameless":
            return _result(shown, Success=True, Keys=None)
        case "partly saved":
            return _result(shown, Success=False, ErrorNumber=12, ErrorMessage="Delvis sparad")
        case "proxy 503":
            return _answer(503, b"upstream reset", shown)
        case "refused":
            return _result(shown, Success=False, ErrorNumber=26, ErrorMessage="Kunden är spärrad")
        case "busy":
            return _result(shown, Success=False, ErrorNumber=BUSY_NUMBER, ErrorMessage="Upptagen")
        case "bad request":
            return _answer(400, b"Bad Request", shown)
        case "unauthorized":
            return _answer(401, b'"Invalid Token"', shown)
        case "forbidden":
            return _answer(403, b"Forbidden", shown)
        case "later":
            return _answer(429, b"", shown, {"retry-after": "3"})
        case "unsent":
            return Exchange(False, None, {}, None, b"", Failure.REFUSED, shown, shown)
        case "silence":
            return None
        case _:
            raise AssertionError(answer)


def number_of(vendor_id: int) -> str:
    """The order number that belongs to an id."""
    return f"N{vendor_id}"
