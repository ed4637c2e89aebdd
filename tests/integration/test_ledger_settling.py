"""Settling: state, attempt and events in one transaction, fenced, once; and in spite of bad answers and bad timing."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from orderrelay_shared.states import JobState
from orderrelay_workers import spool
from orderrelay_workers.ledger import booking, claims, schema, settling
from orderrelay_workers.settle_surely import settle_or_halve, settle_surely
from orderrelay_workers.vendor.exchange import Exchange, Failure
from tests.bench.scale_backlog import statements_of
from tests.ledgers import (
    ACTOR,
    LEASE_SECONDS,
    POLICY,
    Ledger,
    an_order,
    answered,
    created,
    cut_off,
    job_id,
    not_sent,
    open_ledger,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import sqlalchemy as sa

    from orderrelay_workers.decisions import Policy
    from orderrelay_workers.ledger.claims import Claim
    from orderrelay_workers.runtime import Runtime


@dataclass
class SettlingWorker:
    """As much of a worker as settling takes."""

    engine: sa.Engine
    spool_folder: Path
    boot_id: uuid.UUID = field(default_factory=uuid.uuid4)
    policy: Policy = POLICY
    actor: str = ACTOR
    draining: threading.Event = field(default_factory=threading.Event)
    companies: dict[str, object] = field(default_factory=dict[str, object])


@pytest.fixture
def worker(ledger: Ledger, tmp_path: Path) -> Runtime:
    """A worker that settles."""
    return cast("Runtime", SettlingWorker(ledger.engine, tmp_path / "spool"))


def test_a_success_is_one_transaction(ledger: Ledger) -> None:
    """A created order's job, its attempt with the verbatim answer, and its status come together."""
    [claim] = ledger.book_and_claim(1)
    settled = ledger.settle((claim, created(77)))
    [attempt] = ledger.rows(schema.attempt)
    assert settled.statuses[claim.job_id].state is JobState.SUCCEEDED
    assert ledger.job(claim.job_id)["vendor_id"] == 77
    assert (attempt["outcome"], attempt["answer"], attempt["answer_complete"]) == ("created", created(77).body, True)
    assert (attempt["body_digest"], attempt["stored_at"]) == (claim.body_digest, None)


@pytest.mark.parametrize(
    ("changed", "attempts", "alarms"),
    [
        ("token = '{other}'", 0, ["late_success"]),
        ("attempts = 1, requests = 1", 2, []),
        ("state = 'unknown'", 0, []),
    ],
)
def test_a_success_is_not_written_over_what_came_meanwhile(
    ledger: Ledger, changed: str, attempts: int, alarms: list[str]
) -> None:
    """A job that is no longer as it was claimed is read again, and so are those that are settled with it."""
    claimed = ledger.book_and_claim(1, 2)
    with ledger.engine.begin() as connection:
        change = changed.format(other=uuid.uuid4().hex)
        connection.exec_driver_sql(f"UPDATE job SET {change} WHERE external_id = 'order-1'")
    ledger.settle(*((claim, created(77 + number)) for number, claim in enumerate(claimed)))
    first, second = (ledger.job(claim.job_id) for claim in claimed)
    assert (first["state"], first["attempts"]) == ("succeeded", attempts)
    assert (second["state"], second["attempts"]) == ("succeeded", 1)
    assert [event["kind"] for event in ledger.rows(schema.event) if event["alarm"]] == alarms


@pytest.mark.parametrize(
    "moves",
    [
        ["UPDATE job SET rowid = rowid + 1000"],
        ["UPDATE job SET rowid = -rowid", "UPDATE job SET rowid = CASE rowid WHEN -1 THEN 2 WHEN -2 THEN 1 END"],
    ],
    ids=["elsewhere", "where another was"],
)
def test_a_job_that_sqlite_has_moved_is_found(sqlite_url: str, moves: list[str]) -> None:
    """VACUUM may number rows anew between claim and settle; then they are found by their ids."""
    with open_ledger(sqlite_url) as ledger:
        claimed = ledger.book_and_claim(1, 2)
        with ledger.engine.begin() as connection:
            for move in moves:
                connection.exec_driver_sql(move)
        ledger.settle(*((claim, created(77 + number)) for number, claim in enumerate(claimed)))
        jobs = [ledger.job(claim.job_id) for claim in claimed]
    assert [(job["state"], job["vendor_id"]) for job in jobs] == [("succeeded", 77), ("succeeded", 78)]


def test_sqlite_looks_for_no_job_by_its_random_id(sqlite_url: str) -> None:
    """To claim and to settle: that would read pages of an index that grows with all orders there ever were."""
    plans: list[str] = []
    with open_ledger(sqlite_url) as ledger:
        ledger.book(1, 2)

        def claim_and_settle() -> None:
            ledger.settle(*((claim, created(77 + number)) for number, claim in enumerate(ledger.claim())))

        asked = [(text, given) for text, given, _ in statements_of(ledger.engine, claim_and_settle)]
        with ledger.engine.connect() as connection:
            for text, given in asked:
                if text.startswith("UPDATE job"):
                    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given)
                    plans += [row[-1] for row in plan if "SEARCH job" in row[-1]]
    assert plans == ["SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"] * 2


def test_an_incomplete_answer_is_kept(ledger: Ledger) -> None:
    """What came of a broken answer is kept, and marked as incomplete."""
    [claim] = ledger.book_and_claim(1)
    ledger.settle((claim, cut_off()))
    [attempt] = ledger.rows(schema.attempt)
    assert (attempt["answer"], attempt["answer_complete"], attempt["outcome"]) == (b'{"Succ', False, "unknown")


ANSWERS: list[Callable[[], Exchange]] = [
    lambda: created(77),
    refused,
    cut_off,
    not_sent,
    lambda: answered(401, b""),
    lambda: answered(429, b""),
    lambda: answered(404, b""),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("swept", [False, True], ids=["on time", "after the sweep"])
def test_settling_again_changes_nothing(ledger: Ledger, answer: Callable[[], Exchange], swept: bool) -> None:
    """The same settlement again, as when a commit's reply was lost, leaves every table as it was."""
    [claim] = ledger.book_and_claim(1)
    if swept:
        ledger.pass_time(LEASE_SECONDS + 1)
        ledger.sweep()
    ledger.settle((claim, answer()))
    tables = (schema.job, schema.attempt, schema.event)
    before = [ledger.rows(table) for table in tables]
    ledger.settle((claim, answer()))
    ledger.settle((claim, answer()), (claim, answer()))
    assert [ledger.rows(table) for table in tables] == before


def test_twice_in_one_batch_is_once(ledger: Ledger) -> None:
    """A settlement that stands twice in one batch counts once."""
    [claim] = ledger.book_and_claim(1)
    ledger.settle((claim, answered(429, b"")), (claim, answered(429, b"")))
    assert (ledger.job(claim.job_id)["requests"], len(ledger.rows(schema.attempt))) == (1, 1)


@pytest.mark.parametrize("state", ["waiting", "parked", "rejected", "cancelled"])
def test_a_late_success_wins(ledger: Ledger, state: str) -> None:
    """A success wins from whatever its job has become meanwhile, with an alarm."""
    [claim] = ledger.book_and_claim(1)
    ledger.set(claim.job_id, state=state, token=None, owner=None)
    ledger.settle((claim, created(77)))
    assert ledger.job(claim.job_id)["state"] == "succeeded"
    assert ledger.events() == ["late_success!"]


def reclaim(ledger: Ledger, claim: Claim) -> Claim:
    """Another claim of the same job, as if the first had been taken for not created."""
    ledger.set(claim.job_id, state="waiting", token=None, owner=None)
    [again] = ledger.claim()
    return again


def test_a_late_success_under_another_claim_and_then_its_own(ledger: Ledger) -> None:
    """A late success ends the present claim's job; the present request's other order is told as doubled."""
    [first] = ledger.book_and_claim(1)
    second = reclaim(ledger, first)
    ledger.settle((first, created(77)))
    assert (ledger.job(first.job_id)["state"], ledger.job(first.job_id)["token"]) == ("succeeded", None)
    ledger.settle((second, created(78)))
    assert ledger.job(first.job_id)["vendor_id"] == 77
    assert ledger.events() == ["late_success!", "doubled!"]
    assert len(ledger.rows(schema.attempt)) == 2


def test_a_late_refusal_is_not_the_present_claims(ledger: Ledger) -> None:
    """A late "not created" under an old token neither ends nor costs the present claim; its attempt is kept."""
    [first] = ledger.book_and_claim(1)
    second = reclaim(ledger, first)
    before = ledger.job(first.job_id)
    ledger.settle((first, refused()))
    assert ledger.job(first.job_id) == before
    assert before["token"] == second.token
    assert [a["outcome"] for a in ledger.rows(schema.attempt)] == ["rejected"]


def test_a_late_not_sent_of_another_claim_does_nothing(ledger: Ledger) -> None:
    """A fenced-out NOT_CREATED under an old token leaves the present claim alone."""
    [first] = ledger.book_and_claim(1)
    second = reclaim(ledger, first)
    ledger.settle((first, not_sent(Failure.FENCED)))
    assert (ledger.job(first.job_id)["state"], ledger.job(first.job_id)["token"]) == ("in_progress", second.token)


def test_the_sweeps_attempt_gets_its_answer(ledger: Ledger) -> None:
    """An answer after the sweep fills in the attempt that the sweep wrote without one."""
    [claim] = ledger.book_and_claim(1)
    ledger.pass_time(LEASE_SECONDS + 1)
    ledger.sweep()
    [unanswered] = ledger.rows(schema.attempt)
    assert (unanswered["ended_at"], unanswered["body_digest"]) == (None, claim.body_digest)
    ledger.settle((claim, created(77)))
    [attempt] = ledger.rows(schema.attempt)
    assert (attempt["id"], attempt["answer"], attempt["stored_at"]) == (unanswered["id"], created(77).body, None)
    assert ledger.job(claim.job_id)["attempts"] == 1


def test_one_vendor_id_is_one_jobs(ledger: Ledger) -> None:
    """Two jobs of a batch that are told one vendor id: the first has it, the other is parked with an alarm."""
    first, second = ledger.book_and_claim(1, 2)
    ledger.settle((first, created(77)), (second, created(77)))
    assert ledger.states() == {"parked": 1, "succeeded": 1}
    assert ledger.events() == ["vendor_id_held!"]


def test_a_vendor_id_held_before_parks(ledger: Ledger) -> None:
    """A vendor id that a job of an earlier batch holds parks as well; in another company it is another order."""
    first, second = ledger.book_and_claim(1, 2)
    ledger.settle((first, created(77)))
    ledger.settle((second, created(77)))
    assert ledger.job(second.job_id)["state"] == "parked"
    booking.book(ledger.engine, [an_order(3, company="other")], actor=ACTOR)
    other_id = ledger.job(job_id(3, "other"))["company_id"]
    [other] = claims.claim(ledger.engine, other_id, 1, owner=ledger.owner, lease_seconds=40)
    ledger.settle((other, created(77)))
    assert ledger.job(other.job_id)["state"] == "succeeded"


@pytest.mark.parametrize("several", [1, 20])
def test_one_vendor_id_told_to_two_at_once(ledger: Ledger, worker: Runtime, several: int) -> None:
    """Two workers settle the same vendor ids at once, in opposite order: one job each has one, the others park."""
    ours, theirs = ledger.book_and_claim(*range(several)), ledger.book_and_claim(*range(100, 100 + several))
    ours.sort(key=lambda claim: claim.job_id)
    theirs.sort(key=lambda claim: claim.job_id, reverse=True)
    batches = [
        [ledger.end_of(claim, created(500 + i)) for i, claim in enumerate(ours)],
        [ledger.end_of(claim, created(500 + i)) for i, claim in enumerate(theirs)],
    ]
    ready = threading.Barrier(2)

    def settle_at_once(batch: list[settling.Settlement]) -> None:
        ready.wait(timeout=10)
        settle_surely(worker, batch, [])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(settle_at_once, batches))
    assert ledger.states() == {"parked": several, "succeeded": several}
    assert sorted(row["vendor_id"] for row in ledger.rows(schema.job) if row["vendor_id"]) == [
        500 + i for i in range(several)
    ]


@pytest.mark.parametrize("text", ["a\0b", "\0", "å\0\u2028"])
def test_nul_in_an_answer_is_no_obstacle(ledger: Ledger, text: str) -> None:
    """U+0000 in the vendor's texts is left out of text columns; the answer's bytes are kept as they came."""
    first, second = ledger.book_and_claim(1, 2)
    ledger.settle((first, refused(text)), (second, created(77, text)))
    reason = ledger.job(first.job_id)["reason"]
    assert "\0" not in reason
    assert ledger.states() == {"rejected": 1, "succeeded": 1}
    assert b"\\u0000" in ledger.rows(schema.attempt)[0]["answer"]


def test_nul_straight_into_the_reason(ledger: Ledger) -> None:
    """A reason that holds U+0000 or half a surrogate pair is stored without."""
    [claim] = ledger.book_and_claim(1)
    end = ledger.end_of(claim, refused())
    bad = replace(end, verdict=replace(end.verdict, reason="a\0b\ud800c"))
    settling.settle(ledger.engine, [bad], POLICY, actor=ACTOR)
    assert ledger.job(claim.job_id)["reason"] == "ab?c"


def bad_end(ledger: Ledger, claim: Claim) -> settling.Settlement:
    """A settlement that no database takes: its HTTP status is larger than any column."""
    return ledger.end_of(claim, replace(created(99), status=2**70, body=None))


def test_only_the_bad_answer_is_set_aside(ledger: Ledger, worker: Runtime) -> None:
    """One answer that cannot be stored is kept in a file and told; all others of the batch are settled."""
    claimed = ledger.book_and_claim(*range(9))
    batch = [ledger.end_of(claim, created(100 + i)) for i, claim in enumerate(claimed)]
    batch[4] = bad_end(ledger, claimed[4])
    settled = settle_surely(worker, batch, [])
    assert settled is not None
    assert ledger.states() == {"in_progress": 1, "succeeded": 8}
    assert ledger.events() == ["answer_set_aside!"]
    assert [job for job, _ in settled.happenings] == [claimed[4].job_id]
    assert len(list((worker.spool_folder / "bad").iterdir())) == 1


def test_a_bad_answer_in_the_spool_stops_no_start(ledger: Ledger, worker: Runtime) -> None:
    """A spooled answer that cannot be stored is set aside at the replay; the others are settled, the file is gone."""
    first, second = ledger.book_and_claim(1, 2)
    spool.write(worker.spool_folder, uuid.uuid4(), [bad_end(ledger, first), ledger.end_of(second, created(77))])
    assert spool.replay(worker.spool_folder, lambda batch: settle_or_halve(worker, batch)) == 2
    assert ledger.states() == {"in_progress": 1, "succeeded": 1}
    assert list(worker.spool_folder.glob("*.jsonl")) == []


def test_replaying_the_spool_twice_changes_nothing(ledger: Ledger, worker: Runtime) -> None:
    """A spool that is replayed again, as after a crash between settle and removal, changes nothing."""
    first, second = ledger.book_and_claim(1, 2)
    batch = [ledger.end_of(first, created(77)), ledger.end_of(second, cut_off())]
    snapshots = []
    for _ in range(2):
        spool.write(worker.spool_folder, uuid.UUID(int=1), batch)
        spool.replay(worker.spool_folder, lambda replayed: settle_or_halve(worker, replayed))
        snapshots.append([ledger.rows(t) for t in (schema.job, schema.attempt, schema.event)])
    assert snapshots[0] == snapshots[1]
    assert ledger.states() == {"succeeded": 1, "unknown": 1}


def test_unsent_claims_go_back_with_the_settle(ledger: Ledger, worker: Runtime) -> None:
    """Settling a batch gives back the claims of which nothing was sent."""
    first, second = ledger.book_and_claim(1, 2)
    settle_surely(worker, [ledger.end_of(first, created(77))], [second])
    assert ledger.states() == {"succeeded": 1, "waiting": 1}


def test_a_job_that_is_not_there_is_passed_over(ledger: Ledger) -> None:
    """A settlement of a job that this ledger does not hold is ignored; the rest of its batch is settled."""
    [claim] = ledger.book_and_claim(1)
    stray = replace(ledger.end_of(claim, created(78)), job_id=uuid.uuid4())
    settling.settle(ledger.engine, [stray, ledger.end_of(claim, created(77))], POLICY, actor=ACTOR)
    assert ledger.states() == {"succeeded": 1}


def test_everything_at_once_deadlocks_nobody(ledger: Ledger, worker: Runtime) -> None:
    """Booking, claiming, sweeping and settling in many threads end, with every order created once in the books."""
    orders, created_ids, errors = 300, iter(range(1_000_000, 9_000_000)), list[BaseException]()
    ends_at = time.monotonic() + 12
    lock = threading.Lock()
    sent: dict[uuid.UUID, int] = {}

    def all_done() -> bool:
        states = ledger.states()
        return time.monotonic() > ends_at or states == {"succeeded": orders}

    def repeatedly(work: Callable[[int], object]) -> Callable[[], None]:
        def run() -> None:
            turn = 0
            try:
                while not all_done():
                    work(turn)
                    turn += 1
            except BaseException as error:  # noqa: BLE001  whatever it is, the test shall show it
                errors.append(error)

        return run

    def book(turn: int) -> None:
        numbers = range(turn * 17 % orders, min(turn * 17 % orders + 40, orders))
        booking.book(ledger.engine, [an_order(n) for n in numbers], actor=ACTOR)

    def work(turn: int) -> None:
        owner = uuid.uuid4()
        claimed = claims.claim(ledger.engine, ledger.company_id, 30, owner=owner, lease_seconds=0 if turn % 3 else 40)
        ends: list[settling.Settlement] = []
        for claim in claimed[::-1]:
            with lock:
                sent[claim.job_id] = sent.get(claim.job_id, 0) + 1
                ends.append(ledger.end_of(claim, created(next(created_ids))))
        settle_surely(worker, ends[::2], [])
        settle_surely(worker, ends[1::2], [])

    jobs: list[Any] = [book, book, work, work, work, lambda _: ledger.sweep(), lambda _: ledger.sweep()]
    threads = [threading.Thread(target=repeatedly(job)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert errors == []
    assert ledger.states() == {"succeeded": orders}
    assert set(sent.values()) == {1}
