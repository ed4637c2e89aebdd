"""Access tokens as the vendor hands them out: to be used within two minutes, then kept alive by each use."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INVALID_TOKEN = "Invalid Token"  # noqa: S105  it is the vendor's text of a refusal, no secret
SESSION_EXPIRED = "Session Expired"
COMPANY_KEY_INVALID = "CompanyApiKey Invalid"
CONNECT_KEY_INVALID = "ConnectApiKey Invalid"

_SWEEP_ABOVE = 10_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of what the simulator accepts; None accepts anything. None of it is ever shown.

    Attributes:
        token: A token that is good for ever, beside those that logins make.
    """

    company_key: str | None = None
    connect_key: str | None = None
    license: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return "Credentials(***)"

    def keys_refusal(self, company_key: str, connect_key: str) -> str | None:
        """Why these two keys are refused, or None."""
        if not company_key or self.company_key not in (None, company_key):
            return COMPANY_KEY_INVALID
        if not connect_key or self.connect_key not in (None, connect_key):
            return CONNECT_KEY_INVALID
        return None

    def fit_login(self, license_: object, user: object, password: object) -> bool:
        """Whether these log in. All three have to be texts, whatever is accepted."""
        return all(
            isinstance(given, str) and expected in (None, given)
            for given, expected in ((license_, self.license), (user, self.user), (password, self.password))
        )


class Tokens:
    """The tokens that are alive.

    Args:
        credentials: What is accepted: any of these, as while old and new ones overlap.
        first_use_seconds: A new token dies unless it is used within this time.
        slide_seconds: Each use keeps it alive for this time.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        *credentials: Credentials,
        first_use_seconds: float = 120.0,
        slide_seconds: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.credentials = credentials
        self._first_use_seconds = first_use_seconds
        self._slide_seconds = slide_seconds
        self._clock = clock
        # Token -> the company key it was made for, and when it dies.
        self._alive: dict[str, tuple[str, float]] = {}

    def issue(self, company_key: str) -> str:
        """A new token for a company."""
        now = self._clock()
        if len(self._alive) > _SWEEP_ABOVE:
            self._alive = {token: entry for token, entry in self._alive.items() if entry[1] > now}
        token = secrets.token_hex(16)
        self._alive[token] = (company_key, now + self._first_use_seconds)
        return token

    def keys_refusal(self, company_key: str, connect_key: str) -> str | None:
        """Why these two keys are refused, or None."""
        refusals = [accepted.keys_refusal(company_key, connect_key) for accepted in self.credentials]
        return None if None in refusals else next(iter(refusals), COMPANY_KEY_INVALID)

    def fit_login(self, company_key: str, connect_key: str, login: tuple[object, object, object]) -> bool:
        """Whether these two keys with license, user and password log in."""
        return any(
            accepted.keys_refusal(company_key, connect_key) is None and accepted.fit_login(*login)
            for accepted in self.credentials
        )

    def refusal(self, company_key: str, connect_key: str, token: str) -> str | None:
        """The text of the 401 for these three, or None; a good token lives on."""
        keys = self.keys_refusal(company_key, connect_key)
        if keys is not None:
            return keys
        entry = self._alive.get(token)
        if entry is None or entry[0] != company_key:
            fixed = {accepted.token for accepted in self.credentials} - {None}
            return None if token in fixed else INVALID_TOKEN
        now = self._clock()
        if now >= entry[1]:
            return SESSION_EXPIRED
        self._alive[token] = (company_key, now + self._slide_seconds)
        return None

    def end_all(self) -> None:
        """Kill every token that a login made; the next use is told "Session Expired"."""
        self._alive = {token: (key, 0.0) for token, (key, _) in self._alive.items()}
