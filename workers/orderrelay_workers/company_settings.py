"""The settings of one company, and what may be wrong between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from orderrelay_shared.settings import Allowed
from orderrelay_workers import schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_COMPANIES = "ORDERRELAY_COMPANIES"


def _zone(text: str) -> str:
    return schedule.read_zone(text).key


def _hours(text: str) -> str:
    schedule.read_hours(text)
    return " ".join(text.split())


def _maintenance(text: str) -> str:
    schedule.read_maintenance(text)
    return " ".join(text.split())


_Secret = Annotated[SecretStr, Field(min_length=1)]
_Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class CompanySettings(BaseModel):
    """One company in the ERP; its names stand after `ORDERRELAY_COMPANIES__<ALIAS>__`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    company_api_key: _Secret
    """The key of the company at the vendor; required, and bound to the alias for ever."""

    connect_api_key: _Secret
    """The key of the connection, from the vendor; required."""

    license: str | None = None
    """The licence of the API user; required for a login, that is, without TOKEN."""

    user_name: _Secret | None = None
    """The name of the API user; required for a login."""

    password: _Secret | None = None
    """The password of the API user; required for a login."""

    token: _Secret | None = None
    """A fixed access token, used instead of a login; default: none."""

    rate_per_second: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 10.0
    """Requests to the vendor per second, over all workers; taken over at a worker's start and when it changes, but a
    rate that a person has set with `orderrelay rate set` holds in its place."""

    burst: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Requests that may start at once after a pause; 1: evenly spaced."""

    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Requests that may be unanswered at the same time, over all workers."""

    learn_rate_from: Annotated[
        float | None,
        Field(gt=0, le=10_000, allow_inf_nan=False),
        Allowed("a number above 0 and below RATE_PER_SECOND; empty: the rate is not learned"),
    ] = None
    """The floor of a rate that is learned from the vendor's answers, with RATE_PER_SECOND as its ceiling; default: it
    is not learned, and RATE_PER_SECOND holds."""

    retry_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    """How many retries may fail for each success, over all orders; beyond that, only first requests go."""

    lookup_weight: _Weight = 1.0
    """What a look-up costs of the rate; an order costs 1. 0: nothing."""

    login_weight: _Weight = 1.0
    """What a login costs of the rate; an order costs 1. 0: nothing."""

    time_zone: Annotated[str, AfterValidator(_zone), Allowed("an IANA name such as Europe/Stockholm or UTC")] = "UTC"
    """The time zone of CLOSED_HOURS and MAINTENANCE."""

    closed_hours: Annotated[str, AfterValidator(_hours), Allowed(schedule.HOURS_ALLOWED)] = ""
    """Hours of every week in which nothing is sent; empty: none. A span over midnight belongs to the day on which it
    begins."""

    maintenance: Annotated[str, AfterValidator(_maintenance), Allowed(schedule.MAINTENANCE_ALLOWED)] = ""
    """Spans in which nothing is sent, once; empty: none. Those that are over may stay."""

    import_id: Annotated[int, Field(ge=0, le=2_147_483_647)] = 0
    """The vendor's query parameter importId; 0: none."""

    special_functionalities: str = ""
    """The vendor's query parameter specialFunctionalities; empty: none."""


def problems_of_companies(companies: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Companies without credentials or with one key, and a floor of the rate that is not below it: a line each.

    Args:
        companies: Their settings by alias, as given, before any is checked or converted.
    """
    return [*_missing_credentials(companies), *_shared_keys(companies), *_floors(companies)]


def _missing_credentials(companies: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for alias, company in companies.items():
        if company.get("token"):
            continue
        for name in ("license", "user_name", "password"):
            if not company.get(name):
                yield (
                    f"{_COMPANIES}__{alias.upper()}__{name.upper()}: is missing "
                    "(allowed: either TOKEN, or all of LICENSE, USER_NAME and PASSWORD)"
                )


def _shared_keys(companies: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    by_key: dict[str, list[str]] = {}
    for alias, company in companies.items():
        key = company.get("company_api_key")
        by_key.setdefault(key.get_secret_value() if isinstance(key, SecretStr) else str(key or ""), []).append(alias)
    by_key.pop("", None)
    for aliases in by_key.values():
        if len(aliases) > 1:
            yield (
                f"{_COMPANIES}__{aliases[-1].upper()}__COMPANY_API_KEY: is the same key for the aliases "
                f"{', '.join(map(repr, aliases))} (allowed: one alias per company key, or orders could be doubled)"
            )


def _floors(companies: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for alias, company in companies.items():
        try:
            floor = float(company.get("learn_rate_from") or 0)
            rate = float(company.get("rate_per_second", CompanySettings.model_fields["rate_per_second"].default))
        except (TypeError, ValueError):
            continue  # reported as no number
        if floor >= rate > 0:
            yield (
                f"{_COMPANIES}__{alias.upper()}__LEARN_RATE_FROM: is not below RATE_PER_SECOND "
                f"(allowed: a number above 0 and below {rate:g}; empty: the rate is not learned)"
            )
