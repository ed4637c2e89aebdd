"""What the vendor's answers mean. Pure: every row of the outcome table stands here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, cast

from pydantic import SecretStr

from orderrelay_shared.operation_results import OperationResult, OperationResultInvalid
from orderrelay_shared.states import JobState, Outcome
from orderrelay_shared.wire import WireInvalid, loads
from orderrelay_workers.vendor.retry_after import read_retry_after
from orderrelay_workers.vendor.wording import ERROR_NUMBERS, short_text

if TYPE_CHECKING:
    from orderrelay_workers.vendor.exchange import Exchange

#: Error numbers that say, or may mean, that the order or a part of it was saved, now or before.
PARTIAL_SAVE_NUMBERS: Final = frozenset({9, 11, 12, 15, 17, 139})

_REFUSED: Final = frozenset({400, 413, 415, 422})
_MISCONFIGURED: Final = frozenset({403, 404, 405})
#: What a column of 64 bits holds, and what a .NET int holds: larger numbers are no ids, and no error numbers.
_LARGEST_ID: Final = 2**63 - 1
_LARGEST_NUMBER: Final = 2**31 - 1
_TOKEN_CHARACTERS: Final = 8192

#: Ends of a request by which nothing was created, however many orders it held.
_SAME_FOR_EACH: Final = frozenset({Outcome.NOT_CREATED, Outcome.UNAUTHORIZED, Outcome.MISCONFIGURED, Outcome.THROTTLED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the end of an order request means.

    Attributes:
        outcome: How the request ended.
        reason: In words, for people.
        if_absent: Where an unknown job goes if a look-up finds nothing: waiting, rejected or parked.
        vendor_id: The vendor's id of the order (`Keys`), if created.
        order_number: The vendor's order number (`Strings`), if told.
        reference: The vendor's reference GUID (`StringValue`), if told.
        error_number: The vendor's `ErrorNumber`, if it refused; None if 0.
        error_message: The vendor's `ErrorMessage`, if it refused; on one line.
        retry_after_seconds: How long the vendor asks to wait, if it is throttled and said so.
        trips: Whether the company is to be held at once, as no order of it can succeed.
    """

    outcome: Outcome
    reason: str
    if_absent: JobState = JobState.WAITING
    vendor_id: int | None = None
    order_number: str | None = None
    reference: str | None = None
    error_number: int | None = None
    error_message: str | None = None
    retry_after_seconds: float | None = None
    trips: bool = False


@dataclass(frozen=True, slots=True)
class LookupVerdict:
    """What a look-up by ExternalId says.

    Attributes:
        kind: "absent" only for a well-formed empty list; "failing" for all that decides nothing.
        vendor_ids: The ids found, without repetitions; more than one means that the order was created twice.
        reason: In words, for people.
        retry_after_seconds: How long the vendor asks to wait, if throttled and told.
    """

    kind: Literal["found", "absent", "failing", "unauthorized", "throttled", "misconfigured", "not_sent"]
    vendor_ids: tuple[int, ...] = ()
    reason: str = ""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LoginVerdict:
    """What a login says.

    Attributes:
        token: The access token, if there is one.
        kind: "refused": the vendor understood and said no, so the credentials need a person.
        reason: In words, for people; the vendor's own Message if it refused.
        retry_after_seconds: How long the vendor asks to wait, if throttled and told.
    """

    token: SecretStr | None
    kind: Literal["token", "refused", "failing", "throttled", "misconfigured", "not_sent"]
    reason: str = ""
    retry_after_seconds: float | None = None


def read_order_answer(exchange: Exchange) -> Verdict:
    """Decide how an order request ended.

    A status that says "not created" says so in the answer's head, so it decides even if the body is cut short; that
    an order was created or refused by a rule is believed only from a complete answer. All doubt is unknown.
    """
    status = exchange.status
    if status is None:
        if not exchange.sent:
            return Verdict(Outcome.NOT_CREATED, exchange.failure or "not sent")
        return Verdict(Outcome.UNKNOWN, f"no answer: {exchange.failure or 'no reason known'}")
    if status == 200:
        return _read_operation_result(exchange)
    if status == 401:
        return Verdict(Outcome.UNAUTHORIZED, _said(exchange))
    if status in _MISCONFIGURED or 300 <= status <= 399:
        return Verdict(Outcome.MISCONFIGURED, _said(exchange), trips=True)
    if status in _REFUSED:
        return Verdict(Outcome.REJECTED, _said(exchange))
    if _throttles(exchange):
        return Verdict(Outcome.THROTTLED, _said(exchange), retry_after_seconds=_retry_after(exchange))
    return Verdict(Outcome.UNKNOWN, _said(exchange))


def read_order_answers(exchange: Exchange, orders: int) -> tuple[Verdict, ...]:
    """Decide how a request with several orders ended for each of them, in the order in which they were sent.

    That each was created is believed where the answer names as many ids and as many numbers as orders were sent, and no
    id twice. That none was created is believed where the answer says so of any request, whatever was in it. In all
    other cases each of them is unknown: nobody can tell which of them the answer is about, so none of them is ever
    rejected by it. What a look-up then does not find goes out by itself, but for an answer that says success and names
    nothing: after that an order that is not found is parked, as if it had been sent alone.

    Args:
        exchange: What was seen of the request.
        orders: How many orders were in it; at least 1. The answer to one alone is read as `read_order_answer` does.
    """
    whole = read_order_answer(exchange)
    if orders == 1 or whole.outcome in _SAME_FOR_EACH:
        return (whole,) * orders
    reason = whole.reason
    if whole.outcome is Outcome.CREATED and exchange.body is not None:
        result = OperationResult.from_json(exchange.body)
        keys, strings = result.keys or (), result.strings or ()
        are_ids = all(_is_id(key) for key in keys) and len(set(keys)) == len(keys)
        if are_ids and len(keys) == len(strings) == orders:
            return tuple(
                replace(whole, reason=f"created with {orders - 1} others", vendor_id=key, order_number=_name(string))
                for key, string in zip(keys, strings, strict=True)
            )
        reason = f"the vendor says success, but names {len(set(keys))} ids and {len(strings)} numbers"
    parks = whole.outcome is Outcome.UNKNOWN and whole.if_absent is JobState.PARKED
    unknown = Verdict(
        Outcome.UNKNOWN,
        f"one of {orders} orders in a request: {reason}",
        if_absent=JobState.PARKED if parks else JobState.WAITING,
    )
    return (unknown,) * orders


def read_lookup_answer(exchange: Exchange) -> LookupVerdict:
    """Decide what a look-up says; nothing but a well-formed list of ids is evidence of anything."""
    status = exchange.status
    if status is None:
        kind: Literal["failing", "not_sent"] = "failing" if exchange.sent else "not_sent"
        return LookupVerdict(kind, reason=exchange.failure or "no answer")
    if status == 401:
        return LookupVerdict("unauthorized", reason=_said(exchange))
    if _throttles(exchange):
        return LookupVerdict("throttled", reason=_said(exchange), retry_after_seconds=_retry_after(exchange))
    # 404 is how a vendor without this look-up answers: a look-up that fails, but no wrong address of the company.
    if status in (403, 405) or 300 <= status <= 399:
        return LookupVerdict("misconfigured", reason=_said(exchange))
    if status != 200:
        return LookupVerdict("failing", reason=_said(exchange))
    if exchange.body is None:
        return LookupVerdict("failing", reason=_incomplete(exchange))
    vendor_ids = _read_ids(exchange.body)
    if vendor_ids is None:
        return LookupVerdict("failing", reason="the look-up's answer is no list of ids")
    if not vendor_ids:
        return LookupVerdict("absent", reason="the look-up found nothing")
    return LookupVerdict("found", vendor_ids, f"the look-up found {', '.join(map(str, vendor_ids[:5]))}")


def read_login_answer(exchange: Exchange) -> LoginVerdict:
    """Decide what a login says; the vendor answers 200 even if it refuses."""
    status = exchange.status
    if status is None:
        kind: Literal["failing", "not_sent"] = "failing" if exchange.sent else "not_sent"
        return LoginVerdict(None, kind, exchange.failure or "no answer")
    if status == 401:
        return LoginVerdict(None, "refused", _said(exchange))
    if _throttles(exchange):
        return LoginVerdict(None, "throttled", _said(exchange), _retry_after(exchange))
    if status in _REFUSED or status in _MISCONFIGURED or 300 <= status <= 399:
        return LoginVerdict(None, "misconfigured", _said(exchange))
    if status != 200:
        return LoginVerdict(None, "failing", f"HTTP {status}")
    if exchange.body is None:
        return LoginVerdict(None, "failing", _incomplete(exchange))
    return _read_token(exchange.body)


def _read_operation_result(exchange: Exchange) -> Verdict:
    if exchange.body is None:
        return Verdict(Outcome.UNKNOWN, _incomplete(exchange))
    try:
        result = OperationResult.from_json(exchange.body)
    except OperationResultInvalid as error:
        reason = f"HTTP 200, but no operation result: {short_text(str(error))}"
        return Verdict(Outcome.UNKNOWN, reason, if_absent=_if_absent_all_the_same(exchange.body))
    keys = result.keys or ()
    if result.success:
        if not keys or not _is_id(keys[0]):
            reason = "the vendor says success, but names no order"
            return Verdict(Outcome.UNKNOWN, reason, if_absent=JobState.PARKED)
        return Verdict(
            Outcome.CREATED,
            "created" if len(keys) == 1 else f"created; the vendor names {len(keys)} ids",
            vendor_id=keys[0],
            order_number=_name(result.strings[0] if result.strings else None),
            reference=_name(result.string_value),
        )
    number = result.error_number or None
    if number is not None and abs(number) > _LARGEST_NUMBER:
        number = None
    message = short_text(result.error_message or "") or None
    words = _refusal(number, message, can_override=bool(result.can_user_override))
    hints = [
        hint
        for hint, there in (
            ("Keys", keys),
            ("ObjectsAffected", (result.objects_affected or 0) > 0),
            ("Exception", result.exception),
            ("StackTrace", result.stack_trace),
            (f"ErrorNumber {result.error_number}", result.error_number in PARTIAL_SAVE_NUMBERS),
        )
        if there
    ]
    if hints:
        return Verdict(
            Outcome.UNKNOWN,
            f"{words}; perhaps saved nevertheless ({', '.join(hints)})",
            if_absent=JobState.REJECTED,
            error_number=number,
            error_message=message,
        )
    return Verdict(Outcome.REJECTED, words, error_number=number, error_message=message)


def _if_absent_all_the_same(body: bytes) -> JobState:
    """What an answer that is no operation result still demands: one wrong property does not unsay the others."""
    try:
        value = loads(body)
    except WireInvalid:
        return JobState.WAITING
    if not isinstance(value, dict):
        return JobState.WAITING
    named = {name.lower(): member for name, member in cast("dict[str, object]", value).items()}
    if named.get("success") is True:
        return JobState.PARKED
    number = named.get("errornumber")
    hints = [named.get(name) for name in ("keys", "objectsaffected", "exception", "stacktrace")]
    if any(hints) or (isinstance(number, int) and number in PARTIAL_SAVE_NUMBERS):
        return JobState.REJECTED
    return JobState.WAITING


def _refusal(number: int | None, message: str | None, *, can_override: bool) -> str:
    words = "refused by the vendor"
    if number is not None:
        meaning = ERROR_NUMBERS.get(number)
        words += f", error {number}" + (f" ({meaning})" if meaning else "")
    if message is not None:
        words += f": {message}"
    return words + (" (a user may override this in SoftOne GO)" if can_override else "")


def _name(text: str | None) -> str | None:
    return short_text(text or "", 100) or None


def _read_ids(body: bytes) -> tuple[int, ...] | None:
    try:
        value = loads(body)
    except WireInvalid:
        return None
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    if not all(_is_id(item) for item in items):
        return None
    return tuple(cast("dict[int, None]", dict.fromkeys(items)))


def _read_token(body: bytes) -> LoginVerdict:
    try:
        value = loads(body)
    except WireInvalid:
        return LoginVerdict(None, "failing", "the login's answer is no JSON")
    token: object = value
    message: object = None
    if isinstance(value, dict):
        named = {name.casefold(): item for name, item in cast("dict[str, object]", value).items()}
        token, message = named.get("token"), named.get("message")
    if isinstance(token, str) and token:
        if len(token) <= _TOKEN_CHARACTERS and token.isprintable() and " " not in token:
            return LoginVerdict(SecretStr(token), "token", "token received")
        # What has spaces is a sentence, not a token; it is not quoted, as a strange token is a secret too.
        return LoginVerdict(None, "failing", "the login's answer holds no usable token")
    if isinstance(message, str) and message.strip():
        return LoginVerdict(None, "refused", short_text(message))
    return LoginVerdict(None, "failing", "the login's answer holds neither token nor message")


def _is_id(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= _LARGEST_ID


def _throttles(exchange: Exchange) -> bool:
    # A 503 with a Retry-After that cannot be read is no clear "later", and so is like one without.
    return exchange.status == 429 or (exchange.status == 503 and _retry_after(exchange) is not None)


def _retry_after(exchange: Exchange) -> float | None:
    return read_retry_after(exchange.headers, exchange.ended_at)


def _incomplete(exchange: Exchange) -> str:
    return f"HTTP {exchange.status}, but the answer is not complete: {exchange.failure or 'no reason known'}"


def _said(exchange: Exchange) -> str:
    text = short_text(exchange.partial if exchange.body is None else exchange.body)
    return f"HTTP {exchange.status}: {text}" if text else f"HTTP {exchange.status}"
