"""The format of an intake entry, and which entries are for newer workers.

Workers read only the envelope here and book the body as bytes, so that a worker of any version can book an order of
any version. Fields of an entry (all bytes in Redis):

    v  layout of the envelope, 1 until now      k  kind: "order" or "ask"
    c  company alias, normalised                x  ExternalId as given, UTF-8
    d  content digest, 32 bytes                 b  body: one order object as JSON, UTF-8
    bv version of the body's format             j  job id, 16 bytes (of an ask only)

A later version may add a kind under layout 1 (a name of lower-case letters, digits and "_", at most 32), or another
layout (the next whole number). A worker that does not know the kind or the layout leaves the entry for newer workers;
anything else that cannot be read is garbage. Fields that are not named here are ignored.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orderrelay_shared import ids

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The body format that this version writes, and the newest that it can submit.
BODY_VERSION = 1

#: The newest layout that this version reads, and its kinds.
LAYOUT = 1
KINDS = frozenset({"order", "ask"})

_NUMBER = re.compile(rb"[1-9][0-9]{0,3}")
_KIND = re.compile(rb"[a-z][a-z0-9_]{0,31}")
_NEEDS = re.compile(r"v([1-9][0-9]{0,3})(?:-([a-z][a-z0-9_]{0,31}))?")

#: An ExternalId can be made longer than this only by going around the producer.
_EXTERNAL_ID_CEILING = 1024


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


@dataclass(frozen=True, slots=True)
class Envelope:
    """One accepted order on its way to the ledger."""

    company: str
    external_id: str
    content_digest: bytes
    body: bytes
    body_version: int = BODY_VERSION

    @property
    def job_id(self) -> uuid.UUID:
        """The id of the order's job."""
        return ids.job_id(self.company, self.external_id)

    def to_fields(self) -> dict[str, bytes | str]:
        """The stream entry's fields and values."""
        return {
            "v": "1",
            "k": "order",
            "c": self.company,
            "x": self.external_id,
            "d": self.content_digest,
            "bv": str(self.body_version),
            "b": self.body,
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """A producer asks for a job whose status Redis has forgotten; a worker answers from the ledger."""

    job_id: uuid.UUID

    def to_fields(self) -> dict[str, bytes | str]:
        """The stream entry's fields and values."""
        return {"v": "1", "k": "ask", "j": self.job_id.bytes}


def read_entry(fields: Mapping[bytes, bytes]) -> Envelope | Ask:
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
            return _read_order(fields)
        case b"ask":
            return Ask(_read_job_id(fields))
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


def _read_order(fields: Mapping[bytes, bytes]) -> Envelope:
    missing = [name.decode() for name in (b"c", b"x", b"d", b"bv", b"b") if name not in fields]
    if missing:
        raise EnvelopeUnreadable(f"fields missing: {', '.join(missing)}")
    try:
        company = fields[b"c"].decode()
        external_id = fields[b"x"].decode()
    except UnicodeDecodeError as error:
        raise EnvelopeUnreadable("company or ExternalId is not UTF-8") from error
    if (problem := _company_problem(company)) is not None:
        raise EnvelopeUnreadable(problem)
    if (problem := ids.external_id_problem(external_id, _EXTERNAL_ID_CEILING)) is not None:
        raise EnvelopeUnreadable(f"ExternalId {problem}")
    if len(fields[b"d"]) != 32:
        raise EnvelopeUnreadable(f"content digest has {len(fields[b'd'])} bytes, not 32")
    version = fields[b"bv"]
    if not (version.isdigit() and 1 <= int(version) <= 32767):
        raise EnvelopeUnreadable(f"body version is {version[:20]!r}, not a number from 1 to 32767")
    return Envelope(company, external_id, fields[b"d"], fields[b"b"], int(version))


def _company_problem(company: str) -> str | None:
    try:
        normal = ids.normalise_company(company)
    except ValueError as error:
        return str(error)
    return None if normal == company else f"company {company!r} is not in its normal form {normal!r}"
