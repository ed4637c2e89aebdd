"""Identity: what makes two orders the same order, and what a job is called.

ExternalId is the idempotency key of an order, unique per company for ever. It goes to the vendor as given, and is
compared by its folded form, so that "A-1" and "a-1", which an ERP may hold for equal, are one order here too.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid
from functools import lru_cache

import uuid_utils
from uuid_utils.compat import uuid7

#: Frozen for ever: job ids are derived from it, so another value would make every old order look new.
_JOB_NAMESPACE = uuid_utils.UUID("5f2b7c0e-9a41-5f0e-8f3c-2a6d1c7e4b90")

EXTERNAL_ID_MAX_LENGTH = 64
_COMPANY = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")


def new_external_id() -> str:
    """An ExternalId for an order that came without one: a UUIDv7 in its 36-character form."""
    return str(uuid7())


def fold_external_id(external_id: str) -> str:
    """The form by which ExternalIds are compared: NFC, case-folded, NFC again (folding can undo the first)."""
    if external_id.isascii():
        return external_id.lower()  # The same, sooner.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", external_id).casefold())


def external_id_digest(external_id: str) -> bytes:
    """SHA-256 of the folded ExternalId: 32 bytes."""
    return hashlib.sha256(fold_external_id(external_id).encode()).digest()


def order_digest(company: str, external_id: str) -> bytes:
    """SHA-256 of what makes orders the same order, company and folded ExternalId: 32 bytes."""
    return hashlib.sha256(f"{company}\0{fold_external_id(external_id)}".encode()).digest()


def external_id_problem(external_id: str, max_length: int = EXTERNAL_ID_MAX_LENGTH) -> str | None:
    """What is wrong with an ExternalId, in words for its author, or None.

    Args:
        external_id: The text as given.
        max_length: The longest that is allowed, in characters.
    """
    if not external_id:
        return "must not be empty; leave it out to have one made"
    if len(external_id) > max_length:
        return f"has {len(external_id)} characters; at most {max_length} are allowed"
    if external_id != external_id.strip():
        return "must not begin or end with space"
    if not external_id.isprintable():
        unprintable = next(c for c in external_id if not c.isprintable())
        return f"must be printable; it holds U+{ord(unprintable):04X}"
    return None


def job_id(company: str, external_id: str) -> uuid.UUID:
    """The id of the job of an order: UUIDv5 of the company and the folded ExternalId, the same wherever it is made."""
    derived = uuid_utils.uuid5(_JOB_NAMESPACE, f"{company}\0{fold_external_id(external_id)}")
    return uuid.UUID(int=derived.int)


@lru_cache(1024)
def normalise_company(alias: str) -> str:
    """A company alias in its one form: lower case, 1-32 of a-z, 0-9, "-" and "_".

    Raises:
        ValueError: The alias has other characters, or is too long.
    """
    normal = unicodedata.normalize("NFKC", alias).strip().casefold()
    if not _COMPANY.fullmatch(normal):
        raise ValueError(
            f"{alias!r} is no company alias: use 1-32 of a-z, 0-9, '-' and '_', "
            "beginning and ending with a letter or digit"
        )
    return normal
