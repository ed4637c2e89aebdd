"""What holds for a company right now: its limits as the gate takes them, and when it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_workers.gate.permits import Limits
from orderrelay_workers.schedule import read_schedule

if TYPE_CHECKING:
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.schedule import Schedule


def limits_of(company: Company) -> Limits:
    """A company's limits as the gate takes them: what a person has set, else what the settings say.

    A rate at or below the floor of the learned rate leaves nothing to learn, so it holds as it is.
    """
    rate = company.rate_per_second if company.set_rate_per_second is None else company.set_rate_per_second
    floor = company.learn_rate_from
    return Limits(
        rate_per_second=rate,
        burst=company.burst if company.set_burst is None else company.set_burst,
        max_in_flight=company.max_in_flight if company.set_max_in_flight is None else company.set_max_in_flight,
        learn_from=floor if floor is not None and floor < rate else None,
        retry_share=company.retry_share,
        lookup_weight=company.lookup_weight,
        login_weight=company.login_weight,
    )


def has_set_limits(company: Company) -> bool:
    """Whether a person has set any of its limits."""
    return (company.set_rate_per_second, company.set_burst, company.set_max_in_flight) != (None, None, None)


def schedule_of(company: Company) -> Schedule | None:
    """When a company is closed. None if that cannot be read, such as a time zone that only other hosts know."""
    try:
        return read_schedule(company.time_zone, company.closed_hours, company.maintenance)
    except ValueError:
        return None
