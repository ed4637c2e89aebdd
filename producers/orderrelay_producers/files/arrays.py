"""Orders from one JSON array, cut into its elements as it is read: a file of any size takes little memory.

What is inside an element is not judged here: each is read exactly as a line of JSON lines would be, so that one bad
order is one refused order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from orderrelay_producers.files.records import BYTE_ORDER_MARK, RECORD_MAX_BYTES, FileUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_PIECE_BYTES: Final = 256 * 1024

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
#: Up to and with the next bracket outside of texts. Possessive, so that a long text takes no memory of its own.
_TO_BRACKET: Final = re.compile(rb'[^"{}\[\]]*+(?:"(?:[^"\\]++|\\.)*+"[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL)
#: A text; its end may not have been read.
_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
#: A number or word, and space behind it; what ends it must have been read.
_WORD: Final = re.compile(rb'[^][{}",]++(?=[][{}",])')


class Element(NamedTuple):
    """One element of the array; see `Record`.

    Attributes:
        number: Which element, counted from 1.
        line: The line at which it begins, counted from 1.
        content: Its JSON, as it stands in the file.
    """

    number: int
    line: int
    content: bytes

    @property
    def next_number(self) -> int:
        """The element behind."""
        return self.number + 1

    @property
    def raw(self) -> bytes:
        """The element in one line, so that refused ones make up JSON lines."""
        # Line ends stand only between JSON's words, where a space says the same.
        return self.content.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"

    def place(self, path: str) -> str:
        """The element, its line, and the property in it."""
        where = f"order {self.number} (line {self.line})"
        return f"{where}: {path}" if path else where


def read_elements(
    stream: BinaryIO, *, element_max_bytes: int = RECORD_MAX_BYTES, piece_bytes: int = _PIECE_BYTES
) -> Iterator[Element]:
    """The elements of the array that a file consists of, as they are read.

    Args:
        stream: The file, opened for bytes.
        element_max_bytes: The largest element that is read.
        piece_bytes: How much is read at once.

    Raises:
        FileUnreadable: The file is not one JSON array, ends too early, or has an element that is too large. The
            elements before that place have been given.
    """
    return _Cutter(stream, element_max_bytes, piece_bytes).elements()


class _Cutter:
    """Holds what is read of the file, from the element that is being looked for.

    Args:
        stream: The file.
        element_max_bytes: The largest element.
        piece_bytes: How much is read at once.
    """

    def __init__(self, stream: BinaryIO, element_max_bytes: int, piece_bytes: int) -> None:
        self._stream = stream
        self._max = element_max_bytes
        self._piece_bytes = piece_bytes
        self._data = b""
        self._at = 0  # What stands before it in the data is done with.
        self._line = 1  # Of that place.
        self._count = 0

    def elements(self) -> Iterator[Element]:
        self._more(self._piece_bytes)
        if self._data.startswith(BYTE_ORDER_MARK):
            self._at = len(BYTE_ORDER_MARK)
        if self._next_sign() != b"[":
            raise FileUnreadable(f"line {self._line}: no JSON array begins here: it would begin with '['")
        self._pass_by(1)
        if self._next_sign() == b"]":
            self._pass_by(1)
        else:
            yield from self._members()
        if sign := self._next_sign():
            raise FileUnreadable(f"line {self._line}: more follows the end of the JSON array: {_told(sign)}")

    def _members(self) -> Iterator[Element]:
        while True:
            sign = self._next_sign()
            if not sign:
                raise FileUnreadable(f"the JSON array is not closed: it ends after order {self._count}")
            if sign in (b",", b"]", b"}"):
                raise FileUnreadable(f"line {self._line}: {_told(sign)} stands where order {self._count + 1} would")
            self._count += 1
            line, length = self._line, self._length(sign)
            content = self._data[self._at : self._at + length]
            self._pass_by(length)
            yield Element(self._count, line, content)
            sign = self._next_sign()
            if sign not in (b",", b"]", b""):
                raise FileUnreadable(
                    f"line {self._line}: {_told(sign)} follows order {self._count}, where a comma or ']' would"
                )
            if sign:
                self._pass_by(1)
            if sign == b"]":
                return

    def _length(self, sign: bytes) -> int:
        """How long the element is that begins at this place."""
        if sign in (b"{", b"["):
            return self._length_in_brackets()
        pattern = _TEXT if sign == b'"' else _WORD
        while (found := pattern.match(self._data, self._at)) is None:
            self._need_more()
        return found.end() - self._at

    def _length_in_brackets(self) -> int:
        depth = length = 0
        while True:
            while (found := _TO_BRACKET.match(self._data, self._at + length)) is None:
                self._need_more()
            length = found.end() - self._at
            if length > self._max:
                self._too_large()
            depth += 1 if found[1] in b"{[" else -1
            if depth == 0:
                return length

    def _next_sign(self) -> bytes:
        """Go on to what is no space, and give its first byte; empty at the end of the file."""
        while True:
            found = _SPACE.match(self._data, self._at)
            self._pass_by(found.end() - self._at if found else 0)
            if self._at < len(self._data):
                return self._data[self._at : self._at + 1]
            if not self._more(self._piece_bytes):
                return b""

    def _pass_by(self, length: int) -> None:
        self._line += self._data.count(b"\n", self._at, self._at + length)
        self._at += length

    def _need_more(self) -> None:
        """Read on within an element."""
        pending = len(self._data) - self._at
        if pending > self._max:
            self._too_large()
        # As much as is there already, so that a long text that is looked through again is so only a few times.
        if not self._more(max(self._piece_bytes, pending)):
            raise FileUnreadable(
                f"the file ends within order {self._count}, which begins at line {self._line}: it is cut off, or a "
                "quote or bracket is not closed"
            )

    def _too_large(self) -> None:
        raise FileUnreadable(
            f"order {self._count}, which begins at line {self._line}, has more than {self._max} bytes: is a quote or "
            "bracket not closed?"
        )

    def _more(self, size: int) -> bool:
        """Read on, and forget what is done with; False at the end of the file."""
        piece = self._stream.read(size)
        self._data = self._data[self._at :] + piece
        self._at = 0
        return bool(piece)


def _told(sign: bytes) -> str:
    return repr(sign.decode("latin-1"))
