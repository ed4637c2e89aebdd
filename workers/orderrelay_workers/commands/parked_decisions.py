"""What a person decides about stopped orders: `orderrelay parked resolve`, `resend` and `drop`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from orderrelay_workers.commands.parked import app

if TYPE_CHECKING:
    import uuid
    from datetime import datetime

    import sqlalchemy as sa

    from orderrelay_workers.audit.queries import JobLine
    from orderrelay_workers.decisions import Decision, Job
    from orderrelay_workers.ledger.people import Decide, Decided
    from orderrelay_workers.settings import WorkerSettings

#: So many orders can be decided about in one go.
_MANY = 10_000

_Orders = Annotated[
    list[str] | None, typer.Argument(metavar="JOB|EXTERNAL_ID...", help="The orders; or choose them by options.")
]
_Company = Annotated[str, typer.Option(help="Only orders of this company.")]
_Rejected = Annotated[bool, typer.Option("--rejected", help="Choose among rejected orders instead of parked ones.")]
_Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Only orders whose reason holds this text.")]
_Why = Annotated[str, typer.Option(help="Why, for the audit.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")]
_Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object as the last line.")]
_NotCreated = Annotated[
    bool, typer.Option("--not-created", help="You have looked: the vendor does not have them. Needed without look-up.")
]


_NO_SUCH_ORDER = "no such order; see those that wait for a person: orderrelay parked list"


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which orders are meant: those named, else those that the options choose."""

    orders: list[str]
    company: str
    rejected: bool = False
    reason: str = ""


@app.command("resolve")
def resolve(
    order: Annotated[str, typer.Argument(metavar="JOB|EXTERNAL_ID", help="The parked order.")],
    *,
    why: _Why,
    number: Annotated[str, typer.Option(help="The vendor's order number of it.")] = "",
    vendor_id: Annotated[int | None, typer.Option(help="The vendor's id of it.", min=1)] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="You have looked: it is not there. So it is sent.")
    ] = False,
    company: _Company = "",
    as_json: _Json = False,
) -> None:
    """Say what a look at the vendor showed: a parked order is there (--number, --vendor-id), or not (--not-created).

    If it is there, it has succeeded. If not, it is sent, looked up first wherever there is a look-up; to end it
    instead, use `orderrelay parked drop`.

    Exit code: 0 done, 1 not found or not possible, 2 usage, 3 database unreachable.
    Example: orderrelay parked resolve webshop-1001 --number 211 --why "seen in SoftOne GO by Åsa"
    """
    from orderrelay_workers import people  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.opening import USAGE, end  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    if not_created and (number or vendor_id is not None):
        end("an order with a number or an id is at the vendor; leave out --not-created, or those", USAGE)
    has_lookup = bool(load_worker_settings().lookup_path)

    def decision(job: Job, now: datetime, holder: uuid.UUID | None) -> Decision:
        if not_created:
            return people.resolve_as_not_created(job, now, why, has_lookup=has_lookup)
        return people.resolve(job, now, why, vendor_id=vendor_id, order_number=number or None, holder=holder)

    done = "resolved as not created, and sent" if not_created else "resolved"
    _decide(_Choice([order], company), decision, done, yes=True, as_json=as_json, vendor_id=vendor_id)


@app.command("resend")
def resend(
    orders: _Orders = None,
    *,
    why: _Why,
    company: _Company = "",
    rejected: _Rejected = False,
    reason: _Reason = "",
    not_created: _NotCreated = False,
    yes: _Yes = False,
    as_json: _Json = False,
) -> None:
    """Send stopped orders again, each looked up at the vendor first wherever there is a look-up.

    For a parked order --not-created says the same as `orderrelay parked resolve --not-created`, of many at a time.

    Exit code: 0 done or only told, 1 some not found or not possible, 2 usage, 3 database unreachable.
    Example: orderrelay parked resend --company acme --reason "account year" --rejected --why "2027 is open" --yes
    """
    from orderrelay_workers import people  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    has_lookup = bool(load_worker_settings().lookup_path)

    def decision(job: Job, now: datetime, _: uuid.UUID | None) -> Decision:
        return people.resend(job, now, why, has_lookup=has_lookup, surely_not_created=not_created)

    choice = _Choice(orders or [], company, rejected, reason)
    _decide(choice, decision, "sent again", yes=yes, as_json=as_json)


@app.command("drop")
def drop(
    orders: _Orders = None,
    *,
    why: _Why,
    company: _Company = "",
    rejected: _Rejected = False,
    reason: _Reason = "",
    yes: _Yes = False,
    as_json: _Json = False,
) -> None:
    """End stopped orders without creating them. Their ExternalIds stay taken.

    Exit code: 0 done or only told, 1 some not found or not possible, 2 usage, 3 database unreachable.
    Example: orderrelay parked drop webshop-1001 --why "cancelled by the customer" --yes
    """
    from orderrelay_workers import people  # noqa: PLC0415  heavy; --help must be quick

    def decision(job: Job, now: datetime, _: uuid.UUID | None) -> Decision:
        return people.drop(job, now, why)

    choice = _Choice(orders or [], company, rejected, reason)
    _decide(choice, decision, "dropped", yes=yes, as_json=as_json)


def _decide(
    choice: _Choice, decision: Decide, done: str, *, yes: bool, as_json: bool, vendor_id: int | None = None
) -> None:  # fmt: skip
    """Carry a decision out on the orders that are meant, or say on which it would be."""
    from orderrelay_workers.commands.opening import REFUSED, USAGE, actor, end, opened_ledger  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.ledger import people  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    if not (choice.orders or choice.company or choice.rejected or choice.reason):
        end("name the orders, or choose them by --company, --rejected or --reason", USAGE)
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        lines, missing = _chosen(engine, choice)
        ids = [line.job for line in lines]
        decided = people.decide(engine, ids, decision, actor=actor(), vendor_id=vendor_id, only_try=not yes)
        refused = _tell_refused(lines, decided)
        if yes:
            _publish(settings, decided)
            _tell_what_was(decided, refused, missing, done, as_json=as_json)
        else:
            possible = [line for line in lines if line.job not in decided.refused]
            _tell_what_would_be(possible, refused, missing, done, as_json=as_json)
    if missing or refused:
        raise typer.Exit(REFUSED)


def _chosen(engine: sa.Engine, choice: _Choice) -> tuple[list[JobLine], list[str]]:
    """The orders that are meant, and the names that fit none, or several."""
    from orderrelay_shared.states import JobState  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.audit import queries  # noqa: PLC0415
    from orderrelay_workers.commands.opening import known_company  # noqa: PLC0415
    from orderrelay_workers.ledger import companies  # noqa: PLC0415

    known = companies.by_alias(engine)
    only = known_company(known, choice.company) if choice.company else None
    company_id = only.id if only else None
    if not choice.orders:
        wanted = queries.JobFilter(company_id, JobState.REJECTED if choice.rejected else JobState.PARKED)
        chosen = queries.list_jobs(engine, wanted, _MANY)
        return [line for line in chosen if choice.reason.casefold() in (line.reason or "").casefold()], []
    lines: list[JobLine] = []
    missing: list[str] = []
    for name in choice.orders:
        found = queries.find_jobs(engine, name, [only.alias] if only else list(known), company_id)
        if len(found) == 1:
            lines += found
        else:
            missing.append(name)
            typer.echo(f"{name}: {'fits several orders; say which --company' if found else _NO_SUCH_ORDER}", err=True)
    return lines, missing


def _tell_refused(lines: list[JobLine], decided: Decided) -> dict[str, str]:
    """Tell which orders the decision does not fit; returns why, by ExternalId."""
    names = {line.job: line.external_id for line in lines}
    refused = {names[job]: why for job, why in decided.refused.items()}
    for name, why in refused.items():
        typer.echo(f"{name}: {why}", err=True)
    return refused


def _tell_what_would_be(
    lines: list[JobLine], refused: dict[str, str], missing: list[str], done: str, *, as_json: bool
) -> None:
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.slowness import orders as counted  # noqa: PLC0415

    counts = Counter((line.company, str(line.state)) for line in lines)
    if as_json:
        print_json({"done": False, "orders": len(lines), "refused": refused, "not_found": missing})
        return
    typer.echo(f"{counted(len(lines))} would be {done}:" if lines else "No order fits that.")
    for (company, state), count in sorted(counts.items()):
        typer.echo(f"  {count} {state} of {company}")
    if lines:
        typer.echo("Nothing is done yet; add --yes")


def _tell_what_was(
    decided: Decided, refused: dict[str, str], missing: list[str], done: str, *, as_json: bool
) -> None:  # fmt: skip
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.slowness import orders as counted  # noqa: PLC0415

    if as_json:
        print_json({"done": True, "orders": len(decided.statuses), "refused": refused, "not_found": missing})
    else:
        typer.echo(f"{counted(len(decided.statuses))} {done}")


def _publish(settings: WorkerSettings, decided: Decided) -> None:
    """Tell producers; while Redis is away they ask later."""
    from orderrelay_shared import redis_connection  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers import statuses  # noqa: PLC0415

    client = redis_connection.connect(settings.redis_url, client_name="orderrelay-command", timeout_seconds=2.0)
    statuses.publish(client, decided.statuses)
    client.close()
