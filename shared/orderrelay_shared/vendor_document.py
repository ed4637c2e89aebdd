"""What an order and its rows have in common: names in two spellings, everything wrong told at once."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self, cast

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from orderrelay_shared.order_problems import (
    OrderInvalid,
    Steps,
    errors_found,
    problems_found,
    snake_name,
    vendor_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from pydantic.plugin._schema_validator import PluggableSchemaValidator
    from pydantic_core import SchemaValidator


_building: Final = threading.RLock()


class VendorDocument(BaseModel):
    """A frozen model of something in the vendor's document.

    Properties are taken by their snake-case or their vendor name. A property that is None counts as left out.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=vendor_name,
        validate_by_alias=True,
        validate_by_name=True,
        # The body is made by `given_properties`; this is for people who dump a model themselves.
        serialize_by_alias=False,
        # Half of what importing this took was pydantic's, of which an order that is plain and sound needs nothing.
        defer_build=True,
    )

    #: Attribute and vendor name of each property, in the order of the vendor's document.
    _names: ClassVar[tuple[tuple[str, str], ...]] = ()

    #: What each attribute is if it is not given, in the same order.
    _defaults: ClassVar[dict[str, Any]] = {}

    # Type checkers shall see the constructor that the fields make, not this one.
    if not TYPE_CHECKING:

        def __init__(self, /, **given: object) -> None:
            try:
                self._validator().validate_python(given, self_instance=self)
            except ValidationError as error:
                self._refuse(error, given)

        # As pydantic's own constructors say of themselves: validation need not come through here, and so a row in
        # an order is checked in the compiled core.
        __init__.__pydantic_base_init__ = True

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Note the names and defaults once per class."""
        cls._names = tuple((name, vendor_name(name)) for name in cls.model_fields)
        # A mandatory property stands here as None, to keep its place.
        cls._defaults = {
            name: None if field.is_required() else field.default for name, field in cls.model_fields.items()
        }

    @classmethod
    def _validator(cls) -> SchemaValidator | PluggableSchemaValidator:
        """What pydantic checks with, built when first needed."""
        if not cls.__pydantic_complete__:
            cls.model_rebuild()
        return cls.__pydantic_validator__

    @classmethod
    def model_rebuild(
        cls,
        *,
        force: bool = False,
        raise_errors: bool = True,
        _parent_namespace_depth: int = 2,
        _types_namespace: Any = None,
    ) -> bool | None:
        """As pydantic's, which calls it at the first use too; by one thread at a time.

        Before 2.13 pydantic has no lock of its own: a second thread took what the first had built away again, and a
        third then checked a sound order by the rules of a parent class, and refused it.
        """
        with _building:
            return super().model_rebuild(
                force=force,
                raise_errors=raise_errors,
                _parent_namespace_depth=_parent_namespace_depth + 1,
                _types_namespace=_types_namespace,
            )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_none(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        names = cast("Mapping[object, object]", given)
        return {name: value for name, value in names.items() if value is not None}

    @classmethod
    def _refuse(cls, error: ValidationError, given: object) -> NoReturn:
        """Raise all that is wrong: what pydantic found, and the rules that it did not come to because of that."""
        found = list(errors_found(error, cls._names_at))
        refused = {snake_steps(steps) for steps, _ in found}
        found += [
            (steps, message)
            for steps, message in cls.broken_rules(snake_named(given), refused)
            if snake_steps(steps) not in refused
        ]
        raise OrderInvalid(problems_found(found, given)) from None

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """As the constructor: pydantic's own checks nothing, and what it makes would be found wrong far from here."""
        del _fields_set
        return cls(**values)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy; with `update` checked as a whole, as if it were made anew.

        Raises:
            OrderInvalid: With the changes something is wrong.
        """
        if not update:
            return super().model_copy(deep=deep)
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | dict(update))

    def with_sound(self, name: str, value: object) -> Self:
        """A copy with one property given that is known to be sound; nothing is checked.

        Args:
            name: The property's snake-case name.
            value: Its value.
        """
        return self.of_values({**self.__dict__, name: value}, self.model_fields_set | {name})

    @classmethod
    def of_values(cls, values: dict[str, Any], given: set[str]) -> Self:
        """A document of values that are known to be sound.

        Args:
            values: Those that are not the defaults, by snake-case name.
            given: The names of those that the caller gave.
        """
        document = cls.__new__(cls)
        # The four that pydantic's own `model_construct` sets; it goes through every field for that.
        object.__setattr__(document, "__dict__", {**cls._defaults, **values})
        object.__setattr__(document, "__pydantic_fields_set__", given)
        object.__setattr__(document, "__pydantic_extra__", None)
        object.__setattr__(document, "__pydantic_private__", None)
        return document

    @classmethod
    def _names_at(cls, steps: Steps) -> Iterable[str]:  # noqa: ARG003  only a document with parts needs the steps
        """The snake-case names of the properties of the document to which the steps lead from this one."""
        return cls.model_fields

    @classmethod
    @abstractmethod
    def broken_rules(cls, given: Mapping[str, object], refused: AbstractSet[Steps]) -> list[tuple[Steps, str]]:
        """The rules between properties that are broken, of what was given and not refused for itself."""

    def given_properties(self) -> dict[str, object]:
        """What has a value, by vendor name, in the order of the vendor's document."""
        values = self.__dict__
        return {vendor: value for name, vendor in self._names if (value := values[name]) is not None}


def snake_named(given: object) -> dict[str, object]:
    """What was given, by snake-case name, without what is None; empty if it is no mapping."""
    if not isinstance(given, Mapping):
        return {}
    names = cast("Mapping[object, object]", given)
    return {snake_name(name): value for name, value in names.items() if isinstance(name, str) and value is not None}


def snake_steps(steps: Steps) -> Steps:
    """The steps with every property by its snake-case name."""
    return tuple(snake_name(step) if isinstance(step, str) else step for step in steps)


def rough_size(given: Mapping[str, object]) -> int:
    """About how many bytes a document that has other problems would have; 0 if it has no form as JSON at all."""
    try:
        return len(_rough_encoder.encode(given))
    except (TypeError, ValueError, RecursionError):
        return 0


def _rough_form(value: object) -> object:
    return value.given_properties() if isinstance(value, VendorDocument) else str(value)


_rough_encoder = msgspec.json.Encoder(enc_hook=_rough_form)
