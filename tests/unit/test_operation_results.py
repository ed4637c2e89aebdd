"""The vendor's operation result, read and written."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal

import pytest

from orderrelay_shared.operation_results import OperationResult, OperationResultInvalid
from orderrelay_shared.order_problems import snake_name
from tests.unit.vendor_document_examples import RESULT_EXAMPLE, RESULT_PROPERTIES, properties

MOMENT = datetime(2026, 1, 30, 8, 15)  # noqa: DTZ001  the API has no time zones
#: A value of each documented type: as JSON, as read, and a JSON value of another type.
VALUES = {
    "boolean": ("true", True, "1"),
    "integer": ("7", 7, "7.5"),
    "number": ("1.10", Decimal("1.10"), '"1.10"'),
    "string": ('"å"', "å", "5"),
    "date": ('"2026-01-30T08:15:00"', MOMENT, '"yesterday"'),
    "dates": ('["2026-01-30T08:15:00","0001-01-01T00:00:00"]', (MOMENT, None), '"2026-01-30"'),
    "integers": ("[1,2]", (1, 2), '["1"]'),
    "strings": ('["211"]', ("211",), "[211]"),
    "object": ("{}", {}, "[]"),
}


def answer(name: str, value: str) -> bytes:
    """An answer that holds one property beside Success."""
    return (f'{{"{name}":{value}}}' if name.lower() == "success" else f'{{"Success":true,"{name}":{value}}}').encode()


def test_result_has_the_29_properties_of_the_document() -> None:
    """No property is missing and none is invented."""
    names = [snake_name(name) for name, _ in properties(RESULT_PROPERTIES)]
    assert len(names) == 29
    assert [*names, "unknown_properties"] == list(OperationResult.model_fields)


@pytest.mark.parametrize(("name", "kind"), properties(RESULT_PROPERTIES))
def test_property_is_read_with_its_type(name: str, kind: str) -> None:
    """A value of the documented type is read and written again; names are read in any case."""
    text, value, _ = VALUES.get(kind, ('{"a":1.10}', {"a": Decimal("1.10")}, ""))
    for spelling in (name, name.lower(), name.upper()):
        result = OperationResult.from_json(answer(spelling, text))
        assert getattr(result, snake_name(name)) == value
        assert result.unknown_properties == {}
        assert result.to_json() == answer(name, text)


@pytest.mark.parametrize(("name", "kind"), [p for p in properties(RESULT_PROPERTIES) if p[1] != "any"])
def test_value_of_another_type_is_refused_by_name(name: str, kind: str) -> None:
    """A known property of the wrong type makes the answer unreadable, and the text names it."""
    with pytest.raises(OperationResultInvalid, match=rf"^{name}(\[0\])?: is of the wrong type"):
        OperationResult.from_json(answer(name, VALUES[kind][2]))


@pytest.mark.parametrize("name", [name for name, _ in properties(RESULT_PROPERTIES) if name != "Success"])
def test_everything_but_success_may_be_null(name: str) -> None:
    """A null is None."""
    assert getattr(OperationResult.from_json(answer(name, "null")), snake_name(name)) is None


def test_example_of_the_document_round_trips() -> None:
    """The result of 3.3.1 is read with its meaning, and written again as the same JSON."""
    result = OperationResult.from_json(RESULT_EXAMPLE)
    assert (result.success, result.keys, result.strings, result.objects_affected) == (True, (12614169,), ("211",), 1)
    assert result.string_value == "b2f6ea92-b277-4934-904d-9b30fc250c9f"
    assert result.modified is None
    assert result.date_time_value is None
    assert json.loads(result.to_json()) == json.loads(RESULT_EXAMPLE)
    assert OperationResult.from_json(result.to_json()) == result


def test_unknown_properties_are_kept_exactly() -> None:
    """What the document does not name is kept by its own name, and goes out again."""
    result = OperationResult.from_json(b'{"Success":true,"New":1.10,"unknown_properties":{"a":[1]}}')
    assert result.unknown_properties == {"New": Decimal("1.10"), "unknown_properties": {"a": [1]}}
    assert result.to_json() == b'{"Success":true,"New":1.10,"unknown_properties":{"a":[1]}}'


def test_the_documented_spelling_wins_over_others() -> None:
    """Of two names that differ only in case, the document's own is the property."""
    result = OperationResult.from_json(b'{"success":false,"Success":true}')
    assert result.success is True
    assert result.unknown_properties == {"success": False}


def test_byte_order_mark_before_the_answer_is_tolerated() -> None:
    """A byte-order mark before the answer changes nothing."""
    assert OperationResult.from_json(b"\xef\xbb\xbf" + RESULT_EXAMPLE) == OperationResult.from_json(RESULT_EXAMPLE)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"null", "must be an object, not null"),
        (b"[]", "must be an object, not a list"),
        (b'"ok"', "must be an object, not the text 'ok'"),
        (b"{}", "Success: is missing"),
        (b'{"Success":null}', "Success: is of the wrong type: null"),
        (b'{"Success":"true"}', "Success: is of the wrong type: the text 'true'"),
    ],
)
def test_what_is_no_operation_result_is_refused(data: bytes, message: str) -> None:
    """Anything but an object with a Success that is true or false is refused with the reason."""
    with pytest.raises(OperationResultInvalid, match=message):
        OperationResult.from_json(data)


def test_true_is_no_number() -> None:
    """A boolean where the document has a number is refused, though Python counts with booleans."""
    with pytest.raises(OperationResultInvalid, match="DecimalValue: is of the wrong type: true"):
        OperationResult.from_json(answer("DecimalValue", "true"))
