"""The vendor's answers, byte for byte in the shape of its document (3.3.1)."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The example of the document holds these backslashes as text, not as line ends.
_INFO: Final = "\\n\\n kundfakturor utav %d har skapats/uppdaterats."

_NO_TIME: Final = "0001-01-01T00:00:00"

_HEAD: Final = (
    b'{"Success":true,"SuccessNumber":0,"ErrorNumber":0,"ErrorMessage":null,'
    b'"InfoMessage":"\\\\n\\\\n kundfakturor utav 1 har skapats/uppdaterats.","CanUserOverride":false,'
    b'"IntegerValue":0,"IntegerValue2":0,"DecimalValue":0.0,"StringValue":"'
)
_TAIL: Final = (
    b'],"IdDict":null,"IntDict":null,"IntDict2":null,"StrDict":null,"StrDict2":null,"StrIntListDict":null,'
    b'"ObjectsAffected":1,"StackTrace":null,"Exception":null,"Modified":"0001-01-01T00:00:00","ModifiedBy":null}'
)
_MIDDLE: Final = (
    b'","BooleanValue":false,"BooleanValue2":false,"DateTimeValue":"0001-01-01T00:00:00","Value":null,'
    b'"Value2":null,"Dates":null,"Keys":['
)


def created(vendor_ids: Sequence[int], numbers: Sequence[int], reference: str) -> bytes:
    """The answer that orders were created.

    Args:
        vendor_ids: Their ids.
        numbers: Their order numbers.
        reference: The GUID in `StringValue`.
    """
    if len(vendor_ids) == 1:
        # Nearly every request: put together from prepared parts, as a bench asks for thousands a second.
        return b'%b%b%b%d],"Strings":["%d"%b' % (
            _HEAD, reference.encode(), _MIDDLE, vendor_ids[0], numbers[0], _TAIL,
        )  # fmt: skip
    return msgspec.json.encode(_created(vendor_ids, numbers, reference))


def _created(vendor_ids: Sequence[int], numbers: Sequence[int], reference: str) -> dict[str, object]:
    return {
        "Success": True,
        "SuccessNumber": 0,
        "ErrorNumber": 0,
        "ErrorMessage": None,
        "InfoMessage": _INFO % len(vendor_ids),
        "CanUserOverride": False,
        "IntegerValue": 0,
        "IntegerValue2": 0,
        "DecimalValue": 0.0,
        "StringValue": reference,
        "BooleanValue": False,
        "BooleanValue2": False,
        "DateTimeValue": _NO_TIME,
        "Value": None,
        "Value2": None,
        "Dates": None,
        "Keys": list(vendor_ids),
        "Strings": [str(number) for number in numbers],
        "IdDict": None,
        "IntDict": None,
        "IntDict2": None,
        "StrDict": None,
        "StrDict2": None,
        "StrIntListDict": None,
        "ObjectsAffected": len(vendor_ids),
        "StackTrace": None,
        "Exception": None,
        "Modified": _NO_TIME,
        "ModifiedBy": None,
    }


def changed(vendor_ids: Sequence[int], numbers: Sequence[int], reference: str, changes: Mapping[str, object]) -> bytes:
    """An operation result of these orders with some properties replaced; none given: of no order.

    The change "odd" makes it hard to read, and still valid: byte-order mark, camelCase, a property nobody knows.
    """
    result = _created(vendor_ids, numbers, reference)
    if changes.get("odd"):
        camel = {name[0].lower() + name[1:]: value for name, value in result.items()}
        return codecs.BOM_UTF8 + msgspec.json.encode({**camel, "ProcessedByServer": "go-07"})
    return msgspec.json.encode({**result, **changes})


def refused(error_number: int, error_message: str) -> bytes:
    """The answer that a business rule refused the order."""
    return msgspec.json.encode(
        {
            **_created((), (), ""),
            "Success": False,
            "ErrorNumber": error_number,
            "ErrorMessage": error_message,
            "InfoMessage": None,
            "StringValue": None,
        }
    )
