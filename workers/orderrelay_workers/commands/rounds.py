"""Looking at companies again and again, for `orderrelay watch`: what is away now may be back at the next look."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from redis.exceptions import RedisError
from sqlalchemy import exc

from orderrelay_shared import redis_connection
from orderrelay_workers.audit.backlog import count_stopped
from orderrelay_workers.commands.opening import database_name, error_line
from orderrelay_workers.commands.views import View, look
from orderrelay_workers.gate import Gate
from orderrelay_workers.ledger import companies, migrate
from orderrelay_workers.ledger.engine import open_engine

if TYPE_CHECKING:
    from types import TracebackType

    from orderrelay_shared.states import JobState
    from orderrelay_workers.settings import WorkerSettings

#: A look that takes longer is given up, in seconds, and told.
_STATEMENT_SECONDS = 20
_REDIS_SECONDS = 2.0


class UnknownAlias(Exception):
    """The ledger has no such company; the text names those it has."""


class NotUsable(Exception):
    """The database does not have this version's tables; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A company as it was at one look, with how many of its orders are `unknown` and `parked`."""

    view: View
    stopped: dict[JobState, int]


@dataclass(frozen=True, slots=True)
class Round:
    """One look.

    Attributes:
        at: When, UTC.
        companies: What was seen; empty if the database was away.
        trouble: What was away, in words; None if nothing was.
    """

    at: datetime
    companies: tuple[Watched, ...]
    trouble: str | None


class Rounds:
    """Looks at companies, over connections that are opened again when they broke.

    Args:
        settings: They name the database and Redis.
        alias: The only company to look at; None: all.
    """

    def __init__(self, settings: WorkerSettings, alias: str | None) -> None:
        self._settings = settings
        self._alias = alias
        self._engine = open_engine(
            settings.database_url, application_name="orderrelay-command", statement_seconds=_STATEMENT_SECONDS
        )
        self._client = redis_connection.connect(
            settings.redis_url, timeout_seconds=_REDIS_SECONDS, client_name="orderrelay-command"
        )
        self._gate = Gate(self._client, uuid.uuid4(), probe_lease_seconds=settings.lease_seconds)
        self._is_current = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()
        self._engine.dispose()

    def look(self) -> Round:
        """Look once.

        Raises:
            UnknownAlias: The ledger does not have the company.
            NotUsable: The ledger does not have this version's tables.
        """
        try:
            seen = self._look()
        except (exc.SQLAlchemyError, OSError) as error:
            away = f"{database_name(self._settings)} is not usable: {error_line(error)}"
            return Round(datetime.now(UTC), (), away)
        trouble = None
        if any(watched.view.redis_is_away for watched in seen) or (not seen and not self._redis_answers()):
            trouble = f"Redis at {redis_connection.masked(self._settings.redis_url)} does not answer"
        return Round(datetime.now(UTC), seen, trouble)

    def _look(self) -> tuple[Watched, ...]:
        if not self._is_current:
            if not migrate.is_current(self._engine):
                raise NotUsable(
                    f"{database_name(self._settings)} does not have this version's tables; run: orderrelay init"
                )
            self._is_current = True
        known = companies.by_alias(self._engine)
        if self._alias is not None and self._alias not in known:
            names = ", ".join(sorted(known)) or "none yet; a worker adds those that it is configured for"
            raise UnknownAlias(f"company {self._alias!r} is not in the ledger; known: {names}")
        wanted = [company for alias, company in known.items() if self._alias in (None, alias)]
        return tuple(
            Watched(look(self._engine, self._client, self._gate, company), count_stopped(self._engine, company.id))
            for company in wanted
        )

    def _redis_answers(self) -> bool:
        try:
            self._client.ping()
        except RedisError:
            return False
        return True
