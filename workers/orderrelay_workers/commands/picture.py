"""How a look of `orderrelay watch` is shown: drawn in place, a line for each company, or as JSON."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orderrelay_shared.command import print_json
from orderrelay_shared.outlook import PRIORITIES
from orderrelay_shared.states import JobState
from orderrelay_workers.commands.screen import NOTHING, printable, utc
from orderrelay_workers.gate import Kind
from orderrelay_workers.limits import limits_of
from orderrelay_workers.slowness import about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from orderrelay_workers.commands.rounds import Round, Watched

#: Colours that can be read on light and dark; NO_COLOR switches them off, and no fact is told by colour alone.
_GOOD, _MIND, _BAD = "green", "bold dark_orange3", "bold red"

#: How wide the bar of the rate is, in characters.
_BAR = 20

_STOPPED = (JobState.UNKNOWN, JobState.PARKED)

#: What is said where there is nothing to look at.
NO_COMPANY = "there is no company in the ledger yet; a worker adds those that it is configured for"


def print_objects(seen: Round) -> None:
    """One JSON object a line, for each company; what is away goes to standard error, and into the objects."""
    for watched in seen.companies:
        print_json(facts(watched))
    if seen.trouble is not None:
        typer.echo(f"{utc(seen.at)} {printable(seen.trouble)}", err=True)


def facts(watched: Watched) -> dict[str, object]:
    """A company for a program to read; every name is always there."""
    view, outlook = watched.view, watched.view.outlook
    return {
        "at": outlook.at,
        "company": view.company.alias,
        "waiting": outlook.waiting,
        **{f"waiting_{name}": outlook.by_priority.get(name, 0) for name in PRIORITIES},
        "in_flight": None if view.state is None else view.state.in_flight,
        "max_in_flight": limits_of(view.company).max_in_flight,
        "unknown": watched.stopped[JobState.UNKNOWN],
        "parked": watched.stopped[JobState.PARKED],
        "drain_per_second": None if view.state is None else outlook.drain_per_second,
        "rate_per_second": None if view.state is None else outlook.rate_per_second,
        "expected_per_second": outlook.expected_per_second,
        "requests_per_second": None if view.state is None else view.state.requests_per_second,
        "may_requests_per_second": None if view.state is None else view.state.rate_now,
        "orders_per_request": None if view.state is None else view.state.orders_per_request,
        "unwell_share": unwell_share(watched),
        "done_at": outlook.done_at,
        "why_slow": outlook.why_slow,
        "redis_answers": not view.redis_is_away,
    }


class Lines:
    """A line for each company and look; what is away is told on standard error, once until it changes."""

    def __init__(self) -> None:
        self._trouble: str | None = None

    def show(self, seen: Round) -> None:
        """Print a look."""
        for watched in seen.companies:
            typer.echo(f"{utc(seen.at)} {line_of(watched)}")
        if not seen.companies and seen.trouble is None:
            typer.echo(f"{utc(seen.at)} {NO_COMPANY}")
        if seen.trouble != self._trouble:
            typer.echo(f"{utc(seen.at)} {printable(seen.trouble or 'all is back')}", err=True)
        self._trouble = seen.trouble


def line_of(watched: Watched) -> str:
    """A company on one line."""
    view, outlook = watched.view, watched.view.outlook
    among = [f"{outlook.by_priority[name]:,} {name}" for name in PRIORITIES if outlook.by_priority.get(name)]
    words = "; ".join(outlook.why_slow)
    done = "" if outlook.done_at is None else f"done in about {about((outlook.done_at - outlook.at).total_seconds())}"
    parts = [
        f"{outlook.waiting:,} waiting" + (f" ({', '.join(among)})" if len(among) > 1 else ""),
        f"{NOTHING if view.state is None else view.state.in_flight} in flight",
        *(f"{watched.stopped[state]:,} {state}" for state in _STOPPED),
        *([] if view.state is None else [_speed(watched)]),
        *([done] if done and done not in words else []),  # Why it is slow may tell it already.
    ]
    return printable(f"{view.company.alias}: {', '.join(parts)}; {words}")


def can_redraw() -> bool:
    """Whether standard output is a terminal on which something can be drawn in place."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


@contextlib.contextmanager
def redrawn(every: float) -> Iterator[Callable[[Round], None]]:
    """Draw each look over the one before; the last one stays."""
    console = Console(highlight=False, markup=False, emoji=False)
    last: list[Round] = []
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:

        def show(seen: Round) -> None:
            if seen.companies or not last:
                last[:] = [seen]
            live.update(picture(seen, last[0], every, console.size.height), refresh=True)

        yield show


def picture(seen: Round, last: Round, every: float, height: int) -> RenderableType:
    """One look as it is drawn.

    Args:
        seen: The look.
        last: The last look that saw anything; shown, with its age, while the database is away.
        every: Seconds between two looks.
        height: Lines of the terminal; companies that would not fit are shown on a line each.
    """
    head = Text(f"{utc(seen.at)}   every {every:g} s, end with Ctrl-C", style="dim")
    parts: list[RenderableType] = [head]
    if seen.trouble is not None:
        parts.append(Text(f"{printable(seen.trouble)}; trying again", style=_BAD))
    if not last.companies:
        if seen.trouble is None:
            parts.append(Text(NO_COMPANY))
        return Group(*parts)
    if last is not seen:
        parts.append(Text(f"as of {utc(last.at)}:", style=_BAD))
    blocks = [_block(watched) for watched in last.companies]
    if sum(block.row_count + 2 for block in blocks) + len(parts) < height:
        for watched, block in zip(last.companies, blocks, strict=True):
            name = Text.assemble((watched.view.company.alias, "bold"), "  ", _doing(watched))
            parts += [Text(), name, block]
    else:
        parts += [Text(), *_overview(last.companies, height - len(parts) - 4)]
    return Group(*parts)


def _doing(watched: Watched) -> Text:
    """What a company does, in a word."""
    outlook = watched.view.outlook
    if watched.view.company.paused_reason is not None:
        return Text("paused", style=_MIND)
    if outlook.waiting == 0:
        return Text("idle", style="dim")
    return Text("stands", style=_BAD) if outlook.expected_per_second is None else Text("goes", style=_GOOD)


def _block(watched: Watched) -> Table:
    """A company, a fact a line; what is long goes on under itself."""
    view, outlook = watched.view, watched.view.outlook
    among = ", ".join(f"{outlook.by_priority.get(name, 0):,} {name}" for name in PRIORITIES)
    out = NOTHING if view.state is None else f"{view.state.in_flight:,} of {limits_of(view.company).max_in_flight:,}"
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("  waiting", f"{outlook.waiting:,} orders  ({among})")
    table.add_row("  in flight", f"{out} requests")
    table.add_row("  rate", _rate(watched))
    table.add_row("  speed", NOTHING if view.state is None else _speed(watched))
    table.add_row("  done", _done(watched))
    table.add_row("  errors", _errors(watched))
    for number, why in enumerate(outlook.why_slow):
        table.add_row("  why" if number == 0 else "", Text(printable(why)))
    return table


def _rate(watched: Watched) -> Text:
    """Requests against the limit, as numbers and as a bar."""
    state = watched.view.state
    if state is None or state.limits is None:
        return Text(NOTHING)
    went, may = state.requests_per_second, state.rate_now
    share = min(1.0, went / may) if may > 0 else 0.0
    full = round(share * _BAR)
    learned = " (learned)" if state.is_learned else ""
    return Text.assemble(
        f"{_figure(went)} of {_figure(may)} requests/s{learned}  ",
        ("━" * full, _GOOD),
        ("─" * (_BAR - full), "dim"),
        f" {share:.0%}",
    )


def _figure(number: float) -> str:
    """A speed in three digits; what is next to nothing is nothing."""
    return f"{number:.3g}" if number >= 0.01 else "0"


def _speed(watched: Watched) -> str:
    """Orders per second: lately, and as reckoned with for what waits."""
    state, outlook = watched.view.state, watched.view.outlook
    told = f"{_figure(outlook.drain_per_second)} orders/s lately"
    if outlook.expected_per_second is not None and outlook.waiting:
        told += f", {outlook.expected_per_second:.3g} expected"
    if state is not None and state.orders_per_request > 1:
        told += f"; {state.orders_per_request:.3g} orders in each request"
    return told


def _done(watched: Watched) -> str:
    outlook = watched.view.outlook
    if outlook.done_at is None:
        return NOTHING
    return f"in about {about((outlook.done_at - outlook.at).total_seconds())}, {utc(outlook.done_at)}"


def _errors(watched: Watched) -> Text:
    """What stopped, and how many of the last requests went wrong."""
    stopped = [(watched.stopped[state], str(state)) for state in _STOPPED]
    told = Text(", ").join(Text(f"{number:,} {state}", style=_MIND if number else "") for number, state in stopped)
    share = unwell_share(watched)
    if share:
        told += Text(f", {share:.0%} of the last order requests went wrong", style=_MIND)
    return told


def unwell_share(watched: Watched) -> float | None:
    """The share of the last order requests that had no answer, or one that says the vendor is unwell."""
    state = watched.view.state
    return None if state is None else state.unwell_share.get(Kind.ORDER)


def _overview(companies: tuple[Watched, ...], room: int) -> list[RenderableType]:
    """A line for each company, those that stand and have most to do first; so many as there is room for."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("COMPANY", no_wrap=True, max_width=16)
    table.add_column("", no_wrap=True)
    for heading in ("WAITING", "FLIGHT", "ORDERS/S", "UNKNOWN", "PARKED", "DONE IN"):
        table.add_column(heading, justify="right", no_wrap=True)
    worst_first = sorted(
        companies, key=lambda w: (w.view.outlook.expected_per_second is not None, -w.view.outlook.waiting)
    )
    shown = worst_first if len(worst_first) <= room else worst_first[: max(1, room - 1)]
    for watched in shown:
        view, outlook = watched.view, watched.view.outlook
        left = None if outlook.done_at is None else (outlook.done_at - outlook.at).total_seconds()
        table.add_row(
            view.company.alias,
            _doing(watched),
            f"{outlook.waiting:,}",
            NOTHING if view.state is None else f"{view.state.in_flight:,}",
            NOTHING if view.state is None else f"{_figure(outlook.drain_per_second)}",
            *(Text(f"{n:,}", style=_MIND if n else "") for n in (watched.stopped[s] for s in _STOPPED)),
            NOTHING if left is None else about(left),
        )
    hidden = len(worst_first) - len(shown)
    more = f"and {hidden} more; " if hidden else ""
    return [table, Text(f"{more}all about one of them: orderrelay watch COMPANY", style="dim")]
