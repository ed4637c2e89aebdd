"""The clocks of this host, of Redis and of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orderrelay_workers.audit import facts
from orderrelay_workers.clock_difference import ahead_seconds, redis_seconds
from orderrelay_workers.diagnosis.findings import Finding, ok, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis
    import sqlalchemy as sa

#: Clocks further apart than this are worth a warning, in seconds.
_APART_SECONDS = 2.0


def look_at_clocks(client: redis.Redis | None, engine: sa.Engine | None) -> list[Finding]:
    """Compare the clocks of whatever answers with this host's."""
    ahead: dict[str, float] = {}
    if client is not None:
        ahead["Redis"] = ahead_seconds(lambda: redis_seconds(client))
    if engine is not None and not facts.is_file(engine):
        ahead["the database"] = ahead_seconds(lambda: facts.now(engine).timestamp())
    return judge_clocks(ahead) if ahead else []


def judge_clocks(ahead: Mapping[str, float]) -> list[Finding]:
    """What it means that these clocks are so many seconds ahead of this host's."""
    differences = {"this host": 0.0, **ahead}
    if max(differences.values()) - min(differences.values()) <= _APART_SECONDS:
        return [ok("clocks", f"this host, {' and '.join(ahead)} agree within {_APART_SECONDS:.0f} s")]
    told = [f"{name} is {abs(by):.1f} s {'ahead of' if by > 0 else 'behind'} this host" for name, by in ahead.items()]
    return [warning("clocks", "; ".join(told), "let every host keep its time by NTP; times in the audit are off")]
