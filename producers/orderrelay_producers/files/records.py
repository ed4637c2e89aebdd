"""What every format gives: one record for each order, which knows its place in the file."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from orderrelay_shared.orders import OrderInvalid

#: The longest piece that is read as one order, in bytes; a file without ends must not fill the memory.
RECORD_MAX_BYTES: Final = 16 * 1024 * 1024

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class FileFormat(StrEnum):
    """How a file holds its orders."""

    JSONL = "jsonl"  #: One JSON object a line.
    JSON = "json"  #: One JSON array of objects.
    CSV = "csv"  #: A table: a line for each row of an order.

    @property
    def counted_in(self) -> str:
        """What a place in such a file is counted in: "line", or "order" where lines say nothing."""
        return "order" if self is FileFormat.JSON else "line"


class FileUnreadable(Exception):
    """The file cannot be read (further) as orders; the text says where, why, and what to do."""


class Record(Protocol):
    """One order of a file, sound or not."""

    @property
    def number(self) -> int:
        """Where it begins, counted from 1: its line; in a JSON array which element it is."""
        ...

    @property
    def next_number(self) -> int:
        """Where what follows it may begin, counted alike."""
        ...

    @property
    def raw(self) -> bytes:
        """As it stands in the file, fit to be read again; ends with a newline if the file's did."""
        ...

    @property
    def content(self) -> bytes | dict[str, object] | OrderInvalid:
        """The order as JSON, or its properties, or what makes it no order."""
        ...

    def place(self, path: str) -> str:
        """Where something is, for people: `line 7, column Quantity`.

        Args:
            path: The property, as `OrderInvalid` names it: `InvoiceRows[3].Quantity`; empty for the whole order.
        """
        ...
