"""Access tokens: one login at a time per company over all workers, the token shared through Redis.

A token in the cache is used by all, whatever credentials brought it; it says which did, so that only those are judged.

A token must first be used within 120 seconds of its login and then slides with each use (the vendor's Login/Token);
the cache forgets it a little earlier. A refused token is dropped only if it is still the one in the cache.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import structlog
from pydantic import SecretStr
from redis.exceptions import LockError, WatchError

from orderrelay_shared import keys
from orderrelay_workers import metrics
from orderrelay_workers.gate import Gate, Kind, Report
from orderrelay_workers.vendor.answers import read_login_answer

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable

    import redis

    from orderrelay_workers.credentials import Credentials
    from orderrelay_workers.event_loop import EventLoop
    from orderrelay_workers.settings import CompanySettings, WorkerSettings
    from orderrelay_workers.vendor.client import VendorClient

#: The cache forgets a token after so many seconds without use; the vendor does after 120.
_CACHED_SECONDS = 110

#: A use is told to the cache at most so often per process, in seconds.
_TOUCH_SECONDS = 10.0

#: For so long a refused token is remembered, to tell bad credentials from one that expired, in seconds.
_REFUSAL_SECONDS = 600

#: A login may wait so long for the gate: it reserves beyond what orders may, so that it always gets its turn.
_LOGIN_HORIZON_SECONDS = 5.0

#: A worker whose credentials are all refused asks so seldom for a token, in seconds.
_OUT_SECONDS = 5.0

#: In place of the digest of the credentials that brought a token.
_NOT_KNOWN = b"not known"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """A token in hand.

    Attributes:
        secret: The token.
        credentials: Tells which credentials brought it (`Credentials.digest_in_use`); empty if that is not known.
    """

    secret: SecretStr
    credentials: bytes = b""

    @property
    def text(self) -> str:
        """The token itself, for the request."""
        return self.secret.get_secret_value()


@dataclass(frozen=True, slots=True)
class NoToken:
    """Not now: there is no token yet. Ask again after so many seconds."""

    reason: str
    wait_seconds: float


class Tokens:
    """The tokens of all companies, as one worker process sees them.

    Args:
        boot_id: This worker's boot id.
        credentials: Which are in use; told when the vendor takes them.
        credentials_refused: Called with the company, the settings in use and the reason when the vendor refuses them.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        redis: redis.Redis,
        gate: Gate,
        loop: EventLoop,
        vendor: VendorClient,
        boot_id: uuid.UUID,
        credentials: Credentials,
        credentials_refused: Callable[[str, CompanySettings, str], None],
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._gate = gate
        self._loop = loop
        self._vendor = vendor
        self._boot_id = boot_id
        self._credentials = credentials
        self._credentials_refused = credentials_refused
        self._touched: dict[str, tuple[str, float]] = {}

    def get(self, company: str) -> Token | NoToken:
        """The company's token: the fixed one, the cached one, or that of a login made now."""
        if self._credentials.is_out(company):
            return NoToken("the vendor takes none of this worker's credentials", _OUT_SECONDS)
        if (fixed := self._credentials.in_use(company).token) is not None:
            return Token(fixed, self._credentials.digest_in_use(company))
        if (cached := self._cached(company)) is not None:
            return cached
        lock = self._redis.lock(keys.login_lock(company), timeout=self._settings.request_timeout_seconds + 15)
        if not lock.acquire(blocking=False, token=self._boot_id.hex):  # named, so that a dead worker's can be freed
            return NoToken("another worker logs in", 0.2)
        try:
            return self._cached(company) or self._log_in(company)
        finally:
            try:
                lock.release()
            except LockError:  # it expired, or Redis was wiped: another login may run too, which harms nothing
                _log.info("login_lock_lost", company=company)

    def _cached(self, company: str) -> Token | None:
        token, by = cast(
            "list[bytes | None]", self._redis.hmget(keys.token(company), ["token", "credentials"])
        )  # fmt: skip
        return None if token is None else Token(SecretStr(token.decode()), by or b"")

    def _log_in(self, company: str) -> Token | NoToken:
        permits = self._gate.admit(company, Kind.LOGIN, 1, horizon_seconds=_LOGIN_HORIZON_SECONDS)
        metrics.answered(permits)
        if not permits.granted:
            return NoToken(permits.reason, permits.wait_seconds)
        time.sleep(permits.wait_of(0))
        used = self._credentials.in_use(company)
        exchange = self._loop.run(self._vendor.log_in(company))
        # Others may have come into use just before the request was made; then nobody is judged by this token.
        by = self._credentials.digest(used) if self._credentials.in_use(company) is used else _NOT_KNOWN
        verdict = read_login_answer(exchange)
        seconds = (exchange.ended_at - exchange.began_at).total_seconds()
        metrics.request_ended(company, Kind.LOGIN, verdict.kind, seconds)
        well = verdict.kind in ("token", "refused")
        trip = verdict.reason if verdict.kind == "misconfigured" else None
        throttled = verdict.kind == "throttled"
        unwell = verdict.kind in ("failing", "not_sent")
        report = Report(
            finished=1,
            good=int(well),
            unwell=int(unwell),
            trip=trip,
            throttle_seconds=verdict.retry_after_seconds if throttled else None,
            throttled=int(throttled),
            probe=permits.probe,
        )
        metrics.reported(company, Kind.LOGIN, report)
        self._gate.report(company, Kind.LOGIN, report)
        if verdict.token is None:
            _log.warning("login_failed", company=company, reason=verdict.reason)
            if verdict.kind == "refused":
                self._credentials_refused(company, used, verdict.reason)
            return NoToken(f"login failed: {verdict.reason}", 1.0)
        _log.info("logged_in", company=company)
        token = Token(verdict.token, by)
        self._keep(company, token)
        return token

    def _keep(self, company: str, token: Token) -> None:
        after_refusal = self._redis.exists(keys.token_refused(company))
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.delete(keys.token(company))
        pipeline.hset(
            keys.token(company),
            mapping={
                "token": token.text,
                "credentials": token.credentials,
                "after_refusal": str(after_refusal),
                "proven": "0",
            },
        )
        pipeline.expire(keys.token(company), _CACHED_SECONDS)
        pipeline.execute()

    def forget_worker(self, companies: Iterable[str], boot_id: uuid.UUID) -> None:
        """Free the logins that a dead worker was at; without this they would wait for their lock to expire."""
        for company in companies:
            if self._redis.get(keys.login_lock(company)) == boot_id.hex.encode():
                self._redis.delete(keys.login_lock(company))

    def accepted(self, company: str, token: Token) -> None:
        """The vendor took the token: its time begins anew, and the credentials are good."""
        in_use = self._credentials.in_use(company)
        if token.credentials == self._credentials.digest_in_use(company):
            self._credentials.taken(company, in_use)
        if in_use.token is not None:
            return
        last, at = self._touched.get(company, ("", 0.0))
        if last == token.text and time.monotonic() - at < _TOUCH_SECONDS:
            return
        self._touched[company] = (token.text, time.monotonic())
        if self._redis.hget(keys.token(company), "token") == token.text.encode():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.hset(keys.token(company), "proven", "1")
            pipeline.expire(keys.token(company), _CACHED_SECONDS)
            pipeline.delete(keys.token_refused(company))
            pipeline.execute()

    def refused(self, company: str, token: Token, reason: str) -> None:
        """The vendor refused the token (401).

        The first time it has expired: it is dropped, and the next order's login gets another. When the token of the
        login that followed is refused as well, without ever having been taken, the credentials are bad: those that
        brought it, so nothing is said of this worker's own if they are others.
        """
        in_use = self._credentials.in_use(company)
        brought_it = token.credentials in (b"", self._credentials.digest_in_use(company))
        if in_use.token is not None and token.text == in_use.token.get_secret_value():
            self._credentials_refused(company, in_use, f"the fixed TOKEN was refused: {reason}")
            return
        dropped = self._drop(company, token)
        is_bad = dropped.get(b"after_refusal") == b"1" and dropped.get(b"proven") == b"0"
        if is_bad and brought_it and in_use.token is None:
            self._credentials_refused(company, in_use, reason)

    def _drop(self, company: str, token: Token) -> dict[bytes, bytes]:
        """Drop the token if it is still the cached one; give what the cache knew of it, else nothing."""
        with self._redis.pipeline(transaction=True) as pipeline:
            try:
                pipeline.watch(keys.token(company))  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                known = cast("dict[bytes, bytes]", pipeline.hgetall(keys.token(company)))
                if known.get(b"token") != token.text.encode():
                    return {}
                pipeline.multi()
                pipeline.delete(keys.token(company))
                pipeline.set(keys.token_refused(company), "1", ex=_REFUSAL_SECONDS)
                pipeline.execute()
            except WatchError:  # another worker was faster
                return {}
        return known
