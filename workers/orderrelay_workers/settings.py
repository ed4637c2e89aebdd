"""The settings of workers and operators: everything that `ORDERRELAY_…` variables can say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from orderrelay_shared import ids
from orderrelay_shared.settings import (
    Allowed,
    ListenHost,
    ListenPort,
    ProducerSettings,
    RedisUrl,
    SettingsInvalid,
    load,
)
from orderrelay_shared.urls import passwords_in
from orderrelay_workers import addresses
from orderrelay_workers.company_settings import CompanySettings, problems_of_companies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "CompanySettings",
    "WorkerSettings",
    "load_worker_settings",
    "private_folder",
    "require_companies",
    "secret_values",
    "state_folder",
]

#: Added to start fence and request timeout, in seconds: clocks, scheduling and the settle's own transaction.
_LEASE_MARGIN_SECONDS = 5

_COMPANIES = "ORDERRELAY_COMPANIES"


def _error_numbers(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("is no list of numbers")
    return frozenset(int(part) for part in parts)


def state_folder() -> Path:
    """The folder for what a user's programs keep between runs; nothing is created.

    Returns:
        `$XDG_STATE_HOME/orderrelay`, else `~/.local/state/orderrelay`; on macOS and Windows the folder used there.

    Raises:
        SettingsInvalid: This user has no home folder.
    """
    try:
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return (Path(local) if local else Path.home() / "AppData" / "Local") / "orderrelay"
        xdg = os.environ.get("XDG_STATE_HOME", "")
        if Path(xdg).is_absolute():
            return Path(xdg) / "orderrelay"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "orderrelay"
        return Path.home() / ".local" / "state" / "orderrelay"
    except RuntimeError:
        raise SettingsInvalid(
            ["XDG_STATE_HOME: is not set, and this user has no home folder (allowed: the absolute path of a folder)"]
        ) from None


def private_folder(folder: Path) -> Path:
    """Create a folder, with those above it, that only this user can enter; one that exists is left as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _default_database_url() -> str:
    return f"sqlite:///{(state_folder() / 'orderrelay.db').as_posix()}"


#: A waiting time of the vendor's client or of the retry policy.
_Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
_Path = Annotated[str, AfterValidator(addresses.path), Allowed("a path without query, such as Economy/Billing/Orders")]
_PathNotEmpty = Annotated[_Path, AfterValidator(addresses.path_not_empty)]


class WorkerSettings(ProducerSettings):
    """What workers and operators' commands need, with everything that producers need."""

    refuses_unknown_names: ClassVar[bool] = True
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"LOOKUP_PATH", "RETRYABLE_ERROR_NUMBERS"})

    broker_url: RedisUrl = Field(default_factory=lambda known: known["redis_url"])
    """Address of the Redis that carries Celery's messages; default: the one of REDIS_URL."""

    database_url: Annotated[
        str,
        AfterValidator(addresses.database_url),
        Allowed("postgresql://user:password@host:port/name, or sqlite:/// and an absolute path"),
    ] = Field(default_factory=_default_database_url)
    """Address of the ledger; default: the SQLite file `orderrelay/orderrelay.db` in the user's state folder.

    PostgreSQL as soon as workers run on two hosts.
    """

    base_url: Annotated[
        str, AfterValidator(addresses.base_url), Allowed("https://host or http://host, with a path but no query")
    ] = "https://apiexternal.softone.se"
    """Address of the vendor's API, without a slash at its end."""

    order_path: _PathNotEmpty = "Economy/Billing/Orders"
    """Path of the order operation, after BASE_URL."""

    order_body: Literal["array", "object"] = "array"
    """Whether an order is sent as a list of one or as itself; `object` goes with the path Economy/Billing/Order."""

    login_path: _PathNotEmpty = "Login/Token/"
    """Path of the login, after BASE_URL."""

    lookup_path: _Path = "Economy/Billing/InvoiceIdsFromExternalId/"
    """Path of the look-up by ExternalId, after BASE_URL; empty: no look-up, unknown orders are parked."""

    orders_per_request: Annotated[int, Field(ge=1, le=100)] = 1
    """The most orders that travel in one request; 1: each by itself. How many really do is learned from the answers.

    More than 1 needs ORDER_BODY=array, a LOOKUP_PATH and MAX_ATTEMPTS of at least 2, as an order of an unclear request
    is looked up, and then sent by itself if it is not there.
    """

    request_timeout_seconds: _Seconds = 30.0
    """The longest that one request may take in all, from its connection to the last byte of its answer."""

    start_fence_seconds: _Seconds = 5.0
    """How long after its claim a request may still begin to leave."""

    settling_seconds: _Seconds = 120.0
    """How long the vendor may take until an order that it has created is found by a look-up."""

    lookup_failing_seconds: _Seconds = 3600.0
    """How long a look-up may keep failing before the order is parked for a person."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 10
    """Order requests of one job that may leave before it is parked."""

    backoff_first_seconds: _Seconds = 5.0
    """The mean wait before the second attempt is half of this; it doubles with every further one."""

    backoff_cap_seconds: _Seconds = 3600.0
    """The longest wait between two attempts."""

    retryable_error_numbers: Annotated[
        frozenset[int], BeforeValidator(_error_numbers), Allowed("numbers with commas between them, such as 16,1401")
    ] = frozenset()
    """The vendor's error numbers that are worth another attempt; empty: none."""

    health_port: ListenPort = 0
    """The port where a worker answers `GET /live`, `/ready` and `/metrics`; 0: it does not. One for each worker."""

    health_host: ListenHost = "127.0.0.1"
    """The address that HEALTH_PORT is opened on; 0.0.0.0 where probes come from outside, as in Kubernetes."""

    log_format: Literal["console", "json"] = "console"
    """How log lines look: coloured text for people or one JSON object a line."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    """The least important lines that are written."""

    # A running worker puts other settings of a company in their place as a whole, see `credentials.py`.
    companies: dict[str, CompanySettings] = Field(default_factory=dict[str, CompanySettings])
    """The companies by alias; none is enough for commands that speak to no vendor."""

    @field_validator("log_level", mode="before")
    @classmethod
    def _log_level_in_any_case(cls, text: Any) -> Any:
        return text.strip().upper() if isinstance(text, str) else text

    @field_validator("companies", mode="before")
    @classmethod
    def _aliases_normalised(cls, companies: Any) -> Any:
        if not isinstance(companies, dict):
            return companies
        given = cast("dict[str, Any]", companies)
        lines: list[str] = []
        normal: dict[str, str] = {}
        for alias in given:
            try:
                other = normal.setdefault(ids.normalise_company(alias), alias)
            except ValueError as error:
                lines.append(f"{_COMPANIES}__{alias}: {error}")
            else:
                if other != alias:
                    lines.append(f"{_COMPANIES}: the aliases {other!r} and {alias!r} mean the same company")
        if lines:
            raise ValueError(SettingsInvalid(lines))
        return {name: given[alias] for name, alias in normal.items()}

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if lines := list(self.problems_of(dict(self))):
            raise ValueError(SettingsInvalid(lines))
        return self

    @classmethod
    def problems_of(cls, values: Mapping[str, Any]) -> Iterable[str]:
        """What is wrong between the settings of companies, and a backoff that begins above its cap."""
        given = cast("Mapping[str, Any]", values.get("companies") or {})
        companies: dict[str, Mapping[str, Any]] = {alias: dict(company) for alias, company in given.items()}
        return [*problems_of_companies(companies), *_backoff_problem(values), *_several_problems(values)]

    @property
    def lease_seconds(self) -> float:
        """How long a claim holds: until its request has certainly ended, one way or the other."""
        return self.start_fence_seconds + self.request_timeout_seconds + _LEASE_MARGIN_SECONDS

    @property
    def spool_folder(self) -> Path:
        """Where settles go that the database would not take; created by `private_folder` when it is needed."""
        return state_folder() / "spool"


def _backoff_problem(values: Mapping[str, Any]) -> Iterator[str]:
    try:
        first, cap = (
            float(values.get(name, WorkerSettings.model_fields[name].default))
            for name in ("backoff_first_seconds", "backoff_cap_seconds")
        )
    except ValueError:
        return  # reported as no number
    if first > cap:
        yield (
            "ORDERRELAY_BACKOFF_FIRST_SECONDS: is above ORDERRELAY_BACKOFF_CAP_SECONDS "
            f"(allowed: a number above 0 to {cap:g})"
        )


def _several_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """What is missing where several orders are to travel in one request."""

    def value_of(name: str) -> Any:
        return values.get(name, WorkerSettings.model_fields[name].default)

    try:
        several, attempts = (int(value_of(name)) for name in ("orders_per_request", "max_attempts"))
    except (TypeError, ValueError):
        return  # reported as no number
    if several <= 1:
        return
    above_1 = "with ORDERRELAY_ORDERS_PER_REQUEST above 1"
    if value_of("order_body") == "object":
        yield f"ORDERRELAY_ORDER_BODY: must not be object {above_1} (allowed: array, which can hold several orders)"
    if not value_of("lookup_path"):
        yield (
            f"ORDERRELAY_LOOKUP_PATH: must not be empty {above_1} (allowed: the path of the look-up, or all orders of "
            "an unclear request would be parked)"
        )
    if attempts < 2:
        yield (
            f"ORDERRELAY_MAX_ATTEMPTS: is {attempts} {above_1} (allowed: at least 2, or what goes out by itself after "
            "an unclear request would be parked)"
        )


def load_worker_settings() -> WorkerSettings:
    """The settings of this process.

    Raises:
        SettingsInvalid: Something is wrong; all of it is told at once.
    """
    return load(WorkerSettings)


def require_companies(settings: WorkerSettings) -> None:
    """Refuse settings without any company, for what speaks to the vendor.

    Raises:
        SettingsInvalid: There is no company; it says what to set.
    """
    if not settings.companies:
        one = f"{_COMPANIES}__<ALIAS>__"
        line = (
            f"{_COMPANIES}: no company is set (allowed: at least one, as {one}COMPANY_API_KEY, {one}CONNECT_API_KEY "
            f"and either {one}TOKEN or all of {one}LICENSE, {one}USER_NAME and {one}PASSWORD)"
        )
        raise SettingsInvalid([line])


def secret_values(settings: WorkerSettings) -> frozenset[str]:
    """Every secret's plain text, for the log mask only."""
    urls = (settings.redis_url, settings.broker_url, settings.database_url, settings.outbox_url or "")
    found = {password for url in urls for password in passwords_in(url)}
    for company in settings.companies.values():
        for name in type(company).model_fields:
            value = getattr(company, name)
            if isinstance(value, SecretStr):
                found.add(value.get_secret_value())
    return frozenset(found - {""})
