"""The settings that both sides need, and how any settings model is read and its mistakes are told."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orderrelay_shared import environment
from orderrelay_shared.environment import NESTED, PREFIX
from orderrelay_shared.ids import EXTERNAL_ID_MAX_LENGTH
from orderrelay_shared.urls import listen_host, masked, outbox_url_problem, redis_url_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = [
    "Allowed",
    "ListenHost",
    "ListenPort",
    "ProducerSettings",
    "RedisUrl",
    "Setting",
    "SettingsInvalid",
    "describe",
    "load",
]


class SettingsInvalid(Exception):
    """One or more settings are wrong; the text says which, one a line, and what is allowed.

    Attributes:
        lines: What is wrong, in words for the person who set it. No line shows a secret.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type[SettingsInvalid], tuple[tuple[str, ...]]]:
        return type(self), (self.lines,)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a setting may be, in words; said of a field in its annotation where type and limits do not tell it."""

    text: str


def _redis_url(url: str) -> str:
    if (problem := redis_url_problem(url)) is not None:
        raise ValueError(problem)
    return url


def _outbox_url(url: str | None) -> str | None:
    if url is not None and (problem := outbox_url_problem(url)) is not None:
        raise ValueError(problem)
    return url


#: The address of a Redis; it may hold a password, so its repr is masked.
RedisUrl = Annotated[
    str,
    AfterValidator(_redis_url),
    Allowed(
        "redis://host:port/db, rediss://host:port/db, unix:///path/of/socket or "
        "sentinel://host:port,host:port/primary/db, user:password@ before the host"
    ),
]

#: The port that a process answers probes on; 0: none.
ListenPort = Annotated[int, Field(ge=0, le=65_535)]

#: The address of this host that such a port is opened on.
ListenHost = Annotated[str, AfterValidator(listen_host), Allowed("an IP address, such as 127.0.0.1 or 0.0.0.0")]


class ProducerSettings(BaseSettings):
    """What a service needs to enqueue orders. Every name stands in the environment after `ORDERRELAY_`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    #: Whether a variable with the prefix and an unknown name is a mistake. A producer's own service may use such names.
    refuses_unknown_names: ClassVar[bool] = False

    @classmethod
    def problems_of(cls, values: Mapping[str, Any]) -> Iterable[str]:
        """What is wrong between settings, as opposed to with one of them: a line each.

        Args:
            values: The settings as given, before any is checked or converted.
        """
        del values
        return ()

    #: Names where an empty text is a value, and not the same as "not set".
    may_be_empty: ClassVar[frozenset[str]] = frozenset()

    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    """Address of the Redis that holds the intake, the gate and the states."""

    max_waiting: Annotated[int, Field(ge=1)] = 1_000_000
    """Jobs of one company that may wait before enqueue is refused as full; a soft limit, counted by workers."""

    external_id_max_length: Annotated[int, Field(ge=40, le=64)] = EXTERNAL_ID_MAX_LENGTH
    """The longest ExternalId that is accepted, in characters: from 40, the length of one derived for a file, to 64."""

    accept_replicas: Annotated[int, Field(ge=0, le=10)] = 0
    """Replicas of Redis that must have an order before enqueue calls it accepted (WAIT); 0: none."""

    accept_on_disk: bool = False
    """Whether an order must be on Redis' disk before enqueue calls it accepted (WAITAOF; needs appendfsync always)."""

    outbox_url: Annotated[
        str | None,
        AfterValidator(_outbox_url),
        Allowed("postgresql://user:password@host:port/name, or sqlite:/// and an absolute path"),
    ] = None
    """Address of the database that holds a service's outbox, which is the service's own; for `orderrelay outbox`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the code passes beats what `orderrelay_shared.environment` finds."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _FoundSource(settings_cls, environment.find(may_be_empty=cls.may_be_empty))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, masked(value) if name is not None and name.endswith("_url") and value else value

    # pydantic's own __str__ and __rich_repr__ go through __repr_args__ as well.


class _FoundSource(PydanticBaseSettingsSource):
    """Gives a settings model what `environment.find` found."""

    def __init__(self, settings_cls: type[BaseSettings], found: environment.Found) -> None:
        super().__init__(settings_cls)
        self._values = found.values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        model = _model_of_group(field)
        if model is None:
            return self._values.get(field_name.upper()), field_name, False
        group: dict[str, dict[str, str]] = {}
        for name, text in self._values.items():
            prefix, alias, last = environment.split_nested(name)
            if alias is not None and prefix == field_name.upper() and last.lower() in model.model_fields:
                group.setdefault(alias, {})[last.lower()] = text
        return group or None, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        values = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in values.items() if value is not None}


_S = TypeVar("_S", bound=ProducerSettings)


def load(cls: type[_S]) -> _S:
    """Read settings from the environment, the env file and the secrets folder.

    Args:
        cls: The settings model.

    Raises:
        SettingsInvalid: Something is wrong; all of it is told at once.
    """
    found = environment.find(may_be_empty=cls.may_be_empty)
    lines = list(found.problems)
    if cls.refuses_unknown_names:
        lines += _unknown_names(cls, found)
    try:
        settings = cls()
    except ValidationError as error:
        # Its own text is not chained: it may show what was given.
        lines += _lines_of(cls, error, found.spelled)
    except SettingsInvalid as error:
        lines += error.lines
    else:
        if not lines:
            return settings
    # A mistake between settings is told with the mistakes in single ones, which would otherwise hide it.
    lines += cls.problems_of(_FoundSource(cls, found)())
    raise SettingsInvalid(dict.fromkeys(lines)) from None


def _model_of_group(field: FieldInfo) -> type[BaseModel] | None:
    """The model of the members, if the field is a group such as the companies."""
    if get_origin(field.annotation) is dict:
        member = get_args(field.annotation)[1]
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _known_names(cls: type[ProducerSettings]) -> tuple[set[str], dict[str, set[str]]]:
    """The plain names, and for each group the names of its members' settings."""
    models = {name.upper(): _model_of_group(field) for name, field in cls.model_fields.items()}
    plain = {name for name, model in models.items() if model is None}
    groups = {name: {f.upper() for f in model.model_fields} for name, model in models.items() if model is not None}
    return plain, groups


def _unknown_names(cls: type[ProducerSettings], found: environment.Found) -> Iterator[str]:
    plain, groups = _known_names(cls)
    for name, spelled in found.spelled.items():
        group, alias, last = environment.split_nested(name)
        if name in plain or (alias is not None and last in groups.get(group, ())) or name in found.foreign:
            continue
        if alias is not None and group in groups:
            near = [f"{PREFIX}{group}{NESTED}{alias.upper()}{NESTED}{n}" for n in _nearest(last, groups[group])]
            allowed = "allowed after the alias: " + ", ".join(sorted(groups[group]))
        else:
            shapes = {f"{g}{NESTED}<ALIAS>{NESTED}{n}" for g, names in groups.items() for n in names}
            # A company's setting without its company is a likelier slip than a misspelling.
            near = [PREFIX + shape for shape in sorted(shapes) if shape.endswith(f">{NESTED}{name}")]
            near += [PREFIX + n for n in _nearest(name, plain | shapes | {"ENV_FILE", "SECRETS_DIR"})]
            allowed = "nothing like it is known; remove it"
        hint = f"did you mean {near[0]}?" if near else allowed
        yield f"{spelled}: is no setting ({hint})"


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)


def _lines_of(cls: type[BaseModel], error: ValidationError, spelled: Mapping[str, str]) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if cause is not None and cause.args and isinstance(cause.args[0], SettingsInvalid):
            yield from cause.args[0].lines
        elif detail["type"] != "default_factory_not_called":  # what it would have been made of is reported itself
            yield _line_of(cls, detail, spelled)


def _line_of(cls: type[BaseModel], detail: ErrorDetails, spelled: Mapping[str, str]) -> str:
    name = NESTED.join(str(part) if i == 1 else str(part).upper() for i, part in enumerate(detail["loc"]))
    field = _field_at(cls, detail["loc"])
    # A whole number or a word from a list is shown as given; anything else may hold a secret.
    shown = field is not None and _allowed_by_type(field) is not None and isinstance(detail.get("input"), str)
    match detail["type"]:
        case "missing":
            problem = "is missing"
        case "value_error":
            problem = str(detail["ctx"]["error"]) if "ctx" in detail else "is wrong"
        case _:
            problem = f"is {detail['input'][:40]!r}" if shown else "is wrong"
    allowed = allowed_text(field) if field is not None else None
    full_name = spelled.get(name, PREFIX + name.upper())
    return f"{full_name}: {problem}" + (f" (allowed: {allowed})" if allowed else "")


def _field_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> FieldInfo | None:
    if not path or not isinstance(path[0], str):
        return None
    field = cls.model_fields.get(path[0])
    if field is not None and len(path) > 2:
        model = _model_of_group(field)
        return _field_at(model, path[2:]) if model is not None else None
    return field


def allowed_text(field: FieldInfo) -> str | None:
    """What a field may be, in words, or None if nothing is to be said."""
    for said in field.metadata:
        if isinstance(said, Allowed):
            return said.text
    return _allowed_by_type(field)


def _allowed_by_type(field: FieldInfo) -> str | None:
    """What a number or a closed list of words may be; None of any other type."""
    if get_origin(field.annotation) is Literal:
        return " or ".join(str(word) for word in get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    if field.annotation is not int and field.annotation is not float:
        return None
    limits = {
        name: getattr(said, name)
        for said in field.metadata
        for name in ("gt", "ge", "lt", "le")
        if getattr(said, name, None) is not None
    }
    words = {"gt": "above {}", "ge": "from {}", "lt": "below {}", "le": "to {}"}
    kind = "a whole number" if field.annotation is int else "a number"
    return " ".join([kind, *(words[name].format(limits[name]) for name in words if name in limits)])


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, for documentation: full variable name, type, default ("" if none) and what it means."""

    name: str
    type: str
    default: str
    description: str


def describe(cls: type[BaseModel] = ProducerSettings, prefix: str = PREFIX) -> list[Setting]:
    """Every setting of a model in its order; a group's members stand under `<ALIAS>`.

    Args:
        cls: The settings model.
        prefix: What each name begins with.
    """
    settings: list[Setting] = []
    for name, field in cls.model_fields.items():
        full_name = prefix + name.upper()
        if (model := _model_of_group(field)) is not None:
            settings += describe(model, f"{full_name}{NESTED}<ALIAS>{NESTED}")
        else:
            settings.append(Setting(full_name, _type_name(field), _default_text(field), field.description or ""))
    return settings


def _type_name(field: FieldInfo) -> str:
    names: dict[object, str] = {int: "whole number", float: "number", bool: "true|false"}
    if get_origin(field.annotation) is Literal:
        return "|".join(str(word) for word in get_args(field.annotation))
    if "SecretStr" in repr(field.annotation):  # also within a union or with limits
        return "secret"
    return names.get(field.annotation, "text")


def _default_text(field: FieldInfo) -> str:
    if field.is_required() or field.default is None or field.default_factory is not None:
        return ""
    default: object = field.default
    if isinstance(default, frozenset):
        return ",".join(str(member) for member in sorted(cast("frozenset[int]", default)))
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
