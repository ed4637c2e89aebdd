"""Changed settings, taken over while the worker runs: credentials, limits and hours of the companies that it serves.

The env file and the secrets folder are read every second and compared by content, as Kubernetes swaps links and others
write in place. A change counts once it was read twice alike: what is being written is not taken over half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from orderrelay_shared import environment
from orderrelay_shared.environment import NESTED, PREFIX
from orderrelay_shared.settings import SettingsInvalid
from orderrelay_workers import metrics, refused_credentials
from orderrelay_workers.credentials import same_credentials
from orderrelay_workers.ledger import companies
from orderrelay_workers.ledger.companies import CompanyKeyTaken
from orderrelay_workers.logs import learn_secrets
from orderrelay_workers.settings import CompanySettings, WorkerSettings, load_worker_settings

if TYPE_CHECKING:
    from orderrelay_workers.runtime import Runtime

#: Settings of a company that are read once, at the start.
_NEEDS_RESTART: Final = frozenset({"import_id", "special_functionalities"})

#: The key that says which company it is: whether another one may be used is for a person to say.
_KEY: Final = "company_api_key"

_log = structlog.get_logger(__name__)


class Rotation:
    """Watches over this worker's settings."""

    def __init__(self, worker: Runtime) -> None:
        self._worker = worker
        self._seen: bytes | None = None
        self._done: bytes | None = None
        self._other_keys: dict[str, CompanySettings] = {}
        self._warned_of: tuple[str, ...] = ()

    def look(self) -> None:
        """Take over what has changed, once it has been the same for two looks; tell what there is to tell.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is away; the next look does it.
        """
        found = environment.fingerprint()
        if found != self._done and found == self._seen:
            self._take_over()
            self._done = found
        self._seen = found
        for alias in list(self._other_keys):
            self._use_other_key_if_bound(alias)
        refused_credentials.tell(self._worker)

    def _take_over(self) -> None:
        try:
            fresh = load_worker_settings()
        except SettingsInvalid as error:
            metrics.settings_read(invalid=True)
            _log.error("settings_invalid", lines=list(error.lines), in_use="the settings before")
            return
        metrics.settings_read(invalid=False)
        learn_secrets(fresh)
        running = self._worker.settings
        changed = False
        for alias in running.companies.keys() & fresh.companies.keys():
            changed |= self._take_over_company(alias, fresh.companies[alias])
        if changed:
            self._worker.refresh_companies(companies.by_alias(self._worker.engine))
        names = tuple(_needing_restart(running, self._newest(), fresh))
        if names and names != self._warned_of:
            _log.warning("settings_need_a_restart", settings=list(names))
        self._warned_of = names

    def _newest(self) -> dict[str, CompanySettings]:
        return {alias: self._worker.credentials.newest(alias) for alias in self._worker.settings.companies}

    def _take_over_company(self, alias: str, fresh: CompanySettings) -> bool:
        """Take over one company's settings; whether they had changed."""
        worker, newest = self._worker, self._worker.credentials.newest(alias)
        newer = fresh.model_copy(update={name: getattr(newest, name) for name in _NEEDS_RESTART})
        if newer == newest:
            self._other_keys.pop(alias, None)
            return False
        try:
            # This pauses the company if its key is another, and resumes it if its credentials were why it is paused.
            companies.register(
                worker.engine,
                worker.ledger_id,
                alias,
                newer,
                actor=worker.actor,
                same_credentials=same_credentials(newer, newest),
            )
        except CompanyKeyTaken as error:
            _log.error("settings_invalid", lines=[str(error)], in_use="the settings before")
            return False
        changed = [_variable(alias, name) for name in _different(newest, newer)]
        if newer.company_api_key != newest.company_api_key:
            # What is under way must not go to other books, so the key before stays in use.
            self._other_keys[alias] = newer
            _log.error("company_key_changed", company=alias, settings=changed, until="a person resumes the company")
            return True
        self._other_keys.pop(alias, None)
        worker.credentials.renew(alias, newer)
        metrics.settings_taken_over(alias)
        _log.info("settings_taken_over", company=alias, settings=changed)
        return True

    def _use_other_key_if_bound(self, alias: str) -> None:
        """A person has said that another key is the same company's (`orderrelay resume --same-company`)."""
        worker, newer = self._worker, self._other_keys[alias]
        digest = companies.key_digest(worker.ledger_id, newer.company_api_key.get_secret_value())
        known = companies.by_alias(worker.engine)
        if alias in known and known[alias].key_digest == digest:
            worker.credentials.renew(alias, newer)
            worker.rebind(alias, digest)
            del self._other_keys[alias]
            _log.info("settings_taken_over", company=alias, settings=[_variable(alias, _KEY)])
            worker.refresh_companies(known)


def _needing_restart(
    running: WorkerSettings, newest: dict[str, CompanySettings], fresh: WorkerSettings
) -> list[str]:  # fmt: skip
    """The variables that differ from what this worker runs with, and are read at its start only."""
    names = [
        PREFIX + name.upper()
        for name in WorkerSettings.model_fields
        if name != "companies" and getattr(running, name) != getattr(fresh, name)
    ]
    for alias in sorted(newest.keys() | fresh.companies.keys()):
        if alias not in newest or alias not in fresh.companies:
            names.append(f"{PREFIX}COMPANIES{NESTED}{alias.upper()}")
        else:
            different = _different(newest[alias], fresh.companies[alias])
            names += [_variable(alias, name) for name in different if name in _NEEDS_RESTART]
    return names


def _different(one: CompanySettings, other: CompanySettings) -> list[str]:
    return [name for name in CompanySettings.model_fields if getattr(one, name) != getattr(other, name)]


def _variable(alias: str, name: str) -> str:
    return f"{PREFIX}COMPANIES{NESTED}{alias.upper()}{NESTED}{name.upper()}"
