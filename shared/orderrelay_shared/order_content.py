"""What an order says, as bytes: its body on the wire, and the digests by which orders are compared.

All functions take an order's properties as `Order.given_properties` gives them.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Final, cast

import msgspec

from orderrelay_shared import ids, wire

#: Frozen for ever, as digests of old orders are compared with those of new ones.
_DIGEST_PREFIX: Final = b"orderrelay order 1\0"
_DERIVED_ID_PREFIX: Final = b"orderrelay derived id 1\0"

_canonical_encoder = msgspec.json.Encoder(decimal_format="string", order="deterministic")


def body(properties: dict[str, object]) -> bytes:
    """The order as one JSON object; see `Order.body`."""
    rows = cast("list[dict[str, object]]", properties["InvoiceRows"])
    plain = all(wire.is_plain_number(value) for row in rows for value in row.values() if type(value) is Decimal)
    return wire.dumps_plain(properties) if plain else wire.dumps(properties)


def content_digest(properties: dict[str, object], external_id: str | None) -> bytes:
    """What tells the order's content from another's; see `Order.content_digest`."""
    return digest_of(_canonical(properties, external_id))


def digest_of(canonical: dict[str, object]) -> bytes:
    """As `content_digest`, of what an order says in the one form that all orders that say the same have.

    Args:
        canonical: An order's properties with its ExternalId folded, and as text, by `plain_number`, all numbers that
            may have a point.
    """
    return hashlib.sha256(_DIGEST_PREFIX + _canonical_encoder.encode(canonical)).digest()


def derived_external_id(properties: dict[str, object], occurrence: int, batch: str) -> str:
    """An ExternalId made of what the order says; see `Order.derived_external_id`."""
    # The batch stands last and the numbers between have no such byte, so no two inputs make one text.
    text = b"%s%s\0%d\0%s" % (
        _DERIVED_ID_PREFIX,
        _canonical_encoder.encode(_canonical(properties, None)),
        occurrence,
        batch.encode(errors="surrogatepass"),
    )
    return hashlib.sha256(text).hexdigest()[:40]


def _canonical(properties: dict[str, object], external_id: str | None) -> dict[str, object]:
    """What an order says, as `digest_of` takes it.

    Args:
        properties: As `Order.given_properties` gives them.
        external_id: What stands for its ExternalId; None: nothing.
    """
    canonical = properties.copy()
    canonical["InvoiceRows"] = [
        _canonical_row(row) for row in cast("list[dict[str, object]]", properties["InvoiceRows"])
    ]
    if external_id is not None:
        canonical["ExternalId"] = ids.fold_external_id(external_id)
    else:
        canonical.pop("ExternalId", None)
    return canonical


def _canonical_row(row: dict[str, object]) -> dict[str, object]:
    canonical = row.copy()
    for name, value in row.items():
        if type(value) is Decimal:
            canonical[name] = plain_number(value)
    return canonical


def plain_number(number: Decimal) -> str:
    """The number as text without exponent and without zeros at the end, so that equal ones read alike."""
    text = str(number)
    if "E" in text:
        text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
