"""The vendor's three endpoints: login, order and look-up. An order posted twice is created twice."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from orderrelay_workers.simulator import answers, wire
from orderrelay_workers.simulator.books import Books, order_number
from orderrelay_workers.simulator.faults import Act, Fault, On
from orderrelay_workers.simulator.plan import Chooser, FaultPlan, Rule, Subject
from orderrelay_workers.simulator.rules_of_business import problem_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orderrelay_workers.simulator.tokens import Tokens
    from orderrelay_workers.simulator.wire import Answered

_LOGIN_REFUSED: Final = b'{"Message":"Login failed, wrong user name or password"}'
_ORDER_TYPE: Final = "6"
_EMPTY_ANSWER: Final = b"{}"


@dataclass(frozen=True, slots=True)
class Target:
    """A request's path, lower case and without a slash at its end, and its parameters, names in lower case."""

    path: str
    parameters: Mapping[str, str]

    @property
    def keys(self) -> tuple[str, str, str]:
        """companyApiKey, connectApiKey and token; "" for one that is missing."""
        given = self.parameters
        return given.get("companyapikey", ""), given.get("connectapikey", ""), given.get("token", "")


@lru_cache(maxsize=4096)
def read_target(target: str) -> Target:
    """The request line's target, taken apart. Kept, as all orders of a company have the same."""
    path, _, query = target.partition("?")
    parameters = {name.lower(): value for name, value in parse_qsl(query, keep_blank_values=True)}
    return Target(path.lower().rstrip("/"), parameters)


class VendorEndpoints:
    """Answers as the vendor does, or as the plan's faults want.

    Args:
        books: What is created and seen is written there.
        tokens: Who may come in.
        plan: What goes wrong.
        login_failure_seconds: How late a failing login is answered.
        closing: Set when the simulator stops.
    """

    def __init__(
        self, books: Books, tokens: Tokens, plan: FaultPlan, login_failure_seconds: float, closing: asyncio.Event
    ) -> None:
        self._books = books
        self._tokens = tokens
        self._login_failure_seconds = login_failure_seconds
        self._closing = closing
        self._references = random.Random(plan.seed)
        self._accepted: dict[str, deque[float]] = {}
        self._later: set[asyncio.TimerHandle] = set()
        self.chooser = Chooser(plan)

    async def order(self, request: web.BaseRequest, target: Target, *, is_array: bool) -> web.StreamResponse:
        """POST Economy/Billing/Orders (an array) or Economy/Billing/Order (one object).

        Of an array all orders are created or none: one that breaks a rule refuses all. Faults may have it otherwise.
        """
        return await self._booked("order", target, lambda seen: self._order(request, target, seen, is_array=is_array))

    async def look_up(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """GET Economy/Billing/InvoiceIdsFromExternalId/."""
        return await self._booked("lookup", target, lambda seen: self._look_up(request, target, seen))

    async def log_in(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """POST Login/Token/."""
        return await self._booked("login", target, lambda seen: self._log_in(request, target, seen))

    async def followed_redirect(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Where the redirecting faults point to: nobody should ever come."""

        async def answer(_seen: tuple[object, int]) -> Answered:
            await request.content.read()
            return wire.text_answer(200, "Moved here")

        return await self._booked("followed_redirect", target, answer)

    async def _booked(
        self, kind: str, target: Target, answer: Callable[[tuple[object, int]], Awaitable[Answered]]
    ) -> web.StreamResponse:
        seen = self._books.begin(kind, target.keys[0])
        status = 0
        try:
            response, status = await answer(seen)
        except (ConnectionError, web.RequestPayloadError):
            # The client went away in the middle.
            response, status = wire.nothing()
        finally:
            self._books.end(seen, status)
        return response

    async def _delay(self) -> None:
        if seconds := self.chooser.latency_seconds(self._books.in_flight):
            await asyncio.sleep(seconds)

    async def _order(
        self, request: web.BaseRequest, target: Target, seen: tuple[object, int], *, is_array: bool
    ) -> Answered:
        chooser = self.chooser
        keys = target.keys
        draw = chooser.draw(On.ORDER)
        if (unread := chooser.unread(draw, Subject(keys[0]))) is not None:
            self._books.struck(seen, unread[0].name)
            return wire.reset(request)
        body = await request.content.read()
        refusal = self._tokens.refusal(*keys)
        if refusal is not None:
            return wire.text_answer(401, refusal)
        if self._is_over_limit(keys[0]):
            self._books.struck(seen, "rate-limit")
            plan = chooser.plan
            headers = wire.retry_after(plan.rate_limit_retry_after, plan.rate_limit_wait_seconds)
            return wire.text_answer(429, "Too Many Requests", headers)
        if "json" not in request.headers.get("Content-Type", "").lower():
            return wire.text_answer(415, "Unsupported Media Type: send application/json")
        import_id = target.parameters.get("importid", "")
        if import_id and not import_id.lstrip("-").isdigit():
            return wire.text_answer(400, "importId must be an integer")
        orders = _orders_of(body, is_array=is_array)
        if orders is None:
            return wire.text_answer(400, f"The body must be {'a JSON array of orders' if is_array else 'one order'}")
        await self._delay()
        struck = chooser.read(On.ORDER, draw, _subject(keys[0], orders)) if chooser.strikes_read(On.ORDER) else None
        if struck is not None and not struck[0].creates:
            self._books.struck(seen, struck[0].name)
            return await self._not_created(request, *struck)
        for order in orders:
            if (problem := problem_of(order)) is not None:
                return wire.json_answer(answers.refused(*problem))
        digest = hashlib.sha256(body).digest()
        if struck is None:
            return wire.json_answer(self._right_answer(self._create(keys[0], orders, digest)))
        self._books.struck(seen, struck[0].name)
        return await self._created(request, keys[0], orders, digest, struck)

    async def _not_created(self, request: web.BaseRequest, fault: Fault, rule: Rule) -> Answered:
        """A fault that leaves the order uncreated; where it names one, the name is made up."""
        if fault.act is Act.ANSWER:
            return await wire.own_answer(fault, rule.seconds_of_fault)
        if fault.act is Act.RESULT:
            return wire.json_answer(answers.changed((), (), self._reference(), fault.result))
        right = answers.changed((), (), self._reference(), {})
        return await wire.perform(request, fault, rule.seconds_of_fault, right, self._closing)

    async def _created(
        self,
        request: web.BaseRequest,
        company_key: str,
        orders: list[dict[str, object]],
        digest: bytes,
        struck: tuple[Fault, Rule],
    ) -> Answered:
        """A fault that strikes when the order is, or will be, created."""
        fault, rule = struck
        if fault.act is Act.CREATE_LATER:
            self._create_later(rule.seconds_of_fault, company_key, orders, digest)
            return await wire.own_answer(fault, rule.seconds_of_fault)
        if fault.act in (Act.CREATE_FIRST, Act.CREATE_SOME):
            some = orders[: len(orders) // 2] if fault.act is Act.CREATE_FIRST else orders[1::2]
            self._create(company_key, some, digest)
            return wire.json_answer(answers.changed((), (), self._reference(), fault.result))
        vendor_ids = self._create(company_key, orders, digest)
        if fault.act is Act.NAME_FEWER:
            return wire.json_answer(self._right_answer(vendor_ids[:-1]))
        if fault.act is Act.NAME_TWICE:
            return wire.json_answer(self._right_answer([*vendor_ids[:-1], vendor_ids[0]]))
        if fault.act is Act.CREATE_TWICE:
            self._create(company_key, orders, digest)
        if fault.act is Act.ANSWER:
            return await wire.own_answer(fault, rule.seconds_of_fault)
        if fault.act is Act.RESULT:
            numbers = [order_number(vendor_id) for vendor_id in vendor_ids]
            return wire.json_answer(answers.changed(vendor_ids, numbers, self._reference(), fault.result))
        right = self._right_answer(vendor_ids)
        return await wire.perform(request, fault, rule.seconds_of_fault, right, self._closing)

    def _create(self, company_key: str, orders: list[dict[str, object]], digest: bytes) -> list[int]:
        create = self._books.create
        return [
            create(company_key, cast("str", order.get("ExternalId") or ""), len(_rows(order)), digest)
            for order in orders
        ]

    def _create_later(self, seconds: float, company_key: str, orders: list[dict[str, object]], digest: bytes) -> None:
        loop = asyncio.get_running_loop()

        def create() -> None:
            self._later.discard(handle)
            self._create(company_key, orders, digest)

        handle = loop.call_later(seconds, create)
        self._later.add(handle)

    def _right_answer(self, vendor_ids: list[int]) -> bytes:
        return answers.created(vendor_ids, [order_number(i) for i in vendor_ids], self._reference())

    def _reference(self) -> str:
        text = f"{self._references.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def _is_over_limit(self, company_key: str) -> bool:
        limit = self.chooser.limit()
        if limit is None:
            return False
        accepted = self._accepted.setdefault(company_key, deque())
        now = time.monotonic()
        while accepted and accepted[0] <= now - 1.0:
            accepted.popleft()
        if len(accepted) >= limit:
            return True
        accepted.append(now)
        return False

    async def _look_up(self, request: web.BaseRequest, target: Target, seen: tuple[object, int]) -> Answered:
        await request.content.read()
        refusal = self._tokens.refusal(*target.keys)
        if refusal is not None:
            return wire.text_answer(401, refusal)
        external_id = target.parameters.get("externalid", "")
        if not external_id:
            return wire.text_answer(400, "externalId is missing")
        await self._delay()
        chooser, company_key = self.chooser, target.keys[0]
        found: list[int] = []
        if target.parameters.get("type") == _ORDER_TYPE:
            found = self._books.find(company_key, external_id, chooser.plan.lookup_lag_seconds)
        struck = chooser.read(On.LOOKUP, chooser.draw(On.LOOKUP), Subject(company_key, (external_id,)))
        right = msgspec.json.encode(found)
        if struck is None:
            return wire.json_answer(right)
        fault, rule = struck
        self._books.struck(seen, fault.name)
        if fault.act is Act.ANSWER:
            return await wire.own_answer(fault, rule.seconds_of_fault)
        if fault.act is Act.BLIND:
            return wire.json_answer(b"[]")
        return await wire.perform(request, fault, rule.seconds_of_fault, right, self._closing)

    async def _log_in(self, request: web.BaseRequest, target: Target, seen: tuple[object, int]) -> Answered:
        body = await request.content.read()
        await self._delay()
        company_key, connect_key, _ = target.keys
        chooser = self.chooser
        struck = chooser.read(On.LOGIN, chooser.draw(On.LOGIN), Subject(company_key))
        if struck is None:
            return await self._right_login(company_key, connect_key, body)
        fault, rule = struck
        self._books.struck(seen, fault.name)
        match fault.act:
            case Act.ANSWER:
                return await wire.own_answer(fault, rule.seconds_of_fault)
            case Act.LOGIN_FAILED:
                return await self._refused_login(rule.seconds)
            case Act.STALE_TOKEN:
                return wire.json_answer(_token_answer("0" * 32))
            case Act.BARE_TOKEN:
                return wire.json_answer(msgspec.json.encode(self._tokens.issue(company_key)))
            case Act.SLOW:
                await wire.pause(rule.seconds_of_fault, self._closing)
                return await self._right_login(company_key, connect_key, body)
            case _:
                return await wire.perform(request, fault, rule.seconds_of_fault, _EMPTY_ANSWER, self._closing)

    async def _right_login(self, company_key: str, connect_key: str, body: bytes) -> Answered:
        if not self._fits(company_key, connect_key, body):
            return await self._refused_login(None)
        return wire.json_answer(_token_answer(self._tokens.issue(company_key)))

    async def _refused_login(self, seconds: float | None) -> Answered:
        await wire.pause(self._login_failure_seconds if seconds is None else seconds, self._closing)
        return wire.json_answer(_LOGIN_REFUSED)

    def _fits(self, company_key: str, connect_key: str, body: bytes) -> bool:
        try:
            given = msgspec.json.decode(body, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        lower = {name.lower(): value for name, value in given.items()}
        login = lower.get("license"), lower.get("username"), lower.get("password")
        return self._tokens.fit_login(company_key, connect_key, login)


def _token_answer(token: str) -> bytes:
    return msgspec.json.encode({"Token": token, "Message": "Login successful, use token within 120 seconds"})


def _orders_of(body: bytes, *, is_array: bool) -> list[dict[str, object]] | None:
    """The orders in a request's body, or None if it is not what the path takes."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not is_array:
        value = [value]
    if not isinstance(value, list) or not value:
        return None
    items = cast("list[object]", value)
    if not all(isinstance(item, dict) for item in items):
        return None
    return cast("list[dict[str, object]]", items)


def _rows(order: dict[str, object]) -> list[object]:
    return cast("list[object]", order["InvoiceRows"])


def _subject(company_key: str, orders: list[dict[str, object]]) -> Subject:
    return Subject(company_key, _texts(orders, "ExternalId"), _texts(orders, "CustomerNr"))


def _texts(orders: list[dict[str, object]], name: str) -> list[str]:
    return [value for order in orders if isinstance(value := order.get(name), str)]
