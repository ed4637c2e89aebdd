"""The companies: whether each is bound to its key, may send, and can log in."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from pydantic import SecretStr
from redis.exceptions import LockError, RedisError

from orderrelay_shared import keys
from orderrelay_shared.settings import SettingsInvalid
from orderrelay_workers.diagnosis.findings import Finding, ok, problem, warning
from orderrelay_workers.gate import Gate, Kind, Report
from orderrelay_workers.ledger import companies
from orderrelay_workers.settings import require_companies
from orderrelay_workers.slowness import about
from orderrelay_workers.vendor.answers import LoginVerdict, read_login_answer
from orderrelay_workers.vendor.client import VendorClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from orderrelay_workers.gate import GateState
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.settings import WorkerSettings

#: How long the login may wait for its turn at the gate, in seconds; as workers do.
_LOGIN_HORIZON_SECONDS = 5.0


def judge_binding(
    settings: WorkerSettings, known: Mapping[str, Company], ledger_id: uuid.UUID | None
) -> list[Finding]:  # fmt: skip
    """Whether the companies of the settings are the ones that the ledger knows, and which are paused."""
    found: list[Finding] = []
    bound: set[str] = set()
    for alias, company in settings.companies.items():
        there = known.get(alias)
        if there is None or there.key_digest is None or ledger_id is None:
            found.append(ok(alias, "not in use yet; the first worker binds it to its company key"))
            continue
        ours = companies.key_digest(ledger_id, company.company_api_key.get_secret_value())
        if there.key_digest == ours:
            bound.add(alias)
            found.append(ok(alias, "bound to the company key that is set here"))
        else:
            to_do = f"set the old key, or if it is the same company's: orderrelay resume {alias} --same-company"
            found.append(problem(alias, "bound to another company key than the one set here", to_do))
    for alias in sorted(known.keys() - settings.companies.keys()):
        text = "is in the ledger, but not set here"
        found.append(warning(alias, text, "its orders wait unless other workers serve it; set it, or mind the alias"))
    paused = [company for company in known.values() if company.paused_reason is not None]
    return found + [_pause(company, is_bound=company.alias in bound) for company in paused]


def judge_companies(settings: WorkerSettings) -> list[Finding]:
    """Whether there is a company at all, and its values are more than those of the example."""
    try:
        require_companies(settings)
    except SettingsInvalid as error:
        return [problem("settings", error.lines[0], "set them; deploy/orderrelay.env.example shows how")]
    return [
        problem("settings", f"{_name(alias, name)} is still the example's value", "set the vendor's value")
        for alias, company in settings.companies.items()
        for name, value in company
        if (value.get_secret_value() if isinstance(value, SecretStr) else value) == "change-me"
    ]


def _name(alias: str, name: str) -> str:
    return f"ORDERRELAY_COMPANIES__{alias.upper()}__{name.upper()}"


def _pause(company: Company, *, is_bound: bool) -> Finding:
    since = f"{company.paused_at:%Y-%m-%dT%H:%M:%SZ}" if company.paused_at else "an unknown time"
    text = f"paused since {since} by {company.paused_by}: {company.paused_reason}"
    if company.paused_reason == companies.CREDENTIALS:
        to_do = (
            "set its credentials anew; workers see it in their env file or secrets folder within seconds, else restart "
            f"them; or: orderrelay resume {company.alias}"
        )
        return problem(company.alias, text, to_do)
    if company.paused_reason == companies.COMPANY_KEY_CHANGED and not is_bound:
        to_do = f"set the old key, or if it is the same company's: orderrelay resume {company.alias} --same-company"
        return problem(company.alias, text, to_do)
    return warning(company.alias, text, f"go on with: orderrelay resume {company.alias}")


def judge_gate(alias: str, state: GateState | None) -> list[Finding]:
    """What a company's gate means for it. A pause is told by the ledger."""
    if state is None:
        return [warning(alias, "its gate is closed until a worker opens it", "start one with: orderrelay worker")]
    if state.limits is None:
        text = "its gate is of a newer version: workers of this version send nothing"
        return [warning(alias, text, "bring all workers, and this command, to the newer version")]
    found = [
        problem(
            alias,
            f"{hold.kind} requests are held, as the vendor is unwell: {hold.reason}; "
            + ("one is out to see" if hold.probing else f"next try in {hold.seconds_left:.0f} s"),
            f"mend it; workers try again by themselves, at once after: orderrelay resume {alias}",
        )
        for hold in state.holds
    ]
    if state.throttled_seconds > 0:
        text = f"the vendor asked to wait {state.throttled_seconds:.0f} s more"
        found.append(warning(alias, text, "nothing; workers heed it. If it comes often, lower RATE_PER_SECOND"))
    if state.closed_seconds > 0:
        found.append(ok(alias, f"closed for {about(state.closed_seconds)} more: {state.closed_reason}"))
    limits = state.limits
    if not found and state.paused is None:
        shared = f" of {state.orders_per_request:.3g} orders" if state.orders_per_request > 1 else ""
        rate = f"{limits.rate_per_second:g} requests/s{shared}, burst {limits.burst}"
        rate += f", at most {limits.max_in_flight} in flight"
        found.append(ok(alias, f"its gate is open: {rate}; {state.in_flight} in flight now"))
    return found


def judge_lookup(settings: WorkerSettings, alias: str, company: Company | None) -> Finding:
    """Whether unknown orders of a company can be found out about."""
    if not settings.lookup_path:
        text = "no look-up is set: an order of which nobody knows is parked for a person"
        return warning(alias, text, "set ORDERRELAY_LOOKUP_PATH if the vendor has one")
    proven = company.control_at if company is not None else None
    if proven is None:
        return ok(
            alias,
            "look-up is set and not tried yet; before workers believe it that an order is not there, they have it find "
            "one that surely is, by themselves",
        )
    return ok(alias, f"look-up is set, and last found a known order at {proven:%Y-%m-%dT%H:%M:%SZ}")


def look_at_gates(settings: WorkerSettings, client: redis.Redis, aliases: list[str]) -> list[Finding]:
    """Look at the gates of these companies."""
    gate = gate_of(settings, client)
    return [finding for alias in aliases for finding in judge_gate(alias, gate.state(alias))]


def gate_of(settings: WorkerSettings, client: redis.Redis) -> Gate:
    """A gate to look at."""
    return Gate(client, uuid.uuid4(), probe_lease_seconds=settings.lease_seconds)


def try_logins(settings: WorkerSettings, client: redis.Redis | None) -> list[Finding]:
    """Log in once for each company, through its gate if there is one.

    Args:
        settings: The companies.
        client: Redis; None if it is away, and then nothing is sent: the gate cannot be asked.
    """
    found: list[Finding] = []
    for alias, company in settings.companies.items():
        if company.token is not None:
            found.append(ok(alias, "has a fixed TOKEN; whether it is good shows with the first order"))
        elif client is None:
            found.append(warning(alias, "login was not tried, as Redis is away", "see redis"))
        else:
            found.append(_try_login(settings, client, alias))
    return found


def _try_login(settings: WorkerSettings, client: redis.Redis, alias: str) -> Finding:
    boot_id = uuid.uuid4()
    gate = Gate(client, boot_id, probe_lease_seconds=settings.lease_seconds)
    # As workers do: one login at a time, so that this one does not end the token of another.
    lock = client.lock(keys.login_lock(alias), timeout=settings.request_timeout_seconds + 15)
    try:
        if not lock.acquire(blocking=True, blocking_timeout=_LOGIN_HORIZON_SECONDS):
            return ok(alias, "login was not tried, as a worker logs in right now")
        try:
            return _log_in(settings, gate, alias)
        finally:
            gate.forget_worker([alias], boot_id)
            lock.release()
    except LockError:
        return warning(alias, "login was not tried to its end: its lock was lost", "run the doctor again")
    except RedisError as error:
        text = f"login was not tried to its end: Redis does not answer ({type(error).__name__})"
        return problem(alias, text, "see redis", unreachable=True)


def _log_in(settings: WorkerSettings, gate: Gate, alias: str) -> Finding:
    seeded = gate.state(alias) is not None
    permits = gate.admit(alias, Kind.LOGIN, 1, horizon_seconds=_LOGIN_HORIZON_SECONDS) if seeded else None
    if permits is not None and not permits.granted:
        text = f"login was not tried, as the gate says {permits.refusal}: {permits.reason or 'not now'}"
        return warning(alias, text, "run the doctor again when the gate is open")
    if permits is not None:
        time.sleep(permits.wait_of(0))
    verdict = asyncio.run(_ask(settings, alias))
    if permits is not None:
        gate.report(alias, Kind.LOGIN, _report(verdict, probe=permits.probe))
    return judge_login(alias, verdict, settings.base_url)


def _report(verdict: LoginVerdict, *, probe: bool) -> Report:
    """What the gate is told: a login that failed here says nothing of the workers', whose settings may be others.

    Only of a probe it has to know, as it waits for that one alone; by then the workers' own logins have failed.
    """
    return Report(
        finished=1,
        good=int(verdict.kind in ("token", "refused")),
        unwell=int(probe and verdict.kind in ("failing", "not_sent")),
        trip=verdict.reason if probe and verdict.kind == "misconfigured" else None,
        throttle_seconds=verdict.retry_after_seconds or 1.0 if verdict.kind == "throttled" else None,
        probe=probe,
    )


async def _ask(settings: WorkerSettings, alias: str) -> LoginVerdict:
    vendor = VendorClient(settings)
    try:
        return read_login_answer(await vendor.log_in(alias))
    finally:
        await vendor.aclose()


def judge_login(alias: str, verdict: LoginVerdict, base_url: str) -> Finding:
    """What a login's answer means."""
    setting = f"ORDERRELAY_COMPANIES__{alias.upper()}__"
    match verdict.kind:
        case "token":
            return ok(alias, f"login at {base_url} works")
        case "refused":
            to_do = f"check {setting}COMPANY_API_KEY, CONNECT_API_KEY, LICENSE, USER_NAME and PASSWORD"
            return problem(alias, f"the vendor refuses the login: {verdict.reason}", to_do)
        case "throttled":
            return warning(alias, f"login is throttled by the vendor: {verdict.reason}", "run the doctor again later")
        case "misconfigured":
            to_do = "check ORDERRELAY_BASE_URL and ORDERRELAY_LOGIN_PATH"
            return problem(alias, f"login at {base_url}: {verdict.reason}", to_do)
        case "failing" | "not_sent":
            to_do = "check ORDERRELAY_BASE_URL and the network; the vendor may be down"
            return problem(alias, f"login at {base_url} does not work: {verdict.reason}", to_do)
