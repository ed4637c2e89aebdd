"""`orderrelay init`: the database gets this version's tables."""

from __future__ import annotations

from typing import Annotated

import typer


def init(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with one JSON object as the last line.")] = False,
) -> None:
    """Make the ledger's tables, or bring them up to date. Running it again changes nothing.

    The database is that of ORDERRELAY_DATABASE_URL. Any number may run it at once, and workers may run meanwhile.
    Exit code: 0 up to date, 2 wrong settings, 3 database unreachable. Example: orderrelay init --json
    """
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.opening import database_name, opened_database  # noqa: PLC0415
    from orderrelay_workers.ledger import migrate  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    settings = load_worker_settings()
    with opened_database(settings, may_create=True) as engine:
        before, now = migrate.migrate(engine)
        newest = migrate.newest()
    name = database_name(settings).removeprefix("the database ")
    if as_json:
        print_json({"database": name, "before": before, "now": now, "newest": newest, "changed": before != now})
    elif before != now:
        typer.echo(f"{name}: brought from {before or 'empty'} to {now}")
    elif now == newest:
        typer.echo(f"{name}: up to date at {now}")
    else:
        typer.echo(f"{name}: at {now}, which is newer than this version's {newest}; nothing was changed")
