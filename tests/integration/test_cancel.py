"""Cancelling, from the intake to the ledger: never an order that may be at the vendor, and never silently forgotten."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from typer import Typer
from typer.testing import CliRunner

from orderrelay_producers import OrderProducer, commands
from orderrelay_shared import keys
from orderrelay_shared.intake import Cancel
from orderrelay_shared.job_status import UNHEARD_OF, JobStatus
from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import caution, schema
from orderrelay_workers.sidecar import intake as intake_module
from tests.integration.test_booked import booking
from tests.integration.test_intake import accept, intake, left, new_worker, worker
from tests.ledgers import ACME, an_order, created, cut_off, job_id
from tests.servers import RedisServer, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from orderrelay_workers.sidecar.intake import Intake
    from tests.integration.test_intake import BookingWorker
    from tests.ledgers import Ledger

__all__ = ["booking", "intake", "new_worker", "worker"]  # fixtures


@pytest.fixture
def server(redis_server: RedisServer, redis_url: str) -> RedisServer:
    """The Redis that `booking` reads."""
    return redis_server


def ask_to_cancel(client: redis.Redis, number: int, why: str = "") -> bytes:
    """Put a request into the stream."""
    fields: Any = Cancel(job_id(number), why).to_fields()
    return cast("bytes", client.xadd(keys.INTAKE, fields))


def published(client: redis.Redis, number: int) -> JobStatus | None:
    """What Redis has of a job."""
    word = client.get(keys.status(job_id(number)))
    return None if word is None else JobStatus.from_json(cast("bytes", word))


def test_a_waiting_order_is_cancelled(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """It is never claimed; who did it and why is kept, and its status is told."""
    accept(redis_client, 1, 2)
    intake.book_next()
    ask_to_cancel(redis_client, 1, "the customer changed their mind")
    assert intake.book_next() == 1
    assert [claim.external_id for claim in ledger.claim()] == ["order-2"]
    told = published(redis_client, 1)
    assert told is not None
    assert (told.state, told.reason) == (
        JobState.CANCELLED,
        "cancelled by its producer: the customer changed their mind",
    )
    [event] = ledger.rows(schema.event)
    assert (event["kind"], event["actor"], event["job_id"]) == ("cancelled_by_producer", "producer", job_id(1))
    assert json.loads(event["detail"]) == {"was": "waiting", "why": "the customer changed their mind"}
    assert left(redis_client) == (0, 0)


def test_one_batch_may_hold_both(
    intake: Intake, worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """An order and its cancel in one batch: booked, cancelled, and told as cancelled."""
    accept(redis_client, 1)
    ask_to_cancel(redis_client, 1)
    assert intake.book_next() == 2
    assert ledger.states() == {"cancelled": 1}
    told = published(redis_client, 1)
    assert told is not None
    assert told.state is JobState.CANCELLED


def test_again_changes_nothing(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """The request may be made, or be delivered, any number of times; the same order again stays cancelled."""
    accept(redis_client, 1)
    for _ in range(3):
        ask_to_cancel(redis_client, 1)
    accept(redis_client, 1)
    intake.book_next()
    ask_to_cancel(redis_client, 1)
    intake.book_next()
    assert (ledger.states(), ledger.events()) == ({"cancelled": 1}, ["cancelled_by_producer"])


def test_what_may_be_at_the_vendor_is_not_cancelled(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """In progress, unknown and succeeded: nothing happens, the state is told, and the refusal is kept."""
    accept(redis_client, 1, 2, 3)
    intake.book_next()
    claims = ledger.claim()
    ledger.settle((claims[1], cut_off()), (claims[2], created(1)))
    before = ledger.states()
    for number in (1, 2, 3):
        ask_to_cancel(redis_client, number)
    intake.book_next()
    assert ledger.states() == before == {"in_progress": 1, "succeeded": 1, "unknown": 1}
    assert ledger.events("cancel_refused") == ["cancel_refused"] * 3
    states = [status.state for number in (1, 2, 3) if (status := published(redis_client, number)) is not None]
    assert states == ["in_progress", "unknown", "succeeded"]
    ledger.settle((claims[0], created(2)))
    assert ledger.states() == {"succeeded": 2, "unknown": 1}


def test_in_cautious_mode_nothing_is_cancelled(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """A restored database may hold as waiting what is at the vendor."""
    accept(redis_client, 1)
    intake.book_next()
    now = datetime.now(UTC)
    with ledger.engine.begin() as connection:
        connection.execute(schema.ledger.insert().values(id=uuid.uuid4(), created_at=now, cautious_since=now))
    ask_to_cancel(redis_client, 1)
    intake.book_next()
    assert ledger.states() == {"waiting": 1}


def test_before_anybody_notices_that_the_database_went_back_nothing_is_cancelled(
    intake: Intake, worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """What waits may be at the vendor when Redis remembers more claims than the database does."""
    accept(redis_client, 1)
    intake.book_next()
    caution.remember(redis_client, worker.ledger_id, 1)
    ask_to_cancel(redis_client, 1)
    intake.book_next()
    assert (ledger.states(), ledger.events()) == ({"waiting": 1}, ["cancel_refused"])


def test_that_a_parked_order_was_looked_up_before_is_forgotten_in_cautious_mode(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """Since then a person may have had it sent, which the restored database does not know."""
    accept(redis_client, 1)
    intake.book_next()
    now = datetime.now(UTC)
    with ledger.engine.begin() as connection:
        connection.execute(schema.ledger.insert().values(id=uuid.uuid4(), created_at=now))
        connection.execute(schema.job.update().values(state="parked", cleared_at=now))
    caution.begin(ledger.engine, "restored", actor="ops", lease_seconds=60.0)
    ask_to_cancel(redis_client, 1)
    intake.book_next()
    assert ledger.states() == {"parked": 1}


def test_a_cancel_before_its_order_is_booked_waits(
    intake: Intake,
    new_worker: Callable[[], BookingWorker],
    ledger: Ledger,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The order is in the hands of a reader that has died: its cancel is tried until somebody has booked it."""
    monkeypatch.setattr(intake_module, "_LEAVING_MS", 0)
    monkeypatch.setattr(intake_module, "_LOOK_FOR_ABANDONED_SECONDS", 0.0)
    monkeypatch.setattr(intake_module, "_BLOCK_MS", 1)
    [entry] = accept(redis_client, 1)
    redis_client.xreadgroup(keys.INTAKE_GROUP, "dead", {keys.INTAKE: ">"})
    ask_to_cancel(redis_client, 1)
    for _ in range(5):
        intake.book_next()
    assert (ledger.states(), ledger.events()) == ({}, [])
    assert left(redis_client) == (2, 2)
    redis_client.xclaim(keys.INTAKE, keys.INTAKE_GROUP, "dead", 0, [entry], idle=11_000)
    other = new_worker().intake()
    for _ in range(4):
        other.book_next()
    assert (ledger.states(), ledger.events()) == ({"cancelled": 1}, ["cancelled_by_producer"])
    assert left(redis_client) == (0, 0)
    other.close()


def test_cancels_behind_an_entry_for_newer_workers_starve_nobody(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose order cannot be read here waits with it, and is no finding of the doctor's."""
    monkeypatch.setattr(intake_module, "_LEAVING_MS", 0)
    monkeypatch.setattr(intake_module, "_LOOK_FOR_ABANDONED_SECONDS", 0.0)
    accept(redis_client, 1, v="3")
    ask_to_cancel(redis_client, 1)
    accept(redis_client, 2)
    ask_to_cancel(redis_client, 2)
    for _ in range(4):
        intake.book_next()
    assert ledger.states() == {"cancelled": 1}
    assert left(redis_client) == (2, 2)


def test_more_waiting_cancels_than_are_taken_at_once_starve_nobody(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are taken over and left again without end, but new orders are booked in between."""
    monkeypatch.setattr(intake_module, "_LEAVING_MS", 0)
    monkeypatch.setattr(intake_module, "BATCH", 3)
    accept(redis_client, 1, v="3")
    for _ in range(8):
        ask_to_cancel(redis_client, 1)
    for _ in range(6):
        intake.book_next()
    accept(redis_client, 2)
    monkeypatch.setattr(intake, "_looked_for_abandoned", float("-inf"))
    for _ in range(4):
        intake.book_next()
    assert ledger.states() == {"waiting": 1}
    assert left(redis_client) == (9, 9)


def test_a_cancel_of_no_order_is_kept_and_told(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """Where nothing before it is under way any more, it is certain that there is no such job."""
    ask_to_cancel(redis_client, 1, "no such order")
    accept(redis_client, 2)
    intake.book_next()
    assert ledger.states() == {"waiting": 1}
    [event] = ledger.rows(schema.event)
    assert (event["kind"], event["job_id"]) == ("cancel_refused", job_id(1))
    assert redis_client.get(keys.status(job_id(1))) == UNHEARD_OF
    assert left(redis_client) == (0, 0)


def test_an_order_after_its_cancel_is_sent(intake: Intake, ledger: Ledger, redis_client: redis.Redis) -> None:
    """A request means what came before it, also where both are read together."""
    entry = ask_to_cancel(redis_client, 1)
    at_ms = int(entry.split(b"-")[0])
    wait_until(lambda: int(accept(redis_client, 9)[0].split(b"-")[0]) > at_ms, what="another millisecond has begun")
    accept(redis_client, 1)
    intake.book_next()
    assert ledger.job(job_id(1))["state"] == "waiting"


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one after the other"])
@pytest.mark.parametrize(("cancel_first", "becomes"), [(True, "waiting"), (False, "cancelled")])
def test_within_a_millisecond_the_stream_decides_which_came_first(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, cancel_first: bool, becomes: str, together: bool
) -> None:
    """A request to cancel an order that is not there yet, and that order, a blink of an eye apart."""
    at_ms = int(accept(redis_client, 9)[0].split(b"-")[0]) + 5
    order_place, cancel_place = (8, 7) if cancel_first else (7, 8)
    order: Any = an_order(1).envelope.to_fields()
    request: Any = Cancel(job_id(1), "changed my mind").to_fields()
    for place in sorted((order_place, cancel_place)):
        redis_client.xadd(keys.INTAKE, order if place == order_place else request, id=f"{at_ms}-{place}")
        if not together:
            intake.book_next()
    intake.book_next()
    assert ledger.job(job_id(1))["state"] == becomes
    assert left(redis_client) == (0, 0)


@pytest.mark.parametrize("cancel_first", [True, False])
def test_what_the_stream_counts_too_far_to_tell_is_asked_again(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, cancel_first: bool
) -> None:
    """Redis' clock was set back, so a thousand entries and more are of one millisecond; no order is lost by that."""
    at_ms = int(accept(redis_client, 9)[0].split(b"-")[0]) + 5
    order: Any = an_order(1).envelope.to_fields()
    request: Any = Cancel(job_id(1), "changed my mind").to_fields()
    for place, fields in ((1500, request if cancel_first else order), (1600, order if cancel_first else request)):
        redis_client.xadd(keys.INTAKE, fields, id=f"{at_ms}-{place}")
    intake.book_next()
    intake.book_next()
    assert (ledger.job(job_id(1))["state"], ledger.events()) == ("waiting", ["cancel_refused"])
    redis_client.xadd(keys.INTAKE, request, id=f"{at_ms + 1}-0")
    intake.book_next()
    assert ledger.job(job_id(1))["state"] == "cancelled"


def test_a_request_that_waited_does_not_mean_the_order_behind_it(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for entries before it; an order that came a blink of an eye later is booked meanwhile, and sent."""
    monkeypatch.setattr(intake_module, "_LEAVING_MS", 0)
    monkeypatch.setattr(intake_module, "_BLOCK_MS", 1)
    stuck = accept(redis_client, 9, v="99")
    at_ms = int(stuck[0].split(b"-")[0]) + 5
    order: Any = an_order(1).envelope.to_fields()
    request: Any = Cancel(job_id(1), "changed my mind").to_fields()
    redis_client.xadd(keys.INTAKE, request, id=f"{at_ms}-7")
    for _ in range(3):
        intake.book_next()
    assert (ledger.states(), left(redis_client)) == ({}, (2, 2))
    redis_client.xadd(keys.INTAKE, order, id=f"{at_ms}-8")
    for _ in range(3):
        intake.book_next()
    assert ledger.states() == {"waiting": 1}
    monkeypatch.setattr(intake_module, "_LOOK_FOR_ABANDONED_SECONDS", 0.0)
    for _ in range(3):
        intake.book_next()
    assert (ledger.events(), left(redis_client)[0]) == (["cancel_refused"], 1)
    assert ledger.job(job_id(1))["state"] == "waiting"


def test_a_crash_before_the_entry_is_gone_cancels_once(
    worker: BookingWorker, ledger: Ledger, redis_client: redis.Redis
) -> None:
    """Delivered again after its commit, the request finds its work done."""

    class Crashing(intake_module.Intake):
        crashes = 1

        def _delete(self, entry_ids: list[bytes]) -> None:
            if self.crashes:
                self.crashes -= 1
                raise ConnectionError
            super()._delete(entry_ids)

    intake = worker.intake(Crashing)
    intake.book_next()
    accept(redis_client, 1)
    ask_to_cancel(redis_client, 1)
    with pytest.raises(ConnectionError):
        intake.book_next()
    intake.book_next()
    assert (ledger.states(), ledger.events()) == ({"cancelled": 1}, ["cancelled_by_producer"])
    assert left(redis_client) == (0, 0)
    intake.close()


def test_claims_and_cancels_at_once_agree(
    intake: Intake, ledger: Ledger, redis_client: redis.Redis
) -> None:  # fmt: skip
    """Every order is either claimed or cancelled, whoever comes first."""
    accept(redis_client, *range(60))
    intake.book_next()
    for number in range(60):
        ask_to_cancel(redis_client, number)
    claimed: list[object] = []

    def claim() -> None:
        for _ in range(10):
            claimed.extend(ledger.claim(3))

    thread = threading.Thread(target=claim)
    thread.start()
    while redis_client.xlen(keys.INTAKE):
        intake.book_next()
    thread.join()
    assert ledger.states().get("cancelled", 0) + len(claimed) == 60
    assert ledger.states().get("in_progress", 0) == len(claimed)


def cancel(*words: str) -> tuple[int, str, str]:
    """Run the command: exit code, standard output, standard error."""
    app = Typer()
    app.command()(commands.cancel)
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.usefixtures("booking")
def test_the_command(ledger: Ledger, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0: cancelled. 1: not, with the state and what can be done. By job id or ExternalId."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    with OrderProducer(redis_url) as producer:
        for name in ("A-1", "A-2"):
            row = {"CustomerRowType": 2, "ProductNr": "1", "Quantity": 1, "Amount": 1}
            producer.enqueue(
                {"CustomerNr": "013", "InvoiceDate": "2026-01-30", "InvoiceRows": [row], "ExternalId": name},
                company=ACME,
                booked=True,
            )
    code, told, _ = cancel("A-1", "--company", "acme", "--why", "typed wrongly")
    assert (code, told.endswith("is cancelled\n")) == (0, True)
    code, told, _ = cancel("A-1", "--company", "acme", "--json")
    facts = json.loads(told.splitlines()[-1])
    assert (code, facts["cancelled"], facts["state"]) == (0, True, "cancelled")
    assert facts["reason"] == "cancelled by its producer: typed wrongly"
    [claim] = ledger.claim()
    with OrderProducer(redis_url) as producer:
        producer._client(5.0).delete(keys.status(claim.job_id))
    code, _, said = cancel(str(claim.job_id), "--company", "acme")
    assert (code, said) == (1, "not cancelled: it is in_progress\n")
    code, _, said = cancel("A-3", "--company", "acme")
    assert (code, said) == (1, "no job 'A-3' of company 'acme'\n")
    code, _, said = cancel("A-1", "--company", "a b")
    assert code == 2


def test_the_command_without_workers(
    redis_client: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3: nobody answers; the text says that it is requested where it is."""
    monkeypatch.setenv("ORDERRELAY_REDIS_URL", redis_url)
    assert cancel("A-1", "--timeout", "0.2")[0] == 3
    waiting = JobStatus(JobState.WAITING, ACME, "order-1", datetime(2026, 1, 30, tzinfo=UTC))
    redis_client.set(keys.status(job_id(1)), waiting.to_json(), ex=60)
    code, _, said = cancel("order-1", "--company", ACME, "--timeout", "0.3")
    assert code == 3
    assert said.startswith("requested, but within 0.3 s no worker has done it")
    assert redis_client.xlen(keys.INTAKE) >= 1
