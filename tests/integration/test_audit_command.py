"""The commands `orderrelay audit list|show|stats`, on both databases."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from orderrelay_shared import ids, wire
from orderrelay_shared.states import JobState
from orderrelay_workers.ledger import booking, companies, settling, sweeping
from orderrelay_workers.vendor.answers import read_order_answers
from tests.integration.booked_orders import (
    ROWS,
    WORKER,
    Ledger,
    created,
    exchange,
    json_lines,
    orderrelay,
    refused,
)
from tests.servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orderrelay_workers.ledger.claims import Claim


@pytest.fixture
def ledger(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger, named in the environment."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", database_url)
    opened = Ledger(database_url)
    yield opened
    opened.engine.dispose()


def listed(*words: object) -> list[str]:
    """The ExternalIds of a list, in its order."""
    return [line["external_id"] for line in json_lines(orderrelay("audit", "list", "--json", *words))]


def shown(*words: object) -> dict[str, Any]:
    """One order as an object; numbers are exact."""
    result = orderrelay("audit", "show", "--json", *words)
    assert result.exit_code == 0, result.stderr
    return cast("dict[str, Any]", wire.loads(result.stdout))


def text_of(*words: object) -> str:
    """What a command prints for people, its words one space apart."""
    result = orderrelay(*words)
    assert result.exit_code == 0, result.stderr
    return " ".join(result.stdout.split())


# --- list


def test_orders_are_listed_newest_first(ledger: Ledger) -> None:
    """The order booked last comes first."""
    for name in ("A-1", "A-2", "A-3"):
        ledger.book(name)
    assert listed() == ["A-3", "A-2", "A-1"]


def test_every_order_is_on_one_page_only(ledger: Ledger) -> None:
    """Pages that go on behind a cursor show all orders once, also those booked in the same instant."""
    ledger.book(*(f"A-{number}" for number in range(7)))
    ledger.book("A-7")
    seen: list[str] = []
    after: list[str] = []
    while page := json_lines(orderrelay("audit", "list", "--json", "--limit", "3", *after)):
        seen += [line["external_id"] for line in page]
        after = ["--after", page[-1]["cursor"]]
    assert sorted(seen) == [f"A-{number}" for number in range(8)]
    assert seen[0] == "A-7"


def test_orders_booked_meanwhile_do_not_shift_pages(ledger: Ledger) -> None:
    """The second page is the same whatever came after the first was read."""
    ledger.book("A-1")
    ledger.book("A-2")
    (first,) = json_lines(orderrelay("audit", "list", "--json", "--limit", "1"))
    ledger.book("A-3")
    assert listed("--after", first["cursor"]) == ["A-1"]


def test_people_are_told_of_the_next_page(ledger: Ledger) -> None:
    """A page that is not the last ends with the cursor of the next, on stderr."""
    ledger.book("A-1", "A-2")
    page = orderrelay("audit", "list", "--limit", "1")
    cursor = page.stderr.rsplit(maxsplit=1)[-1]
    rest = orderrelay("audit", "list", "--after", cursor)
    assert sum(name in page.stdout + rest.stdout for name in ("A-1", "A-2")) == 2
    assert rest.stderr == ""


def test_a_state_and_a_company_are_filters(ledger: Ledger) -> None:
    """Only orders of the company in that state are listed."""
    ledger.book("A-1")
    ledger.answer(refused())
    ledger.book("A-2")
    ledger.book("B-1", company="beta")
    assert listed("--company", "acme", "--state", "rejected") == ["A-1"]
    assert listed("--company", "Beta") == ["B-1"]
    assert listed("--state", "waiting") == ["B-1", "A-2"]


def test_external_id_and_order_number_are_filters(ledger: Ledger) -> None:
    """An ExternalId is found in any company and letter case; an order number as the vendor gave it."""
    ledger.book("A-1")
    ledger.answer(created("211"))
    ledger.book("A-1", company="beta")
    ledger.book("A-2")
    assert listed("--external-id", "a-1") == ["A-1", "A-1"]
    assert listed("--external-id", "a-1", "--company", "beta") == ["A-1"]
    assert listed("--order-number", "211") == ["A-1"]


@pytest.mark.parametrize(("option", "expected"), [("--since", ["A-1"]), ("--until", [])])
@pytest.mark.parametrize("spelled", ["2h", "{:%Y-%m-%dT%H:%M:%S}", "{:%Y-%m-%dT%H:%M:%S%z}"])
def test_times_are_filters(ledger: Ledger, option: str, expected: list[str], spelled: str) -> None:
    """A time is so long ago, or an ISO time that is UTC unless it says otherwise."""
    ledger.book("A-1")
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)
    assert listed(option, spelled.format(two_hours_ago)) == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--since", "yesterday"), "--since 'yesterday' is no time"),
        (("--after", "7"), "--after '7' is no cursor"),
        (("--alarms", "--after", "x"), "--after 'x' is no cursor"),
        (("--alarms", "--state", "waiting"), "--state goes with orders"),
    ],
)
def test_wrong_usage_ends_with_2(ledger: Ledger, words: tuple[str, ...], told: str) -> None:
    """What cannot be meant is told in one line."""
    result = orderrelay("audit", "list", *words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert told in result.stderr


def test_an_unknown_company_names_the_known_ones(ledger: Ledger) -> None:
    """A misspelt company is no empty list."""
    ledger.book("A-1")
    result = orderrelay("audit", "list", "--company", "amce")
    assert (result.exit_code, result.stderr) == (1, "company 'amce' is not in the ledger; known: acme\n")


def doubled(ledger: Ledger) -> None:
    """An order that the vendor has twice."""
    ledger.book("A-1")
    ledger.answer(None)
    ledger.look_up(b"[7, 8]")


def test_alarms_are_listed_newest_first(ledger: Ledger) -> None:
    """An alarm tells its kind, its company and its order's job; nothing else is listed."""
    doubled(ledger)
    booking.set_aside(ledger.engine, "1-1", {"b": b"\xff"}, "DataError", actor="worker test:1")
    lines = json_lines(orderrelay("audit", "list", "--alarms", "--json"))
    assert [(line["kind"], line["company"], line["job"]) for line in lines] == [
        ("set_aside", None, None),
        ("doubled", "acme", str(ids.job_id("acme", "A-1"))),
    ]
    (rest,) = json_lines(orderrelay("audit", "list", "--alarms", "--after", lines[0]["cursor"], "--json"))
    assert rest["kind"] == "doubled"


def test_what_was_set_aside_is_listed_with_its_bytes(ledger: Ledger) -> None:
    """Nothing that was accepted is lost: the entry's bytes are there."""
    doubled(ledger)
    booking.set_aside(ledger.engine, "1-1", {"b": b"\xff"}, "DataError", actor="worker test:1")
    (line,) = json_lines(orderrelay("audit", "list", "--set-aside", "--json"))
    assert line["detail"]["reason"] == "DataError"
    assert base64.b64decode(line["detail"]["fields_base64"]["b"]) == b"\xff"
    assert "DataError" in text_of("audit", "list", "--set-aside")


# --- show


def test_an_order_is_found_by_each_of_its_names(ledger: Ledger) -> None:
    """Job id, ExternalId (in any letter case) and order number mean the same order."""
    (job,) = ledger.book("A-1")
    ledger.answer(created("211"))
    assert {shown(name)["job"] for name in (job, "a-1", "211")} == {str(job)}


def test_a_name_of_several_orders_picks_none(ledger: Ledger) -> None:
    """Where a name may mean two orders, both are named and the command ends with 1."""
    jobs = ledger.book("A-1") + ledger.book("A-1", company="beta")
    result = orderrelay("audit", "show", "A-1")
    assert result.exit_code == 1
    assert all(str(job) in result.stderr for job in jobs)
    assert shown("A-1", "--company", "beta")["job"] == str(jobs[1])


def test_an_order_number_that_is_an_external_id_picks_none(ledger: Ledger) -> None:
    """An order must not be told for another only because their numbers are alike."""
    ledger.book("A-1")
    ledger.answer(created("211"))
    ledger.book("211")
    assert orderrelay("audit", "show", "211").exit_code == 1


def test_no_such_order(ledger: Ledger) -> None:
    """An unknown name ends with 1, and the command that shows what there is."""
    result = orderrelay("audit", "show", "A-1")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.endswith("orderrelay audit list --since 1h\n")


def test_a_succeeded_order_on_a_page(ledger: Ledger) -> None:
    """Somebody in finance reads what was ordered, what happened and where it is."""
    ledger.book("A-1", OrderDate="2026-01-31", DeliveryDate="2026-02-28", CustomerName="Berglunds")
    ledger.answer(created("211"))
    ledger.store_results()
    told = text_of("audit", "show", "A-1")
    assert "Ordernr: 211 Kund: 013 Berglunds Orderdatum: 2026-01-31 Leveransdatum: 2026-02-28" in told
    assert "Totalt belopp (computed): 1773.690" in told
    assert "Återstår att fakturera: –" in told
    assert "Rad Artikel Benämning Antal Pris Radbelopp (computed)" in told
    assert "1 100-5t Skolbil m väktare 3 350 1050" in told
    assert "2 360574 – 25.5 28.38 723.690" in told
    assert "3 – Ring innan – – –" in told
    assert "sent, 0.00 s, HTTP 200, created" in told
    assert "kundfakturor utav 1 har skapats/uppdaterats." in told
    assert told.endswith("The order is in SoftOne GO as order 211 (id 12614169). Nothing more happens.")


def test_an_order_that_shared_its_request_has_its_own_numbers(ledger: Ledger) -> None:
    """The answer names those of all; the page tells this order's own, its place, and what belongs to all of them."""
    ledger.book("A-1", "A-2", "A-3")
    ids = [7001, 7002, 7003]
    answer = created().replace(b"[\n  12614169\n ]", json.dumps(ids).encode())
    answer = answer.replace(b'[\n  "211"\n ]', json.dumps(["211", "212", "213"]).encode())
    claimed = ledger.claim()
    seen = exchange(answer)
    settlements = [
        settling.Settlement(c.job_id, c.company_id, c.token, c.number, c.body_digest, WORKER, seen, verdict)
        for c, verdict in zip(claimed, read_order_answers(seen, 3), strict=True)
    ]
    settling.settle(ledger.engine, settlements, ledger.policy, actor="worker test:1")
    ledger.store_results()
    second = next(line for line in json_lines(orderrelay("audit", "list", "--json")) if line["vendor_id"] == 7002)
    told = text_of("audit", "show", second["external_id"])
    assert "Order number: 212 Vendor id: 7002 Sent as: 2 of 3 orders in one request" in told
    assert "Reference: b2f6ea92-b277-4934-904d-9b30fc250c9f (of the whole request)" in told
    assert "Success true, 2 of 3 orders in one request, order number 212, id 7002, reference b2f6" in told
    assert "7001" not in told
    assert shown(second["external_id"])["shared_request"] == {"number": 2, "orders": 3}


def test_what_a_person_decided_is_told_in_words(ledger: Ledger) -> None:
    """Neither Python's None nor its True stands in what people read."""
    ledger.book("A-1")
    ledger.settle(ledger.claim(lease_seconds=0.0), b'{"Success":true,"Keys":null}')
    for _ in range(2):
        ledger.look_up(b"[]")
    resolved = orderrelay("parked", "resolve", "A-1", "--number", "211", "--why", "seen")
    assert resolved.stdout.endswith("1 order resolved\n")
    told = text_of("audit", "show", "A-1")
    assert "a person looked, and found the order at the vendor (why seen, order number 211)" in told
    assert not re.search(r"\b(None|True|False)\b", told)
    assert "Ordernr order number, Kund customer" in told


def test_a_row_amount_is_quantity_times_unit_price_else_amount(ledger: Ledger) -> None:
    """Radbelopp is exact, however many digits it takes."""
    long = {"CustomerRowType": 2, "ProductNr": "1", "Quantity": "999999.99999999", "Amount": "99999999.9999999"}
    ledger.book("A-1", InvoiceRows=[*ROWS, long])
    rows = shown("A-1")["rows"]
    exact = Decimal("99999999999998.900000000000001")
    assert [row["Radbelopp"] for row in rows] == [1050, Decimal("723.690"), None, exact]
    assert {"Ordernr", "Kund", "Orderdatum", "Leveransdatum", "Artikel", "Benämning", "Antal", "Pris"} <= rows[0].keys()


def test_the_amount_with_vat_is_told_only_where_vat_was_sent(ledger: Ledger) -> None:
    """Belopp inkl. moms is reckoned if every priced row has its VAT, and else is not known."""
    row = ROWS[0]
    ledger.book("A-1", InvoiceRows=[{**row, "VatAmount": "262.5"}])
    ledger.book("A-2", InvoiceRows=[{**row, "VatAmount": "262.5"}, row])
    told = [shown(name)["order"]["Belopp inkl. moms"] for name in ("A-1", "A-2")]
    assert told == [Decimal("1312.5"), None]


def test_json_has_the_answer_and_the_operation_result(ledger: Ledger) -> None:
    """The answer is verbatim, the operation result typed, with all 29 properties."""
    ledger.book("A-1")
    ledger.answer(created("211"))
    ledger.store_results()
    told = shown("A-1")
    assert told["answer"]["text"] == created("211").decode()
    result = told["operation_result"]
    assert len(result.keys() - {"unknown_properties"}) == 29
    assert (result["success"], result["keys"], result["strings"]) == (True, [12614169], ["211"])
    assert result["decimal_value"] == Decimal("0.1")
    assert json.loads(told["body"]["text"])["ExternalId"] == "A-1"


def test_an_answer_that_is_no_text_comes_as_base64(ledger: Ledger) -> None:
    """Whatever the vendor sent is told without loss."""
    ledger.book("A-1")
    ledger.answer(b"\xff\xfe<html>", status=500)
    told = shown("A-1")
    assert base64.b64decode(told["answer"]["base64"]) == b"\xff\xfe<html>"
    assert told["operation_result"] is None


def test_verbatim_prints_the_stored_bytes(ledger: Ledger) -> None:
    """`--verbatim` adds nothing, not even a line end."""
    answer = b'\xef\xbb\xbf{"Success": false, "ErrorNumber": 295, "ErrorMessage": "\xc3\xa5"}\r\n\xff'
    ledger.book("A-1")
    assert orderrelay("audit", "show", "A-1", "--verbatim").exit_code == 1
    ledger.answer(answer, status=400)
    result = orderrelay("audit", "show", "A-1", "--verbatim")
    assert (result.exit_code, result.stdout_bytes) == (0, answer)


def test_a_timeline_is_told_in_its_order(ledger: Ledger) -> None:
    """Acceptance, requests, look-ups and events stand one after another, each with who did it."""
    doubled(ledger)
    steps = shown("A-1")["timeline"]
    assert [step["what"] for step in steps][:4] == ["accepted", "booked", "attempt 1", "look-up 1"]
    assert sorted(step["what"] for step in steps[4:]) == ["ALARM", "event", "succeeded"]
    assert sorted(steps, key=lambda step: step["at"]) == steps
    assert {step["who"] for step in steps if step["alarm"]} == {"worker test:1"}


def test_why_an_unknown_order_was_sent_again_is_told(ledger: Ledger) -> None:
    """Between the last look-up that found nothing and the next attempt, the timeline says what they showed."""
    ledger.book("A-1")
    ledger.settle(ledger.claim(lease_seconds=0.0), None)
    for _ in range(2):
        ledger.look_up(b"[]")
    claimed: list[Claim] = []

    def is_claimed() -> bool:
        claimed.extend(ledger.claim())
        return bool(claimed)

    wait_until(is_claimed, what="the order is due again")
    ledger.settle(claimed, created())
    steps = shown("A-1")["timeline"]
    whats = [step["what"] for step in steps]
    assert whats[whats.index("look-up 2") : whats.index("attempt 2") + 1] == ["look-up 2", "waiting", "attempt 2"]
    assert steps[whats.index("waiting")]["text"].startswith("not created: look-ups")


def test_a_request_without_an_end_is_told_as_such(ledger: Ledger) -> None:
    """A worker that died leaves an attempt of which nobody knows how it ended."""
    ledger.book("A-1")
    ledger.claim(lease_seconds=0.0)
    sweeping.sweep(ledger.engine, actor="worker test:1")
    told = shown("A-1")
    (attempt,) = [step["text"] for step in told["timeline"] if step["what"] == "attempt 1"]
    assert attempt.startswith("perhaps sent, and nobody knows how it ended")
    assert told["summary"].startswith("It is not known whether the order is in SoftOne GO")


def ways(state: JobState, ledger: Ledger) -> None:
    """Bring order A-1 into a state."""
    ledger.book("A-1")
    match state:
        case JobState.IN_PROGRESS:
            ledger.claim()
        case JobState.SUCCEEDED:
            ledger.answer(None)
            ledger.look_up(b"[7]")
        case JobState.REJECTED:
            ledger.answer(refused())
        case JobState.UNKNOWN:
            ledger.answer(None)
        case JobState.PARKED:
            ledger.settle(ledger.claim(lease_seconds=0.0), b'{"Success":true,"Keys":null}')
            for _ in range(2):
                ledger.look_up(b"[]")
        case _:
            pass


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (JobState.WAITING, "The order is not in SoftOne GO. It is due: a worker sends it as soon as"),
        (JobState.IN_PROGRESS, "A worker is sending the order right now."),
        (JobState.SUCCEEDED, "The order is in SoftOne GO (id 7); its order number was not told. Nothing more happens."),
        (JobState.REJECTED, "SoftOne GO refused the order (refused by the vendor, error 295 (product not found): Art"),
        (JobState.REJECTED, "If the cause is mended in SoftOne GO: orderrelay parked resend. If the order is wrong:"),
        (JobState.UNKNOWN, "It is not sent again blindly: it is looked up by its ExternalId, next now."),
        (JobState.PARKED, "The order is parked for a person ("),
        (JobState.PARKED, "whether SoftOne GO has it, and say so: orderrelay parked resolve, or drop."),
    ],
)
def test_the_last_words_tell_where_the_order_is(ledger: Ledger, state: JobState, told: str) -> None:
    """Every state is told in a sentence, with what happens next."""
    ways(state, ledger)
    order = shown("A-1")
    assert order["state"] == state
    assert told in order["summary"]
    assert text_of("audit", "show", "A-1").endswith(" ".join(order["summary"].split()))


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (JobState.WAITING, "It was not sent."),
        (JobState.REJECTED, "It was sent once, and SoftOne GO refused it."),
        (JobState.PARKED, "It was sent once, and it is not certain that SoftOne GO does not have it."),
    ],
)
def test_of_an_order_that_was_given_up_it_is_told_whether_it_was_sent(
    ledger: Ledger, before: JobState, told: str
) -> None:
    """Nobody is told that an order was not sent when one of its requests has left."""
    ways(before, ledger)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE job SET state = 'cancelled'")
    assert told in shown("A-1")["summary"]


def test_a_look_up_that_proves_nothing_is_told(ledger: Ledger) -> None:
    """It answered, so it did not fail; but it did not find an order either that is surely there."""
    ways(JobState.UNKNOWN, ledger)
    ledger.look_up(b"[]", control=False)
    assert "No look-up has told anything certain since" in shown("A-1")["summary"]


def test_a_paused_company_is_why_its_order_waits(ledger: Ledger) -> None:
    """The sentence names the pause, and the command that ends it."""
    ledger.book("A-1")
    companies.pause(ledger.engine, "acme", "stock-taking", actor="me")
    assert shown("A-1")["summary"].endswith(
        "Company acme is paused (stock-taking): it is sent once somebody runs orderrelay resume acme."
    )


def test_an_alarm_is_told_last(ledger: Ledger) -> None:
    """An order with an alarm needs somebody, whatever its state."""
    doubled(ledger)
    assert shown("A-1")["summary"].endswith("Somebody must look at it: alarm doubled; see above.")


def test_what_the_vendor_says_cannot_steer_a_terminal(ledger: Ledger) -> None:
    """Control characters of an answer are not printed, and brackets are no markup."""
    ledger.book("A-1")
    ledger.answer(json.dumps({"Success": False, "ErrorNumber": 1, "ErrorMessage": "\x1b[31mred [bold]x"}).encode())
    ledger.store_results()
    told = text_of("audit", "show", "A-1")
    assert "\x1b" not in told
    assert "[bold]x" in told


# --- stats


def test_stats_always_have_every_state(ledger: Ledger) -> None:
    """An empty ledger counts nothing of everything."""
    result = orderrelay("audit", "stats", "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {told[str(state)] for state in JobState} == {0}
    assert told["oldest_waiting_seconds"] is None


def test_stats_count_what_there_is(ledger: Ledger) -> None:
    """Jobs by state, requests, look-ups, operation results, alarms and what was set aside."""
    doubled(ledger)
    ledger.book("A-2")
    ledger.answer(refused())
    ledger.book("A-3", "A-4")
    ledger.book("B-1", company="beta")
    ledger.store_results()
    booking.set_aside(ledger.engine, "1-1", {}, "DataError", actor="worker test:1")
    told = json.loads(orderrelay("audit", "stats", "--json").stdout)
    assert {name: number for name, number in told.items() if number and not name.endswith("_seconds")} == {
        "waiting": 3,
        "succeeded": 1,
        "rejected": 1,
        "attempts": 2,
        "lookups": 1,
        "operation_results": 1,
        "alarms": 2,
        "set_aside": 1,
    }
    assert told["oldest_waiting_seconds"] >= 0
    of_beta = json.loads(orderrelay("audit", "stats", "--company", "beta", "--json").stdout)
    assert (of_beta["waiting"], of_beta["attempts"], of_beta["alarms"]) == (1, 0, 0)
    assert "waiting: 3" in text_of("audit", "stats")


# --- without a ledger


def test_looking_makes_no_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no database file, none is made, and the text says what to run."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", f"sqlite:///{tmp_path}/none/orderrelay.db")
    result = orderrelay("audit", "list")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "orderrelay init" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_tables_is_told(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was never initialised is a matter of configuration."""
    monkeypatch.setenv("ORDERRELAY_DATABASE_URL", postgres_url)
    result = orderrelay("audit", "stats")
    assert result.exit_code == 2
    assert "run: orderrelay init" in result.stderr


def test_a_database_that_is_away_ends_the_process_with_3() -> None:
    """The real command ends with 3 and one line: no traceback, no password."""
    url = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/orders"
    done = subprocess.run(
        [Path(sys.executable).with_name("orderrelay"), "audit", "show", "A-1"],
        env={**os.environ, "ORDERRELAY_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "hunter2" not in done.stderr
