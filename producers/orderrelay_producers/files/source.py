"""A file's bytes as orders: unpacked if they are gzip, and the format told by what stands there, not by the name."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zlib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from orderrelay_producers.files.arrays import read_elements
from orderrelay_producers.files.columns import looks_like_header, names_told
from orderrelay_producers.files.lines import read_lines
from orderrelay_producers.files.records import BYTE_ORDER_MARK, FileFormat, FileUnreadable
from orderrelay_producers.files.tables import read_table, rows_astray

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import BinaryIO

    from typing_extensions import Buffer

    from orderrelay_producers.files.cells import Reading
    from orderrelay_producers.files.records import Record
    from orderrelay_shared.order_problems import Problem

_BUFFER_BYTES: Final = 128 * 1024
_GZIP: Final = b"\x1f\x8b"

#: So much is read to tell the format.
_MOST_LOOKED_AT: Final = 64 * 1024

#: How files begin that hold no orders, with what they are.
_OTHERS: Final = (
    (b"PK\x03\x04", "a zip file or an Excel workbook: unpack it, or save the sheet as 'CSV UTF-8'"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save the sheet as 'CSV UTF-8'"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8 (in Excel: 'CSV UTF-8')"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8 (in Excel: 'CSV UTF-8')"),
    (b"BZh", "packed by bzip2: unpack it (bunzip2 -c FILE | orderrelay enqueue -)"),
    (b"\xfd7zX", "packed by xz: unpack it (xz -dc FILE | orderrelay enqueue -)"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it (zstd -dc FILE | orderrelay enqueue -)"),
)


class _Rejoined(io.RawIOBase):
    """A stream of which a beginning was read already.

    Args:
        head: That beginning.
        rest: What follows it; it is not closed with this.
    """

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = cast("Any", rest)  # All that are passed have read1, which no type tells.

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        size = len(view)
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
        else:
            # One read of what is there, so that lines from a pipe are taken as they come.
            piece = self._rest.read1(size)
        view[: len(piece)] = piece
        return len(piece)


class _Noted(io.RawIOBase):
    """A stream that keeps what is read of it.

    Args:
        rest: The stream; it is not closed with this.

    Attributes:
        kept: What was read.
    """

    def __init__(self, rest: BinaryIO) -> None:
        self._rest = cast("Any", rest)
        self.kept = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        piece = self._rest.read1(len(view))
        view[: len(piece)] = piece
        self.kept += piece
        return len(piece)


def look_through(
    stream: BinaryIO, reading: Reading, wanted: FileFormat | None, told: Callable[[Problem], None], closing: ExitStack
) -> tuple[FileFormat, BinaryIO]:
    """Read a table to its end, to know of rows that stand astray before an order is made without them.

    What cannot be read twice is copied into a temporary file first, as it stands. A file of another format holds each
    order in one piece, so only its beginning is looked at, and lines from a pipe are taken as they come.

    Args:
        stream: The file, opened for bytes.
        reading: How the cells of a table are read.
        wanted: The format; None: the one that the file seems to have.
        told: Is told each place where such rows begin.
        closing: Closes the temporary file.

    Returns:
        The format, and the same bytes, for `read_records`.

    Raises:
        FileUnreadable: The beginning tells that it holds no orders, or the table cannot be read to its end.
    """
    with _told_as_unreadable():
        form, again = _told_format(stream, wanted)
        if form is not FileFormat.CSV:
            return form, again
        if not again.seekable():
            again = _copied(again, closing)
        begin = again.tell()
        _, table = _opened(again, form)
        for problem in rows_astray(table, reading):
            told(problem)
        again.seek(begin)
        return form, again


def read_records(
    stream: BinaryIO, reading: Reading, wanted: FileFormat | None = None
) -> tuple[FileFormat, bytes, Iterator[Record]]:
    """The orders of a file.

    Args:
        stream: The file, opened for bytes.
        reading: How the cells of a table are read.
        wanted: The format; None: the one that the file seems to have.

    Returns:
        The format, what must stand before the raw records to make them a file again, and the records; reading them
        raises FileUnreadable too.

    Raises:
        FileUnreadable: The beginning tells that it holds no orders.
    """
    with _told_as_unreadable():
        form, whole = _opened(stream, wanted)
        if form is FileFormat.CSV:
            header, records = read_table(whole, reading)
            return form, header, _guarded(records)
    return form, b"", _guarded(read_lines(whole) if form is FileFormat.JSONL else read_elements(whole))


def _told_format(stream: BinaryIO, wanted: FileFormat | None) -> tuple[FileFormat, BinaryIO]:
    """The format, and the same bytes from the beginning."""
    if stream.seekable():
        begin = stream.tell()
        form, _ = _opened(stream, wanted)
        stream.seek(begin)
        return form, stream
    noted = _Noted(stream)
    form, _ = _opened(_buffered(noted), wanted)
    return form, _buffered(_Rejoined(noted.kept, stream))


def _copied(stream: BinaryIO, closing: ExitStack) -> BinaryIO:
    try:
        with ExitStack() as failing:
            copy = failing.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, copy, _BUFFER_BYTES)
            copy.seek(0)
            closing.enter_context(failing.pop_all())
    except OSError as error:
        raise FileUnreadable(
            f"cannot be copied into a temporary file: {error.strerror}; let TMPDIR name a folder with room, or "
            "enqueue a file by its name"
        ) from None
    return cast("BinaryIO", copy)


def _opened(stream: BinaryIO, wanted: FileFormat | None) -> tuple[FileFormat, BinaryIO]:
    """The format, and the file unpacked, from its beginning."""
    unpacked = _unpacked(stream)
    head = _head(unpacked)
    form = wanted if wanted is not None else _format_of(head)
    return form, _buffered(_Rejoined(head, unpacked))


def _unpacked(stream: BinaryIO) -> BinaryIO:
    head = stream.read(4)
    whole = _buffered(_Rejoined(head, stream))
    return _buffered(cast("Any", gzip.GzipFile(fileobj=whole, mode="rb"))) if head.startswith(_GZIP) else whole


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(raw, _BUFFER_BYTES))


def _head(stream: BinaryIO) -> bytes:
    """The file up to its first line that is not blank, or a part of that line."""
    head = b""
    while len(head) < _MOST_LOOKED_AT and (line := stream.readline(_MOST_LOOKED_AT)):
        head += line
        if line.removeprefix(BYTE_ORDER_MARK).strip():
            break
    return head


def _format_of(head: bytes) -> FileFormat:
    for begin, what in _OTHERS:
        if head.startswith(begin):
            raise FileUnreadable(f"this is {what}")
    first = head.removeprefix(BYTE_ORDER_MARK).strip()
    if not first or first.startswith(b"{"):
        return FileFormat.JSONL
    if first.startswith(b"["):
        return FileFormat.JSON
    if looks_like_header(first):
        return FileFormat.CSV
    if (told := names_told(first.decode("utf-8", "replace"))) is not None:
        raise FileUnreadable(f"{told}. If it is no table, say what it is with --format jsonl or json")
    raise FileUnreadable(
        "the first line is neither an order as JSON, nor the beginning of a JSON array, nor a line of column names; "
        "say what it is with --format jsonl, json or csv"
    )


def _guarded(records: Iterator[Record]) -> Iterator[Record]:
    with _told_as_unreadable():
        yield from records


@contextmanager
def _told_as_unreadable() -> Generator[None, None, None]:
    try:
        yield
    except EOFError:
        raise FileUnreadable("the gzip data ends too early: the file is cut off") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FileUnreadable(f"the gzip data is damaged: {error}") from None
