"""The catalogue of faults: everything the simulator can do wrong, each with a name and a sentence.

A name that ends in "-before" leaves the order uncreated; one that ends in "-after" creates it first. A client that
cannot tell the two apart from what it sees is right to look the order up.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json; charset=utf-8"

_PAGE: Final = b"<!DOCTYPE html><html><head><title>SoftOne GO</title></head><body><h1>%b</h1></body></html>"


class On(StrEnum):
    """The kind of request."""

    ORDER = "order"
    LOOKUP = "lookup"
    LOGIN = "login"


class Act(Enum):
    """What the simulator does with the request's answer or connection."""

    ANSWER = auto()  #: Answers with the fault's own status and body.
    RESULT = auto()  #: Answers 200 with an operation result changed by `result`.
    HANG = auto()  #: Never answers, and keeps the connection.
    RESET_UNREAD = auto()  #: TCP reset before the body is read.
    RESET = auto()  #: TCP reset after the body is read.
    CLOSE = auto()  #: Orderly close without a byte.
    HALF_HEAD = auto()  #: A part of the status line and headers, then an orderly close.
    TRUNCATED = auto()  #: Fewer bytes than Content-Length says, then an orderly close.
    TRUNCATED_CHUNKED = auto()  #: A chunked answer without its last chunk.
    HUGE = auto()  #: An answer of 50 MB.
    SLOW = auto()  #: The right answer, late.
    DRIP = auto()  #: The right answer, one byte at a time.
    CLOSING = auto()  #: The right answer with "Connection: close".
    CLOSING_UNTOLD = auto()  #: The right answer, then a close that no header told of.
    CREATE_LATER = auto()  #: Answers 504 at once; the order appears later.
    CREATE_TWICE = auto()  #: The vendor itself creates the order twice and names the first.
    CREATE_FIRST = auto()  #: Creates the first half of the request's orders, and answers with `result`.
    CREATE_SOME = auto()  #: Creates every second of the request's orders, and answers with `result`.
    NAME_FEWER = auto()  #: Creates all, and leaves the last of them out of Keys and Strings.
    NAME_TWICE = auto()  #: Creates all, and names the first in place of the last.
    BLIND = auto()  #: A look-up that finds nothing, whatever there is.
    LOGIN_FAILED = auto()  #: A login that is refused, as with a wrong password.
    BARE_TOKEN = auto()  #: A login answered with a bare JSON string.
    STALE_TOKEN = auto()  #: A login that hands out a token which is refused at once.


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that can go wrong.

    Attributes:
        name: How plans call it.
        on: The kind of request that it strikes.
        sentence: What a client sees, and whether the order exists afterwards.
        act: What is done.
        creates: Whether the order is created (before the fault strikes).
        status: HTTP status of an `ANSWER`.
        content_type: Content type of an `ANSWER`.
        body: Body of an `ANSWER`.
        headers: Further headers of an `ANSWER`.
        retry_after: "" for none, "seconds" or "date".
        result: Properties of the operation result that are put in place of the right ones.
        seconds: How long, where the fault has a time; a rule can say otherwise.
    """

    name: str
    on: On
    sentence: str
    act: Act = Act.ANSWER
    creates: bool = False
    status: int = 200
    content_type: str = TEXT
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after: str = ""
    result: Mapping[str, object] = field(default_factory=dict[str, object])
    seconds: float = 0.0


_STATUS_TEXTS: Final = {
    201: "Created",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    520: "Unknown Error",
}

#: ErrorNumber -> ErrorMessage of a refused order.
ERROR_MESSAGES: Final = {
    1: "Entiteten är null",
    2: "Hittades inte",
    3: "Inte aktiv",
    4: "Inget sparades",
    5: "Kunde inte uppdateras",
    6: "Kunde inte skapas",
    7: "Maximal längd överskriden",
    8: "Obligatoriska uppgifter saknas",
    9: "Dubblett",
    10: "Felaktiga uppgifter",
    11: "Finns redan",
    12: "Delvis sparat",
    13: "Behörighet saknas",
    14: "Stöds inte",
    15: "Slutfört med varningar",
    16: "Låst av annan användare",
    17: "Numret finns redan",
    26: "Kunden är spärrad",
    41: "Redovisningsåret är inte öppet",
    42: "Redovisningsperioden är inte öppen",
    138: "Raden kunde inte skapas",
    139: "Kundfakturanumret finns redan",
    295: "Artikeln finns inte",
    1401: "Ändrad av annan användare",
}

#: Error numbers that may go with an order that is there.
PERHAPS_CREATED_ERRORS: Final = (9, 11, 12, 15, 17, 139)

_NO_NAMES: Final[Mapping[str, object]] = {"Keys": [], "Strings": [], "StringValue": None}


def _page(title: str) -> bytes:
    return _PAGE % title.encode()


def _refused(number: int) -> dict[str, object]:
    return {
        "Success": False,
        "ErrorNumber": number,
        "ErrorMessage": ERROR_MESSAGES[number],
        "InfoMessage": None,
        "ObjectsAffected": 0,
        **_NO_NAMES,
    }


def _both(fault: Fault) -> Iterator[Fault]:
    """The fault without, and with the order created."""
    yield replace(fault, name=f"{fault.name}-before", sentence=f"{fault.sentence}; the order was not created.")
    yield replace(fault, name=f"{fault.name}-after", sentence=f"{fault.sentence}; the order was created.", creates=True)


def _ambiguous_order_faults() -> Iterator[Fault]:
    order = On.ORDER
    for status in (500, 502, 503, 504, 408, 409, 520, 201, 202, 204):
        text = _STATUS_TEXTS[status]
        body = b"" if status == 204 else _page(text)
        yield from _both(Fault(f"{status}", order, f"{status} {text}", status=status, content_type=HTML, body=body))
    yield from _both(Fault("hang", order, "Never answers", Act.HANG))
    yield from _both(Fault("reset", order, "TCP reset after the whole request was read", Act.RESET))
    yield from _both(Fault("close", order, "Closes the connection without a byte of an answer", Act.CLOSE))
    yield from _both(Fault("half-head", order, "Closes in the middle of the answer's headers", Act.HALF_HEAD))
    yield from _both(Fault("truncated", order, "Sends less of the answer than Content-Length says", Act.TRUNCATED))
    yield from _both(Fault("truncated-chunked", order, "A chunked answer that never ends well", Act.TRUNCATED_CHUNKED))
    yield from _both(Fault("huge", order, "An answer of 50 MB", Act.HUGE))
    yield from _both(
        Fault("html-200", order, "200 with an HTML page", content_type=HTML, body=_page("Underhåll pågår"))
    )
    yield from _both(Fault("empty-200", order, "200 with an empty body", content_type=JSON))
    yield from _both(
        Fault("not-json-200", order, "200 with broken JSON", content_type=JSON, body=b'{"Success": true, "Keys": [')
    )
    yield from _both(Fault("array-200", order, "200 with a JSON array", content_type=JSON, body=b"[]"))
    yield from _both(Fault("null-200", order, "200 with JSON null", content_type=JSON, body=b"null"))
    yield from _both(
        Fault("wrong-type", order, "200 whose Success is a text and whose Keys is a number", Act.RESULT,
              result={"Success": "true", "Keys": 1})
    )  # fmt: skip
    yield from _both(Fault("no-success", order, "200 whose Success is null", Act.RESULT, result={"Success": None}))
    yield from _both(Fault("no-keys", order, "Success without Keys or Strings", Act.RESULT, result=_NO_NAMES))
    yield from _both(
        Fault("null-keys", order, "Success with Keys null", Act.RESULT, result={"Keys": None, "Strings": None})
    )
    exception = {**_refused(6), "Exception": "System.TimeoutException", "StackTrace": "   at SoftOne.Billing.Save()"}
    yield from _both(
        Fault("exception", order, "Success false with Exception and StackTrace", Act.RESULT, result=exception)
    )
    yield from _both(
        Fault("affected", order, "Success false with ObjectsAffected 1", Act.RESULT,
              result={**_refused(4), "ObjectsAffected": 1})
    )  # fmt: skip
    for number in PERHAPS_CREATED_ERRORS:
        says = f'Success false, ErrorNumber {number} "{ERROR_MESSAGES[number]}"'
        yield from _both(Fault(f"error-{number}", order, says, Act.RESULT, result=_refused(number)))


def _created_order_faults() -> Iterator[Fault]:
    order = On.ORDER
    partial: dict[str, object] = {
        "Success": False,
        "ErrorNumber": 12,
        "ErrorMessage": ERROR_MESSAGES[12],
        "InfoMessage": None,
    }
    yield Fault("partial-save", order, "Success false, yet with the Keys of the order, which was created.",
                Act.RESULT, creates=True, result=partial)  # fmt: skip
    yield Fault("partial-save-unnumbered", order, "Success false with Keys and ErrorNumber 0; the order was created.",
                Act.RESULT, creates=True, result={**partial, "ErrorNumber": 0})  # fmt: skip
    yield Fault("odd-but-valid", order,
                "A right answer with a byte-order mark, camelCase names and a new property.",
                Act.RESULT, creates=True, result={"odd": True})  # fmt: skip
    yield Fault("slow", order, "The right answer, late (5 s).", Act.SLOW, creates=True, seconds=5.0)
    yield Fault("drip", order, "The right answer, one byte each 0.05 s.", Act.DRIP, creates=True, seconds=0.05)
    yield Fault("connection-close", order, "The right answer with Connection: close.", Act.CLOSING, creates=True)
    yield Fault("untold-close", order, "The right answer, then a close that no header told of.",
                Act.CLOSING_UNTOLD, creates=True)  # fmt: skip
    yield Fault("created-twice", order, "The vendor creates the order twice and names the first.",
                Act.CREATE_TWICE, creates=True)  # fmt: skip
    yield Fault("504-then-created", order, "504 at once; the order is created later (5 s).", Act.CREATE_LATER,
                creates=True, status=504, content_type=HTML, body=_page("Gateway Timeout"), seconds=5.0)  # fmt: skip


def _faults_of_several() -> Iterator[Fault]:
    """What goes wrong only with several orders in one request; of one order it makes no more than half of nothing."""
    order = On.ORDER
    yield Fault("partial-first", order,
                "Refused (26), yet the first half of the request's orders was created (of one order: none).",
                Act.CREATE_FIRST, creates=True, result=_refused(26))  # fmt: skip
    yield Fault("partial-some", order,
                "Refused (26), yet every second of the request's orders was created (of one order: none).",
                Act.CREATE_SOME, creates=True, result=_refused(26))  # fmt: skip
    yield Fault("short-keys", order, "Success, but Keys and Strings lack the last of the orders, which were created.",
                Act.NAME_FEWER, creates=True)  # fmt: skip
    yield Fault("repeated-keys", order,
                "Success, but Keys name the first order again in place of the last; the orders were created.",
                Act.NAME_TWICE, creates=True)  # fmt: skip


def _refused_order_faults() -> Iterator[Fault]:
    order = On.ORDER
    yield Fault("reset-before-reading", order, "TCP reset before the body was read; the order was not created.",
                Act.RESET_UNREAD)  # fmt: skip
    for name, text in _UNAUTHORIZED.items():
        yield Fault(f"401-{name}", order, f'401 "{text}"; the order was not created.', status=401, body=text.encode())
    for status in (403, 404, 405, 400, 413, 415, 422):
        text = _STATUS_TEXTS[status]
        yield Fault(f"{status}", order, f"{status} {text}; the order was not created.", status=status,
                    body=text.encode(), headers={"Allow": "GET"} if status == 405 else {})  # fmt: skip
    for status in (301, 302, 307, 308):
        yield Fault(f"{status}", order, f"{status} to /moved, which counts who follows; the order was not created.",
                    status=status, headers={"Location": "/moved"})  # fmt: skip
    for status, text in ((429, "Too Many Requests"), (503, "Service Unavailable")):
        yield Fault(f"{status}-retry-after", order,
                    f"{status} with Retry-After in seconds (2); the order was not created.",
                    status=status, body=text.encode(), retry_after="seconds", seconds=2.0)  # fmt: skip
        yield Fault(f"{status}-retry-after-date", order,
                    f"{status} with Retry-After as an HTTP date (2 s ahead); the order was not created.",
                    status=status, body=text.encode(), retry_after="date", seconds=2.0)  # fmt: skip
    yield Fault("429", order, "429 without Retry-After; the order was not created.", status=429,
                body=b"Too Many Requests")  # fmt: skip
    for number, message in ERROR_MESSAGES.items():
        if number not in PERHAPS_CREATED_ERRORS:
            yield Fault(f"error-{number}", order,
                        f'Success false, ErrorNumber {number} "{message}"; the order was not created.',
                        Act.RESULT, result=_refused(number))  # fmt: skip
    yield Fault("business-rejection", order, "Refused by a business rule (26); the order was not created.",
                Act.RESULT, result=_refused(26))  # fmt: skip
    yield Fault("can-user-override", order,
                "Refused by a business rule (42) with CanUserOverride; the order was not created.",
                Act.RESULT, result={**_refused(42), "CanUserOverride": True})  # fmt: skip


_UNAUTHORIZED: Final = {
    "invalid-token": "Invalid Token",
    "session-expired": "Session Expired",
    "company-key": "CompanyApiKey Invalid",
}


def _other_faults(on: On, prefix: str, what: str) -> Iterator[Fault]:
    """The faults that a look-up and a login share."""
    for status in (400, 403, 404, 500, 503):
        text = _STATUS_TEXTS[status]
        yield Fault(f"{prefix}-{status}", on, f"{what} answers {status}.", status=status, body=text.encode())
    yield Fault(f"{prefix}-302", on, f"{what} is redirected to /moved.", status=302, headers={"Location": "/moved"})
    yield Fault(f"{prefix}-429", on, f"{what} answers 429 with Retry-After (2 s).", status=429,
                body=b"Too Many Requests", retry_after="seconds", seconds=2.0)  # fmt: skip
    yield Fault(f"{prefix}-html", on, f"{what} answers 200 with an HTML page.", content_type=HTML,
                body=_page("Underhåll pågår"))  # fmt: skip
    yield Fault(f"{prefix}-empty", on, f"{what} answers 200 with an empty body.", content_type=JSON)
    yield Fault(f"{prefix}-hang", on, f"{what} is never answered.", Act.HANG)
    yield Fault(f"{prefix}-reset", on, f"{what} ends in a TCP reset.", Act.RESET)
    yield Fault(f"{prefix}-truncated", on, f"{what} gets less than Content-Length says.", Act.TRUNCATED)
    yield Fault(f"{prefix}-slow", on, f"{what} gets its right answer late (5 s).", Act.SLOW, seconds=5.0)


def _lookup_faults() -> Iterator[Fault]:
    yield from _other_faults(On.LOOKUP, "lookup", "The look-up")
    for name, text in _UNAUTHORIZED.items():
        yield Fault(f"lookup-401-{name}", On.LOOKUP, f'The look-up answers 401 "{text}".', status=401,
                    body=text.encode())  # fmt: skip
    yield Fault("lookup-wrong-type", On.LOOKUP, "The look-up answers a JSON object instead of a list.",
                content_type=JSON, body=b'{"Ids": []}')  # fmt: skip
    yield Fault("lookup-blind", On.LOOKUP, "The look-up answers an empty list whatever there is.", Act.BLIND)


def _login_faults() -> Iterator[Fault]:
    yield from _other_faults(On.LOGIN, "login", "The login")
    yield Fault("login-failed", On.LOGIN, "The login fails: 200 with a Message and no Token, 2 s late.",
                Act.LOGIN_FAILED, seconds=2.0)  # fmt: skip
    yield Fault("login-bare-token", On.LOGIN, "The login answers the token as a bare JSON string.", Act.BARE_TOKEN)
    yield Fault("login-stale-token", On.LOGIN, "The login hands out a token that is refused at once.", Act.STALE_TOKEN)


FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for source in (
        _ambiguous_order_faults(),
        _created_order_faults(),
        _faults_of_several(),
        _refused_order_faults(),
        _lookup_faults(),
        _login_faults(),
    )
    for fault in source
}


def nearest(name: str) -> str | None:
    """The fault whose name is most like this one, or None if none is like it."""
    return next(iter(difflib.get_close_matches(name.lower(), FAULTS, n=1, cutoff=0.3)), None)
