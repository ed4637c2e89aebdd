"""`orderrelay rate`: how fast each company may go; people show, set and reset it while workers run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import sqlalchemy as sa

    from orderrelay_workers.commands.views import View
    from orderrelay_workers.gate import Limits
    from orderrelay_workers.ledger.companies import Company
    from orderrelay_workers.settings import WorkerSettings

app = typer.Typer(
    name="rate",
    help="Show, set and reset how fast companies may go. Example: orderrelay rate set acme --rate 5",
    no_args_is_help=True,
    rich_markup_mode=None,
)

#: The highest rate, burst and number in flight; as in the settings.
_HIGHEST = 10_000

_Company = Annotated[str, typer.Argument(help="Alias of the company.", show_default=False)]
_Reason = Annotated[str, typer.Option(help="Why, for those who read the events later.")]
_Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object as the last line.")]


@app.command()
def show(
    company: Annotated[str, typer.Argument(help="Only this company; default: all.", show_default=False)] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Tell how fast companies may go and do go, who has set that, and why it is not faster.

    Exit code: 0 good, 1 unknown company, 2 usage or settings, 3 database or Redis unreachable.
    Example: orderrelay rate show acme
    """
    from orderrelay_shared import redis_connection  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_shared.command import print_json  # noqa: PLC0415
    from orderrelay_workers.commands.opening import UNREACHABLE, end, known_company, opened_ledger  # noqa: PLC0415
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        known = companies.by_alias(engine)
        wanted = [known_company(known, company)] if company else list(known.values())
        views = _look(settings, engine, wanted)
    if as_json:
        for view in views:
            print_json(_facts(view))
    else:
        _show(views)
    if any(view.redis_is_away for view in views):
        end(f"Redis at {redis_connection.masked(settings.redis_url)} does not answer", UNREACHABLE)


@app.command("set")
def set_(
    company: _Company,
    *,
    rate: Annotated[float | None, typer.Option(help="Requests per second, over all workers.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests that may start at once after a pause.")] = None,
    max_in_flight: Annotated[int | None, typer.Option(help="Requests that may be unanswered at the same time.")] = None,
    reason: _Reason = "",
    as_json: _Json = False,
) -> None:
    """Set limits that hold at once, in place of the settings', also when workers start; until `rate reset`.

    What is not given stays as it is. Exit code: 0 set, 1 unknown company, 2 usage or settings, 3 database unreachable.
    Example: orderrelay rate set acme --rate 5 --reason "the vendor asked for less until Monday"
    """
    from orderrelay_workers.commands.opening import REFUSED, USAGE, actor, end, known_company, opened_ledger  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    problems = list(_problems(rate, burst, max_in_flight))
    if problems:
        end("\n".join(problems), USAGE)
    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        known = known_company(companies.by_alias(engine), company)
        changed = companies.set_limits(
            engine,
            known.alias,
            rate_per_second=rate,
            burst=burst,
            max_in_flight=max_in_flight,
            actor=actor(),
            reason=_clean(reason),
        )
        now = companies.by_alias(engine).get(known.alias)
    if now is None or not changed:
        end(f"company {known.alias!r} is not in the ledger any more", REFUSED)
    _tell(settings, now, changed=True, as_json=as_json)


@app.command()
def reset(company: _Company, *, reason: _Reason = "", as_json: _Json = False) -> None:
    """Let the settings' limits hold again, at once.

    Exit code: 0 reset or never set, 1 unknown company, 2 usage or settings, 3 database unreachable.
    Example: orderrelay rate reset acme
    """
    from orderrelay_workers.commands.opening import actor, known_company, opened_ledger  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.ledger import companies  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    settings = load_worker_settings()
    with opened_ledger(settings) as engine:
        known = known_company(companies.by_alias(engine), company)
        changed = companies.reset_limits(engine, known.alias, actor=actor(), reason=_clean(reason))
        now = companies.by_alias(engine)[known.alias]
    _tell(settings, now, changed=changed, as_json=as_json)


def _problems(rate: float | None, burst: int | None, max_in_flight: int | None) -> Iterator[str]:
    if rate is None and burst is None and max_in_flight is None:
        yield "give at least one of --rate, --burst and --max-in-flight"
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= _HIGHEST):
        yield f"--rate is {rate:g}; it must be above 0 and at most {_HIGHEST}"
    for name, value in (("--burst", burst), ("--max-in-flight", max_in_flight)):
        if value is not None and not 1 <= value <= _HIGHEST:
            yield f"{name} is {value}; it must be from 1 to {_HIGHEST}"


def _clean(reason: str) -> str:
    from orderrelay_workers.ledger.rows import text  # noqa: PLC0415  heavy; --help must be quick

    return " ".join((text(reason) or "").split())


def _tell(settings: WorkerSettings, company: Company, *, changed: bool, as_json: bool) -> None:
    """Mirror what the ledger says now, and tell it."""
    from orderrelay_shared.command import print_json  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.mirroring import tell_gate  # noqa: PLC0415
    from orderrelay_workers.limits import has_set_limits, limits_of  # noqa: PLC0415

    limits = limits_of(company)
    mirrored = tell_gate(settings, lambda gate: gate.set_limits(company.alias, limits))
    if as_json:
        print_json({"company": company.alias, **_limits(company), "changed": changed, "mirrored": mirrored})
        return
    typer.echo(f"{company.alias}: {_in_words(limits)}")
    if has_set_limits(company):
        typer.echo(f"The settings say otherwise; go back to them with: orderrelay rate reset {company.alias}")
        if company.learn_rate_from is not None and limits.learn_from is None:
            typer.echo(f"That is not above LEARN_RATE_FROM ({company.learn_rate_from:g}), so the rate is not learned")
    else:
        typer.echo("as the settings say" if changed else "as the settings say; nobody had set anything else")


def _in_words(limits: Limits) -> str:
    learned = f", learned from {limits.learn_from:g}/s up" if limits.learn_from is not None else ""
    return (
        f"{limits.rate_per_second:g} requests/s{learned}, burst {limits.burst}, "
        f"at most {limits.max_in_flight} in flight"
    )


def _look(settings: WorkerSettings, engine: sa.Engine, wanted: list[Company]) -> list[View]:
    import uuid  # noqa: PLC0415  heavy; --help must be quick

    from orderrelay_shared import redis_connection  # noqa: PLC0415
    from orderrelay_workers.commands.views import look  # noqa: PLC0415
    from orderrelay_workers.gate import Gate  # noqa: PLC0415

    client = redis_connection.connect(settings.redis_url, client_name="orderrelay-command")
    gate = Gate(client, uuid.uuid4(), probe_lease_seconds=settings.lease_seconds)
    try:
        return [look(engine, client, gate, company) for company in wanted]
    finally:
        client.close()


def _limits(company: Company) -> dict[str, object]:
    from orderrelay_workers.limits import limits_of  # noqa: PLC0415  heavy; --help must be quick

    limits = limits_of(company)
    names = ("rate_per_second", "burst", "max_in_flight")
    return {
        **{name: getattr(limits, name) for name in names},
        "learn_rate_from": limits.learn_from,
        "settings": {name: getattr(company, name) for name in names},
        "set": {name: getattr(company, f"set_{name}") for name in names},
        "set_by": company.set_by,
        "set_at": company.set_at,
    }


def _facts(view: View) -> dict[str, object]:
    """All of it, for a program to read; every name is always there."""
    from orderrelay_workers.limits import schedule_of  # noqa: PLC0415  heavy; --help must be quick

    company, outlook, state = view.company, view.outlook, view.state
    schedule = schedule_of(company)
    closed = schedule.present_or_next(outlook.at) if schedule is not None else None
    return {
        "company": company.alias,
        **_limits(company),
        "rate_now": None if state is None else state.rate_now,
        "is_learned": None if state is None else state.is_learned,
        "in_flight": None if state is None else state.in_flight,
        "requests_per_second": None if state is None else state.requests_per_second,
        "orders_per_request": None if state is None else state.orders_per_request,
        "drain_per_second": None if state is None else state.drain_per_second,
        "retries_left": None if state is None else state.retries_left,
        "counts": {} if state is None else dict(state.counts),
        "waiting": outlook.waiting,
        "done_at": outlook.done_at,
        "time_zone": company.time_zone,
        "closed_hours": company.closed_hours,
        "maintenance": company.maintenance,
        "closed": closed and {"begins_at": closed.begins_at, "ends_at": closed.ends_at, "reason": closed.reason},
        "why_slow": outlook.why_slow,
    }


#: The columns of the table, and what stands in them.
_COLUMNS: tuple[tuple[str, Callable[[View], object]], ...] = (
    ("COMPANY", lambda view: view.company.alias),
    ("REQUESTS/S", lambda view: f"{_in_force(view.company).rate_per_second:g}"),
    ("NOW", lambda view: None if view.state is None else f"{view.state.rate_now:.3g}"),
    ("DONE", lambda view: None if view.state is None else f"{view.state.requests_per_second:.3g}"),
    ("ORDERS/S", lambda view: None if view.state is None else f"{view.state.drain_per_second:.3g}"),
    ("BURST", lambda view: _in_force(view.company).burst),
    ("IN FLIGHT", lambda view: f"{_in_flight(view)}/{_in_force(view.company).max_in_flight}"),
    ("WAITING", lambda view: f"{view.outlook.waiting:,}"),
    ("SET BY", lambda view: view.company.set_by or "settings"),
)


def _in_force(company: Company) -> Limits:
    from orderrelay_workers.limits import limits_of  # noqa: PLC0415  heavy; --help must be quick

    return limits_of(company)


def _in_flight(view: View) -> int | str:
    from orderrelay_workers.commands.screen import NOTHING  # noqa: PLC0415  heavy; --help must be quick

    return NOTHING if view.state is None else view.state.in_flight


def _show(views: list[View]) -> None:
    """A line for each company, then the words about each."""
    from orderrelay_workers.commands.screen import printable, show_table  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.limits import schedule_of  # noqa: PLC0415
    from orderrelay_workers.slowness import clock  # noqa: PLC0415

    if not views:
        typer.echo("There is no company in the ledger yet; a worker adds those that it is configured for")
        return
    headings = [heading for heading, _ in _COLUMNS]
    rows = [[told(view) for _, told in _COLUMNS] for view in views]
    show_table(headings, rows, right=("REQUESTS/S", "NOW", "DONE", "ORDERS/S", "BURST", "IN FLIGHT", "WAITING"))
    for view in views:
        lines = list(view.outlook.why_slow)
        schedule = schedule_of(view.company)
        closed = schedule.present_or_next(view.outlook.at) if schedule is not None else None
        if (
            closed is not None
            and closed.begins_at > view.outlook.at
            and not any(closed.reason in line for line in lines)
        ):
            begins, ends = clock(closed.begins_at, view.company), clock(closed.ends_at, view.company)
            lines.append(f"next {closed.reason}: from {begins} until {ends}")
        for line in lines:
            typer.echo(f"{view.company.alias}: {printable(line)}")
