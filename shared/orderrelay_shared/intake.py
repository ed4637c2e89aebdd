"""The format of an intake entry, and which entries are for newer workers.

Workers read only the envelope here and book the body as bytes, so that a worker of any version can book an order of
any version. Fields of an entry (all bytes in Redis):

    v  layout of the envelope, 1 or 2           k  kind: "order", "ask" or "cancel"
    c  company alias, normalised                x  ExternalId as given, UTF-8
    d  content digest, 32 bytes                 b  body: one order object as JSON, UTF-8
    bv version of the body's format             j  job id, 16 bytes (of an ask or cancel only)
                                                y  why, UTF-8 (of a cancel only)

Layout 2 adds what an order may be given; it is written only where one of them is, so that workers who know layout 1
alone book all others:

    p  priority: "urgent", "normal" or "bulk"   t  not to be sent before, epoch milliseconds
                                                e  not to be sent after, epoch milliseconds

A producer's call that is traced adds a field, under whatever layout; who does not know it books the order all the same:

    tp the call's W3C traceparent; one that is none is passed over

A later version may add a kind under a known layout (a name of lower-case letters, digits and "_", at most 32), or
another layout (the next whole number). A worker that does not know the kind or the layout leaves the entry for newer
workers; anything else that cannot be read is garbage. Fields that are not named here are ignored.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import msgspec

from orderrelay_shared import ids
from orderrelay_shared.states import Priority

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The body format that this version writes, and the newest that it can submit.
BODY_VERSION = 1

#: The newest layout that this version reads, and its kinds.
LAYOUT = 2
KINDS = frozenset({"order", "ask", "cancel"})

_NUMBER = re.compile(rb"[1-9][0-9]{0,3}")
_BODY_VERSION = re.compile(rb"[1-9][0-9]{0,4}")
_INSTANT = re.compile(rb"[0-9]{1,15}")
_KIND = re.compile(rb"[a-z][a-z0-9_]{0,31}")
_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_NEEDS = re.compile(r"v([1-9][0-9]{0,3})(?:-([a-z][a-z0-9_]{0,31}))?")

#: What an order has to have beside layout and kind.
_NEEDED = (b"c", b"x", b"d", b"bv", b"b")

#: An ExternalId can be made longer than this only by going around the producer.
_EXTERNAL_ID_CEILING = 1024

#: So many characters may be said of why a job is cancelled.
_WHY_CEILING = 300

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class EnvelopeUnreadable(ValueError):
    """An intake entry is not in the agreed layout; the text says what is wrong with it."""


class EnvelopeNewer(Exception):
    """An intake entry is of a layout or kind that only newer workers know; it must be left to them.

    Attributes:
        needs: What a worker has to know to read it, such as "v2" (the layout) or "v1-cancel" (the kind).
    """

    def __init__(self, needs: str) -> None:
        super().__init__(f"only newer workers can read it: it is {needs}")
        self.needs = needs


class Envelope(msgspec.Struct, frozen=True, gc=False):  # made for each order on both sides: a dataclass takes 1 µs more
    """One accepted order on its way to the ledger.

    Attributes:
        company: The company's alias, normalised.
        external_id: The order's ExternalId as given.
        content_digest: What tells its content from another's under the same ExternalId.
        body: The order as one JSON object.
        body_version: The body's format.
        priority: Whose turn it is first.
        due_at: Not to be sent before; on its way it is rounded up to a millisecond.
        deadline: Not to be sent after; on its way it is rounded down to a millisecond.
        traceparent: Where its trace goes on, as W3C Trace Context writes it; None: it is not traced.
    """

    company: str
    external_id: str
    content_digest: bytes
    body: bytes
    body_version: int = BODY_VERSION
    priority: Priority = Priority.NORMAL
    due_at: datetime | None = None
    deadline: datetime | None = None
    traceparent: str | None = None

    @property
    def job_id(self) -> uuid.UUID:
        """The id of the order's job."""
        return ids.job_id(self.company, self.external_id)

    def to_fields(self) -> dict[str, bytes | str]:
        """The stream entry's fields and values."""
        more: dict[str, bytes | str] = {}
        if self.priority is not Priority.NORMAL:
            more["p"] = str(self.priority)
        if self.due_at is not None:
            more["t"] = str(max(0, -((_EPOCH - self.due_at) // _MILLISECOND)))
        if self.deadline is not None:
            more["e"] = str((self.deadline - _EPOCH) // _MILLISECOND)
        layout = "2" if more else "1"
        if self.traceparent is not None:
            more["tp"] = self.traceparent
        return {
            "v": layout,
            "k": "order",
            "c": self.company,
            "x": self.external_id,
            "d": self.content_digest,
            "bv": str(self.body_version),
            "b": self.body,
            **more,
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """A producer asks for a job whose status Redis has forgotten; a worker answers from the ledger."""

    job_id: uuid.UUID

    def to_fields(self) -> dict[str, bytes | str]:
        """The stream entry's fields and values."""
        return {"v": "1", "k": "ask", "j": self.job_id.bytes}


@dataclass(frozen=True, slots=True)
class Cancel:
    """A producer asks that a job be cancelled, if no request has left for it.

    Attributes:
        job_id: The job.
        why: In words, for people; may be empty.

    Raises:
        ValueError: `why` is too long, or has characters that cannot be printed.
    """

    #: What an entry of this kind needs to be read, as in `EnvelopeNewer.needs`.
    NEEDS: ClassVar = "v1-cancel"

    job_id: uuid.UUID
    why: str = ""

    def __post_init__(self) -> None:
        # Not every caller checks types.
        if not isinstance(self.why, str) or len(self.why) > _WHY_CEILING or not self.why.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"why must be at most {_WHY_CEILING} printable characters on one line")

    def to_fields(self) -> dict[str, bytes | str]:
        """The stream entry's fields and values."""
        return {"v": "1", "k": "cancel", "j": self.job_id.bytes, "y": self.why}


def read_entry(fields: Mapping[bytes, bytes]) -> Envelope | Ask | Cancel:
    """Read one stream entry.

    Raises:
        EnvelopeNewer: The entry is for newer workers.
        EnvelopeUnreadable: The entry is not in the agreed layout.
    """
    layout = fields.get(b"v", b"")
    if not _NUMBER.fullmatch(layout):
        raise EnvelopeUnreadable(f"envelope layout is {layout[:20]!r}, no number from 1 to 9999")
    if int(layout) > LAYOUT:
        raise EnvelopeNewer(f"v{int(layout)}")
    match fields.get(b"k", b""):
        case b"order":
            return _read_order(fields, int(layout))
        case b"ask":
            return Ask(_read_job_id(fields))
        case b"cancel":
            return _read_cancel(fields)
        case kind if _KIND.fullmatch(kind):
            raise EnvelopeNewer(f"v{int(layout)}-{kind.decode()}")
        case kind:
            raise EnvelopeUnreadable(f"kind is {kind[:40]!r}, which is no name of a kind")


def can_read(needs: str) -> bool:
    """Whether this version knows what `EnvelopeNewer.needs` of another version names."""
    if (named := _NEEDS.fullmatch(needs)) is None:
        return False
    layout, kind = int(named[1]), named[2]
    return layout <= LAYOUT and (kind is None or kind in KINDS)


def _read_job_id(fields: Mapping[bytes, bytes]) -> uuid.UUID:
    raw = fields.get(b"j", b"")
    if len(raw) != 16:
        raise EnvelopeUnreadable(f"job id has {len(raw)} bytes, not 16")
    return uuid.UUID(bytes=raw)


def _read_cancel(fields: Mapping[bytes, bytes]) -> Cancel:
    try:
        return Cancel(_read_job_id(fields), fields.get(b"y", b"").decode())
    except EnvelopeUnreadable:
        raise
    except ValueError as error:
        raise EnvelopeUnreadable(f"why is not as it must be: {error}") from error


def _read_order(fields: Mapping[bytes, bytes], layout: int) -> Envelope:
    try:
        raw_company, raw_id, content_digest, version, body = [fields[name] for name in _NEEDED]
    except KeyError:
        missing = [name.decode() for name in _NEEDED if name not in fields]
        raise EnvelopeUnreadable(f"fields missing: {', '.join(missing)}") from None
    try:
        company, external_id = raw_company.decode(), raw_id.decode()
    except UnicodeDecodeError as error:
        raise EnvelopeUnreadable("company or ExternalId is not UTF-8") from error
    if (problem := _company_problem(company)) is not None:
        raise EnvelopeUnreadable(problem)
    if (problem := ids.external_id_problem(external_id, _EXTERNAL_ID_CEILING)) is not None:
        raise EnvelopeUnreadable(f"ExternalId {problem}")
    if len(content_digest) != 32:
        raise EnvelopeUnreadable(f"content digest has {len(content_digest)} bytes, not 32")
    if not (_BODY_VERSION.fullmatch(version) and int(version) <= 32767):
        raise EnvelopeUnreadable(f"body version is {version[:20]!r}, not a number from 1 to 32767")
    traceparent = _read_traceparent(fields[b"tp"]) if b"tp" in fields else None
    if layout == 1:
        return Envelope(company, external_id, content_digest, body, int(version), traceparent=traceparent)
    return Envelope(
        company,
        external_id,
        content_digest,
        body,
        int(version),
        _read_priority(fields),
        _read_instant(fields, b"t"),
        _read_instant(fields, b"e"),
        traceparent,
    )


def _read_traceparent(given: bytes) -> str | None:
    return given.decode("ascii") if _TRACEPARENT.fullmatch(given) else None


def _read_priority(fields: Mapping[bytes, bytes]) -> Priority:
    given = fields.get(b"p", b"normal")
    for priority in Priority:
        if given == priority.encode():
            return priority
    raise EnvelopeUnreadable(f"priority is {given[:20]!r}, not urgent, normal or bulk")


def _read_instant(fields: Mapping[bytes, bytes], name: bytes) -> datetime | None:
    if (given := fields.get(name)) is None:
        return None
    what = "due time" if name == b"t" else "deadline"
    if not _INSTANT.fullmatch(given):
        raise EnvelopeUnreadable(f"{what} is {given[:20]!r}, not milliseconds since 1970")
    try:
        return _EPOCH + int(given) * _MILLISECOND
    except OverflowError as error:
        raise EnvelopeUnreadable(
            f"{what} is {given!r} milliseconds since 1970, which is after the year 9999"
        ) from error


@lru_cache(maxsize=1024)
def _company_problem(company: str) -> str | None:
    try:
        normal = ids.normalise_company(company)
    except ValueError as error:
        return str(error)
    return None if normal == company else f"company {company!r} is not in its normal form {normal!r}"
