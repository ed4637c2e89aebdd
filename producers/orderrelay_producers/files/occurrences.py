"""ExternalIds for orders of files that came without: the same at every run over the same file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orderrelay_producers.files.keys_seen import NumberByKey
from orderrelay_shared import order_content
from orderrelay_shared.orders import sound_properties

if TYPE_CHECKING:
    from orderrelay_shared.orders import Order


@dataclass(slots=True)
class Occurrences:
    """Gives an order without ExternalId one that is the same at every run over the same file.

    It is made of the order's content, which of the identical orders of the file it is, and the batch's name; so
    reading a file again adds nothing, while the second of two identical orders stays an order of its own.
    Memory: about 30 bytes for each order that came without ExternalId.

    Attributes:
        batch: A name that tells this file from another with identical orders in it; may be empty.
    """

    batch: str = ""
    # 64 bits of a digest: should two contents ever share them, their numbers differ from 1, 2, … in the same way at
    # every run, and their ids are different by their contents anyhow.
    _counts: NumberByKey = field(default_factory=NumberByKey)

    def identify(self, order: Order) -> Order:
        """The order itself if it has an ExternalId, else a copy that has one derived."""
        if order.external_id is not None:
            return order
        return order.with_sound("external_id", self._derive(order.given_properties()))

    def name(self, order: dict[str, object]) -> dict[str, object]:
        """As `identify`, for the properties of an order without ExternalId: they with one.

        Raises:
            OrderInvalid: The order breaks the rules.
        """
        named = {**order, "ExternalId": self._derive(sound_properties(order))}
        named.pop("external_id", None)
        return named

    def _derive(self, properties: dict[str, object]) -> str:
        content = int.from_bytes(order_content.content_digest(properties, None)[:8])
        occurrence = self._counts[content] + 1
        self._counts[content] = occurrence
        return order_content.derived_external_id(properties, occurrence, self.batch)
