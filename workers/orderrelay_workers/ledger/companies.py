"""Companies: which alias is bound to which company key, how fast each may go, and which are paused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  dataclass fields are read at run time by tests and docs
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock, reading
from orderrelay_workers.ledger.rows import insert_ignoring, write_events

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

    from orderrelay_workers.settings import CompanySettings

#: Reasons of pauses that the worker itself sets; any other text is a person's.
CREDENTIALS = "credentials"
COMPANY_KEY_CHANGED = "company key changed"

_table = schema.company.c


class CompanyKeyTaken(Exception):
    """Two aliases are bound to one company key, so that one order could be created under both."""


@dataclass(frozen=True, slots=True)
class Company:
    """A company as the ledger has it. It has no `key_digest` until a worker is configured for it."""

    id: int
    alias: str
    key_digest: bytes | None
    rate_per_second: float
    burst: int
    max_in_flight: int
    paused_reason: str | None
    paused_by: str | None
    paused_at: datetime | None
    control_at: datetime | None
    control_digest: bytes | None


def key_digest(ledger_id: uuid.UUID, company_api_key: str) -> bytes:
    """A digest that shows whether a company key is the same, and nothing of the key; salted with the ledger's id."""
    return hashlib.scrypt(company_api_key.encode(), salt=ledger_id.bytes, n=2**12, r=8, p=1, dklen=32)


def _credentials_digest(ledger_id: uuid.UUID, settings: CompanySettings) -> bytes:
    secrets = [settings.connect_api_key, settings.license, settings.user_name, settings.password, settings.token]
    joined = "\0".join("" if s is None else s if isinstance(s, str) else s.get_secret_value() for s in secrets)
    return key_digest(ledger_id, joined)


def register(
    engine: sa.Engine, ledger_id: uuid.UUID, alias: str, settings: CompanySettings, *, actor: str
) -> Company:  # fmt: skip
    """Bind a configured alias to its company key, at a worker's start.

    A changed company key pauses the company, as its orders would go to other books. Changed credentials end a pause
    that bad credentials caused.

    Raises:
        CompanyKeyTaken: Another alias is bound to the same company key.
    """
    ours = key_digest(ledger_id, settings.company_api_key.get_secret_value())
    credentials = _credentials_digest(ledger_id, settings)
    limits = {
        "rate_per_second": settings.rate_per_second,
        "burst": settings.burst,
        "max_in_flight": settings.max_in_flight,
    }
    ensure(engine, [alias])
    with engine.begin() as connection:
        now = clock(connection)
        other = connection.execute(
            sa.select(_table.alias).where(_table.key_digest == ours, _table.alias != alias)
        ).scalar_one_or_none()  # fmt: skip
        if other is not None:
            raise CompanyKeyTaken(
                f"companies {other!r} and {alias!r} have the same COMPANY_API_KEY: an order enqueued under both names "
                f"would be created twice. Use one alias for one company"
            )
        row = connection.execute(sa.select(schema.company).where(_table.alias == alias).with_for_update()).one()
        changes: dict[str, object] = dict(limits)
        if row.key_digest is None:
            changes["key_digest"] = ours
        happening = None
        if row.key_digest not in (None, ours):
            happening = Happening("company_paused", alarm=True, detail={"reason": COMPANY_KEY_CHANGED})
            changes |= {"paused_reason": COMPANY_KEY_CHANGED, "paused_by": actor, "paused_at": now}
        elif row.paused_reason == CREDENTIALS and row.credentials_digest != credentials:
            happening = Happening("company_resumed", detail={"reason": "its credentials were changed"})
            changes |= {"paused_reason": None, "paused_by": None, "paused_at": None}
        changes["credentials_digest"] = credentials
        connection.execute(sa.update(schema.company).where(_table.id == row.id).values(changes))
        if happening is not None and not (row.paused_reason == COMPANY_KEY_CHANGED and happening.alarm):
            write_events(connection, now, actor, [(row.id, None, happening)])
    return by_alias(engine)[alias]


def ensure(engine: sa.Engine, aliases: Iterable[str]) -> dict[str, int]:
    """Make a row for each alias that has none, bound to no key yet; give the ids of all."""
    wanted = sorted(set(aliases))
    with engine.begin() as connection:
        known = _ids(connection, wanted)
        missing = [alias for alias in wanted if alias not in known]
        if missing:
            insert = insert_ignoring(engine, schema.company)
            now = clock(connection)
            defaults = {"rate_per_second": 10.0, "burst": 1, "max_in_flight": 50, "created_at": now}
            connection.execute(insert, [{"alias": alias, **defaults} for alias in missing])
            known = _ids(connection, wanted)
    return known


def _ids(connection: sa.Connection, aliases: list[str]) -> dict[str, int]:
    return {
        row.alias: row.id for row in connection.execute(
            sa.select(_table.alias, _table.id).where(_table.alias.in_(aliases)))
    }  # fmt: skip


def by_alias(engine: sa.Engine) -> dict[str, Company]:
    """All companies."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(schema.company).order_by(_table.alias)).mappings()
        return {row["alias"]: _company(row) for row in rows}


def _company(row: sa.RowMapping) -> Company:
    return Company(
        id=row["id"],
        alias=row["alias"],
        key_digest=row["key_digest"],
        rate_per_second=row["rate_per_second"],
        burst=row["burst"],
        max_in_flight=row["max_in_flight"],
        paused_reason=row["paused_reason"],
        paused_by=row["paused_by"],
        paused_at=row["paused_at"],
        control_at=row["control_at"],
        control_digest=row["control_digest"],
    )


def is_called(connection: sa.Connection, company_id: int, alias: str) -> bool:
    """Whether the company still is the one that a worker knows: a restored backup may give its number to another."""
    return connection.execute(sa.select(_table.alias).where(_table.id == company_id)).scalar_one_or_none() == alias


def pause(engine: sa.Engine, alias: str, reason: str, *, actor: str, alarm: bool = False) -> bool:
    """Pause a company. False if it is not known, or paused already (the first reason stays)."""
    with engine.begin() as connection:
        now = clock(connection)
        changed = connection.execute(
            sa.update(schema.company)
            .where(_table.alias == alias, _table.paused_reason.is_(None))
            .values(paused_reason=reason, paused_by=actor, paused_at=now)
            .returning(_table.id)
        ).scalar_one_or_none()
        if changed is None:
            return False
        happening = Happening("company_paused", alarm=alarm, detail={"reason": reason})
        write_events(connection, now, actor, [(changed, None, happening)])
        return True


def resume(
    engine: sa.Engine, alias: str, *, actor: str, new_key_digest: bytes | None = None
) -> bool:  # fmt: skip
    """Resume a company. False if it is not known or not paused.

    Args:
        engine: The ledger.
        alias: The company.
        actor: Who does it.
        new_key_digest: Binds the alias to another company key, which a person says is the same company's.
    """
    changes: dict[str, object] = {"paused_reason": None, "paused_by": None, "paused_at": None}
    if new_key_digest is not None:
        changes["key_digest"] = new_key_digest
    with engine.begin() as connection:
        now = clock(connection)
        changed = connection.execute(
            sa.update(schema.company)
            .where(_table.alias == alias, _table.paused_reason.is_not(None))
            .values(changes)
            .returning(_table.id)
        ).scalar_one_or_none()
        if changed is None:
            return False
        detail: dict[str, object] = {"same_company": True} if new_key_digest is not None else {}
        write_events(connection, now, actor, [(changed, None, Happening("company_resumed", detail=detail))])
        return True


def remember_control(engine: sa.Engine, company_id: int, digest: bytes) -> None:
    """Note that the look-up, with settings of this digest, has just found an order that is known to exist."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.company)
            .where(_table.id == company_id)
            .values(control_at=clock(connection), control_digest=digest)
        )
