"""Companies: which alias is bound to which company key, how fast each may go, and which are paused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime  # noqa: TC003  dataclass fields are read at run time by tests and docs
from typing import TYPE_CHECKING

import sqlalchemy as sa

from orderrelay_workers.decisions import Happening
from orderrelay_workers.ledger import schema
from orderrelay_workers.ledger.engine import clock, reading
from orderrelay_workers.ledger.rows import insert_ignoring, write_events

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping

    from orderrelay_workers.settings import CompanySettings

#: Reasons of pauses that the worker itself sets; any other text is a person's.
CREDENTIALS = "credentials"
COMPANY_KEY_CHANGED = "company key changed"

#: What a worker takes over from its settings at its start; what a person has set with `set_limits` stays beside it.
_FROM_SETTINGS = (
    *("rate_per_second", "burst", "max_in_flight", "learn_rate_from", "retry_share", "lookup_weight", "login_weight"),
    *("time_zone", "closed_hours", "maintenance"),
)
_SET_BY_PEOPLE: tuple[str, ...] = ("set_rate_per_second", "set_burst", "set_max_in_flight")

_table = schema.company.c


class CompanyKeyTaken(Exception):
    """Two aliases are bound to one company key, so that one order could be created under both."""


@dataclass(frozen=True, slots=True)
class Company:
    """A company as the ledger has it. It has no `key_digest` until a worker is configured for it.

    `rate_per_second`, `burst` and `max_in_flight` are the settings'; what a person has set holds in their place.
    """

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
    set_rate_per_second: float | None = None
    set_burst: int | None = None
    set_max_in_flight: int | None = None
    set_by: str | None = None
    set_at: datetime | None = None
    learn_rate_from: float | None = None
    retry_share: float = 0.2
    lookup_weight: float = 1.0
    login_weight: float = 1.0
    time_zone: str = "UTC"
    closed_hours: str = ""
    maintenance: str = ""
    credentials_digest: bytes | None = None


def key_digest(ledger_id: uuid.UUID, company_api_key: str) -> bytes:
    """A digest that shows whether a company key is the same, and nothing of the key; salted with the ledger's id."""
    return hashlib.scrypt(company_api_key.encode(), salt=ledger_id.bytes, n=2**12, r=8, p=1, dklen=32)


def credentials_digest(ledger_id: uuid.UUID, settings: CompanySettings) -> bytes:
    """A digest that shows whether a company's credentials are the same, and nothing of them."""
    secrets = [settings.connect_api_key, settings.license, settings.user_name, settings.password, settings.token]
    joined = "\0".join("" if s is None else s if isinstance(s, str) else s.get_secret_value() for s in secrets)
    return key_digest(ledger_id, joined)


def register(
    engine: sa.Engine,
    ledger_id: uuid.UUID,
    alias: str,
    settings: CompanySettings,
    *,
    actor: str,
    same_credentials: bool = False,
) -> Company:
    """Bind a configured alias to its company key, at a worker's start and whenever its settings have changed.

    A changed company key pauses the company, as its orders would go to other books. Changed credentials end a pause
    that bad credentials caused; what was registered last counts as the newest, see `ledger.credentials`.

    Args:
        engine: The ledger.
        ledger_id: Its id.
        alias: The company.
        settings: Its settings.
        actor: Who does it.
        same_credentials: The caller has registered these credentials before; whatever is newest stays so.

    Raises:
        CompanyKeyTaken: Another alias is bound to the same company key.
    """
    ours = key_digest(ledger_id, settings.company_api_key.get_secret_value())
    credentials = credentials_digest(ledger_id, settings)
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
        changes: dict[str, object] = {name: getattr(settings, name) for name in _FROM_SETTINGS}
        if row.key_digest is None:
            changes["key_digest"] = ours
        happening = None
        if row.key_digest not in (None, ours):
            happening = Happening("company_paused", alarm=True, detail={"reason": COMPANY_KEY_CHANGED})
            changes |= {"paused_reason": COMPANY_KEY_CHANGED, "paused_by": actor, "paused_at": now}
        elif same_credentials:
            credentials = row.credentials_digest
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
        known = ids_of(connection, wanted)
        missing = [alias for alias in wanted if alias not in known]
        if missing:
            insert = insert_ignoring(engine, schema.company)
            now = clock(connection)
            defaults = {"rate_per_second": 10.0, "burst": 1, "max_in_flight": 50, "created_at": now}
            connection.execute(insert, [{"alias": alias, **defaults} for alias in missing])
            known = ids_of(connection, wanted)
    return known


def ids_of(connection: sa.Connection, aliases: Iterable[str]) -> dict[str, int]:
    """The ids of those that have a row."""
    return {
        row.alias: row.id for row in connection.execute(
            sa.select(_table.alias, _table.id).where(_table.alias.in_(list(aliases))))
    }  # fmt: skip


def by_alias(engine: sa.Engine) -> dict[str, Company]:
    """All companies."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(schema.company).order_by(_table.alias)).mappings()
        return {row["alias"]: _company(row) for row in rows}


def _company(row: sa.RowMapping) -> Company:
    return Company(**{field.name: row[field.name] for field in fields(Company)})


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


def set_limits(
    engine: sa.Engine,
    alias: str,
    *,
    rate_per_second: float | None = None,
    burst: int | None = None,
    max_in_flight: int | None = None,
    actor: str,
    reason: str,
) -> bool:
    """Set limits that hold in place of the settings' until `reset_limits`, also when workers start.

    Args:
        engine: The ledger.
        alias: The company.
        rate_per_second: Requests per second; None: as it is.
        burst: Requests that may start at once; None: as it is.
        max_in_flight: Requests that may be unanswered at the same time; None: as it is.
        actor: Who sets them.
        reason: Why, in words.

    Returns:
        False if the company is not known.
    """
    given = {"rate_per_second": rate_per_second, "burst": burst, "max_in_flight": max_in_flight}
    changes = {f"set_{name}": value for name, value in given.items() if value is not None}
    happening = Happening("limits_set", detail={**{n: v for n, v in given.items() if v is not None}, "reason": reason})
    return _write_limits(engine, alias, changes, happening, actor=actor)


def reset_limits(engine: sa.Engine, alias: str, *, actor: str, reason: str) -> bool:
    """Let the settings' limits hold again. False if the company is not known, or nobody had set any."""
    nothing = dict.fromkeys((*_SET_BY_PEOPLE, "set_by", "set_at"))
    was_set = sa.or_(*(_table[name].is_not(None) for name in _SET_BY_PEOPLE))
    happening = Happening("limits_reset", detail={"reason": reason})
    return _write_limits(engine, alias, nothing, happening, actor=actor, only_if=was_set)


def _write_limits(
    engine: sa.Engine,
    alias: str,
    changes: Mapping[str, object],
    happening: Happening,
    *,
    actor: str,
    only_if: sa.ColumnElement[bool] | None = None,
) -> bool:
    condition = sa.true() if only_if is None else only_if
    with engine.begin() as connection:
        now = clock(connection)
        changed = connection.execute(
            sa.update(schema.company)
            .where(_table.alias == alias, condition)
            .values({"set_by": actor, "set_at": now, **changes})
            .returning(_table.id)
        ).scalar_one_or_none()
        if changed is not None:
            write_events(connection, now, actor, [(changed, None, happening)])
        return changed is not None


def remember_control(engine: sa.Engine, company_id: int, digest: bytes) -> None:
    """Note that the look-up, with settings of this digest, has just found an order that is known to exist."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(schema.company)
            .where(_table.id == company_id)
            .values(control_at=clock(connection), control_digest=digest)
        )
