"""Telling a gate at once what a person has just changed in the ledger; workers would do it within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderrelay_workers.gate import Gate
    from orderrelay_workers.settings import WorkerSettings


def tell_gate(settings: WorkerSettings, tell: Callable[[Gate], None]) -> bool:
    """Tell the gate. False, with a word, if Redis is away: workers do it when it is back."""
    import uuid  # noqa: PLC0415  heavy; --help must be quick

    from redis.exceptions import RedisError  # noqa: PLC0415

    from orderrelay_shared import redis_connection  # noqa: PLC0415
    from orderrelay_workers.gate import Gate  # noqa: PLC0415

    client = redis_connection.connect(settings.redis_url, client_name="orderrelay-command")
    try:
        tell(Gate(client, uuid.uuid4(), probe_lease_seconds=settings.lease_seconds))
    except RedisError:
        typer.echo(
            f"Redis at {redis_connection.masked(settings.redis_url)} does not answer. The ledger has the change; "
            f"while Redis is away nothing is sent, and workers tell it when it is back",
            err=True,
        )
        return False
    finally:
        client.close()
    return True
