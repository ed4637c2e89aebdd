"""Cautious mode in the ledger: a database that has forgotten claims sends nothing that was not looked up."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from orderrelay_shared import keys
from orderrelay_shared.states import JobState
from orderrelay_workers import people
from orderrelay_workers.ledger import caution, claims, companies, identity, liveness, schema, unknowns
from orderrelay_workers.ledger.caution import LedgerWentBack
from orderrelay_workers.ledger.engine import reading
from orderrelay_workers.ledger.people import decide
from tests.ledgers import ACME, ACTOR, LEASE_SECONDS, answered, created, cut_off, job_id, not_sent, open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from orderrelay_workers.ledger.claims import Claim
    from tests.ledgers import Ledger

ABSENT = b"[]"


@pytest.fixture
def working(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger in which the claiming worker is registered, as a real one is."""
    identity.ledger_id(ledger.engine)
    sign = liveness.LifeSign(ledger.engine, ledger.owner, "host:1", "0")
    sign.begin()
    yield ledger
    sign.end()


def claim(ledger: Ledger, remembered: int | None, alias: str = ACME) -> list[Claim]:
    """Claim as a worker does."""
    return claims.claim(
        ledger.engine, ledger.company_id, 100, owner=ledger.owner, lease_seconds=LEASE_SECONDS,
        alias=alias, remembered=remembered,
    )  # fmt: skip


def standing(ledger: Ledger) -> caution.Standing:
    """What the ledger says of itself."""
    with reading(ledger.engine) as connection:
        return caution.read_standing(connection)


def begin(ledger: Ledger, reason: str = "test", seen: caution.Standing | None = None) -> caution.Standing | None:
    """Begin cautious mode."""
    return caution.begin(ledger.engine, reason, actor=ACTOR, lease_seconds=LEASE_SECONDS, seen=seen)


def look_up_first(ledger: Ledger) -> int:
    """What the promoter does; gives how many orders were moved."""
    return len(caution.doubt_waiting(ledger.engine, [ledger.company_id], lease_seconds=LEASE_SECONDS))


def prove_absent(ledger: Ledger, number: int) -> None:
    """Two look-ups find nothing, each when it may count."""
    for _ in range(2):
        ledger.pass_time(300)
        unknowns.take_due(ledger.engine, ledger.company_id, 100, for_seconds=1)
        ledger.look_up(job_id(number), ABSENT)
    ledger.pass_time(300)


def test_claims_are_counted_over_all_workers(working: Ledger) -> None:
    """Each claim says how many there have been, whoever made them; a restart begins at no lower count."""
    working.book(1, 2, 3)
    assert [c.claims for c in claim(working, None)] == [3, 3, 3]
    working.owner = uuid.uuid4()
    liveness.LifeSign(working.engine, working.owner, "host:2", "0").appear()
    working.book(4)
    assert [c.claims for c in claim(working, 3)] == [4]
    assert standing(working).claims == 4


def test_a_lower_count_than_remembered_claims_nothing(working: Ledger) -> None:
    """What waits may have been sent by claims that the database has forgotten."""
    working.book(1)
    with pytest.raises(LedgerWentBack, match="counts 0 claims, but there were 5"):
        claim(working, 5)
    assert working.states() == {"waiting": 1}
    assert standing(working).claims == 0


def test_a_worker_that_the_database_does_not_know_claims_nothing(working: Ledger) -> None:
    """A backup from before this worker's start has no row of it."""
    working.book(1)
    working.owner = uuid.uuid4()
    with pytest.raises(LedgerWentBack, match="no longer knows this worker"):
        claim(working, None)
    assert working.states() == {"waiting": 1}


def test_a_company_number_that_means_another_company_claims_nothing(working: Ledger) -> None:
    """After a restore a number may be given to another company, whose orders must not go out under this one's keys."""
    working.book(1)
    with pytest.raises(LedgerWentBack):
        claim(working, None, alias="beta")
    assert working.states() == {"waiting": 1}


def test_another_timeline_claims_nothing(working: Ledger) -> None:
    """On PostgreSQL a restore or a failover begins a new timeline; SQLite has none."""
    working.book(1)
    if working.engine.dialect.name == "sqlite":
        assert standing(working).timeline is None
        return
    assert standing(working).timeline == 1
    with working.engine.begin() as connection:
        connection.execute(sa.update(schema.ledger).values(timeline=7))
    with pytest.raises(LedgerWentBack, match="timeline 1, no longer on 7"):
        claim(working, None)
    begin(working)
    assert standing(working).known_timeline == 1


def test_a_server_that_does_not_tell_its_timeline_is_used_all_the_same(working: Ledger) -> None:
    """Some hosted PostgreSQLs do not; the count still tells."""
    working.engine.update_execution_options(tells_timeline=False)
    assert standing(working).timeline is None
    working.book(1)
    assert len(claim(working, 0)) == 1


def test_in_cautious_mode_an_order_is_claimed_only_after_its_look_ups(working: Ledger) -> None:
    """Booked before or after the mode began: first looked up, then, proved absent, sent."""
    working.book(1)
    begin(working)
    working.book(2)
    assert claim(working, None) == []
    assert claims.due_companies(working.engine, {working.company_id: ACME}) == []
    assert look_up_first(working) == 2
    assert working.states() == {"unknown": 2}
    prove_absent(working, 1)
    working.look_up(job_id(2), b"[4711]")
    assert [c.job_id for c in claim(working, None)] == [job_id(1)]
    assert working.job(job_id(2))["vendor_id"] == 4711


def test_what_was_cleared_once_is_claimed_again_without_another_look_up(working: Ledger) -> None:
    """The vendor refuses the connection: the order still is not there, and needs no new proof."""
    working.book(1)
    begin(working)
    look_up_first(working)
    prove_absent(working, 1)
    [claimed] = claim(working, None)
    working.settle((claimed, not_sent()))
    working.pass_time(10)
    assert look_up_first(working) == 0
    assert len(claim(working, None)) == 1


def test_beginning_anew_makes_earlier_look_ups_worthless(working: Ledger) -> None:
    """A second failover may have forgotten what was sent since the first one's look-ups."""
    working.book(1)
    begin(working)
    look_up_first(working)
    prove_absent(working, 1)
    begin(working)
    working.pass_time(300)
    assert claim(working, None) == []
    assert look_up_first(working) == 1


def test_a_clock_that_is_behind_after_the_failover_clears_nothing(working: Ledger) -> None:
    """What was cleared by the old primary's clock lies in the future of the new one's, and still counts no more."""
    working.book(1)
    begin(working)
    look_up_first(working)
    prove_absent(working, 1)
    working.set(job_id(1), cleared_at=datetime.now(UTC) + timedelta(minutes=5))
    begin(working)
    assert claim(working, None) == []
    assert look_up_first(working) == 1


def test_a_request_of_a_forgotten_claim_may_still_be_out_for_a_lease(working: Ledger) -> None:
    """An empty list right after the mode began proves nothing, not even for orders that were unknown already."""
    claimed = working.book_and_claim(1, 2)
    working.settle((claimed[0], cut_off()))
    working.pass_time(300)
    working.look_up(job_id(1), ABSENT)
    assert working.job(job_id(1))["absent_at"] is not None
    before = standing(working)
    begin(working)
    after = standing(working)
    assert after.since is not None
    assert before.since is None
    for number in (1, 2):
        job = working.job(job_id(number))
        assert (job["lease_until"] - after.since).total_seconds() == pytest.approx(LEASE_SECONDS)
        assert job["absent_at"] is None
    working.look_up(job_id(1), ABSENT)
    assert working.job(job_id(1))["absent_at"] is None
    assert working.job(job_id(1))["state"] == JobState.UNKNOWN


def test_of_several_who_notice_one_begins(working: Ledger) -> None:
    """Whoever saw the ledger as it was before has nothing to add: one alarm."""
    seen = standing(working)
    assert begin(working, "first", seen) is not None
    assert begin(working, "second", seen) is None
    assert standing(working).reason == "first"
    assert working.events("cautious_began") == ["cautious_began!"]


def test_its_end_still_looks_up_what_waits(working: Ledger) -> None:
    """However early a person ends it: only what is booked afterwards goes out without a look-up."""
    working.book(1)
    begin(working)
    assert caution.count_not_looked_up(working.engine) == 1
    assert caution.end(working.engine, actor=ACTOR, lease_seconds=LEASE_SECONDS)
    working.book(2)
    assert [c.job_id for c in claim(working, None)] == [job_id(2)]
    assert working.job(job_id(1))["state"] == JobState.UNKNOWN
    assert standing(working).since is None
    assert not caution.end(working.engine, actor=ACTOR, lease_seconds=LEASE_SECONDS)
    assert working.events() == ["cautious_began!", "cautious_ended"]


def test_what_is_booked_while_it_ends_is_looked_up_too(working: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the last short transaction and the one that ends the mode."""
    begin(working)
    original = caution.doubt_waiting

    def and_then_book(*args: Any, **kwargs: Any) -> Any:
        moved = original(*args, **kwargs)
        working.book(1)
        return moved

    monkeypatch.setattr(caution, "doubt_waiting", and_then_book)
    caution.end(working.engine, actor=ACTOR, lease_seconds=LEASE_SECONDS)
    assert working.states() == {"unknown": 1}


def test_a_persons_word_clears_an_order(working: Ledger) -> None:
    """Where there is no look-up, "not created" is believed in cautious mode too, else it would be parked for ever."""
    [claimed] = working.book_and_claim(1)
    working.settle((claimed, cut_off()))
    working.pass_time(300)
    begin(working)
    working.pass_time(LEASE_SECONDS + 1)
    unknowns.park_all(working.engine, working.company_id, actor=ACTOR)
    vouched = partial(people.resend, has_lookup=False, surely_not_created=True)
    decide(working.engine, [job_id(1)], lambda job, now, _: vouched(job, now, "looked"), actor=ACTOR)
    assert look_up_first(working) == 0
    assert len(claim(working, None)) == 1


def test_without_a_look_up_what_waits_is_parked_once_no_request_can_be_out(working: Ledger) -> None:
    """A person decides then, as about every order of which nobody knows."""
    working.book(1)
    begin(working)
    look_up_first(working)
    unknowns.park_all(working.engine, working.company_id, actor=ACTOR)
    assert working.states() == {"unknown": 1}
    working.pass_time(LEASE_SECONDS + 1)
    unknowns.park_all(working.engine, working.company_id, actor=ACTOR)
    assert working.states() == {"parked": 1}


def test_an_answer_to_a_forgotten_order_is_told_with_all_evidence(working: Ledger) -> None:
    """The request came to its end after the restore, and its job is not in the database any more."""
    [claimed] = working.book_and_claim(1)
    with working.engine.begin() as connection:
        for table in (schema.revision, schema.order_key, schema.job):
            connection.execute(sa.delete(table))
    working.settle((claimed, created(4711)))
    [event] = working.rows(schema.event)
    assert (event["kind"], event["alarm"], event["job_id"]) == ("answer_of_forgotten_order", True, job_id(1))
    assert b'"vendor_id":4711' in event["detail"]


def test_redis_remembers_the_count_and_is_refilled(working: Ledger, redis_client: redis.Redis) -> None:
    """A wiped Redis takes what the database says; a lower database than Redis raises."""
    ledger_id = identity.ledger_id(working.engine)
    working.book(1, 2)
    claim(working, None)
    caution.check(working.engine, redis_client, ledger_id)
    assert caution.recall(redis_client, ledger_id) == 2
    redis_client.flushall()
    caution.check(working.engine, redis_client, ledger_id)
    caution.remember(redis_client, ledger_id, 1)
    assert caution.recall(redis_client, ledger_id) == 2
    caution.remember(redis_client, ledger_id, 9)
    with pytest.raises(LedgerWentBack) as raised:
        caution.check(working.engine, redis_client, ledger_id)
    begun = begin(working, str(raised.value), raised.value.standing)
    assert begun is not None
    caution.forget(redis_client, ledger_id, begun)
    assert redis_client.zscore(keys.CLAIMS, ledger_id.hex) == 2
    assert caution.check(working.engine, redis_client, ledger_id).since is not None


def test_the_first_check_notes_the_timeline(working: Ledger, redis_client: redis.Redis) -> None:
    """From then on another one is noticed."""
    caution.check(working.engine, redis_client, identity.ledger_id(working.engine))
    assert standing(working).known_timeline == standing(working).timeline


def test_a_look_up_that_was_asked_before_it_began_clears_nothing(working: Ledger) -> None:
    """The second empty list, asked before the failover and settled after it, is not believed."""
    [claimed] = working.book_and_claim(1)
    working.settle((claimed, cut_off()))
    working.pass_time(300)
    working.look_up(job_id(1), ABSENT)
    working.pass_time(300)
    begin(working)
    working.look_up(job_id(1), ABSENT)  # asked five seconds from now, well before the lease's end
    assert working.job(job_id(1))["state"] == JobState.UNKNOWN


def test_companies_that_nobody_serves_here_are_left_alone(working: Ledger) -> None:
    """The promoter moves what its own companies have; others' workers do theirs."""
    other = companies.ensure(working.engine, ["beta"])["beta"]
    working.book(1)
    begin(working)
    assert caution.doubt_waiting(working.engine, [other], lease_seconds=LEASE_SECONDS) == {}


def test_the_answer_of_the_vendor_is_the_same_in_the_mode(working: Ledger) -> None:
    """Looked up, sent, created: an order's ordinary end."""
    working.book(1)
    begin(working)
    look_up_first(working)
    prove_absent(working, 1)
    [claimed] = claim(working, None)
    working.settle((claimed, answered(200, b'{"Success": true, "Keys": [1], "Strings": ["1"]}')))
    assert working.states() == {"succeeded": 1}


def test_a_late_not_sent_does_not_decide_after_the_mode_has_ended(working: Ledger) -> None:
    """A later claim that was forgotten may have created the order, so it is looked up although this sent nothing."""
    [first] = working.book_and_claim(1)
    begin(working)
    assert caution.end(working.engine, actor=ACTOR, lease_seconds=LEASE_SECONDS)
    claims.give_back(working.engine, [first])
    assert working.states() == {"unknown": 1}
    assert claim(working, None) == []


def test_an_end_does_not_end_a_mode_begun_anew(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database is found to have gone back once more, the end of the first mode leaves the second on."""
    doubt = caution._doubt
    with open_ledger(postgres_url) as ledger:  # on SQLite nobody else writes meanwhile
        identity.ledger_id(ledger.engine)
        begin(ledger)

        def begun_anew(*arguments: Any) -> object:
            monkeypatch.undo()
            moved = doubt(*arguments)
            begin(ledger, "once more")
            return moved

        monkeypatch.setattr(caution, "_doubt", begun_anew)
        assert not caution.end(ledger.engine, actor=ACTOR, lease_seconds=LEASE_SECONDS)
        assert standing(ledger).reason == "once more"
        assert ledger.events("cautious_ended") == []
