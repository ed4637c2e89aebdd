"""Beginning and ending cautious mode by hand: `pause --begin-cautious`, `resume --end-cautious`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orderrelay_shared.command import print_json
from orderrelay_workers.commands.opening import REFUSED, USAGE, actor, opened_ledger
from orderrelay_workers.commands.opening import end as end_command
from orderrelay_workers.ledger import caution, identity
from orderrelay_workers.ledger.engine import reading
from orderrelay_workers.ledger.rows import text
from orderrelay_workers.settings import load_worker_settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from orderrelay_workers.ledger.caution import Standing


def require_one(company: str, option: str, *, given: bool) -> None:
    """Either a company or the option; anything else ends the command with 2."""
    if bool(company) == given:
        end_command(f"name one company, or give {option}, which concerns all of them", USAGE)


def begin(reason: str, *, as_json: bool) -> None:
    """Begin cautious mode; while it is on already, begin it anew."""
    why = " ".join((text(reason) or "").split()) or f"begun by {actor()}"
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        identity.ledger_id(engine)  # a ledger that no worker has used yet gets its id now
        caution.begin(engine, why, actor=actor(), lease_seconds=settings.lease_seconds)
        standing, waiting = _look(engine)
    if as_json:
        _print(standing, waiting)
        return
    then = "looked up before it is sent" if settings.lookup_path else "parked for a person, as there is no look-up"
    typer.echo(f"cautious mode is on: {why}")
    wait = "1 waits" if waiting == 1 else f"{waiting:,} wait"
    typer.echo(f"Every order is {then}; {wait} now. End it with: orderrelay resume --end-cautious")


def end(*, as_json: bool) -> None:
    """End cautious mode; what waits is looked up all the same, or parked where there is no look-up."""
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        _, waiting = _look(engine)
        changed = caution.end(engine, actor=actor(), lease_seconds=settings.lease_seconds)
        standing, _ = _look(engine)
    then = "looked up first" if settings.lookup_path else "parked for a person"
    if as_json:
        _print(standing, waiting)
    elif changed:
        those = "1 order that waits is" if waiting == 1 else f"{waiting:,} orders that wait are"
        typer.echo(f"cautious mode has ended; {those} {then}, new ones are just sent")
    elif standing.since is not None:
        end_command(
            "cautious mode was begun anew at this very moment, so it is still on; look why: orderrelay doctor", REFUSED
        )
    else:
        typer.echo("cautious mode was not on")


def _look(engine: sa.Engine) -> tuple[Standing, int]:
    with reading(engine) as connection:
        standing = caution.read_standing(connection)
    return standing, caution.count_not_looked_up(engine)


def _print(standing: Standing, waiting: int) -> None:
    print_json(
        {
            "cautious": standing.since is not None,
            "reason": standing.reason,
            "by": standing.by,
            "since": standing.since,
            "not_looked_up": waiting,
        }
    )
