"""The outcome table once more, as plainly as it can be said, with another JSON decoder: what a verdict may be."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, cast

from orderrelay_shared.states import JobState, Outcome

if TYPE_CHECKING:
    from orderrelay_workers.vendor.answers import LoginVerdict, LookupVerdict, Verdict
    from tests.fuzz.answers import Generated

_BOM: Final = b"\xef\xbb\xbf"
_PERHAPS: Final = frozenset({9, 11, 12, 15, 17, 139})


class NotReadable(Exception):
    """Not JSON."""


def read(body: bytes) -> Any:
    """The JSON value, or NotReadable."""

    def refuse(name: str) -> Any:
        raise NotReadable(name)

    def fraction(text: str) -> Any:
        try:
            return Decimal(text)
        except InvalidOperation:
            raise NotReadable("an exponent that no decimal has") from None

    def whole(text: str) -> Any:
        if len(text) > 4300:
            raise NotReadable("more digits than Python reads")
        return int(text)

    def members(pairs: list[tuple[str, Any]]) -> Any:
        json.dumps(pairs, ensure_ascii=False, default=str).encode()  # half a surrogate pair is no text, nor in a member
        return dict(pairs)  # that a later one of the same name replaces

    try:
        text = body.removeprefix(_BOM).decode("utf-8")
        value = json.loads(
            text, parse_constant=refuse, parse_int=whole, parse_float=fraction, object_pairs_hook=members
        )
        members([("", value)])
        return value
    except (ValueError, RecursionError) as error:
        raise NotReadable(str(error)) from None


def order_problem(made: Generated, verdict: Verdict) -> str | None:
    """What is wrong with the verdict on an answer to an order, or None."""
    exchange, outcome = made.exchange, verdict.outcome
    allowed = _allowed(made)
    if outcome not in allowed:
        return f"is {outcome}, but may only be {', '.join(sorted(allowed))}"
    if exchange.status != 200 or exchange.body is None:
        return None if verdict.vendor_id is None else "names an id that nobody told"
    try:
        value = read(exchange.body)
    except NotReadable:
        return None if outcome is Outcome.UNKNOWN else f"is {outcome}, but the answer is not JSON"
    return _result_problem(value, verdict)


def _allowed(made: Generated) -> set[Outcome]:
    exchange, status = made.exchange, made.exchange.status
    if status is None:
        return {Outcome.UNKNOWN if exchange.sent else Outcome.NOT_CREATED}
    if status == 200:
        return {Outcome.UNKNOWN} if exchange.body is None else {Outcome.CREATED, Outcome.REJECTED, Outcome.UNKNOWN}
    if status == 401:
        return {Outcome.UNAUTHORIZED}
    if status in (403, 404, 405) or 300 <= status < 400:
        return {Outcome.MISCONFIGURED}
    if status in (400, 413, 415, 422):
        return {Outcome.REJECTED}
    if status == 429:
        return {Outcome.THROTTLED}
    if status == 503 and made.says_later is not False:
        return {Outcome.THROTTLED} if made.says_later else {Outcome.THROTTLED, Outcome.UNKNOWN}
    return {Outcome.UNKNOWN}


def _result_problem(value: Any, verdict: Verdict) -> str | None:
    outcome = verdict.outcome
    if not isinstance(value, dict):
        return None if outcome is Outcome.UNKNOWN else f"is {outcome}, but the answer is no object"
    all_named: dict[str, list[Any]] = {}
    for name, member in cast("dict[str, Any]", value).items():
        all_named.setdefault(name.lower(), []).append(member)
    if any(len(members) > 1 for members in all_named.values()):
        return None  # names that differ in case only: the reader may take any of them, or none
    named = {name: members[0] for name, members in all_named.items()}
    success, keys = named.get("success"), named.get("keys")
    if not isinstance(success, bool):
        return None if outcome is Outcome.UNKNOWN else f"is {outcome}, but nothing says whether it succeeded"
    if success:
        if outcome is Outcome.CREATED:
            first = next(iter(_items(keys) or []), None)
            good = type(first) is int and 0 < first < 2**63 and verdict.vendor_id == first
            return None if good else f"is created as {verdict.vendor_id}, but Keys is {keys!s:.80}"
        if outcome is Outcome.REJECTED:
            return "is rejected, but the vendor says success"
        return None if verdict.if_absent is JobState.PARKED else f"says success, but would go to {verdict.if_absent}"
    if outcome is Outcome.CREATED:
        return "is created, but the vendor says that it is not"
    affected, number = named.get("objectsaffected"), named.get("errornumber")
    hints = [
        bool(keys),
        type(affected) is int and affected > 0,
        bool(named.get("exception")),
        bool(named.get("stacktrace")),
        type(number) is int and number in _PERHAPS,
    ]
    if any(hints):
        good = outcome is Outcome.UNKNOWN and verdict.if_absent in (JobState.REJECTED, JobState.PARKED)
        return None if good else f"hints at a partial save, but is {outcome} and would go to {verdict.if_absent}"
    return None


def _items(value: Any) -> list[object] | None:
    return cast("list[object]", value) if isinstance(value, list) else None


def must_be_rejected(made: Generated) -> bool:
    """Whether an answer is a refusal beyond doubt: it must not be held for more than that either."""
    exchange = made.exchange
    if exchange.status != 200 or exchange.body is None:
        return False
    try:
        value = read(exchange.body)
    except NotReadable:
        return False
    return isinstance(value, dict) and value.keys() <= {"Success", "ErrorMessage"} and value.get("Success") is False and (  # noqa: E501  one expression
        isinstance(value.get("ErrorMessage"), str | None)
    )  # fmt: skip


def lookup_problem(made: Generated, verdict: LookupVerdict) -> str | None:
    """What is wrong with the verdict on an answer to a look-up, or None."""
    exchange, status = made.exchange, made.exchange.status
    expected = {"failing"}
    ids: tuple[int, ...] = ()
    if status is None:
        expected = {"failing" if exchange.sent else "not_sent"}
    elif status == 401:
        expected = {"unauthorized"}
    elif status == 429 or (status == 503 and made.says_later):
        expected = {"throttled"}
    elif status == 503 and made.says_later is None:
        expected = {"throttled", "failing"}
    elif status in (403, 405) or 300 <= status < 400:
        expected = {"misconfigured"}
    elif status == 200 and exchange.body is not None:
        try:
            value = read(exchange.body)
        except NotReadable:
            value = None
        found = _items(value)
        if found is not None and all(type(i) is int and 0 < i < 2**63 for i in found):
            ids = tuple(i for i in dict.fromkeys(found) if isinstance(i, int))
            expected = {"found" if ids else "absent"}
    if verdict.kind not in expected or verdict.vendor_ids != ids:
        return f"is {verdict.kind} {verdict.vendor_ids}, but should be {expected} {ids}"
    return None


def login_problem(made: Generated, verdict: LoginVerdict) -> str | None:
    """What is wrong with the verdict on an answer to a login, or None."""
    exchange = made.exchange
    if (verdict.kind == "token") != (verdict.token is not None):
        return "is a token without a token"
    if verdict.kind not in ("token", "refused"):
        return None
    if exchange.status == 401:
        return None if verdict.kind == "refused" else "is a token, but the answer is 401"
    if exchange.status != 200 or exchange.body is None:
        return f"is {verdict.kind}, but the answer is {exchange.status}"
    try:
        read(exchange.body)
    except NotReadable:
        return f"is {verdict.kind}, but the answer is not JSON"
    return None
