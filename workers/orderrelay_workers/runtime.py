"""What one worker process is made of, built once at its start and shared by its tasks and its sidecar."""

from __future__ import annotations

import math
import os
import socket
import threading
import uuid
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

import structlog

from orderrelay_shared import redis_connection
from orderrelay_workers import hints, refused_credentials, spool, statuses, tracing
from orderrelay_workers.audit import results
from orderrelay_workers.closing import closed_time_of, mirror_closed_time
from orderrelay_workers.credentials import Credentials
from orderrelay_workers.decisions import Policy
from orderrelay_workers.event_loop import EventLoop
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import caution, claims, companies, identity, liveness, migrate
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.ledger.engine import is_sqlite, open_engine, reading
from orderrelay_workers.limits import limits_of
from orderrelay_workers.metrics_of_gates import GateGauges
from orderrelay_workers.metrics_of_ledger import LedgerGauges
from orderrelay_workers.settings import CompanySettings, WorkerSettings, require_companies
from orderrelay_workers.settle_surely import settle_or_halve
from orderrelay_workers.tokens import Tokens
from orderrelay_workers.vendor.client import VendorClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis
    import sqlalchemy as sa
    from celery import Celery

    from orderrelay_workers.group_size import GroupSize
    from orderrelay_workers.places import Ahead

#: A worker's statements are small; one that takes longer waits for something that is wrong, in seconds.
_STATEMENT_SECONDS = 20

_log = structlog.get_logger(__name__)


class CompanyGone(Exception):
    """A company is no longer served here; the next hint finds it, if it is again."""


class NotMigrated(Exception):
    """The database does not have this version's layout yet."""


def flow_seconds(threads: int, companies: int) -> float:
    """How long a flow may work on one company before others have their turn, in seconds.

    Where there is a thread for each company's orders and look-ups, and some for results, nobody waits for a turn, and a
    flow ends when nothing is due: a worker that stops in between has to wait for a hint that no other takes.
    """
    return math.inf if threads >= 2 * companies + 2 else 10.0


def policy_of(settings: WorkerSettings) -> Policy:
    """The retry rules that the settings ask for."""
    return Policy(
        max_attempts=settings.max_attempts,
        backoff_first_seconds=settings.backoff_first_seconds,
        backoff_cap_seconds=settings.backoff_cap_seconds,
        retryable_error_numbers=settings.retryable_error_numbers,
        settling_seconds=settings.settling_seconds,
        lookup_failing_seconds=settings.lookup_failing_seconds,
    )


@dataclass(frozen=True, slots=True)
class Busy:
    """Which companies this process is working on right now, and which of them were asked for meanwhile."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _companies: dict[str, bool] = field(default_factory=dict[str, bool])
    _wakes: dict[str, Callable[[], object]] = field(default_factory=dict[str, "Callable[[], object]"])

    def begin(self, company: str, wake: Callable[[], object] = lambda: None) -> bool:
        """Take up a company. False if it is being worked on; whoever works on it is told to look again.

        Args:
            company: The company's alias.
            wake: Called when it is asked for meanwhile, so that it is looked at again at once; it must be quick.
        """
        with self._lock:
            if self._ask(company):
                return False
            self._companies[company] = False
            self._wakes[company] = wake
            return True

    def ask(self, company: str) -> bool:
        """Have whoever works on a company look again. False if nobody does."""
        with self._lock:
            return self._ask(company)

    def _ask(self, company: str) -> bool:
        if company not in self._companies:
            return False
        self._companies[company] = True
        self._wakes[company]()
        return True

    def asked_again(self, company: str) -> bool:
        """Whether a company was asked for since the last look."""
        with self._lock:
            asked = self._companies.get(company, False)
            if asked:
                self._companies[company] = False
            return asked

    def end(self, company: str) -> bool:
        """Put a company down. True if it was asked for meanwhile, so that somebody should look again."""
        with self._lock:
            self._wakes.pop(company, None)
            return self._companies.pop(company, False)

    def __contains__(self, company: str) -> bool:
        with self._lock:
            return company in self._companies


class Runtime:
    """One worker process.

    Args:
        settings: Its settings.
        app: Sends the hints.
        threads: So many tasks run at once at most.

    Raises:
        SettingsInvalid: No company is configured.
        NotMigrated: The PostgreSQL database needs `orderrelay init`. (A SQLite file is brought up to date here.)
        CompanyKeyTaken: Two aliases are bound to one company key.
        OtherLedger: The intake belongs to another ledger.
    """

    def __init__(self, settings: WorkerSettings, app: Celery, *, threads: int) -> None:
        require_companies(settings)
        self.settings = settings
        self.boot_id = uuid.uuid4()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.actor = f"worker {self.name}"
        self.draining = threading.Event()
        self.flow_seconds = flow_seconds(threads, len(settings.companies))
        self.policy = policy_of(settings)
        self.submitting = Busy()
        self.reconciling = Busy()
        self.group_sizes: dict[str, GroupSize] = {}
        self.ahead: dict[str, Ahead] = {}
        self.storing = threading.Lock()
        self.engine = self._open_ledger(settings)
        self.ledger_id = identity.ledger_id(self.engine)
        self.redis: redis.Redis = redis_connection.connect(
            settings.redis_url, timeout_seconds=hints.TIMEOUT_SECONDS, client_name="orderrelay-worker"
        )
        identity.check(self.redis, self.ledger_id)
        self.life_sign = liveness.LifeSign(self.engine, self.boot_id, self.name, metadata.version("orderrelay"))
        self.life_sign.begin()
        self.check_ledger()
        self.gate = Gate(self.redis, self.boot_id, probe_lease_seconds=settings.lease_seconds)
        self.companies: dict[str, companies.Company] = {}
        self._counting = threading.Lock()
        self.claims_made = 0
        self._refused: set[str] = set()
        self._newer_gates: set[str] = set()
        self._key_digests: dict[str, bytes] = {}
        self.credentials = Credentials(settings, self.ledger_id)
        self._register_companies()
        self.refresh_companies(companies.by_alias(self.engine))
        self.spool_folder: Path = settings.spool_folder / self.ledger_id.hex
        self.replay_spool()
        self.traces = tracing.begin(os.environ, settings.base_url, self.boot_id)
        self.hints = hints.Hints(app, settings.broker_url)
        self.loop = EventLoop()
        self.vendor = self.loop.run(_vendor(settings))
        self.tokens = Tokens(
            settings,
            self.redis,
            self.gate,
            self.loop,
            self.vendor,
            self.boot_id,
            self.credentials,
            self._credentials_refused,
        )
        self._gauges = (
            GateGauges(settings.redis_url, lambda: self.companies, self.boot_id),
            LedgerGauges(self.engine, lambda: {alias: company.id for alias, company in self.companies.items()}),
        )
        for gauges in self._gauges:
            gauges.begin()

    @staticmethod
    def _open_ledger(settings: WorkerSettings) -> sa.Engine:
        engine = open_engine(
            settings.database_url,
            application_name="orderrelay-worker",
            statement_seconds=_STATEMENT_SECONDS,
            small_statements=True,
        )
        if is_sqlite(engine):
            before, now = migrate.migrate(engine)
            if before != now:
                _log.info("ledger_migrated", before=before, now=now)
        elif not migrate.is_current(engine):
            raise NotMigrated("the database does not have this version's tables yet; run: orderrelay init")
        return engine

    def _register_companies(self) -> None:
        """Bind every configured alias to its company key."""
        for alias in self.settings.companies:
            company = self.credentials.newest(alias)
            companies.register(self.engine, self.ledger_id, alias, company, actor=self.actor)
            key = company.company_api_key.get_secret_value()
            self._key_digests[alias] = companies.key_digest(self.ledger_id, key)

    def refresh_companies(self, known: dict[str, companies.Company]) -> None:
        """Take over what the ledger says of the companies that this process serves, and mirror it to their gates.

        A company that is bound to another key than this process has is not served here: its orders would go to other
        books. (At a worker's start, and when its settings change, `register` pauses it as well.) Nor is one whose
        credentials here are refused and not the newest, see `ledger.credentials`.
        """
        if any(alias not in known or known[alias].key_digest is None for alias in self.settings.companies):
            self._register_companies()  # they were, at the start: the database was restored from before that
            known = companies.by_alias(self.engine)
        served = {alias: known[alias] for alias in self.settings.companies if alias in known}
        for alias in [a for a, company in served.items() if company.key_digest != self._key_digests[a]]:
            if alias not in self._refused:
                _log.error("company_key_differs", company=alias)
            self._refused.add(alias)
            self._mirror(served.pop(alias))
        self._refused -= served.keys()
        for alias in [a for a, company in served.items() if not refused_credentials.look_again(self, company)]:
            self._mirror(served.pop(alias))
        self.companies = served
        for company in served.values():
            self._mirror(company)

    def _mirror(self, company: companies.Company) -> None:
        gate = self.gate.state(company.alias)
        if gate is None:
            self.check_ledger()  # Redis was wiped, perhaps in one outage with the database
            in_flight = claims.in_flight_by_owner(self.engine, company.id)
            closed = closed_time_of(self.redis, company)
            self.gate.seed(company.alias, limits_of(company), company.paused_reason, in_flight, closed)
            _log.info("gate_seeded", company=company.alias, paused=company.paused_reason)
            return
        if gate.is_newer:  # nothing is sent from here until this worker is replaced as well
            if company.alias not in self._newer_gates:
                _log.warning("gate_is_of_a_newer_version", company=company.alias)
            self._newer_gates.add(company.alias)
            return
        if company.paused_reason is not None and gate.paused is None:
            self.gate.pause(company.alias, company.paused_reason)
            _log.warning("company_is_paused", company=company.alias, reason=company.paused_reason)
        elif company.paused_reason is None and gate.paused is not None:
            self.gate.resume(company.alias)
            _log.info("company_is_resumed", company=company.alias)
        if gate.limits != limits_of(company):
            self.gate.set_limits(company.alias, limits_of(company))
        mirror_closed_time(self.redis, self.gate, company, gate)

    def check_ledger(self) -> None:
        """See whether the database has forgotten claims, and be cautious if so."""
        try:
            caution.check(self.engine, self.redis, self.ledger_id)
        except LedgerWentBack as error:
            self.be_cautious(error)

    def be_cautious(self, error: LedgerWentBack) -> None:
        """Have every order looked up before it is sent, from now on, by all workers; whoever notices first begins."""
        lease_seconds = self.settings.lease_seconds
        statuses.forget_all(self.redis)  # one that tells of a forgotten job would pass for its booking
        begun = caution.begin(
            self.engine, str(error), actor=self.actor, lease_seconds=lease_seconds, seen=error.standing
        )  # fmt: skip
        if begun is not None:
            _log.error("cautious_mode_began", reason=str(error))
            caution.forget(self.redis, self.ledger_id, begun)

    def come_back(self) -> None:
        """The database has forgotten this worker, or claims of it: be cautious, then appear among the workers again."""
        made = self.claims_made
        with reading(self.engine) as connection:
            standing = caution.read_standing(connection)
        self.be_cautious(LedgerWentBack("the database no longer knows a worker that runs, or its claims", standing))
        self.count_claims(-made)
        self.life_sign.appear()

    def count_claims(self, claims: int) -> None:
        """Note that this process has made claims."""
        with self._counting:
            self.claims_made = max(0, self.claims_made + claims)

    def serve(self, company: str) -> companies.Company:
        """A company that this process serves.

        Raises:
            CompanyGone: It was served a moment ago.
        """
        found = self.companies.get(company)
        if found is None:
            raise CompanyGone(company)
        return found

    def results_wait(self) -> bool:
        """Whether an answer waits to be stored as an operation result."""
        return results.any_waiting(self.engine)

    def rebind(self, company: str, key_digest: bytes) -> None:
        """The company has another company key from now on, here as in the ledger."""
        self._key_digests[company] = key_digest

    def forgo(self, company: str) -> None:
        """Serve the company no more, until the next mirroring finds that it may be served again."""
        self.companies = {alias: known for alias, known in self.companies.items() if alias != company}

    def _credentials_refused(self, company: str, used: CompanySettings, reason: str) -> None:
        refused_credentials.judge(self, company, used, reason)

    def replay_spool(self) -> None:
        """Settle what workers of this host could not before they exited."""
        if replayed := spool.replay(self.spool_folder, lambda batch: settle_or_halve(self, batch)):
            _log.info("spool_replayed", settlements=replayed)

    def close(self) -> None:
        """Let everything go. Called when nothing is in progress any more."""
        for gauges in self._gauges:
            gauges.close()
        self.loop.run(self.vendor.aclose())
        self.loop.close()
        self.life_sign.end()
        self.hints.close()
        self.redis.close()
        self.engine.dispose()
        if self.traces is not None:
            self.traces.close()


async def _vendor(settings: WorkerSettings) -> VendorClient:
    return VendorClient(settings)
