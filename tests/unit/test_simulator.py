"""The simulator as a vendor in good health: its endpoints, rules of business, tokens, books and plan."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from orderrelay_workers.simulator import (
    Credentials,
    FaultPlan,
    PlanInvalid,
    Rule,
    RunningSimulator,
    running_simulator,
)
from orderrelay_workers.simulator.tokens import Tokens
from tests.unit.simulator_client import KEYS, call, log_in, look_up, order, post_order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDERS = "/Economy/Billing/Orders"
ORDER = "/Economy/Billing/Order"


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    """One simulator for all tests here."""
    credentials = Credentials(
        company_key=KEYS["companyApiKey"], connect_key=KEYS["connectApiKey"], password="secret", token=KEYS["token"]
    )
    with running_simulator(credentials=credentials, login_failure_seconds=0.05) as simulator:
        yield simulator


@pytest.fixture
def simulator(running: RunningSimulator) -> RunningSimulator:
    """The simulator in good health, its books empty."""
    running.set_plan(FaultPlan())
    running.books.reset()
    return running


def test_answer_is_the_documents_example(simulator: RunningSimulator) -> None:
    """The answer has the 29 properties of 3.3.1, in its order, with its values but the id, number and reference."""
    answer = post_order(simulator.url, order()).json
    example: dict[str, Any] = {
        "Success": True,
        "SuccessNumber": 0,
        "ErrorNumber": 0,
        "ErrorMessage": None,
        "InfoMessage": "\\n\\n kundfakturor utav 1 har skapats/uppdaterats.",
        "CanUserOverride": False,
        "IntegerValue": 0,
        "IntegerValue2": 0,
        "DecimalValue": 0.0,
        "StringValue": answer["StringValue"],
        "BooleanValue": False,
        "BooleanValue2": False,
        "DateTimeValue": "0001-01-01T00:00:00",
        "Value": None,
        "Value2": None,
        "Dates": None,
        "Keys": simulator.books.created()["A-1"],
        "Strings": [str(simulator.books.latest()[0].number)],
        "IdDict": None,
        "IntDict": None,
        "IntDict2": None,
        "StrDict": None,
        "StrDict2": None,
        "StrIntListDict": None,
        "ObjectsAffected": 1,
        "StackTrace": None,
        "Exception": None,
        "Modified": "0001-01-01T00:00:00",
        "ModifiedBy": None,
    }
    assert list(answer.items()) == list(example.items())
    assert len(answer["StringValue"]) == 36


def test_first_ids_and_numbers() -> None:
    """Ids begin at the document's 12614169, order numbers at 200."""
    with running_simulator(credentials=Credentials(token=KEYS["token"])) as simulator:
        answer = post_order(simulator.url, order()).json
    assert (answer["Keys"], answer["Strings"]) == ([12614169], ["200"])


def test_posting_twice_creates_twice(simulator: RunningSimulator) -> None:
    """The same ExternalId posted twice makes two orders, and the books list it as doubled."""
    keys = [post_order(simulator.url, order()).json["Keys"][0] for _ in range(2)]
    assert simulator.books.doubled() == {"A-1": keys}
    assert look_up(simulator.url, "A-1").json == keys


def test_array_of_two_orders(simulator: RunningSimulator) -> None:
    """An array of two orders is answered with two Keys, and the prepared answer's shape."""
    body = json.dumps([order("A"), order("B")]).encode()
    answer = call(simulator.url, "POST", ORDERS, KEYS, body).json
    assert simulator.books.created() == {"A": answer["Keys"][:1], "B": answer["Keys"][1:]}
    assert (answer["ObjectsAffected"], len(answer)) == (2, 29)


def test_singular_path_takes_an_object(simulator: RunningSimulator) -> None:
    """The singular path takes one order as an object."""
    assert call(simulator.url, "POST", ORDER, KEYS, json.dumps(order()).encode()).json["Success"] is True


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ORDERS, json.dumps(order()).encode()),
        (ORDER, json.dumps([order()]).encode()),
        (ORDERS, b"[]"),
        (ORDERS, b"[1]"),
        (ORDERS, b'[{"RowNr": 1,}]'),
        (ORDERS, b'[{"CustomerNr": "\xff"}]'),
        (ORDERS, b""),
    ],
)
def test_wrong_bodies_are_400(simulator: RunningSimulator, path: str, body: bytes) -> None:
    """A body that is not what the path takes, or no JSON, is answered 400."""
    assert call(simulator.url, "POST", path, KEYS, body).status == 400


def test_content_type_has_to_be_json(simulator: RunningSimulator) -> None:
    """Another content type is answered 415."""
    assert post_order(simulator.url, order(), content_type="text/plain").status == 415


def test_wrong_method_is_405(simulator: RunningSimulator) -> None:
    """GET on the order path is answered 405 with Allow."""
    seen = call(simulator.url, "GET", ORDERS, KEYS)
    assert (seen.status, seen.headers["allow"]) == (405, "POST")


def test_unknown_path_is_404(simulator: RunningSimulator) -> None:
    """A path that the vendor does not have is answered 404."""
    assert call(simulator.url, "POST", "/Economy/Billing/Invoices", KEYS).status == 404


def test_names_and_path_in_any_case(simulator: RunningSimulator) -> None:
    """Parameter names and paths are read in any case."""
    parameters = {name.upper(): value for name, value in KEYS.items()}
    assert call(simulator.url, "POST", ORDERS.lower(), parameters, json.dumps([order()]).encode()).status == 200


@pytest.mark.parametrize("name", ["CustomerNr", "InvoiceDate", "OriginType", "InvoiceRows"])
def test_mandatory_header_properties(simulator: RunningSimulator, name: str) -> None:
    """An order without a mandatory property is refused with 8 and its name, in Swedish."""
    value = order()
    del value[name]
    answer = post_order(simulator.url, value).json
    assert (answer["Success"], answer["ErrorNumber"]) == (False, 8)
    assert answer["ErrorMessage"] == f"Obligatoriskt fält saknas: {name}"
    assert (answer["Keys"], len(answer), simulator.books.created()) == ([], 29, {})


@pytest.mark.parametrize("name", ["CustomerRowType", "ProductNr", "Quantity", "Amount", "RowNr"])
def test_mandatory_row_properties(simulator: RunningSimulator, name: str) -> None:
    """A row without a mandatory property is refused with 8 and its place."""
    value: Any = order()
    del value["InvoiceRows"][0][name]
    answer = post_order(simulator.url, value).json
    assert (answer["ErrorNumber"], answer["ErrorMessage"].split(": ")[1]) == (8, f"InvoiceRows[0].{name}")


@pytest.mark.parametrize(
    ("changes", "row_changes", "number"),
    [
        ({"InvoiceRows": []}, {}, 8),
        ({"CustomerNr": 13}, {}, 10),
        ({"InvoiceDate": "30/1 2026"}, {}, 10),
        ({"InvoiceDate": 20260130}, {}, 10),
        ({"OriginType": 5}, {}, 10),
        ({"ExternalId": 7}, {}, 10),
        ({"InvoiceRows": {}}, {}, 10),
        ({"InvoiceRows": [1]}, {}, 10),
        ({}, {"CustomerRowType": 4}, 10),
        ({}, {"ProductNr": 1}, 10),
        ({}, {"ProductNr": ""}, 8),
        ({}, {"Quantity": "3"}, 10),
        ({}, {"Amount": True}, 10),
        ({}, {"RowNr": 1.5}, 10),
        ({}, {"CustomerRowType": 3, "Text": ""}, 8),
        ({"CustomerNr": "BLOCKED-7"}, {}, 26),
        ({}, {"ProductNr": "MISSING-7"}, 295),
    ],
)
def test_refusals(
    simulator: RunningSimulator, changes: dict[str, object], row_changes: dict[str, object], number: int
) -> None:
    """A wrong value, a blocked customer and a missing product are refused by number, and nothing is created."""
    value: Any = {**order(), **changes}
    if row_changes:
        value["InvoiceRows"][0].update(row_changes)
    answer = post_order(simulator.url, value).json
    assert (answer["Success"], answer["ErrorNumber"]) == (False, number)
    assert simulator.books.counts()["orders"] == 0


def test_blocked_customer_in_swedish(simulator: RunningSimulator) -> None:
    """A blocked customer is refused with the vendor's words."""
    answer = post_order(simulator.url, order(CustomerNr="BLOCKED")).json
    assert answer["ErrorMessage"] == "Kunden är spärrad"


def test_same_row_number_twice(simulator: RunningSimulator) -> None:
    """Two rows with one RowNr are refused with 10."""
    value: Any = order()
    value["InvoiceRows"] *= 2
    assert post_order(simulator.url, value).json["ErrorNumber"] == 10


def test_text_row_with_empty_fill_ins(simulator: RunningSimulator) -> None:
    """A text row with an empty ProductNr, 0 and 0 is taken."""
    row = {"CustomerRowType": 3, "ProductNr": "", "Quantity": 0, "Amount": 0, "RowNr": 1, "Text": "Hälsning"}
    assert post_order(simulator.url, order(InvoiceRows=[row])).json["Success"] is True


def test_login_gives_a_token_that_works(simulator: RunningSimulator) -> None:
    """A login is answered with a Token and a Message; the token lets an order in."""
    answer = log_in(simulator.url).json
    assert answer["Message"] == "Login successful, use token within 120 seconds"
    assert post_order(simulator.url, order(), token=answer["Token"]).status == 200


def test_wrong_password_is_200_without_token_and_late(simulator: RunningSimulator) -> None:
    """A failing login is answered 200, late, with a Message and no Token."""
    began = time.monotonic()
    seen = log_in(simulator.url, password="guess")
    assert time.monotonic() - began >= 0.05
    assert (seen.status, list(seen.json)) == (200, ["Message"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("companyApiKey", "CompanyApiKey Invalid"),
        ("connectApiKey", "ConnectApiKey Invalid"),
        ("token", "Invalid Token"),
    ],
)
def test_wrong_keys_are_401(simulator: RunningSimulator, name: str, text: str) -> None:
    """A wrong or missing key is 401 with a short text, for orders and look-ups."""
    wrong = {**KEYS, name: "wrong"}
    missing = {key: value for key, value in KEYS.items() if key != name}
    body = json.dumps([order()]).encode()
    seen = [call(simulator.url, "POST", ORDERS, keys, body) for keys in (wrong, missing)]
    seen.append(call(simulator.url, "GET", "/Economy/Billing/InvoiceIdsFromExternalId/", {**wrong, "type": 6}))
    assert [(one.status, one.body.decode()) for one in seen] == [(401, text)] * 3
    assert simulator.books.counts()["orders"] == 0


def test_ended_session_is_401(simulator: RunningSimulator) -> None:
    """A token whose session was ended is answered "Session Expired"."""
    token = log_in(simulator.url).json["Token"]
    simulator.end_sessions()
    assert post_order(simulator.url, order(), token=token).body == b"Session Expired"


def test_tokens_die_unused_and_slide_with_use() -> None:
    """A token not used within its first time dies; each use keeps it for the sliding time."""
    now = 1000.0
    tokens = Tokens(Credentials(), first_use_seconds=120, slide_seconds=300, clock=lambda: now)
    unused, used = tokens.issue("acme"), tokens.issue("acme")
    now = 1119.0
    assert tokens.refusal("acme", "connect", used) is None
    now = 1120.0
    assert tokens.refusal("acme", "connect", unused) == "Session Expired"
    now = 1418.0
    assert tokens.refusal("acme", "connect", used) is None
    now = 1718.0
    assert tokens.refusal("acme", "connect", used) == "Session Expired"


def test_token_belongs_to_one_company() -> None:
    """A token made for one company is invalid with another's key."""
    tokens = Tokens(Credentials())
    assert tokens.refusal("other", "connect", tokens.issue("acme")) == "Invalid Token"


def test_any_of_several_credentials_is_accepted_as_told() -> None:
    """While old and new passwords overlap both log in; a token of an earlier login stays good."""
    old, new = Credentials(password="old"), Credentials(password="new")
    with running_simulator(credentials=old, login_failure_seconds=0) as vendor:

        def logs_in() -> list[bool]:
            return ["Token" in log_in(vendor.url, password=password).json for password in ("old", "new", "other")]

        token = log_in(vendor.url, password="old").json["Token"]
        assert logs_in() == [True, False, False]
        vendor.accept(old, new)
        assert logs_in() == [True, True, False]
        vendor.accept(new)
        assert logs_in() == [False, True, False]
        assert post_order(vendor.url, order(), token=token).status == 200


def test_credentials_are_accepted_as_a_whole() -> None:
    """The key of one set with the password of another logs nobody in."""
    tokens = Tokens(Credentials(connect_key="c-1", password="old"), Credentials(connect_key="c-2", password="new"))
    tried = [(key, password) for key in ("c-1", "c-2") for password in ("old", "new")]
    fit = [tokens.fit_login("acme", key, ("100", "api", password)) for key, password in tried]
    assert fit == [True, False, False, True]


def test_a_fixed_token_is_accepted_as_told() -> None:
    """Each of those that are accepted now, and none other."""
    tokens = Tokens(Credentials(token="old"), Credentials(token="new"))
    assert [tokens.refusal("acme", "connect", token) for token in ("old", "new", "")] == [None, None, "Invalid Token"]
    tokens.credentials = (Credentials(token="new"),)
    assert tokens.refusal("acme", "connect", "old") == "Invalid Token"


def test_credentials_never_show() -> None:
    """The repr of credentials holds none of them."""
    assert "hush" not in repr(Credentials(password="hush", token="hush"))


def test_look_up_of_nothing_and_of_another_type(simulator: RunningSimulator) -> None:
    """A look-up of an unknown ExternalId, or of another type, answers an empty list."""
    post_order(simulator.url, order())
    other = call(
        simulator.url, "GET", "/economy/billing/invoiceidsfromexternalid", {**KEYS, "type": 1, "externalId": "A-1"}
    )
    assert (look_up(simulator.url, "A-2").json, other.json) == ([], [])


def test_look_up_lags(simulator: RunningSimulator) -> None:
    """With a lag, an order is found only so long after it was created."""
    simulator.set_plan(FaultPlan(lookup_lag_seconds=0.3))
    key = post_order(simulator.url, order()).json["Keys"]
    assert look_up(simulator.url, "A-1").json == []
    created_at = time.monotonic()
    while look_up(simulator.url, "A-1").json != key:
        assert time.monotonic() < created_at + 10
    assert time.monotonic() - created_at > 0.2


def test_companies_are_apart() -> None:
    """The same ExternalId in two companies is not doubled, and each finds only its own."""
    with running_simulator(credentials=Credentials(token=KEYS["token"])) as simulator:
        body = json.dumps([order()]).encode()
        for key in ("one", "two"):
            call(simulator.url, "POST", ORDERS, {**KEYS, "companyApiKey": key}, body)
        assert simulator.books.doubled() == {}
        assert simulator.books.created(company=2) == {"A-1": [12614170]}


def test_hidden_rate_limit(simulator: RunningSimulator) -> None:
    """More orders within a second than the hidden limit are answered 429 and not created."""
    simulator.set_plan(FaultPlan(rate_limit_per_second=3))
    began = time.monotonic()
    statuses = [post_order(simulator.url, order(str(number))).status for number in range(5)]
    assert time.monotonic() - began < 1
    assert statuses == [200, 200, 200, 429, 429]
    assert simulator.books.counts()["faults"] == {"rate-limit": 2}


def test_latency(simulator: RunningSimulator) -> None:
    """Every request waits for the latency."""
    simulator.set_plan(FaultPlan(latency_ms=(100, 120)))
    began = time.monotonic()
    post_order(simulator.url, order())
    assert time.monotonic() - began >= 0.1


def test_failing_share_of_look_ups(simulator: RunningSimulator) -> None:
    """A share of 1 lets every look-up fail, in the three ways."""
    simulator.set_plan(FaultPlan(lookup_failing_share=1.0))
    kinds = {(seen.status, seen.headers["content-type"]) for seen in (look_up(simulator.url, "x") for _ in range(60))}
    assert kinds == {
        (500, "text/plain; charset=utf-8"),
        (404, "text/plain; charset=utf-8"),
        (200, "text/html; charset=utf-8"),
    }


def statuses_of(simulator: RunningSimulator, plan: FaultPlan, names: list[str], **changes: object) -> list[int]:
    """The statuses of one order request each."""
    simulator.set_plan(plan)
    return [post_order(simulator.url, order(name, **changes)).status for name in names]


def test_every_and_times(simulator: RunningSimulator) -> None:
    """A rule strikes each n-th request, and no more often than it may."""
    plan = FaultPlan(rules=(Rule(fault="500-before", every=2, times=2),))
    assert statuses_of(simulator, plan, list("abcdefg")) == [200, 500, 200, 500, 200, 200, 200]


def test_prefixes(simulator: RunningSimulator) -> None:
    """A rule goes by the beginning of ExternalId or CustomerNr, or by the company."""
    plan = FaultPlan(
        rules=(
            Rule(fault="500-before", external_id_prefix="bad-"),
            Rule(fault="502-before", customer_nr_prefix="99"),
            Rule(fault="504-before", company_key="other"),
        )
    )
    assert statuses_of(simulator, plan, ["bad-1", "good-1"]) == [500, 200]
    assert statuses_of(simulator, plan, ["good-2"], CustomerNr="991") == [502]


def test_shares_are_of_all_requests_and_repeat_with_the_seed(simulator: RunningSimulator) -> None:
    """Two rules of one half each leave no request unharmed; the same seed strikes alike, another does not."""
    rules = (Rule(fault="500-before", share=0.5), Rule(fault="502-before", share=0.5))
    names = [str(number) for number in range(40)]
    first, again, other = (statuses_of(simulator, FaultPlan(rules=rules, seed=seed), names) for seed in (1, 1, 2))
    assert set(first) == {500, 502}
    assert (first == again, first == other) == (True, False)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"rules":[{"fault":"500-befor"}]}',
            "rules.0.fault: no fault is called '500-befor'; did you mean '500-before'?",
        ),
        ('{"latncy_ms": 5}', "latncy_ms: is no property of a plan; did you mean 'latency_ms'?"),
        ('{"rules":[{"fault":"429","share":1.5}]}', "rules.0.share: Input should be less than or equal to 1"),
        ('{"rules":[{"fault":"429","share":0.5,"every":2}]}', "rules.0: give share or every, not both"),
        (
            '{"rules":[{"fault":"429","share":0.7},{"fault":"403","share":0.7}]}',
            "the shares of the order faults add up to 1.4; at most 1 is possible",
        ),
        (
            '{"rules":[{"fault":"reset-before-reading","external_id_prefix":"a"}]}',
            "rules.0: reset-before-reading strikes before the order is read, so it cannot go by what is in it",
        ),
        ('{"latency_ms": [5, 1]}', "latency_ms: must be [lowest, highest], neither below 0"),
        ('{"latency_ms": -1}', "latency_ms: must be milliseconds, as 200, or a range, as [50, 400]"),
        ("{", "Invalid JSON: EOF while parsing an object at line 1 column 1"),
    ],
)
def test_wrong_plans_are_told_in_one_line(text: str, told: str) -> None:
    """A wrong plan is told by its place, what is wrong, and the nearest name."""
    with pytest.raises(PlanInvalid) as caught:
        FaultPlan.read(text)
    assert str(caught.value) == f"the plan is wrong: {told}"


def test_plan_from_a_file(tmp_path: Path) -> None:
    """A plan is read from a file; one that is missing is told."""
    (tmp_path / "plan.json").write_text('{"rules":[{"fault":"429","times":1}],"latency_ms":[1,2]}')
    assert FaultPlan.read(tmp_path / "plan.json").latency_ms == (1.0, 2.0)
    with pytest.raises(PlanInvalid, match=r"cannot be read: No such file"):
        FaultPlan.read(tmp_path / "none.json")


def test_books_of_an_order(simulator: RunningSimulator) -> None:
    """The books keep what is told of each order and each request."""
    before = time.time()
    answer = post_order(simulator.url, order("Å-1")).json
    (created,) = simulator.books.orders()
    assert (created.external_id, [created.vendor_id], [str(created.number)]) == (
        "Å-1",
        answer["Keys"],
        answer["Strings"],
    )
    assert (created.rows, len(created.body_digest)) == (1, 32)
    assert before - 1 <= created.created_at.timestamp() <= time.time() + 1
    (request,) = simulator.books.requests()
    assert (request.kind, request.status, request.fault) == ("order", 200, "")


def test_books_as_json(simulator: RunningSimulator) -> None:
    """/books tells counts and doubled orders, with ?orders=1 every ExternalId; /arrivals when they came."""
    keys = [post_order(simulator.url, order()).json["Keys"][0] for _ in range(2)]
    books = call(simulator.url, "GET", "/books").json
    assert (books["orders"], books["external_ids"], books["doubled"], books["requests"]) == (2, 1, 1, {"order": 2})
    assert (books["doubled_orders"], "created" in books) == ({"A-1": keys}, False)
    assert call(simulator.url, "GET", "/books", {"orders": 1}).json["created"] == {"A-1": keys}
    arrivals = call(simulator.url, "GET", "/arrivals").json
    assert arrivals["monotonic_seconds"] == simulator.arrivals()
    assert len(arrivals["epoch_seconds"]) == 2


def control(simulator: RunningSimulator, value: object, **options: Any) -> Any:
    """Post to /control."""
    return call(simulator.url, "POST", "/control", None, json.dumps(value).encode(), **options)


def test_control_changes_the_plan_and_resets(simulator: RunningSimulator) -> None:
    """/control puts a plan in force, changes single properties, and clears the books."""
    post_order(simulator.url, order())
    control(simulator, {"plan": {"rules": [{"fault": "403"}]}, "latency_ms": 1, "reset": True})
    assert (simulator.plan.latency_ms, simulator.books.counts()["orders"]) == (1.0, 0)
    assert post_order(simulator.url, order()).status == 403
    assert control(simulator, {"rules": []}).json["plan"]["rules"] == []


def test_control_refuses_wrong_plans_and_forms(simulator: RunningSimulator) -> None:
    """/control tells what is wrong and changes nothing; a form of another site is refused."""
    seen = control(simulator, {"plan": {"rules": [{"fault": "teapot"}]}, "reset": True})
    assert (seen.status, "no fault is called 'teapot'" in seen.json["error"]) == (400, True)
    assert control(simulator, {}, content_type="text/plain").status == 415
    assert control(simulator, []).status == 400


def test_ids_go_on_after_a_reset(simulator: RunningSimulator) -> None:
    """A reset forgets the orders, yet gives no id twice, and lags still go by the right order."""
    before = post_order(simulator.url, order()).json["Keys"][0]
    simulator.books.reset()
    after = post_order(simulator.url, order()).json["Keys"]
    assert after[0] > before
    assert simulator.books.find(KEYS["companyApiKey"], "A-1", lag_seconds=1e-9) == after


def test_page_shows_the_books_and_escapes(simulator: RunningSimulator) -> None:
    """The page names orders, doubled ones and faults; what came from outside is escaped, keys are not shown."""
    simulator.set_plan(FaultPlan(rules=(Rule(fault="500-after", external_id_prefix="f"),)))
    for name in ("<b>x</b>", "<b>x</b>", "f1"):
        post_order(simulator.url, order(name))
    seen = call(simulator.url, "GET", "/")
    page = seen.body.decode()
    assert seen.headers["content-type"] == "text/html; charset=utf-8"
    assert "<b>x" not in page
    assert "Doubled: more than one order" in page
    assert "500 Internal Server Error; the order was created." in page
    assert KEYS["companyApiKey"] not in page


def test_stopping_does_not_wait_for_hanging_answers() -> None:
    """A simulator with a request that is never answered stops at once."""
    with running_simulator(
        FaultPlan(rules=(Rule(fault="hang-after"),)), credentials=Credentials(token=KEYS["token"])
    ) as s:
        assert post_order(s.url, order(), timeout=0.2).end == "silent"
        began = time.monotonic()
    assert time.monotonic() - began < 1
