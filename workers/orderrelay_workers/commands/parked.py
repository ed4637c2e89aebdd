"""`orderrelay parked`: the orders that wait for a person."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

app = typer.Typer(
    name="parked",
    help="The orders that wait for a person: list, show, resolve, resend, drop. Example: orderrelay parked list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(
    *,
    company: Annotated[str, typer.Option(help="Only this company; default: all.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Go on behind this line of the page before.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print an object a line.")] = False,
) -> None:
    """List parked orders with the reason, the longest parked first.

    Exit code: 0 good, 1 unknown company, 2 usage, 3 database unreachable.
    Example: orderrelay parked list --company acme
    """
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.audit import queries  # noqa: PLC0415
    from orderrelay_workers.commands.audit import cursor_of, tell_next_page  # noqa: PLC0415
    from orderrelay_workers.commands.opening import known_company, opened_ledger  # noqa: PLC0415
    from orderrelay_workers.commands.screen import show_table  # noqa: PLC0415
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    begin = cursor_of(after)
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        only = known_company(companies.by_alias(engine), company) if company else None
        lines = queries.list_parked(engine, only.id if only else None, limit + 1, begin)
    page = lines[:limit]
    cursors = [str(queries.JobCursor(line.since, line.job)) for line in page]
    if as_json:
        for line, cursor in zip(page, cursors, strict=True):
            print_json({**dataclasses.asdict(line), "cursor": cursor})
        return
    if not page:
        typer.echo("no parked orders")
        return
    show_table(
        ["Parked since", "Company", "ExternalId", "Attempts", "Reason"],
        [(line.since, line.company, line.external_id, line.attempts, line.reason) for line in page],
        right=["Attempts"],
    )
    tell_next_page(len(lines) > limit, cursors)


@app.command("show")
def show(
    order: Annotated[str, typer.Argument(metavar="JOB|EXTERNAL_ID", help="The order.")],
    *,
    company: Annotated[str, typer.Option(help="Only of this company; default: all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all the evidence about one order; the same as `orderrelay audit show`.

    Exit code: 0 found, 1 no such order or several, 2 usage, 3 database unreachable.
    Example: orderrelay parked show webshop-1001
    """
    from orderrelay_workers.commands import audit  # noqa: PLC0415  heavy; --help must be quick

    audit.show(order, company=company, verbatim=False, as_json=as_json)
