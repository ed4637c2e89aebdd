"""JSON in and out without losing a digit."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_shared import wire

decimals = st.decimals(-(10**40), 10**40, allow_nan=False, allow_infinity=False)


@given(decimals)
def test_every_decimal_survives_the_wire(number: Decimal) -> None:
    """A Decimal comes back with the value that it had, written without an exponent."""
    text = wire.dumps([number])
    assert b"E" not in text
    assert Decimal(str(json.loads(text, parse_float=str, parse_int=str)[0])) == number


@pytest.mark.parametrize("text", [b"1.10", b"0.1", b"1234567890123456789.123456789", b"0.0000001", b"-3.00", b"12"])
def test_number_text_comes_back_as_it_was(text: bytes) -> None:
    """Trailing zeros and digits beyond binary floating point are kept."""
    assert wire.dumps(wire.loads(text)) == text


def test_positive_exponent_is_written_out() -> None:
    """1E+2 goes out as 100."""
    assert wire.dumps(Decimal("1E+2")) == b"100"


def test_absurd_exponent_does_not_fill_memory() -> None:
    """A number of a million digits keeps its exponent."""
    assert len(wire.dumps(Decimal("1E+1000000"))) < 20


def test_names_keep_their_order_and_text_is_utf8() -> None:
    """Nothing is sorted and nothing is escaped that need not be."""
    assert wire.dumps({"b": "å", "a": [1, None]}) == '{"b":"å","a":[1,null]}'.encode()


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("-Infinity"), float("nan"), float("inf")])
def test_what_is_no_number_in_json_is_refused(number: object) -> None:
    """NaN and the infinities never become null or a bare word."""
    with pytest.raises(ValueError, match="JSON has no"):
        wire.dumps({"a": [number]})


def test_byte_order_mark_is_tolerated() -> None:
    """A file from Windows reads like any other."""
    assert wire.loads(b"\xef\xbb\xbf[1]") == [1]
    assert wire.loads("\ufeff[1]") == [1]


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"", None),
        (b"{", None),
        (b"[1,]", 3),
        (b'{"a":1,}', 7),
        (b"NaN", 0),
        (b'"\xff"', None),
        ('"\ud800"', 1),
        (b"[" * 100_000, None),
        (b"[1E99999999999999999999]", None),
        (b"[" + b"9" * 5000 + b"]", None),
    ],
)
def test_what_is_not_json_is_told_with_its_position(data: bytes | str, position: int | None) -> None:
    """Broken JSON of every kind raises WireInvalid, with the byte where one is known."""
    with pytest.raises(wire.WireInvalid, match="not JSON") as caught:
        wire.loads(data)
    assert caught.value.position == position


def test_what_is_nested_too_deeply_to_be_written_says_so() -> None:
    """A value that can be read but not be written again is a ValueError, not a crash of the interpreter's stack."""
    deep: object = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(ValueError, match="too deeply"):
        wire.dumps(deep)
