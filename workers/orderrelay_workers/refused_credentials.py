"""What a worker does when the vendor refuses its credentials; the rule over all workers is in `ledger.credentials`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from orderrelay_workers import metrics
from orderrelay_workers.credentials import Refused
from orderrelay_workers.ledger import companies, credentials
from orderrelay_workers.ledger.credentials import Pausing

if TYPE_CHECKING:
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.runtime import Runtime
    from orderrelay_workers.settings import CompanySettings

_log = structlog.get_logger(__name__)


def judge(worker: Runtime, company: str, used: CompanySettings, reason: str) -> None:
    """The vendor refused credentials: others are tried, or this worker steps out, or the company is paused for all."""
    match worker.credentials.refused(company, used):
        case Refused.NOT_IN_USE:
            return
        case Refused.OTHERS_LEFT:
            metrics.credentials_refused(company)
            previous = worker.credentials.uses_previous(company)
            tried = "the previous credentials" if previous else "the newest credentials"
            _log.warning("credentials_refused", company=company, vendor_said=reason, tried_next=tried)
        case Refused.NONE_LEFT:
            metrics.credentials_refused(company)
            _give_up(worker, company, reason)


def _give_up(worker: Runtime, company: str, reason: str) -> None:
    ours = worker.credentials.newest_digest(company)
    result = credentials.pause(worker.engine, company, ours, actor=worker.actor)
    if result is Pausing.NOT_NEWEST:
        if worker.credentials.step_out(company):
            _log.error(
                "company_not_served_here", company=company, vendor_said=reason, reason="other workers have newer"
            )
        worker.forgo(company)
        return
    if result is Pausing.PAUSED:
        _log.error("company_paused", company=company, reason=companies.CREDENTIALS, vendor_said=reason)
    worker.gate.pause(company, companies.CREDENTIALS)


def look_again(worker: Runtime, company: Company) -> bool:
    """Compare this worker's credentials with the newest that any has registered; False: it does not serve the company.

    If the newest are why the company is paused, and the vendor took this worker's lately, these are the newest again.
    """
    alias = company.alias
    ours = worker.credentials.newest_digest(alias)
    if company.credentials_digest == ours:
        if worker.credentials.step_in(alias):
            _log.info("company_served_here_again", company=alias)
        return True
    if company.paused_reason == companies.CREDENTIALS and worker.credentials.take_proof(alias):
        settings = worker.credentials.newest(alias)
        companies.register(worker.engine, worker.ledger_id, alias, settings, actor=worker.actor)
        _log.warning(
            "credentials_registered_again", company=alias, reason="the vendor took them, and refused newer ones"
        )
    return not worker.credentials.is_out(alias)


def tell(worker: Runtime) -> None:
    """Raise the alarm where the vendor refuses new credentials and the previous ones work."""
    untold = worker.credentials.take_untold()
    while untold:
        try:
            digest = worker.credentials.newest_digest(untold[0])
            told = credentials.tell_new_refused(worker.engine, untold[0], digest, actor=worker.actor)
        except BaseException:
            worker.credentials.still_untold(untold)  # the database is away; the next round tells it
            raise
        _log.error(credentials.NEW_REFUSED, company=untold[0], in_use="the previous credentials", alarm=told)
        untold.pop(0)
