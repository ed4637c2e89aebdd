"""The outcome table, row by row: what each answer to an order, a look-up and a login means."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderrelay_shared.states import JobState, Outcome
from orderrelay_workers.vendor.answers import (
    LoginVerdict,
    LookupVerdict,
    read_login_answer,
    read_lookup_answer,
    read_order_answer,
)
from orderrelay_workers.vendor.exchange import Exchange, Failure
from orderrelay_workers.vendor.retry_after import read_retry_after
from orderrelay_workers.vendor.wording import ERROR_NUMBERS, short_text

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

#: The vendor's own example, 3.3.1 of its document.
EXAMPLE: dict[str, Any] = {
    "Success": True,
    "SuccessNumber": 0,
    "ErrorNumber": 0,
    "ErrorMessage": None,
    "InfoMessage": "\\n\\n kundfakturor utav 1 har skapats/uppdaterats.",
    "CanUserOverride": False,
    "IntegerValue": 0,
    "IntegerValue2": 0,
    "DecimalValue": 0.0,
    "StringValue": "b2f6ea92-b277-4934-904d-9b30fc250c9f",
    "BooleanValue": False,
    "BooleanValue2": False,
    "DateTimeValue": "0001-01-01T00:00:00",
    "Value": None,
    "Value2": None,
    "Dates": None,
    "Keys": [12614169],
    "Strings": ["211"],
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
REFUSAL = EXAMPLE | {
    "Success": False,
    "ErrorNumber": 26,
    "ErrorMessage": "Kunden är spärrad",
    "StringValue": None,
    "Keys": None,
    "Strings": None,
    "ObjectsAffected": 0,
}


def answer(status: int, body: bytes | None = b"", /, **headers: str) -> Exchange:
    """A complete answer, or with None for its body an incomplete one."""
    return Exchange(
        sent=True,
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
        partial=b'{"Success":tr' if body is None else b"",
        failure=Failure.TRUNCATED if body is None else None,
        began_at=NOW,
        ended_at=NOW,
    )


def result(value: object) -> Exchange:
    """A 200 with a JSON body."""
    return answer(200, json.dumps(value, ensure_ascii=False).encode())


def no_answer(*, sent: bool, failure: Failure) -> Exchange:
    """A request that got no head of an answer."""
    return Exchange(
        sent=sent, status=None, headers={}, body=None, partial=b"", failure=failure, began_at=NOW, ended_at=NOW
    )


# Orders that were answered 200


def test_the_vendors_example_is_created() -> None:
    """The document's own answer gives the order's number, id and reference."""
    verdict = read_order_answer(result(EXAMPLE))
    assert verdict.outcome is Outcome.CREATED
    assert (verdict.vendor_id, verdict.order_number, verdict.reference) == (
        12614169,
        "211",
        "b2f6ea92-b277-4934-904d-9b30fc250c9f",
    )


@pytest.mark.parametrize("left_out", [{"Strings": None}, {"Strings": []}, {"StringValue": None}, {"StringValue": ""}])
def test_an_id_alone_is_created(left_out: dict[str, Any]) -> None:
    """A key in Keys is enough; number and reference may be missing."""
    verdict = read_order_answer(result(EXAMPLE | left_out))
    assert (verdict.outcome, verdict.vendor_id) == (Outcome.CREATED, 12614169)
    assert None in (verdict.order_number, verdict.reference)


def test_names_in_any_case_and_a_byte_order_mark_are_read() -> None:
    """.NET's habits do not hide a created order."""
    body = b"\xef\xbb\xbf" + json.dumps({name.upper(): value for name, value in EXAMPLE.items()}).encode()
    assert read_order_answer(answer(200, body)).outcome is Outcome.CREATED


def test_several_ids_are_created_and_told() -> None:
    """More than one key is a success with the first one, and the reason says how many there were."""
    verdict = read_order_answer(result(EXAMPLE | {"Keys": [5, 6]}))
    assert (verdict.outcome, verdict.vendor_id) == (Outcome.CREATED, 5)
    assert "2 ids" in verdict.reason


@pytest.mark.parametrize("keys", [None, [], [0], [-1], [2**63]])
def test_success_without_a_usable_id_is_unknown_and_never_sent_again(keys: Any) -> None:
    """Success that names nothing is unknown, and parked if the look-up finds nothing."""
    verdict = read_order_answer(result(EXAMPLE | {"Keys": keys}))
    assert (verdict.outcome, verdict.if_absent, verdict.vendor_id) == (Outcome.UNKNOWN, JobState.PARKED, None)


def test_a_plain_refusal_is_rejected_with_the_vendors_words() -> None:
    """Success false without any hint at a save is a refusal, told in the vendor's words."""
    verdict = read_order_answer(result(REFUSAL | {"CanUserOverride": True}))
    assert (verdict.outcome, verdict.error_number, verdict.error_message) == (
        Outcome.REJECTED,
        26,
        "Kunden är spärrad",
    )
    for words in ("26", "customer is blocked", "Kunden är spärrad", "override"):
        assert words in verdict.reason


@pytest.mark.parametrize(
    "hint",
    [
        {"Keys": [7]},
        {"Keys": [0]},
        {"ObjectsAffected": 1},
        {"Exception": "System.NullReferenceException"},
        {"StackTrace": "at SoftOne.Save()"},
        *({"ErrorNumber": number} for number in (9, 11, 12, 15, 17, 139)),
    ],
    ids=str,
)
def test_a_refusal_that_hints_at_a_save_is_unknown(hint: dict[str, Any]) -> None:
    """Success false with a trace of a save is unknown, and rejected if the look-up finds nothing."""
    verdict = read_order_answer(result(REFUSAL | hint))
    assert (verdict.outcome, verdict.if_absent) == (Outcome.UNKNOWN, JobState.REJECTED)
    assert verdict.error_number == hint.get("ErrorNumber", 26)
    assert next(iter(hint)) in verdict.reason


@pytest.mark.parametrize("number", [*sorted(set(ERROR_NUMBERS) - {9, 11, 12, 15, 17, 139}), 0, None, 99999])
def test_other_error_numbers_are_refusals(number: int | None) -> None:
    """No other error number hints at a save."""
    verdict = read_order_answer(result(REFUSAL | {"ErrorNumber": number}))
    assert (verdict.outcome, verdict.error_number) == (Outcome.REJECTED, number or None)


def test_an_error_number_beyond_32_bits_is_left_out() -> None:
    """A number that no column holds does not stop the settling."""
    assert read_order_answer(result(REFUSAL | {"ErrorNumber": 10**30})).error_number is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"OK",
        b"<html>Gateway</html>",
        b"null",
        b"true",
        b"[]",
        b'"211"',
        b"{}",
        b'{"Success":null}',
        b'{"Success":"true"}',
        b'{"Success":1}',
        json.dumps([EXAMPLE]).encode(),
        json.dumps(EXAMPLE).encode()[:-1],
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"Success":' * 50_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_an_unreadable_200_is_unknown(body: bytes) -> None:
    """A 200 that is not an operation result proves nothing, and may be resent if the look-up finds nothing."""
    verdict = read_order_answer(answer(200, body))
    assert (verdict.outcome, verdict.if_absent) == (Outcome.UNKNOWN, JobState.WAITING)


@pytest.mark.parametrize(
    "wrong",
    [{"Keys": ["12"]}, {"Keys": 12}, {"Keys": [12], "DateTimeValue": 1}, {"Keys": None, "ErrorMessage": []}],
    ids=str,
)
@pytest.mark.parametrize("name", ["Success", "success"])
def test_a_success_with_a_wrong_property_is_never_sent_again(name: str, wrong: dict[str, Any]) -> None:
    """Success counts also in an answer of which something else is malformed: parked if the look-up finds nothing."""
    verdict = read_order_answer(result({name: True, **wrong}))
    assert (verdict.outcome, verdict.if_absent) == (Outcome.UNKNOWN, JobState.PARKED)


@pytest.mark.parametrize(
    "hint",
    [
        {"Keys": [12]},
        {"Keys": "12"},
        {"ObjectsAffected": 1},
        {"ObjectsAffected": 1.5},
        {"Exception": {"Message": "x"}},
        {"StackTrace": ["x"]},
        *({"ErrorNumber": number} for number in (9, 11, 12, 15, 17, 139)),
    ],
    ids=str,
)
def test_a_malformed_refusal_that_hints_at_a_save_is_not_sent_again(hint: dict[str, Any]) -> None:
    """A trace of a save counts also in a malformed refusal: rejected if the look-up finds nothing."""
    verdict = read_order_answer(result({"Success": False, "ErrorMessage": 5, **hint}))
    assert (verdict.outcome, verdict.if_absent) == (Outcome.UNKNOWN, JobState.REJECTED)


@pytest.mark.parametrize(
    "more", [{}, {"ErrorNumber": 26}, {"ErrorNumber": []}, {"Keys": [], "ObjectsAffected": 0}], ids=str
)
def test_a_malformed_refusal_without_a_hint_may_be_sent_again(more: dict[str, Any]) -> None:
    """What is malformed and hints at nothing is like an unreadable answer."""
    verdict = read_order_answer(result({"Success": False, "ErrorMessage": 5, **more}))
    assert (verdict.outcome, verdict.if_absent) == (Outcome.UNKNOWN, JobState.WAITING)


def test_an_incomplete_200_is_unknown() -> None:
    """Half an answer is no answer, however good it looks."""
    verdict = read_order_answer(answer(200, None))
    assert verdict.outcome is Outcome.UNKNOWN
    assert "truncated" in verdict.reason


# Every other row of the table for orders

NOT_CREATED = {
    **dict.fromkeys((400, 413, 415, 422), Outcome.REJECTED),
    **dict.fromkeys((403, 404, 405, 300, 301, 302, 303, 304, 307, 308, 399), Outcome.MISCONFIGURED),
    401: Outcome.UNAUTHORIZED,
    429: Outcome.THROTTLED,
}
UNKNOWN = [100, 101, 201, 202, 204, 206, 299, 402, 406, 408, 409, 410, 418, 425, 431, 451, 499]
UNKNOWN += [500, 501, 502, 503, 504, 505, 507, 520, 524, 599, 600, 999, 0, -1]


@pytest.mark.parametrize("body", [b"", b"Invalid Token", b'{"Success":true,"Keys":[1]}', None])
@pytest.mark.parametrize("status", NOT_CREATED)
def test_the_statuses_that_say_not_created(status: int, body: bytes | None) -> None:
    """These statuses decide by themselves, whatever stands in the body and whether it is complete."""
    verdict = read_order_answer(answer(status, body))
    assert verdict.outcome is NOT_CREATED[status]
    assert verdict.trips is (verdict.outcome is Outcome.MISCONFIGURED)
    assert verdict.vendor_id is None
    assert str(status) in verdict.reason


@pytest.mark.parametrize("body", [b"", b'{"Success":true,"Keys":[1]}', b'{"Success":false}', None])
@pytest.mark.parametrize("status", UNKNOWN)
def test_every_other_status_is_unknown(status: int, body: bytes | None) -> None:
    """All other statuses may have created the order."""
    verdict = read_order_answer(answer(status, body))
    assert (verdict.outcome, verdict.if_absent, verdict.trips) == (Outcome.UNKNOWN, JobState.WAITING, False)


def test_a_503_that_says_when_to_come_back_is_throttled() -> None:
    """503 with Retry-After means later, and was not created."""
    verdict = read_order_answer(answer(503, retry_after="30"))
    assert (verdict.outcome, verdict.retry_after_seconds) == (Outcome.THROTTLED, 30.0)


@pytest.mark.parametrize("value", ["", "soon", "-5"])
def test_a_503_with_an_unreadable_wait_is_unknown(value: str) -> None:
    """A Retry-After that says nothing does not make a 503 a promise."""
    assert read_order_answer(answer(503, retry_after=value)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("headers", "seconds"), [({}, None), ({"retry_after": "x"}, None), ({"retry_after": "2"}, 2.0)]
)
def test_a_429_needs_no_wait(headers: dict[str, str], seconds: float | None) -> None:
    """429 is throttled with or without a readable Retry-After."""
    assert read_order_answer(answer(429, **headers)).retry_after_seconds == seconds


@pytest.mark.parametrize("failure", Failure)
def test_without_an_answer_only_the_flag_decides(failure: Failure) -> None:
    """What the failure is called changes nothing: not sent is not created, sent is unknown."""
    unsent = read_order_answer(no_answer(sent=False, failure=failure))
    sent = read_order_answer(no_answer(sent=True, failure=failure))
    assert (unsent.outcome, sent.outcome) == (Outcome.NOT_CREATED, Outcome.UNKNOWN)
    assert failure in unsent.reason
    assert failure in sent.reason


# Retry-After


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": " 120 "}, 120.0),
        ({"retry-after": "86401"}, 86400.0),
        ({"retry-after": "9" * 5000}, 86400.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5.2"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "5, 5"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:01:00 GMT"}, 60.0),
        ({"retry-after": "Sun, 22 Nov 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:01:00 GMT", "date": "Sun, 22 Nov 2026 12:00:50 GMT"}, 10.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:01:00 -0000", "date": "Sun, 22 Nov 2026 12:00:50 GMT"}, 10.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:01:00 GMT", "date": "nonsense"}, 60.0),
        ({"retry-after": "Sun, 22 Nov 2099 12:01:00 GMT"}, 86400.0),
        ({"retry-after": "Sun, 99 Nov 2026 12:01:00 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2300"}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds or a date by the vendor's own clock; nothing above a day, and nothing unreadable."""
    assert read_retry_after(headers, NOW) == seconds


# Look-ups


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b"[12614169]", (12614169,)),
        (b"\xef\xbb\xbf [ 5 , 6 ] ", (5, 6)),
        (b"[5,5]", (5,)),
        (b"[9223372036854775807]", (2**63 - 1,)),
    ],
)
def test_a_list_of_ids_is_found(body: bytes, ids: tuple[int, ...]) -> None:
    """A list of ids is evidence that the order exists, once or more often."""
    verdict = read_lookup_answer(answer(200, body))
    assert (verdict.kind, verdict.vendor_ids) == ("found", ids)


def test_an_empty_list_is_absent() -> None:
    """Only a well-formed empty list says that there is none."""
    assert read_lookup_answer(answer(200, b"[]")) == LookupVerdict("absent", reason="the look-up found nothing")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"0",
        b'""',
        b'["1"]',
        b"[1.0]",
        b"[true]",
        b"[0]",
        b"[-1]",
        b"[1,null]",
        b"[[]]",
        b"[1",
        None,
        b"[9223372036854775808]",
        b"[" * 100_000,
        b"<html></html>",
        b"[]]",
    ],
    ids=lambda body: repr(body)[:20],
)
def test_anything_else_is_a_failing_look_up(body: bytes | None) -> None:
    """What is not a well-formed list of ids says nothing."""
    verdict = read_lookup_answer(answer(200, body))
    assert (verdict.kind, verdict.vendor_ids) == ("failing", ())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "unauthorized"),
        (429, "throttled"),
        (403, "misconfigured"),
        (405, "misconfigured"),
        (302, "misconfigured"),
        *((status, "failing") for status in (101, 201, 204, 400, 404, 409, 410, 500, 502, 503, 504)),
    ],
)
def test_the_statuses_of_a_look_up(status: int, kind: str) -> None:
    """No status but 200 is evidence, not even with a list; 404 is a vendor without this look-up."""
    assert read_lookup_answer(answer(status, b"[]")).kind == kind


def test_a_look_up_heeds_retry_after() -> None:
    """A throttled look-up tells how long."""
    verdict = read_lookup_answer(answer(503, retry_after="9"))
    assert (verdict.kind, verdict.retry_after_seconds) == ("throttled", 9.0)


@pytest.mark.parametrize(("sent", "kind"), [(True, "failing"), (False, "not_sent")])
def test_a_look_up_without_an_answer(sent: bool, kind: str) -> None:
    """A look-up that got no answer is failing, or was not sent at all."""
    assert read_lookup_answer(no_answer(sent=sent, failure=Failure.DEADLINE)).kind == kind


# Logins


@pytest.mark.parametrize(
    "body",
    [
        b'{"Token":"abc","Message":"Login successful, use token within 120 seconds"}',
        b'{"token":"abc"}',
        b'"abc"',
        b'\xef\xbb\xbf"abc"',
    ],
)
def test_a_token_is_read(body: bytes) -> None:
    """A token comes as a property or as the whole answer."""
    verdict = read_login_answer(answer(200, body))
    assert verdict.kind == "token"
    assert verdict.token is not None
    assert verdict.token.get_secret_value() == "abc"
    assert "abc" not in repr(verdict)


@pytest.mark.parametrize("token", [{}, {"Token": None}, {"Token": ""}])
def test_a_message_instead_of_a_token_is_a_refusal(token: dict[str, Any]) -> None:
    """A login answered 200 with a Message and no Token was refused, in the vendor's words."""
    body = json.dumps(token | {"Message": "Login failed\nwrong password"}).encode()
    assert read_login_answer(answer(200, body)) == LoginVerdict(None, "refused", "Login failed wrong password")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"abc", b"null", b"{}", b'""', b"[]", b"7", b'{"Token":7}', b'{"Token":"a b"}', b'"a\\u0000b"', None),
        *(b'"%s"' % (b"a" * 9000), b'{"Message":""}', b"[" * 100_000),
    ],
    ids=lambda body: repr(body)[:20],
)
def test_an_unreadable_login_is_failing(body: bytes | None) -> None:
    """A 200 with neither token nor message says nothing about the credentials."""
    verdict = read_login_answer(answer(200, body))
    assert (verdict.kind, verdict.token) == ("failing", None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "refused"),
        (429, "throttled"),
        *((status, "misconfigured") for status in (301, 400, 403, 404, 405, 413, 415, 422)),
        *((status, "failing") for status in (101, 201, 204, 408, 409, 500, 502, 503, 504)),
    ],
)
def test_the_statuses_of_a_login(status: int, kind: str) -> None:
    """No token is taken from anything but a 200."""
    verdict = read_login_answer(answer(status, b'{"Token":"abc"}'))
    assert (verdict.kind, verdict.token) == (kind, None)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_token_in_an_error_is_not_told(status: int) -> None:
    """A reason never repeats a token that an error page holds."""
    assert "abc" not in read_login_answer(answer(status, b'{"Token":"abc"}')).reason


@pytest.mark.parametrize(("sent", "kind"), [(True, "failing"), (False, "not_sent")])
def test_a_login_without_an_answer(sent: bool, kind: str) -> None:
    """A login that got no answer is failing, or was not sent at all."""
    assert read_login_answer(no_answer(sent=sent, failure=Failure.RESET)).kind == kind


def test_a_throttled_login_tells_how_long() -> None:
    """A login heeds Retry-After like any other request."""
    assert read_login_answer(answer(429, retry_after="3")).retry_after_seconds == 3.0


# Words


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        (b"\xef\xbb\xbfa\r\n\tb\x00\x1b[31mc", "a b [31mc"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("see https://x/y?token=abc&a=b now", "see https://x/y?… now"),
        ("companyApiKey=abc&token=def", "companyApiKey=…&token=…"),
        ('{"Token": "abc", "password" : "x y"}', None),
        ("a" * 301, "a" * 299 + "…"),
    ],
)
def test_the_vendors_words_are_made_fit(text: str | bytes, short: str | None) -> None:
    """Reasons are short, on one line, and free of queries and named secrets."""
    shown = short_text(text)
    assert "abc" not in shown
    assert short is None or shown == short


@pytest.mark.parametrize(
    "text",
    [
        '"Password": "two words"',
        r"{\"Password\":\"two words\"}",
        r"{\\\"License\\\": \\\"two words\\\"}",
        "'token' : 'two words'",
        '"Password": "two words, cut of',
        r'"Password": "two \" words"',
    ],
)
def test_a_secret_in_quotes_is_hidden_to_its_end(text: str) -> None:
    """A named secret is hidden with all its words, also where JSON stands inside a text of JSON."""
    assert "words" not in short_text(text)


def test_a_licence_is_hidden_in_both_spellings() -> None:
    """British and American error pages are alike."""
    assert "4711" not in short_text("licence=4711 license: 4711")


# Anything at all


@given(
    status=st.one_of(st.none(), st.integers(-1000, 2000), st.sampled_from([200, 401, 429, 503])),
    body=st.one_of(
        st.none(),
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*EXAMPLE, "Token", "Message"]), inner),
        ).map(lambda value: json.dumps(value).encode()),
        st.builds(
            lambda changes: json.dumps(EXAMPLE | changes).encode(),
            st.dictionaries(
                st.sampled_from(list(EXAMPLE)),
                st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers() | st.text()),
            ),
        ),
    ),
    headers=st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text()),
    sent=st.booleans(),
)
def test_whatever_comes_there_is_a_verdict(
    status: int | None, body: bytes | None, headers: dict[str, str], sent: bool
) -> None:
    """No answer raises; created only ever comes with an id, from a complete 200."""
    exchange = Exchange(sent, status, headers, body, b"", None, NOW, NOW)
    verdict = read_order_answer(exchange)
    assert isinstance(verdict.outcome, Outcome)
    assert (verdict.outcome is Outcome.CREATED) == (verdict.vendor_id is not None)
    assert verdict.outcome is not Outcome.CREATED or (status == 200 and body is not None)
    assert (verdict.outcome is Outcome.NOT_CREATED) == (status is None and not sent)
    assert len(verdict.reason) < 1000
    assert read_lookup_answer(exchange).kind != "found" or status == 200
    assert (read_login_answer(exchange).kind == "token") == (read_login_answer(exchange).token is not None)


@given(value=st.text(), date=st.text())
def test_no_retry_after_raises(value: str, date: str) -> None:
    """Any header gives a wait within a day, or none."""
    seconds = read_retry_after({"retry-after": value, "date": date}, NOW)
    assert seconds is None or 0.0 <= seconds <= 86400.0


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!DOCTYPE html><style>h1 {}</style><body><h1>Internal\nServer Error</h1></body>", "Internal Server Error"),
        ("<p>a<!-- no -->b</p><script>alert(1)", "a b"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ],
)  # fmt: skip
def test_of_a_page_only_its_words_are_told(page: str, words: str) -> None:
    """A reason made from an error page holds what a person reads there, and no markup."""
    assert short_text(page) == words
