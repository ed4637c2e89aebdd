"""Generated answers of the vendor: true ones, wrong ones, and bytes that are no answer at all.

All from one seeded source of chance and without Hypothesis, so that a hundred thousand take seconds.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from orderrelay_workers.vendor.exchange import Exchange, Failure

#: What a worker knows and nobody may read in a reason. An answer may echo the request that it answers.
SECRETS: Final = {
    "companyApiKey": "0b1c4a7e-COMPANY-5f3d",
    "connectApiKey": "9e8d7c6b-CONNECT-1a2b",
    "token": "eyJh.TOKENTOKEN.x-_Zq9",
    "Password": "Hemligt lösen 4711!",
    "License": "LICENS-778899",
}
BEGAN_AT: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

#: The vendor's own example, 3.3.1 of its document.
EXAMPLE: Final[dict[str, Any]] = {
    "Success": True, "SuccessNumber": 0, "ErrorNumber": 0, "ErrorMessage": None,
    "InfoMessage": "\n\n kundfakturor utav 1 har skapats/uppdaterats.", "CanUserOverride": False, "IntegerValue": 0,
    "IntegerValue2": 0, "DecimalValue": 0.0, "StringValue": "b2f6ea92-b277-4934-904d-9b30fc250c9f",
    "BooleanValue": False, "BooleanValue2": False, "DateTimeValue": "0001-01-01T00:00:00", "Value": None,
    "Value2": None, "Dates": None, "Keys": [12614169], "Strings": ["211"], "IdDict": None, "IntDict": None,
    "IntDict2": None, "StrDict": None, "StrDict2": None, "StrIntListDict": None, "ObjectsAffected": 1,
    "StackTrace": None, "Exception": None, "Modified": "0001-01-01T00:00:00", "ModifiedBy": None,
}  # fmt: skip
_REFUSAL: Final = EXAMPLE | {
    "Success": False, "ErrorNumber": 26, "ErrorMessage": "Kunden är spärrad", "StringValue": None, "Keys": None,
    "Strings": None, "ObjectsAffected": 0,
}  # fmt: skip
_NAMES: Final = tuple(EXAMPLE)

_STATUSES: Final = (
    200, 200, 200, 200, 200, 200, 200, 200, 201, 202, 204, 206, 226, 301, 302, 304, 307, 399, 400, 401, 402, 403, 404,
    405, 406, 408, 409, 410, 413, 415, 418, 422, 425, 429, 429, 451, 499, 500, 501, 502, 503, 503, 504, 520, 598, 599,
    100, 103, 600, 999,
)  # fmt: skip
#: A Retry-After, and whether it can be read; None: readers may differ.
_RETRY_AFTERS: Final[tuple[tuple[str, bool | None], ...]] = (
    ("7", True), ("0", True), ("120", True), (" 30 ", True), ("9" * 30, True), ("9" * 5000, True),
    ("Sun, 22 Nov 2026 12:05:00 GMT", True), ("Sunday, 22-Nov-26 12:05:00 GMT", None), ("", False), ("soon", False),
    ("-5", False), ("1.5", False), ("1e3", False), ("٣", False), ("²", False), ("+7", False), ("0x10", False),
    ("7, 8", None), ("Sun, 99 Nov 2026 12:05:00 GMT", None), ("Sun, 22 Nov 99999 12:05:00 GMT", None), ("\0", False),
    ("Mon, 01 Jan 0001 00:00:00 +2359", None), ("Fri, 31 Dec 9999 23:59:59 -2359", None), ("\ud800", False),
)  # fmt: skip
_CONTENT_TYPES: Final = (
    "application/json; charset=utf-8", "text/html", "application/json; charset=utf-16", "image/png", "", "\0", "å;=;;",
    "a" * 5000, "application/problem+json",
)  # fmt: skip
_TEXTS: Final = (
    "", "0", "211", "Kunden är spärrad", "a\0b", "\ud800", "🙂", "\u202e", "x" * 400, "<b>fel</b>", "null", "true", "1",
    "0001-01-01T00:00:00", "2026-11-22T13:14:15.123+02:00", "9999-12-31T23:59:59-23:59", "2026-02-30", "\n\r\t", " ",
)  # fmt: skip
_NUMBERS: Final = (
    "0", "1", "-1", "9", "12", "26", "139", "2147483648", "9223372036854775807", "9223372036854775808", "1" * 40,
    "1" * 5000, "-" + "9" * 400, "1.0", "0.1", "1e5", "1E400", "1e-400", "1e999999999", "1e9999999999999999999", "-0",
    "-0.0", "12614169.0", "3.14159265358979323846264338327950288",
)  # fmt: skip
_NONSENSE: Final = (
    b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b".5", b"1.", b"'a'", b"undefined", b"True", b"None", b"\x00",
    b"{", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"/**/",
    b"1e", b"-", b"\\u0000", b"\x1f",
)  # fmt: skip
_PAGES: Final = (
    b"", b" ", b"null", b"true", b"[]", b"{}", b'""', b'"ok"', b"0", b"\n", b"<html><body><h1>502</h1></body></html>",
    b"<!DOCTYPE html><title>Error</title><script>var a = 1;", b"Service Unavailable", b"PK\x03\x04", b"\x1f\x8b\x08",
    b'"Invalid Token"', b'"Session Expired"', b"[[]]", b"[null]", b"[1]", b"[1, 2]", b"[1, 1]", b"[0]", b"[true]",
    b'["1"]', b"[1.0]", b"[9223372036854775808]", b"[-1]",
)  # fmt: skip


@dataclass(frozen=True)
class Generated:
    """One answer, and what the generator knows of it."""

    exchange: Exchange
    #: Whether its Retry-After can be read; None: readers may differ, or there is none.
    says_later: bool | None
    #: Whether secrets stand in it under telling names or in a URL, as a request has them.
    echoes: bool


class AnswerMaker:
    """Makes answers, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._intact = True

    def make(self) -> Generated:
        """The next answer."""
        chance = self._chance
        headers: dict[str, str] = {}
        says_later: bool | None = False
        if chance.random() < 0.3:
            headers["retry-after"], says_later = chance.choice(_RETRY_AFTERS)
        if chance.random() < 0.1:
            headers["date"] = chance.choice(("Sun, 22 Nov 2026 12:00:00 GMT", "yesterday", "", "\0", "0"))
        if chance.random() < 0.7:
            headers["content-type"] = chance.choice(_CONTENT_TYPES)
        echoes = chance.random() < 0.3
        self._intact = True
        body = self.body(echoes=echoes)
        echoes = echoes and self._intact
        ended = BEGAN_AT + timedelta(seconds=chance.random() * 30)
        what = chance.random()
        if what < 0.03:
            failure = chance.choice((Failure.REFUSED, Failure.FENCED, Failure.TLS))
            return Generated(Exchange(False, None, {}, None, b"", failure, BEGAN_AT, ended), False, False)
        if what < 0.06:
            failure = chance.choice((Failure.DEADLINE, Failure.RESET, Failure.CLOSED, Failure.MALFORMED))
            return Generated(Exchange(True, None, {}, None, b"", failure, BEGAN_AT, ended), False, False)
        status = chance.choice(_STATUSES) if chance.random() < 0.97 else chance.randrange(100, 1000)
        if what < 0.14:
            failure = chance.choice((Failure.TRUNCATED, Failure.OVERSIZED, Failure.DEADLINE, Failure.ENCODED))
            exchange = Exchange(True, status, headers, None, body[:65536], failure, BEGAN_AT, ended)
        else:
            exchange = Exchange(True, status, headers, body, b"", None, BEGAN_AT, ended)
        return Generated(exchange, says_later, echoes)

    def body(self, *, echoes: bool) -> bytes:
        """The body of an answer."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.12:
            body = chance.choice(_PAGES)
            if echoes:
                body += self._echo().encode("utf-8", "surrogatepass")
            return body
        if kind < 0.2:
            return chance.randbytes(chance.choice((1, 2, 7, 60, 700)))
        if kind < 0.24:
            return self._nested()
        body = self._object(echoes=echoes)
        self._intact = kind >= 0.45
        if kind < 0.30:
            return body[: chance.randrange(len(body) + 1)]
        if kind < 0.42:
            return self._damaged(body)
        if kind < 0.45:
            return body.decode("utf-8", "replace").encode(
                chance.choice(("utf-16", "utf-16-le", "utf-32", "cp1252")), "replace"
            )
        if kind < 0.48:
            return b"\xef\xbb\xbf" * chance.randrange(1, 3) + body
        if kind < 0.51:
            return chance.choice((b"[%s]", b" %s\n", b"%s%s", b'"%s"', b"%s,", b")]}',%s", b"%s\x00")).replace(
                b"%s", body
            )
        return body

    def _object(self, *, echoes: bool) -> bytes:
        """An operation result, with some of its properties left out, replaced, spelt otherwise or given twice."""
        chance = self._chance
        given = dict(chance.choice((EXAMPLE, _REFUSAL)))
        members = [(name, json.dumps(value, ensure_ascii=chance.random() < 0.5)) for name, value in given.items()]
        if chance.random() < 0.3:
            members = [m for m in members if chance.random() < 0.5]
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 5))):
            name = chance.choice(
                (*_NAMES, "Success", "Keys", "ErrorNumber", "ObjectsAffected", "Exception", "StackTrace")
            )
            at = next((i for i, (n, _) in enumerate(members) if n == name), None)
            member = (self._spelt(name), self._value())
            if at is None or chance.random() < 0.2:
                members.insert(chance.randrange(len(members) + 1), member)
            else:
                members[at] = member
        if echoes:
            names = ("ErrorMessage", "InfoMessage", "StringValue", "Exception", "StackTrace", "Strings", "New")
            name, echo = chance.choice(names), self._echo()
            members = [m for m in members if m[0] != name]
            members.append((name, json.dumps([echo] if name == "Strings" else echo)))
        if chance.random() < 0.1:
            chance.shuffle(members)
        text = "{" + ", ".join(f"{json.dumps(n)}: {v}" for n, v in members) + "}"
        return text.encode("utf-8", "surrogatepass")

    def _spelt(self, name: str) -> str:
        kind = self._chance.random()
        return name if kind < 0.85 else name.lower() if kind < 0.93 else name.upper() if kind < 0.98 else f"{name} "

    def _value(self) -> str:
        """A JSON value of any type."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.2:
            return chance.choice(("true", "false", "null"))
        if kind < 0.45:
            return chance.choice(_NUMBERS)
        if kind < 0.6:
            return json.dumps(chance.choice(_TEXTS))
        if kind < 0.65:
            return chance.choice(("NaN", "Infinity", "01", "'x'", "", "[1,]", "{,}"))
        if kind < 0.85:
            return "[" + ", ".join(self._value() for _ in range(chance.choice((0, 1, 1, 2)))) + "]"
        inner = (f"{json.dumps(chance.choice(_TEXTS))}: {self._value()}" for _ in range(chance.choice((0, 1, 2))))
        return "{" + ", ".join(inner) + "}"

    def _nested(self) -> bytes:
        chance = self._chance
        depth = chance.choice((5, 100, 300, 100_000))
        open_, close = chance.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"Success":', b"}]")))
        nested = open_ * depth + b"1" + (close * depth if chance.random() < 0.7 else b"")
        return nested if chance.random() < 0.5 else b'{"Success": true, "Keys": [5], "Value": %s}' % nested

    def _damaged(self, body: bytes) -> bytes:
        chance = self._chance
        damaged = bytearray(body)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(damaged) + 1)
            what = chance.random()
            if what < 0.3:
                damaged[at:at] = chance.choice(_NONSENSE)
            elif what < 0.6:
                del damaged[at : at + chance.choice((1, 1, 2, 10))]
            elif damaged:
                damaged[at % len(damaged)] ^= 1 << chance.randrange(8)
        return bytes(damaged)

    def _echo(self) -> str:
        """Some of the request, as a careless error page or trace shows it."""
        chance = self._chance
        name = chance.choice(tuple(SECRETS))
        value = SECRETS[name]
        query = "&".join(f"{n}={v}" for n, v in SECRETS.items() if " " not in v)
        login = {"License": SECRETS["License"], "UserName": "api", "Password": SECRETS["Password"]}
        forms = (
            f"GET https://apiexternal.softone.se/Economy/Billing/Orders?{query}&importId=0 failed",
            f"/Login/Token/?{query}",
            f"at Login({json.dumps(login, ensure_ascii=False)}) in Auth.cs:line 7",
            f"body was {json.dumps(json.dumps(login, ensure_ascii=False), ensure_ascii=False)}",
            f'"{name}": "{value}"',
            f"'{name}' : '{value}'",
            f'{{"{name}":"{value}"}}',
        )
        return "Fel: " + chance.choice(forms)
