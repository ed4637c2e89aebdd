"""Orders from JSON lines: one JSON object a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orderrelay_producers.files.records import BYTE_ORDER_MARK, RECORD_MAX_BYTES, FileUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


class Line(NamedTuple):
    """One line that is not blank; see `Record`.

    Attributes:
        number: Counted from 1, blank lines too.
        raw: As it stands in the file, with its line end.
    """

    number: int
    raw: bytes

    @property
    def next_number(self) -> int:
        """The line behind."""
        return self.number + 1

    @property
    def content(self) -> bytes:
        """The line without byte-order mark and surrounding space."""
        return self.raw.removeprefix(BYTE_ORDER_MARK).strip()

    def place(self, path: str) -> str:
        """The line, and the property in it."""
        return f"line {self.number}: {path}" if path else f"line {self.number}"


def read_lines(stream: BinaryIO, *, line_max_bytes: int = RECORD_MAX_BYTES) -> Iterator[Line]:
    """The lines of a file that are not blank.

    Args:
        stream: The file, opened for bytes.
        line_max_bytes: The longest line that is read.

    Raises:
        FileUnreadable: A line is too long.
    """
    number = 0
    while raw := stream.readline(line_max_bytes + 1):
        number += 1
        if len(raw) > line_max_bytes:
            raise FileUnreadable(f"line {number} is longer than {line_max_bytes} bytes: one order a line is needed")
        line = Line(number, raw)
        if line.content:
            yield line
