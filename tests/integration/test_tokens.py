"""Access tokens: one login at a time over all workers, shared through Redis, dropped only by who used them."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import redis

from orderrelay_shared import keys
from orderrelay_workers.credentials import Credentials, Refused
from orderrelay_workers.event_loop import EventLoop
from orderrelay_workers.gate import Gate, Limits
from orderrelay_workers.settings import CompanySettings, WorkerSettings
from orderrelay_workers.tokens import NoToken, Token, Tokens
from tests.ledgers import ACME, answered
from tests.servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderrelay_workers.vendor.client import VendorClient
    from orderrelay_workers.vendor.exchange import Exchange

LEDGER = uuid.uuid4()
KEYS = {"company_api_key": "k", "connect_api_key": "c", "license": "l", "user_name": "u", "password": "p"}


@dataclass
class FakeVendor:
    """Answers logins with a new token each, once it may."""

    logins: int = 0
    may_answer: threading.Event = field(default_factory=threading.Event)
    answers: list[Exchange] = field(default_factory=list["Exchange"])

    async def log_in(self, company: str) -> Exchange:
        """A login."""
        self.logins += 1
        number = self.logins
        while not self.may_answer.is_set():  # noqa: ASYNC110  set by a thread, which an asyncio.Event does not allow
            await asyncio.sleep(0.005)
        if self.answers:
            return self.answers.pop(0)
        return answered(200, json.dumps({"Token": f"token-{number}"}).encode())


@pytest.fixture
def vendor() -> FakeVendor:
    """A vendor that answers at once."""
    vendor = FakeVendor()
    vendor.may_answer.set()
    return vendor


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    """An event loop."""
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.fixture
def refused() -> list[str]:
    """Reasons for which the vendor refused the credentials."""
    return []


@pytest.fixture
def judged() -> list[CompanySettings]:
    """The settings whose credentials were refused."""
    return []


@pytest.fixture
def new_tokens(
    redis_url: str, vendor: FakeVendor, loop: EventLoop, refused: list[str], judged: list[CompanySettings]
) -> Iterator[Callable[..., Tokens]]:
    """Makes workers' tokens, each with its own connections."""
    clients: list[redis.Redis] = []

    def make(**company: str) -> Tokens:
        client = redis.Redis.from_url(redis_url, socket_timeout=5.0)
        clients.append(client)
        boot_id = uuid.uuid4()
        gate = Gate(client, boot_id, probe_lease_seconds=40)
        gate.seed(ACME, Limits(1000, 100, 100), None, {})
        settings = WorkerSettings(companies={ACME: CompanySettings.model_validate(KEYS | company)})

        def tell(_: str, used: CompanySettings, reason: str) -> None:
            refused.append(reason)
            judged.append(used)

        credentials = Credentials(settings, LEDGER)
        return Tokens(settings, client, gate, loop, cast("VendorClient", vendor), boot_id, credentials, tell)

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def tokens(new_tokens: Callable[..., Tokens]) -> Tokens:
    """One worker's tokens."""
    return new_tokens()


def text(token: Token | NoToken) -> str:
    """The token, which is there."""
    assert isinstance(token, Token)
    return token.text


def get(tokens: Tokens) -> str:
    """A token, asked for until there is one."""
    got: list[Token] = []

    def ask() -> bool:
        if isinstance(token := tokens.get(ACME), Token):
            got.append(token)
        return bool(got)

    wait_until(ask, what="there is a token")
    return got[0].text


def test_one_login_for_all(new_tokens: Callable[..., Tokens], vendor: FakeVendor) -> None:
    """However many threads of however many workers ask at once, there is one login, and all get its token."""
    vendor.may_answer.clear()
    workers = [new_tokens() for _ in range(4)]
    with ThreadPoolExecutor(12) as threads:
        asked = [threads.submit(get, worker) for worker in workers * 3]
        wait_until(lambda: vendor.logins, what="a login is under way")
        assert isinstance(new_tokens().get(ACME), NoToken)
        vendor.may_answer.set()
        assert {one.result(timeout=10) for one in asked} == {"token-1"}
    assert vendor.logins == 1


def test_who_does_not_log_in_is_told_to_ask_again(new_tokens: Callable[..., Tokens], vendor: FakeVendor) -> None:
    """While another worker logs in there is no token yet, and a short wait."""
    vendor.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(new_tokens().get, ACME)
        wait_until(lambda: vendor.logins, what="a login is under way")
        assert new_tokens().get(ACME) == NoToken("another worker logs in", 0.2)
        vendor.may_answer.set()
        assert text(first.result(timeout=10)) == "token-1"


def test_a_cached_token_is_anybodys(new_tokens: Callable[..., Tokens], vendor: FakeVendor) -> None:
    """A token that one worker got is used by all, also by those that start later."""
    assert {text(new_tokens().get(ACME)) for _ in range(3)} == {"token-1"}
    assert vendor.logins == 1


def test_a_fixed_token_needs_no_login(new_tokens: Callable[..., Tokens], vendor: FakeVendor) -> None:
    """A company with a fixed token never logs in, and its refusal means bad credentials."""
    tokens = new_tokens(token="fixed")
    assert text(tokens.get(ACME)) == "fixed"
    assert vendor.logins == 0


def test_a_refused_fixed_token_is_bad_credentials(new_tokens: Callable[..., Tokens], refused: list[str]) -> None:
    """There is no other token to be had."""
    tokens = new_tokens(token="fixed")
    tokens.refused(ACME, cast("Token", tokens.get(ACME)), "401")
    assert refused == ["the fixed TOKEN was refused: 401"]


def test_the_token_expires_before_the_vendors(tokens: Tokens, redis_client: redis.Redis) -> None:
    """The cache forgets an unused token a little before the vendor does after 120 s; a use begins its time anew."""
    token = tokens.get(ACME)
    assert isinstance(token, Token)
    assert 100 <= redis_client.ttl(keys.token(ACME)) <= 110
    redis_client.expire(keys.token(ACME), 20)
    tokens.accepted(ACME, token)
    assert 100 <= redis_client.ttl(keys.token(ACME)) <= 110


def test_an_expired_token_is_replaced(tokens: Tokens, vendor: FakeVendor, refused: list[str]) -> None:
    """A refused token is dropped, and the next order's login gets another, with no alarm."""
    tokens.refused(ACME, cast("Token", tokens.get(ACME)), "401")
    assert text(tokens.get(ACME)) == "token-2"
    assert (vendor.logins, refused) == (2, [])


def test_only_the_token_in_use_is_dropped(tokens: Tokens, vendor: FakeVendor, refused: list[str]) -> None:
    """Many requests that were refused under an old token cost one login, not one each, and no pause."""
    old = cast("Token", tokens.get(ACME))
    tokens.refused(ACME, old, "401")
    tokens.get(ACME)
    for _ in range(5):
        tokens.refused(ACME, old, "401")
    assert text(tokens.get(ACME)) == "token-2"
    assert (vendor.logins, refused) == (2, [])


def test_a_new_token_refused_as_well_is_bad_credentials(tokens: Tokens, refused: list[str]) -> None:
    """When the token of the login that followed a refusal is refused too, the credentials are bad."""
    tokens.refused(ACME, cast("Token", tokens.get(ACME)), "first")
    tokens.refused(ACME, cast("Token", tokens.get(ACME)), "second")
    assert refused == ["second"]


def test_a_token_that_was_taken_is_good(tokens: Tokens, refused: list[str]) -> None:
    """A refusal of a token that the vendor had taken means that it expired, whatever happened before."""
    tokens.refused(ACME, cast("Token", tokens.get(ACME)), "first")
    taken = cast("Token", tokens.get(ACME))
    tokens.accepted(ACME, taken)
    tokens.refused(ACME, taken, "expired")
    assert refused == []


def test_refused_credentials_are_told(tokens: Tokens, vendor: FakeVendor, refused: list[str]) -> None:
    """A login that the vendor refuses is told with its words, and gives no token."""
    vendor.answers.append(answered(200, b'{"Message": "Login failed: wrong password"}'))
    assert isinstance(tokens.get(ACME), NoToken)
    assert refused == ["Login failed: wrong password"]


@pytest.mark.parametrize("answer", [answered(500, b""), answered(429, b""), answered(404, b"")])
def test_a_failed_login_frees_the_way(
    tokens: Tokens, vendor: FakeVendor, refused: list[str], redis_client: redis.Redis, answer: Exchange
) -> None:
    """A login that fails says nothing about the credentials, holds no lock, and is tried again later."""
    vendor.answers.append(answer)
    assert isinstance(tokens.get(ACME), NoToken)
    assert (refused, redis_client.exists(keys.login_lock(ACME))) == ([], 0)


def test_a_login_passes_the_gate(tokens: Tokens, vendor: FakeVendor) -> None:
    """While the company is paused nobody logs in."""
    tokens._gate.pause(ACME, "stocktaking")
    answer = tokens.get(ACME)
    assert isinstance(answer, NoToken)
    assert answer.wait_seconds > 0
    assert vendor.logins == 0


def test_a_wiped_redis_costs_a_login(tokens: Tokens, vendor: FakeVendor, redis_client: redis.Redis) -> None:
    """After a wipe, once the gate is seeded again, a new login gets a new token."""
    tokens.get(ACME)
    redis_client.flushall()
    assert isinstance(tokens.get(ACME), NoToken)
    tokens._gate.seed(ACME, Limits(1000, 100, 100), None, {})
    assert text(tokens.get(ACME)) == "token-2"


def test_a_lock_that_was_lost_harms_nothing(
    new_tokens: Callable[..., Tokens], vendor: FakeVendor, redis_client: redis.Redis
) -> None:
    """A login whose lock expired meanwhile keeps its token, and does not take another's lock away."""
    vendor.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(new_tokens().get, ACME)
        wait_until(lambda: vendor.logins, what="a login is under way")
        redis_client.set(keys.login_lock(ACME), "another's", ex=60)
        vendor.may_answer.set()
        assert text(slow.result(timeout=10)) == "token-1"
    assert redis_client.get(keys.login_lock(ACME)) == b"another's"


def test_a_dead_workers_login_is_freed(tokens: Tokens, redis_client: redis.Redis) -> None:
    """The lock of a worker that died while it logged in is freed when it is declared dead; a living one's is not."""
    dead, alive = uuid.uuid4(), uuid.uuid4()
    redis_client.set(keys.login_lock(ACME), dead.hex, ex=60)
    tokens.forget_worker([ACME], alive)
    assert isinstance(tokens.get(ACME), NoToken)
    tokens.forget_worker([ACME], dead)
    assert text(tokens.get(ACME)) == "token-1"


def test_no_token_in_a_repr(tokens: Tokens) -> None:
    """A token shows itself in no text."""
    assert "token-1" not in repr(tokens.get(ACME))


def renew(tokens: Tokens, **changed: str) -> None:
    """The company's credentials change while the worker runs."""
    tokens._credentials.renew(ACME, CompanySettings.model_validate(KEYS | changed))


def of(tokens: Tokens) -> Credentials:
    """The worker's credentials."""
    return tokens._credentials


def test_a_token_from_before_a_change_stays_in_use(tokens: Tokens, vendor: FakeVendor) -> None:
    """Changed credentials cost no login before one is due."""
    get(tokens)
    renew(tokens, password="new")
    assert text(tokens.get(ACME)) == "token-1"
    assert vendor.logins == 1


def test_a_refusal_names_the_credentials_that_were_used(
    new_tokens: Callable[..., Tokens], vendor: FakeVendor, judged: list[CompanySettings]
) -> None:
    """A login that was under way when the credentials changed is judged by those it was made with."""
    tokens = new_tokens()
    before = of(tokens).in_use(ACME)
    vendor.answers.append(answered(200, b'{"Message": "Login failed"}'))
    vendor.may_answer.clear()
    with ThreadPoolExecutor(1) as threads:
        login = threads.submit(tokens.get, ACME)
        wait_until(lambda: vendor.logins, what="a login is under way")
        renew(tokens, password="new")
        vendor.may_answer.set()
        assert isinstance(login.result(timeout=10), NoToken)
    assert judged == [before]
    assert of(tokens).refused(ACME, before) is Refused.NOT_IN_USE


def test_only_those_that_brought_a_token_are_judged_by_it(
    new_tokens: Callable[..., Tokens], vendor: FakeVendor, refused: list[str]
) -> None:
    """Another worker's fresh token that is refused is dropped, and says nothing of this worker's own credentials."""
    new, old = new_tokens(password="new"), new_tokens(password="old")
    old.refused(ACME, cast("Token", old.get(ACME)), "first")
    of_old = cast("Token", old.get(ACME))
    new.refused(ACME, cast("Token", new.get(ACME)), "second")
    assert (refused, vendor.logins) == ([], 2)
    assert text(new.get(ACME)) != of_old.text


def test_a_token_that_is_taken_proves_the_credentials_that_brought_it(new_tokens: Callable[..., Tokens]) -> None:
    """Those of every worker that has the same, and of no other."""
    first, same, other = new_tokens(), new_tokens(), new_tokens(password="other")
    for tokens in (first, same, other):
        tokens.accepted(ACME, cast("Token", tokens.get(ACME)))
    assert [of(tokens).take_proof(ACME) for tokens in (first, same, other)] == [True, True, False]


def test_a_fixed_token_that_is_no_longer_in_use_is_judged_no_more(
    new_tokens: Callable[..., Tokens], refused: list[str]
) -> None:
    """Many requests may have been out with the one before when it was changed."""
    tokens = new_tokens(token="old")
    before = cast("Token", tokens.get(ACME))
    renew(tokens, token="new")
    tokens.refused(ACME, before, "401")
    assert (refused, text(tokens.get(ACME))) == ([], "new")


def test_a_worker_that_stepped_out_asks_for_nothing(tokens: Tokens, vendor: FakeVendor) -> None:
    """It neither logs in nor uses others' tokens until it has stepped in again."""
    of(tokens).step_out(ACME)
    assert isinstance(tokens.get(ACME), NoToken)
    assert vendor.logins == 0
    of(tokens).step_in(ACME)
    assert text(tokens.get(ACME)) == "token-1"
