"""Orders from a JSON array that is cut into its elements as it is read."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orderrelay_producers.files.arrays import Element, read_elements
from orderrelay_producers.files.records import FileUnreadable

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def elements(data: bytes, *, piece_bytes: int = 7) -> list[Element]:
    """The elements of a file with that content."""
    return list(read_elements(io.BytesIO(data), piece_bytes=piece_bytes))


@given(members=st.lists(anything, max_size=5), indent=st.none() | st.integers(0, 2), piece_bytes=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_any_array_is_cut_as_a_whole_reader_would(members: list[object], indent: int | None, piece_bytes: int) -> None:
    """Whatever the elements are, however they are written, and wherever the pieces end."""
    for ascii_only in (True, False):
        text = json.dumps(members, indent=indent, ensure_ascii=ascii_only)
        data = text.encode("utf-8", "surrogatepass")
        assert [json.loads(one.content) for one in elements(data, piece_bytes=piece_bytes)] == json.loads(data)


def test_signs_within_texts_cut_nothing() -> None:
    """Brackets, commas and quotes in a text are text."""
    member = {"a": '],[}{"\\', '"}': ["\\\\", "[", {"b": "\\"}]}
    assert [json.loads(one.content) for one in elements(json.dumps([member, member]).encode())] == [member, member]


def test_an_element_knows_its_place() -> None:
    """Which it is, and the line at which it begins; blank lines and lines within elements count."""
    data = b'\xef\xbb\xbf\n[ {"a":\n 1},\n\n 2 ,"x\\n"\n,[3]]\n'
    assert [(one.number, one.line, one.content.strip()) for one in elements(data)] == [
        (1, 2, b'{"a":\n 1}'),
        (2, 5, b"2"),
        (3, 5, b'"x\\n"'),
        (4, 6, b"[3]"),
    ]
    assert elements(data)[0].place("Note") == "order 1 (line 2): Note"


def test_a_refused_element_becomes_a_line() -> None:
    """What is kept of an array is JSON lines, whatever the line ends within."""
    (one,) = elements(b'[{"a":\r\n 1}]')
    assert one.raw == b'{"a":   1}\n'


def test_a_bad_element_is_an_element() -> None:
    """What only looks like JSON is left to whoever reads the element, and the next one is read."""
    assert [one.content for one in elements(b'[{"a": nope}, nope, {"b": 1}]')] == [b'{"a": nope}', b"nope", b'{"b": 1}']


@pytest.mark.parametrize("data", [b"[]", b" [ ] \n"])
def test_an_empty_array_has_no_orders(data: bytes) -> None:
    """Nothing in it is nothing to do."""
    assert elements(data) == []


@pytest.mark.parametrize(
    ("data", "given_before", "problem"),
    [
        (b'{"a": 1}', 0, "line 1: no JSON array begins here"),
        (b'\n[{"a": 1}', 1, "not closed: it ends after order 1"),
        (b'[{"a": 1},', 1, "not closed: it ends after order 1"),
        (b'[1,\n{"a": [1}', 1, "the file ends within order 2, which begins at line 2"),
        (b'["abc', 0, "the file ends within order 1"),
        (b"[12", 0, "the file ends within order 1"),
        (b'[{"a": 1}\n{"b": 2}]', 1, "line 2: '{' follows order 1, where a comma or ']' would"),
        (b"[1,]", 1, "line 1: ']' stands where order 2 would"),
        (b"[,1]", 0, "line 1: ',' stands where order 1 would"),
        (b"[1]\n[2]", 1, "line 2: more follows the end of the JSON array"),
    ],
)
def test_what_is_no_array_is_told_with_its_place(data: bytes, given_before: int, problem: str) -> None:
    """The elements before the mistake are given, and then it is told."""
    found: list[Element] = []
    with pytest.raises(FileUnreadable) as caught:
        _read_into(found, data)
    assert problem in str(caught.value)
    assert len(found) == given_before


def _read_into(found: list[Element], data: bytes) -> None:
    for one in read_elements(io.BytesIO(data), piece_bytes=3):
        found.append(one)


@pytest.mark.parametrize("data", [b'[{"a": "' + b"x" * 500, b"[" * 500, b"[" + b"1" * 500])
def test_an_endless_element_is_refused(data: bytes) -> None:
    """A quote that is not closed does not fill the memory."""
    with pytest.raises(FileUnreadable, match="order 1, which begins at line 1, has more than 100 bytes"):
        list(read_elements(io.BytesIO(data), element_max_bytes=100, piece_bytes=10))


def test_little_is_held_of_a_large_array() -> None:
    """Reading never asks for more than a piece beyond the element that it is at."""

    class Watched(io.BytesIO):
        given = 0

        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            self.given += len(piece)
            return piece

    stream = Watched(b"[" + b",".join(b'{"number": %d}' % number for number in range(10_000)) + b"]")
    done = 0
    for one in read_elements(stream, piece_bytes=1000):
        done += len(one.content) + 1
        assert stream.given <= done + 2000
    assert one.number == 10_000
