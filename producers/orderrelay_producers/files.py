"""Orders from a file: one JSON object a line (JSONL), read in bounded memory, the same ids at every run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orderrelay_shared import order_content
from orderrelay_shared.orders import sound_properties

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from orderrelay_shared.orders import Order

#: The longest line that is read, in bytes; a file without line ends must not fill the memory.
LINE_MAX_BYTES: Final = 16 * 1024 * 1024

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class FileUnreadable(Exception):
    """The file is not one order a line; the text says what it seems to be, and what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that is not blank.

    Attributes:
        number: Counted from 1, blank lines too.
        raw: As it stands in the file, with its line end.
        end: Where the next line begins, in bytes from the start.
    """

    number: int
    raw: bytes
    end: int

    @property
    def text(self) -> bytes:
        """The line without byte-order mark and surrounding space."""
        return self.raw.removeprefix(_BYTE_ORDER_MARK).strip()


def read_lines(stream: BinaryIO, *, line_max_bytes: int = LINE_MAX_BYTES) -> Iterator[Line]:
    """The lines of a file that are not blank.

    Args:
        stream: The file, opened for bytes.
        line_max_bytes: The longest line that is read.

    Raises:
        FileUnreadable: A line is too long, or the file is one JSON array.
    """
    number = end = 0
    seen_any = False
    while raw := stream.readline(line_max_bytes + 1):
        number += 1
        end += len(raw)
        if len(raw) > line_max_bytes:
            raise FileUnreadable(f"line {number} is longer than {line_max_bytes} bytes: one order a line is needed")
        line = Line(number, raw, end)
        if not line.text:
            continue
        if not seen_any and line.text.startswith(b"["):
            raise FileUnreadable(
                f"line {number} begins a JSON array: one order a line is needed (jq -c '.[]' FILE makes it so)"
            )
        seen_any = True
        yield line


@dataclass(slots=True)
class Occurrences:
    """Gives an order without ExternalId one that is the same at every run over the same file.

    It is made of the order's content, which of the identical orders of the file it is, and the batch's name; so
    reading a file again adds nothing, while the second of two identical orders stays an order of its own.
    Memory: about 100 bytes for each order that came without ExternalId.

    Attributes:
        batch: A name that tells this file from another with identical orders in it; may be empty.
    """

    batch: str = ""
    # 64 bits of a digest: should two contents ever share them, their numbers differ from 1, 2, … in the same way at
    # every run, and their ids are different by their contents anyhow.
    _counts: dict[int, int] = field(default_factory=dict[int, int])

    def identify(self, order: Order) -> Order:
        """The order itself if it has an ExternalId, else a copy that has one derived."""
        if order.external_id is not None:
            return order
        return order.model_copy(update={"external_id": self._derive(order.given_properties())})

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
        occurrence = self._counts.get(content, 0) + 1
        self._counts[content] = occurrence
        return order_content.derived_external_id(properties, occurrence, self.batch)
