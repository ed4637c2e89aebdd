"""The short way for orders that are written as most are: checked in a straight line, several times as fast.

It takes dictionaries of plain types and gives an order's properties exactly as `Order` would; whatever is wrong or only
unusual it leaves to `Order`, which alone tells what is wrong. So it may refuse much, but must never take or change what
`Order` would not: a test compares the two over generated orders.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from orderrelay_shared.field_types import exact_number, vendor_moment
from orderrelay_shared.ids import external_id_problem
from orderrelay_shared.order_content import plain_number
from orderrelay_shared.order_problems import vendor_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    #: The name by which a mapping gives a property, the vendor's, whether it is a text, whether its check gives two
    #: values (see `PlainDocument.read`), its check, and what stands if it is not given.
    Step = tuple[str, str, bool, bool, Callable[[Any], Any], object]

#: So many shapes of mappings are remembered; a service has a few.
_MOST_SHAPES: Final = 1000

#: Times and numbers repeat from order to order; longer texts of a time (fractions of a second) are not kept.
_MOST_KEPT: Final = 8192
_LONGEST_KEPT_TEXT: Final = 40

#: As the pattern of `field_types.Text`. What `str.isprintable` allows is a part of it, and sooner found.
_TEXT: Final = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")

#: Stands for a property that must be given.
MANDATORY: Final = object()


class Unusual(ValueError):
    """Not for the short way; `Order` decides."""


class PlainDocument:
    """How mappings are read that give a document by plain values.

    Args:
        annotations: The document's properties by snake-case name, in the order of the vendor's document, each with its
            annotation as text.
        defaults: What stands where a property is not given, by snake-case name: a value, or `MANDATORY`.
        parts: Checks of annotations that only this document has; each gives two values, as `read` does.
    """

    def __init__(
        self,
        annotations: Mapping[str, str],
        defaults: Mapping[str, object],
        parts: Mapping[str, Callable[[Any], object]] | None = None,
    ) -> None:
        checks = {**_CHECKS, **(parts or {})}
        self._checks = {vendor_name(name): checks[kind.removesuffix(" | None")] for name, kind in annotations.items()}
        self._twofold = {_number, *(parts or {}).values()}
        self._defaults = {vendor_name(name): value for name, value in defaults.items()}
        #: Vendor's name -> snake-case name.
        self.snake_names: Final = {vendor_name(name): name for name in annotations}
        self._vendor_names = {either: vendor for vendor, name in self.snake_names.items() for either in (vendor, name)}
        self._plans: dict[tuple[str, ...], tuple[Step, ...]] = {}

    def read(self, given: dict[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is given and what stands for the rest, by vendor name, in the order of the vendor's document.

        Returns:
            That, and what stands for some of it in the order's content: as `order_content.digest_of` has it.

        Raises:
            ValueError: Something is wrong, or not plain.
        """
        shape = tuple(given)
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._make_plan(shape)
        found: dict[str, Any] = {}
        said: dict[str, Any] = {}
        for name, vendor, is_text, is_twofold, check, default in plan:
            value = given.get(name)
            if value is None:
                if default is MANDATORY:
                    raise Unusual
                if default is not None:
                    found[vendor] = default
            elif is_text and type(value) is str and value.isprintable():  # As `_text`, whose call would take longer.
                found[vendor] = value
            elif is_twofold:
                found[vendor], said[vendor] = check(value)
            else:
                found[vendor] = check(value)
        return found, said

    def given_names(self, given: dict[str, object]) -> set[str]:
        """The snake-case names of what is given."""
        return {self.snake_names[self._vendor_names[name]] for name, value in given.items() if value is not None}

    def _make_plan(self, shape: tuple[str, ...]) -> tuple[Step, ...]:
        spelled: dict[str, str] = {}
        for name in shape:
            vendor = self._vendor_names.get(name)
            if vendor is None or vendor in spelled:
                raise Unusual
            spelled[vendor] = name
        plan = tuple(
            (
                spelled.get(vendor, vendor),
                vendor,
                check is _text,
                check in self._twofold,
                check,
                self._defaults.get(vendor),
            )
            for vendor, check in self._checks.items()
            if vendor in spelled or vendor in self._defaults
        )
        if len(self._plans) >= _MOST_SHAPES:
            self._plans.clear()
        self._plans[shape] = plan
        return plan


def _text(value: object) -> str:
    if type(value) is str and (value.isprintable() or _TEXT.fullmatch(value)):
        return value
    raise Unusual


def _filled_text(value: object) -> str:
    if type(value) is str and value.isprintable() and value.strip():
        return value
    raise Unusual


def _external_id(value: object) -> str:
    if type(value) is str and external_id_problem(value) is None:
        return value
    raise Unusual


def _integer(value: object) -> int:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise Unusual


def _origin_type(value: object) -> int:
    if type(value) is int and value == 6:
        return value
    raise Unusual


def _row_type(value: object) -> int:
    if type(value) is int and 2 <= value <= 3:
        return value
    raise Unusual


def _flag(value: object) -> bool:
    if value is True or value is False:
        return value
    raise Unusual


def _integers(value: object) -> tuple[int, ...]:
    if type(value) is list or type(value) is tuple:
        return tuple(map(_integer, cast("list[object]", value)))
    raise Unusual


def _number(value: object) -> tuple[Decimal, str]:
    """The number, and as `order_content.digest_of` has it."""
    kind = type(value)
    if kind is int or kind is float:
        return _number_of(cast("int | float", value))
    if kind is str:
        return _number_of_text(cast("str", value))
    if kind is Decimal:
        # A Decimal's text has all of it: sign, digits and exponent; and what is allowed is the same. Equal ones differ.
        return _number_of_text(str(value))
    raise Unusual


@lru_cache(_MOST_KEPT)
def _number_of_text(text: str) -> tuple[Decimal, str]:
    return _plain(exact_number(text))


@lru_cache(_MOST_KEPT, typed=True)  # 3 and 3.0 are equal, and each has its own digits.
def _number_of(value: float) -> tuple[Decimal, str]:
    return _plain(exact_number(value))


def _plain(number: Decimal) -> tuple[Decimal, str]:
    if "E" in str(number):  # The body has it without; that is not worth a look at each number.
        raise Unusual
    return number, plain_number(number)


def _moment(value: object) -> date:
    if type(value) is str and len(value) <= _LONGEST_KEPT_TEXT:
        return _moment_of(value)
    return vendor_moment(value)


_moment_of = lru_cache(_MOST_KEPT)(vendor_moment)

#: By the names of the types in `field_types`.
_CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "Text": _text,
    "FilledText": _filled_text,
    "ExternalId": _external_id,
    "Integer": _integer,
    "OriginTypeNumber": _origin_type,
    "RowTypeNumber": _row_type,
    "Flag": _flag,
    "Integers": _integers,
    "Number": _number,
    "Moment": _moment,
}
