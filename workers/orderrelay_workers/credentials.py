"""Which of a company's credentials are in use: the newest, or the previous ones while the vendor refuses those.

Credentials are changed at the vendor and here at different times. So the previous ones are kept after a change, and
the company is only without any when the vendor has refused both, one after the other, with nothing taken between.
What is in use stands in `settings.companies`, which everybody reads at each request; a company's settings are one
immutable value there, so that a request is made of old ones or of new ones, never of both.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from orderrelay_workers.ledger import companies

if TYPE_CHECKING:
    import uuid
    from collections.abc import Hashable

    from orderrelay_workers.settings import CompanySettings, WorkerSettings

#: The settings of a company that let it in at the vendor; together they are its credentials.
FIELDS: Final = ("connect_api_key", "license", "user_name", "password", "token")


class Refused(StrEnum):
    """What a refusal by the vendor comes to."""

    NOT_IN_USE = "not in use"  #: Others are in use by now; this says nothing of them.
    OTHERS_LEFT = "others left"  #: The others are in use now, and are to be tried.
    NONE_LEFT = "none left"  #: The vendor takes none that this worker has.


@dataclass(slots=True)
class _Ring:
    """One company's credentials.

    Attributes:
        newest: The settings with the credentials that came last.
        previous: The same settings with the credentials before those; None: there are none.
        uses_previous: Which of the two are in use.
        refused: Those that the vendor has refused since it last took any, named as in `uses_previous`.
        is_without: Whether it refused all of them and has taken none since.
        is_told: Whether people are told that the newest are refused while the previous work.
        has_proof: Whether the vendor took credentials of this worker since they were last spoken for.
        is_out: Whether this worker does not serve the company, as the vendor takes none of these.
    """

    newest: CompanySettings
    previous: CompanySettings | None = None
    uses_previous: bool = False
    refused: set[bool] = field(default_factory=set[bool])
    is_without: bool = False
    is_told: bool = False
    has_proof: bool = False
    is_out: bool = False

    @property
    def in_use(self) -> CompanySettings:
        """Those that requests are made of."""
        return self.previous if self.uses_previous and self.previous is not None else self.newest

    def renew(self, newer: CompanySettings) -> None:
        """Take over changed settings, whose credentials may be the same."""
        if same_credentials(newer, self.newest):
            self.previous = None if self.previous is None else _with_credentials(newer, self.previous)
        else:
            before = self.previous if self.is_without and self.previous is not None else self.in_use
            self.previous = None if same_credentials(newer, before) else _with_credentials(newer, before)
            self.uses_previous = self.is_told = self.is_without = False
            self.refused.clear()
        self.newest = newer

    def turn(self) -> bool:
        """Those in use were refused: use the others, or the newest again. False if the others were refused as well."""
        self.refused.add(self.uses_previous)
        others_left = self.previous is not None and len(self.refused) == 1
        self.uses_previous = others_left and not self.uses_previous
        if not others_left:
            self.refused.clear()
            self.is_without = True
        return others_left


class Credentials:
    """The credentials of all companies, as one worker process has them. Threads may share it.

    Args:
        settings: Its companies' settings are replaced whenever others come into use.
        ledger_id: Salts the digests.
    """

    def __init__(self, settings: WorkerSettings, ledger_id: uuid.UUID) -> None:
        self._companies = settings.companies
        self._ledger_id = ledger_id
        self._digests: dict[Hashable, bytes] = {}
        self._lock = threading.Lock()
        self._rings = {alias: _Ring(company) for alias, company in settings.companies.items()}
        self._untold: list[str] = []

    def newest(self, company: str) -> CompanySettings:
        """The company's settings as they were last read, whether or not the vendor takes their credentials."""
        return self._rings[company].newest

    def in_use(self, company: str) -> CompanySettings:
        """The company's settings that requests are made of."""
        return self._companies[company]

    def newest_digest(self, company: str) -> bytes:
        """What tells the newest credentials from others without showing them."""
        return self.digest(self.newest(company))

    def digest_in_use(self, company: str) -> bytes:
        """The same of those in use."""
        return self.digest(self.in_use(company))

    def digest(self, settings: CompanySettings) -> bytes:
        """The same of any."""
        secrets = tuple(getattr(settings, name) for name in FIELDS)
        if secrets not in self._digests:
            self._digests[secrets] = companies.credentials_digest(self._ledger_id, settings)
        return self._digests[secrets]

    def uses_previous(self, company: str) -> bool:
        """Whether the previous credentials are in use."""
        return self._rings[company].uses_previous

    def renew(self, company: str, newer: CompanySettings) -> None:
        """Take over changed settings. If their credentials are others, those in use are kept as the previous ones."""
        with self._lock:
            ring = self._rings[company]
            ring.renew(newer)
            self._companies[company] = ring.in_use

    def refused(self, company: str, used: CompanySettings) -> Refused:
        """The vendor refused these; from now on the others are in use, if it has not refused them as well.

        Args:
            company: The company's alias.
            used: What `in_use` gave before the request.
        """
        with self._lock:
            if self._companies[company] is not used:
                return Refused.NOT_IN_USE
            ring = self._rings[company]
            ring.has_proof = False
            others_left = ring.turn()
            self._companies[company] = ring.in_use
            return Refused.OTHERS_LEFT if others_left else Refused.NONE_LEFT

    def taken(self, company: str, used: CompanySettings) -> None:
        """The vendor did what was asked with a token that these credentials brought."""
        ring = self._rings[company]
        if ring.has_proof and not ring.refused:
            return
        with self._lock:
            if self._companies[company] is not used:
                return
            ring.has_proof, ring.is_without = True, False
            ring.refused.clear()
            if ring.uses_previous and not ring.is_told:
                ring.is_told = True
                self._untold.append(company)

    def take_untold(self) -> list[str]:
        """The companies of which nobody knows yet that the vendor refuses the newest and takes the previous ones."""
        with self._lock:
            untold, self._untold = self._untold, []
            return untold

    def still_untold(self, companies: list[str]) -> None:
        """They could not be told of now."""
        with self._lock:
            self._untold += companies

    def take_proof(self, company: str) -> bool:
        """Whether the vendor took this worker's credentials since it was last asked for this."""
        with self._lock:
            ring = self._rings[company]
            proof, ring.has_proof = ring.has_proof, False
            return proof

    def step_out(self, company: str) -> bool:
        """Serve the company no more until `step_in`, as the vendor takes none of these. False if it was so already."""
        with self._lock:
            was_out, self._rings[company].is_out = self._rings[company].is_out, True
            return not was_out

    def step_in(self, company: str) -> bool:
        """Serve the company again. False if it is served."""
        with self._lock:
            was_out, self._rings[company].is_out = self._rings[company].is_out, False
            return was_out

    def is_out(self, company: str) -> bool:
        """Whether this worker does not serve the company for its credentials."""
        return self._rings[company].is_out


def same_credentials(one: CompanySettings, other: CompanySettings) -> bool:
    """Whether two settings of a company let it in with the same credentials."""
    return all(getattr(one, name) == getattr(other, name) for name in FIELDS)


def _with_credentials(settings: CompanySettings, of: CompanySettings) -> CompanySettings:
    return settings.model_copy(update={name: getattr(of, name) for name in FIELDS})
