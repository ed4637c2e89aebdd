"""Workers that run while the database is put back under them: they notice it, are cautious, and serve on."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import redis
import sqlalchemy as sa
from pydantic import SecretStr

from orderrelay_shared import keys
from orderrelay_workers import reconciliation, submission
from orderrelay_workers.credentials import Credentials
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import caution, claims, companies, identity, liveness, schema
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.ledger.engine import reading
from orderrelay_workers.runtime import Busy, Runtime
from orderrelay_workers.settings import CompanySettings
from orderrelay_workers.sidecar import duties
from tests.ledgers import ACME, ACTOR, LEASE_SECONDS, job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderrelay_workers.settings import WorkerSettings
    from tests.ledgers import Ledger


class _Worker(Runtime):
    """As much of a worker as beats, and serves companies."""

    def __init__(self, ledger: Ledger, client: redis.Redis) -> None:
        self.actor = ACTOR
        self.boot_id = ledger.owner
        self.claims_made = 0
        self.companies = {}
        self.draining = threading.Event()
        self.engine = ledger.engine
        self.flow_seconds = 10.0
        self.gate = Gate(client, ledger.owner, probe_lease_seconds=LEASE_SECONDS)
        self.ledger_id = identity.ledger_id(ledger.engine)
        self.life_sign = liveness.LifeSign(ledger.engine, ledger.owner, "host:1", "0")
        self.reconciling = Busy()
        self.redis = client
        self.submitting = Busy()
        company = CompanySettings(
            company_api_key=SecretStr("company-key"),
            connect_api_key=SecretStr("connect-key"),
            token=SecretStr("token"),
        )
        self.settings = cast(
            "WorkerSettings", SimpleNamespace(lease_seconds=LEASE_SECONDS, companies={ACME: company})
        )  # fmt: skip
        self.credentials = Credentials(self.settings, self.ledger_id)
        self._counting = threading.Lock()
        self._key_digests = {}
        self._newer_gates = set()
        self._refused = set()
        self._unread_schedules = set[str]()
        self.life_sign.begin()
        self.check_ledger()


@pytest.fixture
def worker(ledger: Ledger, redis_client: redis.Redis) -> Iterator[_Worker]:
    """A worker on the ledger, with one claim made and settled by nobody yet."""
    worker = _Worker(ledger, redis_client)
    ledger.book(1)
    assert len(claim(ledger, worker)) == 1
    worker.claims_made = 1
    yield worker
    worker.life_sign.end()


def claim(ledger: Ledger, worker: _Worker) -> list[claims.Claim]:
    """Claim as that worker does."""
    remembered = caution.recall(worker.redis, worker.ledger_id)
    return claims.claim(
        ledger.engine, ledger.company_id, 9, owner=ledger.owner, lease_seconds=LEASE_SECONDS, alias=ACME,
        remembered=remembered,
    )  # fmt: skip


def forget_claim(ledger: Ledger, *changes: sa.Delete | sa.Update) -> None:
    """Put the database back to before the claim."""
    ledger.set(job_id(1), state="waiting", token=None, owner=None, lease_until=None, claimed_at=None)
    with ledger.engine.begin() as connection:
        for change in changes:
            connection.execute(change)


def is_cautious(ledger: Ledger) -> bool:
    """Whether cautious mode is on."""
    with reading(ledger.engine) as connection:
        return caution.read_standing(connection).since is not None


@pytest.mark.parametrize(
    "change", [sa.delete(schema.worker), sa.update(schema.worker).values(claims=0)], ids=["worker", "claims"]
)
def test_a_beat_that_the_database_has_forgotten_begins_cautious_mode(
    ledger: Ledger, worker: _Worker, change: sa.Delete | sa.Update
) -> None:
    """The worker is not just written down anew: its claims are forgotten, even if Redis was lost in the same outage."""
    forget_claim(ledger, change)
    worker.redis.flushall()
    duties.beat(worker)
    assert is_cautious(ledger)
    assert claim(ledger, worker) == []


def test_after_it_came_back_a_worker_beats_on(ledger: Ledger, worker: _Worker) -> None:
    """One loss of memory begins cautious mode once: the worker is known again, and its count begins anew."""
    forget_claim(ledger, sa.delete(schema.worker))
    for _ in range(3):
        duties.beat(worker)
    assert ledger.events("cautious_began") == ["cautious_began!"]
    assert [row["boot_id"] for row in ledger.rows(schema.worker)] == [worker.boot_id]
    assert worker.claims_made == 0


def test_cautious_mode_begins_only_when_stale_statuses_are_gone(ledger: Ledger, worker: _Worker) -> None:
    """A status of a forgotten job would pass for its booking, so that one is forgotten first, or nothing begins."""
    reachable, stale = worker.redis, keys.status(job_id(9))
    reachable.set(stale, b"{}", ex=60)
    with reading(ledger.engine) as connection:
        went_back = LedgerWentBack("test", caution.read_standing(connection))
    worker.redis = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=1.0)
    with pytest.raises(redis.ConnectionError):
        worker.be_cautious(went_back)
    assert not is_cautious(ledger)
    worker.redis = reachable
    worker.be_cautious(went_back)
    assert is_cautious(ledger)
    assert not reachable.exists(stale)


@pytest.mark.parametrize("booked_since", [False, True], ids=["missing", "without a key"])
def test_a_company_that_a_restore_took_away_is_registered_again(
    ledger: Ledger, worker: _Worker, booked_since: bool
) -> None:
    """Workers that ran before the company was lost serve it on, whether booking has made its row anew or not."""
    worker._register_companies()
    worker.refresh_companies(companies.by_alias(ledger.engine))
    with ledger.engine.begin() as connection:
        for table in (schema.revision, schema.job, schema.order_key, schema.company):
            connection.execute(sa.delete(table))
    if booked_since:
        companies.ensure(ledger.engine, [ACME])
    worker.refresh_companies(companies.by_alias(ledger.engine))
    assert list(worker.companies) == [ACME]
    assert worker.companies[ACME].key_digest is not None


class _Vanishing(dict[str, companies.Company]):
    """Companies that are gone as soon as one was seen to be there."""

    def __contains__(self, company: object) -> bool:
        found = super().__contains__(company)
        self.clear()
        return found


@pytest.mark.parametrize("flow", [submission.submit, reconciliation.reconcile], ids=["submission", "reconciliation"])
def test_a_company_that_vanishes_leaves_nobody_busy(
    ledger: Ledger, worker: _Worker, flow: Callable[[Runtime, str], None]
) -> None:
    """A flow that finds its company gone ends quietly, and the next hint is served."""
    worker.companies = _Vanishing(companies.by_alias(ledger.engine))
    flow(worker, ACME)
    assert ACME not in worker.submitting
    assert ACME not in worker.reconciling
