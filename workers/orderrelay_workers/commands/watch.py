"""`orderrelay watch`: what waits and how fast it goes, live."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orderrelay_workers.commands.rounds import Round

    #: Shows a round, or why there is none.
    _Show = Callable[[Round], None]


def watch(
    company: Annotated[str, typer.Argument(help="Only this company; default: all.", show_default=False)] = "",
    *,
    every: Annotated[
        float, typer.Option(min=0.2, max=3600, metavar="SECONDS", help="How long to wait between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for each company.")] = False,
) -> None:
    """Show what waits, how fast it goes, when it will be done, and why it is not faster; until Ctrl-C.

    On a terminal the picture is drawn in place; elsewhere each look is a line for each company. While the database or
    Redis is away it says so, and goes on trying.
    Exit code: 0 good, 1 unknown company, 2 usage or settings, 3 something unreachable (only with --once).
    Example: orderrelay watch acme
    Example: orderrelay watch --once --json
    """
    from orderrelay_workers.commands.opening import REFUSED, UNREACHABLE, USAGE, alias_of, end, sqlite_file  # noqa: PLC0415  heavy; --help must be quick
    from orderrelay_workers.commands.rounds import NotUsable, Rounds, UnknownAlias  # noqa: PLC0415
    from orderrelay_workers.settings import load_worker_settings  # noqa: PLC0415

    alias = alias_of(company) if company else None
    settings = load_worker_settings()
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        end(f"there is no ledger at {file} yet; run: orderrelay init", USAGE)
    try:
        with Rounds(settings, alias) as rounds, _shown(every, once=once, as_json=as_json) as show:
            while True:
                latest = rounds.look()
                show(latest)
                if once:
                    break
                time.sleep(every)
    except KeyboardInterrupt:
        return
    except UnknownAlias as error:
        end(str(error), REFUSED)
    except NotUsable as error:
        end(str(error), USAGE)
    if latest.trouble is not None:
        raise typer.Exit(UNREACHABLE)


@contextlib.contextmanager
def _shown(every: float, *, once: bool, as_json: bool) -> Iterator[_Show]:
    """How rounds are shown: in place on a terminal that can, else line by line."""
    from orderrelay_workers.commands import picture  # noqa: PLC0415  heavy; --help must be quick

    if as_json:
        yield picture.print_objects
    elif once or not picture.can_redraw():
        yield picture.Lines().show
    else:
        with picture.redrawn(every) as show:
            yield show
