"""`orderrelay audit`: what happened to orders, from the ledger alone."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orderrelay_shared.states import JobState  # noqa: TC001  typer reads the annotations at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from orderrelay_workers.audit.queries import EventLine, JobCursor, JobFilter, JobLine
    from orderrelay_workers.ledger.companies import Company

app = typer.Typer(
    name="audit",
    help="Tell what happened to orders: list, show one, count. Example: orderrelay audit show ORDER-4711",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Company = Annotated[str, typer.Option(help="Only this company; default: all.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    *,
    company: _Company = "",
    state: Annotated[JobState | None, typer.Option(help="Only orders in this state.")] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="Booked since: 2h, 3d, 2026-01-30 or a time in ISO.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Booked before.")] = "",
    external_id: Annotated[str, typer.Option(help="Only orders of this ExternalId.")] = "",
    order_number: Annotated[str, typer.Option(help="Only the order that the vendor gave this number.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Go on behind this line of the page before.")] = "",
    alarms: Annotated[bool, typer.Option("--alarms", help="List alarms instead of orders.")] = False,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="List accepted entries that could not be booked instead of orders.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """List orders, newest first; or alarms; or what was set aside.

    With --json each line is an object; its "cursor" given to --after begins the next page behind it.
    Exit code: 0 good, 1 unknown company, 2 usage, 3 database unreachable.
    Example: orderrelay audit list --company acme --state rejected --since 3d
    Example: orderrelay audit list --alarms
    """
    from orderrelay_workers.audit import queries  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.opening import USAGE, end, known_company, opened_ledger  # noqa: PLC0415
    from orderrelay_workers.commands.screen import instant  # noqa: PLC0415
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    begin = instant(since, "--since") if since else None
    before = instant(until, "--until") if until else None
    of_jobs = {"--state": state, "--external-id": external_id, "--order-number": order_number}
    if alarms or set_aside:
        if given := [name for name, value in of_jobs.items() if value]:
            end(f"{given[0]} goes with orders, not with {'--set-aside' if set_aside else '--alarms'}", USAGE)
        if after and not (after.isascii() and after.isdigit()):
            end(f"--after {after!r} is no cursor of this list; give the one that a page ended with", USAGE)
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        known = companies.by_alias(engine)
        only = known_company(known, company) if company else None
        company_id = only.id if only else None
        if alarms or set_aside:
            events = queries.list_alarms(
                engine,
                only_set_aside=set_aside,
                company_id=company_id,
                since=begin,
                until=before,
                limit=limit + 1,
                after=int(after) if after else None,
            )
            _show_events(events, limit, as_json=as_json)
            return
        job_ids = queries.ids_of([only.alias] if only else list(known), external_id) if external_id else None
        wanted = queries.JobFilter(company_id, state, begin, before, job_ids, order_number or None)
        _show_jobs(_page(engine, wanted, limit, after), limit, as_json=as_json)


def _page(engine: sa.Engine, wanted: JobFilter, limit: int, after: str) -> list[JobLine]:
    """One line more than asked for, to know whether there is a next page."""
    from orderrelay_workers.audit import queries  # noqa: PLC0415  heavy; --help must be quick

    return queries.list_jobs(engine, wanted, limit + 1, cursor_of(after))


def cursor_of(text: str) -> JobCursor | None:
    """The place that `--after` names, None if it is empty; a text that is no cursor ends the command with 2."""
    from orderrelay_workers.audit.queries import JobCursor  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.opening import USAGE, end  # noqa: PLC0415

    try:
        return JobCursor.parse(text) if text else None
    except ValueError:
        end(f"--after {text!r} is no cursor of this list; give the one that a page ended with", USAGE)


def _show_jobs(lines: Sequence[JobLine], limit: int, *, as_json: bool) -> None:
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.audit.queries import JobCursor  # noqa: PLC0415
    from orderrelay_workers.commands.screen import shortened, show_table  # noqa: PLC0415

    page = lines[:limit]
    cursors = [str(JobCursor(line.booked_at, line.job)) for line in page]
    if as_json:
        for line, cursor in zip(page, cursors, strict=True):
            print_json({**dataclasses.asdict(line), "cursor": cursor})
        return
    if not page:
        typer.echo("no orders")
        return
    show_table(
        ["Booked", "Company", "ExternalId", "State", "Order number", "Attempts", "Reason"],
        [
            (j.booked_at, j.company, j.external_id, j.state, j.order_number, j.attempts, shortened(j.reason))
            for j in page
        ],
        right=["Attempts"],
    )  # fmt: skip
    tell_next_page(len(lines) > limit, cursors)


def tell_next_page(more: bool, cursors: Sequence[str]) -> None:
    """Say on stderr, where there is more, how to see it."""
    if more:
        typer.echo(f"There is more; see it with the same command and --after {cursors[-1]}", err=True)


def _show_events(events: Sequence[EventLine], limit: int, *, as_json: bool) -> None:
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.screen import show_table  # noqa: PLC0415

    page = events[:limit]
    if as_json:
        for event in page:
            print_json({**dataclasses.asdict(event), "cursor": str(event.id)})
        return
    if not page:
        typer.echo("none")
        return
    show_table(
        ["When", "Company", "What", "Order's job, detail", "Who"],
        [(e.at, e.company, e.kind.replace("_", " "), _told(e), e.actor) for e in page],
    )
    tell_next_page(len(events) > limit, [str(event.id) for event in page])


def _told(event: EventLine) -> str:
    """What a list says of an event: its job, and its detail without the bytes kept in it."""
    from orderrelay_workers.audit import story  # noqa: PLC0415  heavy; --help must be quick

    detail: dict[str, object] = event.detail if isinstance(event.detail, dict) else {}  # pyright: ignore[reportUnknownVariableType]  read from JSON, whose names are texts
    told = story.detail_words({name: value for name, value in detail.items() if not name.endswith("_base64")})
    return ", ".join([*([f"job {event.job}"] if event.job else []), *told])


@app.command("show")
def show(
    order: Annotated[
        str,
        typer.Argument(
            metavar="JOB|EXTERNAL_ID|ORDERNUMBER", help="A job's id, an ExternalId, or the vendor's order number."
        ),
    ],
    *,
    company: _Company = "",
    verbatim: Annotated[
        bool, typer.Option("--verbatim", help="Print only the vendor's last answer to the order, byte for byte.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Tell everything about one order: what was ordered, what happened, where it is, what comes next.

    Exit code: 0 found, 1 no such order or several, 2 usage, 3 database unreachable.
    Example: orderrelay audit show 211 --company acme
    Example: orderrelay audit show webshop-1001 --verbatim
    """
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.audit import queries  # noqa: PLC0415
    from orderrelay_workers.commands import order_page  # noqa: PLC0415
    from orderrelay_workers.commands.opening import REFUSED, USAGE, end, opened_ledger  # noqa: PLC0415
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    if verbatim and as_json:
        end("--verbatim prints bytes, and --json an object that has them too; give one of both", USAGE)
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        line = _the_one(engine, companies.by_alias(engine), order, company)
        told = queries.read_story(engine, line.job)
    assert told is not None  # noqa: S101  jobs are never deleted
    has_lookup = bool(settings.lookup_path)
    if as_json:
        print_json(order_page.as_object(told, has_lookup=has_lookup))
    elif not verbatim:
        order_page.show(told, has_lookup=has_lookup)
    elif (answered := order_page.last_answer(told)) is not None and answered.answer is not None:
        sys.stdout.buffer.write(answered.answer)
        sys.stdout.buffer.flush()
    else:
        end(f"the vendor has not answered order {told.job.external_id!r} yet", REFUSED)


@app.command("stats")
def stats(*, company: _Company = "", as_json: _Json = False) -> None:
    """Count orders by state, requests, answers and alarms. It reads everything, so it takes a while on a large ledger.

    What was set aside belongs to no company, and is counted only without --company.
    Exit code: 0 good, 1 unknown company, 2 usage, 3 database unreachable. Example: orderrelay audit stats --json
    """
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.audit import counts  # noqa: PLC0415
    from orderrelay_workers.commands.opening import known_company, opened_ledger  # noqa: PLC0415
    from orderrelay_workers.commands.screen import lasting, show_facts  # noqa: PLC0415
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        only = known_company(companies.by_alias(engine), company) if company else None
        counted = counts.count_all(engine, only.id if only else None)
    numbers: dict[str, object] = {str(name): number for name, number in counted.by_state.items()}
    rest = dataclasses.asdict(counted)
    del rest["by_state"]
    numbers |= rest
    if as_json:
        print_json({"company": only.alias if only else None, **numbers})
        return
    for name in ("oldest_waiting_seconds", "oldest_unknown_seconds"):
        age = numbers.pop(name)
        if isinstance(age, float):
            numbers[name.removesuffix("_seconds")] = lasting(age)
    if numbers["cautious_since"] is None:
        del numbers["cautious_since"]
    show_facts([(name.replace("_", " "), number) for name, number in numbers.items()])


def _the_one(engine: sa.Engine, known: dict[str, Company], order: str, company: str) -> JobLine:
    """The one order that is meant; none, or several, end the command with 1."""
    from orderrelay_workers.audit import queries  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.opening import REFUSED, end, known_company  # noqa: PLC0415

    only = known_company(known, company) if company else None
    found = queries.find_jobs(engine, order, [only.alias] if only else list(known), only.id if only else None)
    if not found:
        where = f"of company {only.alias!r}" if only else "of any company"
        end(
            f"no order {order!r} {where}: it is no job id, ExternalId or order number in the ledger. An order that "
            f"was accepted just now may not be booked yet; see what there is: orderrelay audit list --since 1h",
            REFUSED,
        )
    if len(found) > 1:
        meant = [f"  {j.job}  {j.company}  {j.external_id}  {j.order_number or '-'}  {j.state}" for j in found]
        lines = "\n".join(meant)
        end(f"{order!r} may mean {len(found)} orders; name one by its job id (the first column):\n{lines}", REFUSED)
    return found[0]
