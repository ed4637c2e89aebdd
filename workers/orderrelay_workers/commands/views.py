"""How a company does right now, for `orderrelay rate` and `orderrelay watch`: ledger and gate, read afresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from orderrelay_shared import keys
from orderrelay_shared.outlook import Outlook
from orderrelay_workers.audit.backlog import read_backlog
from orderrelay_workers.outlook import outlook_of

if TYPE_CHECKING:
    import redis
    import sqlalchemy as sa

    from orderrelay_workers.gate import Gate, GateState
    from orderrelay_workers.ledger.companies import Company


@dataclass(frozen=True, slots=True)
class View:
    """A company as it does right now.

    Attributes:
        company: As the ledger has it.
        state: Its gate; None if that is not seeded, or Redis is away.
        outlook: What is to be expected.
        redis_is_away: Whether Redis did not answer.
    """

    company: Company
    state: GateState | None
    outlook: Outlook
    redis_is_away: bool


def look(engine: sa.Engine, client: redis.Redis, gate: Gate, company: Company) -> View:
    """Look at a company.

    Args:
        engine: The ledger.
        client: Redis; it may be away.
        gate: A gate over it.
        company: As the ledger has it now.
    """
    backlog = read_backlog(engine, company.id)
    try:
        state = gate.state(company.alias)
        published = client.get(keys.outlook(company.alias))
    except RedisError:
        return View(company, None, outlook_of(None, company, backlog, redis_is_away=True), redis_is_away=True)
    before = Outlook.from_json(published) if isinstance(published, bytes) else None
    return View(company, state, outlook_of(state, company, backlog, before), redis_is_away=False)
