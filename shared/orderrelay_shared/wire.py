"""JSON in and out without losing a digit.

Other decoders read numbers through binary floating point; here every number with a point or an exponent becomes a
`Decimal` with all its digits, and every `Decimal` goes out as a JSON number again.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final, cast

import msgspec

#: Longest number written out in full, in digits; beyond it (nothing real) an exponent keeps memory bounded.
_LONGEST_PLAIN_NUMBER: Final = 1000

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_POSITION: Final = re.compile(r" \(byte (\d+)\)")


class WireInvalid(ValueError):
    """The data is not JSON.

    Attributes:
        position: Where it stops being JSON, in bytes from 0, after a byte-order mark; None if not known.
    """

    def __init__(self, reason: str, position: int | None = None) -> None:
        """Say what is wrong, and at which byte."""
        super().__init__(reason if position is None else f"{reason} at byte {position}")
        self.position = position


#: What stands in the text of a Decimal with an exponent, and in NaN and Infinity.
_UNPLAIN: Final = frozenset("ENI")

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def loads(data: bytes | str) -> object:
    """The value of a JSON text: integers as `int`, all other numbers as exact `Decimal`.

    A UTF-8 byte-order mark is tolerated. Of a name given twice in one object, the last value counts.

    Raises:
        WireInvalid: The data is not JSON, not UTF-8, or nested too deeply to be read.
    """
    try:
        raw = data.encode() if isinstance(data, str) else data
        return cast("object", _decoder.decode(raw.removeprefix(_BYTE_ORDER_MARK)))
    except UnicodeEncodeError as error:
        raise WireInvalid("not JSON: half a surrogate pair in the text", error.start) from None
    except UnicodeDecodeError as error:
        raise WireInvalid("not JSON: a text is not UTF-8") from error
    except InvalidOperation:
        raise WireInvalid("not JSON that can be read: a number has too large an exponent") from None
    except RecursionError:
        raise WireInvalid("not JSON that can be read: nested too deeply") from None
    except msgspec.DecodeError as error:
        found = _POSITION.search(str(error))
        reason = _POSITION.sub("", str(error)).removeprefix("JSON is malformed: ")
        raise WireInvalid(f"not JSON: {reason}", int(found[1]) if found else None) from None


def dumps(value: object) -> bytes:
    """The value as compact UTF-8 JSON, names in the order in which they were put in.

    Decimals become JSON numbers in plain fixed notation with the digits they have: `Decimal("1.10")` is `1.10`, and
    `Decimal("1E+2")` is `100`. Only a number of more than 1000 digits keeps its exponent.

    Raises:
        ValueError: A number is NaN or infinite, or a text holds half a surrogate pair; JSON has neither. Or the value
            is nested too deeply to be written, which `loads` may have been able to read.
        TypeError: JSON has no form for a value.
    """
    try:
        return _encoder.encode(_plain(value))
    except RecursionError:
        raise ValueError("nested too deeply to be written as JSON") from None


def dumps_plain(value: object) -> bytes:
    """As `dumps`, for a value that is known to hold no float, and no Decimal that prints with an exponent."""
    return _encoder.encode(value)


def is_plain_number(number: Decimal) -> bool:
    """Whether a Decimal prints as JSON has it: finite, and without an exponent."""
    return not _UNPLAIN.intersection(str(number))


def _plain(value: object) -> object:
    """The value with all that the encoder would write otherwise replaced by what it shall write."""
    kind = type(value)
    if kind is dict:
        return {name: _plain(member) for name, member in cast("dict[object, object]", value).items()}
    if kind is list or kind is tuple:
        return [_plain(member) for member in cast("list[object]", value)]
    if kind is Decimal:
        return _plain_number(cast("Decimal", value))
    if kind is float and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124  NaN is not itself
        raise ValueError(f"JSON has no {value}")
    return value


def _plain_number(number: Decimal) -> Decimal | msgspec.Raw:
    text = str(number)
    if "E" not in text:
        if not number.is_finite():
            raise ValueError(f"JSON has no {number}")
        return number
    exponent = cast("int", number.as_tuple().exponent)
    if abs(exponent) > _LONGEST_PLAIN_NUMBER:
        return number
    return msgspec.Raw(format(number, "f").encode())
