"""The vendor's operation result: the answer object of one order request, typed (document, 3.1)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError

from orderrelay_shared import wire
from orderrelay_shared.field_types import told_type
from orderrelay_shared.order_problems import path_text, vendor_name

#: How .NET writes a date-time that has no value.
NET_NO_VALUE: Final = "0001-01-01T00:00:00"
_NO_VALUE: Final = datetime(1, 1, 1)  # noqa: DTZ001  the API has no time zones


class OperationResultInvalid(ValueError):
    """An answer is no operation result; the text says why, without quoting texts of the answer at length."""


def _read_date_time(value: object) -> datetime | None:
    if value == NET_NO_VALUE:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("is no date-time") from None
    if value is None or isinstance(value, datetime):
        return None if value is not None and value.replace(tzinfo=None) == _NO_VALUE else value
    raise ValueError("is no date-time")


def _read_number(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    return value


def _read_list(value: object) -> object:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


_Flag = Annotated[bool, Strict()]
_Integer = Annotated[int, Strict()]
_Number = Annotated[Decimal, Strict(), BeforeValidator(_read_number)]
_Text = Annotated[str, Strict()]
_DateTime = Annotated[datetime | None, BeforeValidator(_read_date_time)]
_List: Any = BeforeValidator(_read_list)
_Dictionary = Annotated[dict[str, Any], Strict()]


class OperationResult(BaseModel):
    """What the vendor answered to one order request: all 29 properties of the document, and any others.

    `None` is the vendor's null, a property that was not there, and for a date-time also .NET's "no value".
    `unknown_properties` holds what the document does not name, by the name in the answer.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=vendor_name, validate_by_alias=True, validate_by_name=True
    )

    success: _Flag
    success_number: _Integer | None = None
    error_number: _Integer | None = None
    error_message: _Text | None = None
    info_message: _Text | None = None
    can_user_override: _Flag | None = None
    integer_value: _Integer | None = None
    integer_value2: _Integer | None = None
    decimal_value: _Number | None = None
    string_value: _Text | None = None
    boolean_value: _Flag | None = None
    boolean_value2: _Flag | None = None
    date_time_value: _DateTime = None
    value: Any = None
    value2: Any = None
    dates: Annotated[tuple[_DateTime, ...] | None, _List] = None
    keys: Annotated[tuple[_Integer, ...] | None, _List] = None
    strings: Annotated[tuple[_Text | None, ...] | None, _List] = None
    id_dict: _Dictionary | None = None
    int_dict: Annotated[dict[str, _Integer | None], Strict()] | None = None
    int_dict2: Annotated[dict[str, _Integer | None], Strict()] | None = None
    str_dict: Annotated[dict[str, _Text | None], Strict()] | None = None
    str_dict2: Annotated[dict[str, _Text | None], Strict()] | None = None
    str_int_list_dict: Annotated[dict[str, list[_Integer] | None], Strict()] | None = None
    objects_affected: _Integer | None = None
    stack_trace: _Text | None = None
    exception: _Text | None = None
    modified: _DateTime = None
    modified_by: _Text | None = None
    unknown_properties: dict[str, Any] = Field(default_factory=dict[str, Any])

    @classmethod
    def from_json(cls, data: bytes) -> OperationResult:
        """The operation result of an answer's body; names in any case, a byte-order mark tolerated, numbers exact.

        Raises:
            OperationResultInvalid: The body is not JSON, not an object, has no `Success` that is true or false, or
                holds a property of the document with a value of another type.
        """
        try:
            answer = wire.loads(data)
        except wire.WireInvalid as error:
            raise OperationResultInvalid(str(error)) from None
        if not isinstance(answer, dict):
            raise OperationResultInvalid(f"must be an object, not {_kind(answer)}")
        try:
            return cls.model_validate(_by_attribute(cast("dict[str, object]", answer)), by_name=True, by_alias=False)
        except ValidationError as error:
            raise OperationResultInvalid(_in_words(error)) from None

    def to_json(self) -> bytes:
        """The operation result as JSON, in the vendor's names and the document's order: what was given, no more.

        A date-time without a value is .NET's "no value".
        """
        return wire.dumps({**self._known_properties(), **self.unknown_properties})

    def _known_properties(self) -> dict[str, object]:
        given = self.model_fields_set
        properties: dict[str, object] = {
            vendor: getattr(self, name) for name, vendor in _VENDOR_NAMES.items() if name in given
        }
        for name in _DATE_TIMES & properties.keys():
            properties[name] = properties[name] or NET_NO_VALUE
        if self.dates is not None:
            properties["Dates"] = [moment or NET_NO_VALUE for moment in self.dates]
        return properties


_VENDOR_NAMES: Final = {
    name: vendor_name(name) for name in OperationResult.model_fields if name != "unknown_properties"
}
_BY_NAME: Final = {vendor: name for name, vendor in _VENDOR_NAMES.items()}
_BY_LOWER_NAME: Final = {vendor.lower(): name for vendor, name in _BY_NAME.items()}
_DATE_TIMES: Final = frozenset({"DateTimeValue", "Modified"})


def _by_attribute(answer: dict[str, object]) -> dict[str, object]:
    """The answer's members by our names. Of several that differ in case only, the document's spelling wins."""
    if answer.keys() <= _BY_NAME.keys():  # as the vendor writes them
        return {_BY_NAME[name]: value for name, value in answer.items()}
    known = {_BY_NAME[name]: value for name, value in answer.items() if name in _BY_NAME}
    unknown: dict[str, object] = {}
    for name, value in answer.items():
        if name in _BY_NAME:
            continue
        attribute = _BY_LOWER_NAME.get(name.lower())
        if attribute is None or attribute in known:
            unknown[name] = value
        else:
            known[attribute] = value
    return {**known, "unknown_properties": unknown}


def _in_words(error: ValidationError) -> str:
    return "; ".join(
        f"{path_text((_VENDOR_NAMES.get(str(one['loc'][0]), ''), *one['loc'][1:]))}: "
        + ("is missing" if one["type"] == "missing" else f"is of the wrong type: {_kind(one['input'])}")
        for one in error.errors(include_url=False)
    )


def _kind(value: object) -> str:
    return "null" if value is None else told_type(value)
