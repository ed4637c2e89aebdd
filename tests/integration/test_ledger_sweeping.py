"""The sweep: a claim whose lease is over, or whose worker is gone, is unknown; nobody else's is touched."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import claims, liveness, schema, sweeping, unknowns
from orderrelay_workers.ledger.engine import is_sqlite
from orderrelay_workers.ledger.liveness import LifeSign
from tests.ledgers import ACTOR, LEASE_SECONDS, Ledger, created, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def born(ledger: Ledger) -> Iterator[Callable[[], LifeSign]]:
    """Makes workers that are alive."""
    signs: list[LifeSign] = []

    def bear() -> LifeSign:
        signs.append(LifeSign(ledger.engine, uuid.uuid4(), "host:1", "0"))
        signs[-1].begin()
        return signs[-1]

    yield bear
    for sign in signs:
        sign.end()


def die(ledger: Ledger, sign: LifeSign) -> None:
    """Let a worker be gone, as by kill -9: the kernel frees its lock, and its beat grows old."""
    if sign._file is not None:
        sign._file.close()
    row = schema.worker.c
    with ledger.engine.begin() as connection:
        connection.execute(
            sa.update(schema.worker)
            .where(row.boot_id == sign._boot_id)
            .values(beat_at=datetime.now(UTC) - timedelta(seconds=liveness.DEAD_AFTER_SECONDS + 1))
        )


def worker_states(ledger: Ledger) -> dict[uuid.UUID, str]:
    """What the table says of each worker."""
    return {row["boot_id"]: row["state"] for row in ledger.rows(schema.worker)}


def test_a_lapsed_claim_is_unknown(ledger: Ledger) -> None:
    """A claim whose lease is over is unknown, with an attempt that tells that there was no answer."""
    [claim] = ledger.book_and_claim(1)
    ledger.pass_time(LEASE_SECONDS + 1)
    swept = ledger.sweep()
    assert swept.statuses[claim.job_id].state is JobState.UNKNOWN
    [attempt] = ledger.rows(schema.attempt)
    assert (attempt["token"], attempt["number"], attempt["outcome"]) == (claim.token, 1, "unknown")
    assert (attempt["ended_at"], attempt["sent"], attempt["worker"]) == (None, None, ledger.owner)
    assert attempt["stored_at"] is not None


def test_a_living_claim_is_left(ledger: Ledger) -> None:
    """While the lease runs and the worker lives, its claims are its own."""
    ledger.book_and_claim(1)
    ledger.pass_time(LEASE_SECONDS - 5)
    assert ledger.sweep() == sweeping.Swept((), {})
    assert ledger.states() == {"in_progress": 1}


def test_sweeping_again_finds_nothing(ledger: Ledger) -> None:
    """A lapsed claim is swept once, and costs one attempt."""
    [claim] = ledger.book_and_claim(1)
    ledger.pass_time(LEASE_SECONDS + 1)
    ledger.sweep()
    assert ledger.sweep().statuses == {}
    assert ledger.job(claim.job_id)["attempts"] == 1


def test_a_dead_workers_claims_are_unknown_at_once(ledger: Ledger, born: Callable[[], LifeSign]) -> None:
    """The claims of a worker that is gone are unknown long before their lease ends; another's stay."""
    dead, alive = born(), born()
    ledger.book(1, 2)
    [lost] = ledger.claim(1, owner=dead._boot_id)
    [kept] = ledger.claim(1, owner=alive._boot_id)
    die(ledger, dead)
    swept = ledger.sweep()
    assert (swept.dead_workers, set(swept.statuses)) == ((dead._boot_id,), {lost.job_id})
    assert ledger.job(kept.job_id)["state"] == "in_progress"
    assert worker_states(ledger) == {dead._boot_id: "dead", alive._boot_id: "running"}
    assert ledger.events() == ["worker_died"]


def test_a_living_worker_is_not_dead(ledger: Ledger, born: Callable[[], LifeSign]) -> None:
    """A worker that beats is alive, also while it drains."""
    born().beat("draining")
    assert ledger.sweep().dead_workers == ()


def test_a_stopped_worker_is_not_dead(ledger: Ledger) -> None:
    """A worker that ended in order is not declared dead, and leaves no file behind."""
    sign = LifeSign(ledger.engine, uuid.uuid4(), "host:1", "0")
    sign.begin()
    sign.end()
    assert ledger.sweep().dead_workers == ()
    folder = liveness.lock_folder(ledger.engine)
    assert folder is None or list(folder.iterdir()) == []


def test_a_false_alarm_comes_back_to_life(ledger: Ledger, born: Callable[[], LifeSign]) -> None:
    """A worker that was taken for dead and beats again is running, and may claim."""
    if is_sqlite(ledger.engine):
        return  # there the kernel tells, and is not wrong
    sign = born()
    die(ledger, sign)
    ledger.sweep()
    sign.beat("running")
    assert worker_states(ledger) == {sign._boot_id: "running"}
    assert ledger.sweep().dead_workers == ()


def test_a_worker_dead_with_very_many_is_swept_in_parts(
    ledger: Ledger, born: Callable[[], LifeSign], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose claims fill more than one batch stays undead until the last of them is swept."""
    monkeypatch.setattr(sweeping, "_BATCH", 4)
    dead = born()
    ledger.book(*range(10))
    ledger.claim(owner=dead._boot_id)
    die(ledger, dead)
    ledger.sweep()
    assert ledger.states() == {"in_progress": 6, "unknown": 4}
    assert worker_states(ledger) == {dead._boot_id: "running"}
    ledger.sweep()
    ledger.sweep()
    assert ledger.states() == {"unknown": 10}
    assert worker_states(ledger) == {dead._boot_id: "dead"}


def test_many_sweep_at_once(ledger: Ledger) -> None:
    """Several workers that sweep at once write one attempt for each claim."""
    ledger.book(*range(100))
    ledger.claim()
    ledger.pass_time(LEASE_SECONDS + 1)
    ready = threading.Barrier(4)

    def sweep(_: int) -> int:
        ready.wait(timeout=10)
        return len(ledger.sweep().statuses)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(sweep, range(4))) == 100
    assert ledger.states() == {"unknown": 100}
    assert {row["attempts"] for row in ledger.rows(schema.job)} == {1}
    assert len(ledger.rows(schema.attempt)) == 100


def test_sweep_against_settle(ledger: Ledger) -> None:
    """Answers that come while their claims are swept all count once, whichever is first."""
    claimed = ledger.book_and_claim(*range(100))
    ledger.pass_time(LEASE_SECONDS + 1)
    ready = threading.Barrier(2)

    def settle() -> None:
        ready.wait(timeout=10)
        for i in range(0, 100, 10):
            ledger.settle(*((c, created(500 + i + k)) for k, c in enumerate(claimed[i : i + 10])))

    def sweep() -> None:
        ready.wait(timeout=10)
        for _ in range(10):
            ledger.sweep()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(settle), threads.submit(sweep)]:
            done.result(timeout=30)
    assert ledger.states() == {"succeeded": 100}
    assert {(row["attempts"], row["requests"]) for row in ledger.rows(schema.job)} == {(1, 1)}
    assert {row["outcome"] for row in ledger.rows(schema.attempt)} == {"created"}
    assert ledger.events() == []


def test_a_settled_job_is_not_swept(ledger: Ledger) -> None:
    """A claim that ended before its lease has nothing to sweep, whatever became of its worker."""
    [claim] = ledger.book_and_claim(1)
    ledger.settle((claim, refused()))
    ledger.pass_time(LEASE_SECONDS + 1)
    assert ledger.sweep().statuses == {}


def test_given_back_is_not_swept(ledger: Ledger) -> None:
    """A claim given back is nobody's, and does not lapse."""
    claims.give_back(ledger.engine, ledger.book_and_claim(1))
    ledger.pass_time(LEASE_SECONDS + 1)
    assert ledger.sweep().statuses == {}


def test_the_sweeper_is_told(ledger: Ledger, born: Callable[[], LifeSign]) -> None:
    """The event that declares a worker dead names it and who found out."""
    dead = born()
    die(ledger, dead)
    ledger.sweep()
    [event] = ledger.rows(schema.event)
    assert (event["kind"], event["actor"], str(dead._boot_id).encode() in event["detail"]) == (
        "worker_died",
        ACTOR,
        True,
    )


def test_a_dead_workers_lookups_are_due_at_once(ledger: Ledger, born: Callable[[], LifeSign]) -> None:
    """A job that a worker had taken for a look-up when it died is looked up by another without waiting."""
    [claim] = ledger.book_and_claim(1)
    ledger.pass_time(LEASE_SECONDS + 1)
    ledger.sweep()
    sign = born()
    assert unknowns.take_due(ledger.engine, ledger.company_id, 5, for_seconds=60, owner=sign._boot_id)
    assert not unknowns.has_due(ledger.engine, ledger.company_id)
    die(ledger, sign)
    ledger.sweep()
    [taken] = unknowns.take_due(ledger.engine, ledger.company_id, 5, for_seconds=60, owner=ledger.owner)
    assert taken.job_id == claim.job_id
