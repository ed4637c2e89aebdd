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
from orderrelay_workers.limits import limits_of
from orderrelay_workers.slowness import about, clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from orderrelay_workers.commands.rounds import Round, Watched

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
    parts = [
        f"{outlook.waiting:,} waiting" + (f" ({', '.join(among)})" if len(among) > 1 else ""),
        f"{NOTHING if view.state is None else view.state.in_flight} in flight",
        *(f"{watched.stopped[state]:,} {state}" for state in (JobState.UNKNOWN, JobState.PARKED)),
        *([] if view.state is None else [f"{outlook.drain_per_second:.3g}/s"]),
        *([] if outlook.done_at is None else [f"done in {about((outlook.done_at - outlook.at).total_seconds())}"]),
    ]
    words = "; ".join(outlook.why_slow)
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
        parts.append(Text(f"{printable(seen.trouble)}; trying again", style="bold red"))
    if not last.companies:
        if seen.trouble is None:
            parts.append(Text(NO_COMPANY))
        return Group(*parts)
    if last is not seen:
        parts.append(Text(f"as of {utc(last.at)}:", style="red"))
    blocks = [_block(watched) for watched in last.companies]
    if sum(block.row_count + 1 for block in blocks) + len(parts) < height:
        for watched, block in zip(last.companies, blocks, strict=True):
            parts += [Text(), Text(watched.view.company.alias, style="bold"), block]
    else:
        parts += [Text(line_of(watched)) for watched in last.companies]
    return Group(*parts)


def _block(watched: Watched) -> Table:
    """A company, a fact a line; what is long goes on under itself."""
    view, outlook = watched.view, watched.view.outlook
    among = ", ".join(f"{outlook.by_priority.get(name, 0):,} {name}" for name in PRIORITIES)
    out = NOTHING if view.state is None else f"{view.state.in_flight:,} of {limits_of(view.company).max_in_flight:,}"
    speed = NOTHING
    if view.state is not None:
        speed = f"{outlook.drain_per_second:.3g}/s done, {outlook.rate_per_second:.3g}/s may go"
    done = NOTHING
    if outlook.done_at is not None:
        left = (outlook.done_at - outlook.at).total_seconds()
        done = f"in about {about(left)}, {clock(outlook.done_at, view.company)}"
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("  waiting", f"{outlook.waiting:,}  ({among})")
    table.add_row("  in flight", out)
    table.add_row("  unknown", _count(watched.stopped[JobState.UNKNOWN], "yellow"))
    table.add_row("  parked", _count(watched.stopped[JobState.PARKED], "yellow"))
    table.add_row("  speed", speed)
    table.add_row("  done", done)
    for number, why in enumerate(outlook.why_slow):
        table.add_row("  why" if number == 0 else "", Text(printable(why)))
    return table


def _count(number: int, style: str) -> Text:
    return Text(f"{number:,}", style=style if number else "")
